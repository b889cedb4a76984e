"""`literal_adversarial`: as `literal_concat`, with a critic D(z, y) of codes and draws of the prior."""

from __future__ import annotations

from ..cvae import CVAE
from ..losses import critics
from ..spec import Spec
from . import literal_concat
from .adversarial import extra_terms as extra_terms


def build(spec: Spec) -> CVAE:
    """An untrained model with its critic."""
    model = literal_concat.build(spec)
    model.critic = critics.PriorCritic(spec)
    return model
