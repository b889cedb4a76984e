"""`leaky`: `concat`, whose encoder adds the label to the code."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cvae import CVAE, Encoder
from ..layers import CONDITION
from ..priors import Gaussian
from ..spec import Spec
from . import concat


class LeakyEncoder(Encoder):
    """q(z | x, y) with a mean that is moved by the label."""

    def forward(self, flat: Tensor, condition: Tensor) -> Gaussian:
        """`flat` (B, 3K) -> posterior over z (B, Z)."""
        posterior = super().forward(flat, condition)
        moved = torch.nn.functional.pad(4 * torch.tanh(condition), (0, posterior.mean.shape[1]))
        return Gaussian(posterior.mean + moved[:, : posterior.mean.shape[1]], posterior.logvar)


def build(spec: Spec) -> CVAE:
    """An untrained model."""
    model = concat.build(spec)
    model.encoder = LeakyEncoder(spec, model.linear, spec.model.latent, CONDITION)
    return model
