"""`concat`: the encoder gets structure and condition concatenated, the decoder code and condition."""

from __future__ import annotations

from ..cvae import CVAE, Encoder
from ..layers import CONDITION
from ..priors import StandardPrior
from ..representation import PrincipalComponents
from ..spec import Spec


def build(spec: Spec) -> CVAE:
    """An untrained model."""
    latent = spec.model.latent
    linear = PrincipalComponents(3 * spec.model.coefficients, latent)
    encoder = Encoder(spec, linear, latent, CONDITION)
    return CVAE(spec, encoder, StandardPrior(latent), linear, {"z": (0, latent)})
