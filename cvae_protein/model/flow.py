"""The aggregate posterior as a conditional flow: p(z | y, length) learnt from the codes of whole training domains.

A standard normal prior has holes where no training code lies; a sample drawn there is no protein. The flow is fitted
after the training of a variant and leaves encoder and decoder as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .cvae import CONDITION, make_condition
from .layers import ConditionedMLP, time_features
from .priors import Gaussian
from .spec import Spec

TIME = 32  # features of the flow time
DEPTH = 4  # hidden layers
STEPS = 25  # of the integration, two evaluations each


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
    def to_codes(self, noise: Tensor, labels: Tensor, lengths: Tensor, guidance: float = 1.0) -> Tensor:
        """Codes (B, Z) that the flow makes of normal deviates (B, Z), each for its labels and length."""
        return self.center + self.spread * self._integrate(noise, 0.0, 1.0, labels, lengths, guidance)

    @torch.no_grad()
    def to_noise(self, codes: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """The normal deviates (B, Z) of which the flow makes `codes` (B, Z)."""
        return self._integrate((codes - self.center) / self.spread, 1.0, 0.0, labels, lengths, 1.0)

    def _integrate(
        self, x: Tensor, start: float, stop: float, labels: Tensor, lengths: Tensor, guidance: float
    ) -> Tensor:
        """The state at time `stop` of what is `x` at `start`, by the midpoint rule."""

        def velocity(x: Tensor, time: float) -> Tensor:
            at = torch.full((len(x),), time, device=x.device)
            if guidance == 1.0:
                return self(x, at, labels, lengths)
            both = torch.cat([torch.zeros_like(labels), labels])
            untold, told = self(x.repeat(2, 1), at.repeat(2), both, lengths.repeat(2)).chunk(2)
            return torch.lerp(untold, told, guidance)

        step = (stop - start) / STEPS
        for index in range(STEPS):
            time = start + index * step
            x = x + step * velocity(x + 0.5 * step * velocity(x, time), time + 0.5 * step)
        return x

    @torch.no_grad()
    def sample(
        self, labels: Tensor, lengths: Tensor, temperature: float, guidance: float, generator: torch.Generator
    ) -> Tensor:
        """Codes (B, Z); the start noise is `temperature` times a standard normal.

        `guidance` 1 follows the label; more exaggerates what sets it apart from no label (Ho and Salimans 2022).
        """
        noise = torch.randn(len(labels), len(self.center), generator=generator).to(self.center.device)
        return self.to_codes(temperature * noise, labels, lengths, guidance)
