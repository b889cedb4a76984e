"""A discriminator of codes, whose two terms train it and the encoder in one backward pass.

`fit` sees the codes detached, so it moves the critic alone; `fool` sees the critic's parameters detached, so it moves
the encoder alone. Their sum `fit + w * fool` has the gradients of a gradient-reversal layer of strength w (Ganin et al.
2016). At the equilibrium q(z|y) = p(z|y) for every label y (adversarial autoencoder: Makhzani et al. 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from .batch import Batch
from .cvae import CONDITION, Output, make_condition
from .spec import Spec
from .terms import Term


class Critic(nn.Module):
    """Logit that a code comes from the prior and not from the encoder, given label and length: (B, Z) -> (B,)."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        width = spec.model.width
        self.condition = make_condition(spec)
        self.layers = nn.Sequential(
            nn.Linear(spec.model.latent + CONDITION, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )

    def forward(self, z: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """`z` (B, Z), `labels` (B, levels), `lengths` (B,) -> logits (B,)."""
        return self.layers(torch.cat([z, self.condition(labels, lengths)], dim=-1))[:, 0]


def fit(critic: Critic, generator: torch.Generator) -> Term:
    """Binary cross-entropy of the critic on prior draws (1) and encoded codes (0), in nats a structure."""

    def term(batch: Batch, output: Output) -> Tensor:
        drawn = output.prior.sample(generator).detach()
        real = critic(drawn, batch.labels, batch.lengths)
        encoded = critic(output.z.detach(), batch.labels, batch.lengths)
        return 0.5 * (F.softplus(-real) + F.softplus(encoded)).mean()

    return term


def fool(critic: Critic) -> Term:
    """What the encoder pays for codes that the critic tells from the prior's, in nats a structure."""

    def term(batch: Batch, output: Output) -> Tensor:
        frozen = {name: value.detach() for name, value in critic.named_parameters()}
        logit = functional_call(critic, frozen, (output.z, batch.labels, batch.lengths))
        return F.softplus(-logit).mean()

    return term
