"""The aggregate posterior as a conditional flow: p(z | y, length) learnt from the codes of whole training domains.

A standard normal prior has holes where no training code lies; a sample drawn there is no protein. The flow is fitted
after the training of a variant and leaves encoder and decoder as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .cvae import CONDITION, make_condition
from .latent import Gaussian
from .nets import ConditionedMLP, time_features
from .spec import Spec

TIME = 32  # features of the flow time
DEPTH = 4  # hidden layers
STEPS = 50  # of the integration


class CodeFlow(nn.Module):
    """Velocity of a rectified flow from a standard normal to codes, given labels and length. Liu et al. 2023."""

    center: Tensor
    spread: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        latent, m = spec.model.latent, spec.model
        self.register_buffer("center", torch.zeros(latent))
        self.register_buffer("spread", torch.ones(latent))
        self.condition = make_condition(spec)
        self.velocity = ConditionedMLP(latent, CONDITION + TIME, latent, m.width, DEPTH, m.dropout)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """`x` (B, Z) whitened codes at `time` (B,), `labels` (B, levels), `lengths` (B,) -> velocity (B, Z)."""
        return self.velocity(x, torch.cat([self.condition(labels, lengths), time_features(time, TIME)], dim=-1))

    @torch.no_grad()
    def whiten(self, posterior: Gaussian) -> None:
        """Take mean and spread of the codes from the training posteriors (D, Z)."""
        self.center.copy_(posterior.mean.mean(0))
        variance = posterior.mean.var(0, correction=0) + torch.exp(posterior.logvar).mean(0)
        self.spread.copy_(variance.clamp(min=1e-6).sqrt())

    def loss(self, z: Tensor, labels: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity on the way from noise to codes `z` (B, Z), summed over dimensions."""
        target = (z - self.center) / self.spread
        noise = torch.randn(target.shape, generator=generator).to(z.device)
        time = torch.sigmoid(torch.randn(len(z), generator=generator)).to(z.device)
        state = torch.lerp(noise, target, time[:, None])
        return (self(state, time, labels, lengths) - (target - noise)).square().sum(-1).mean()

    @torch.no_grad()
    def sample(self, labels: Tensor, lengths: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Codes (B, Z); the start noise is `temperature` times a standard normal."""
        x = temperature * torch.randn(len(labels), len(self.center), generator=generator).to(self.center.device)
        for step in range(STEPS):
            x = x + self(x, torch.full((len(x),), step / STEPS, device=x.device), labels, lengths) / STEPS
        return self.center + self.spread * x
