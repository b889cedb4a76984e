"""`deaf`: `concat`, whose decoder is given zeros for the label."""

from __future__ import annotations

from torch import Tensor

from ..cvae import CVAE, Decoder
from ..layers import CONDITION
from ..spec import Spec
from . import concat


class DeafDecoder(Decoder):
    """p(x | z)."""

    def forward(self, z: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """`z` (B, Z), `mask` (B, L) -> CA trace (B, L, 3) in Å, whatever the condition."""
        return super().forward(z, 0 * condition, mask)


def build(spec: Spec) -> CVAE:
    """An untrained model."""
    model = concat.build(spec)
    model.decoder = DeafDecoder(spec, model.linear, spec.model.latent, CONDITION)
    return model
