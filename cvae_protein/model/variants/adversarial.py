"""`adversarial`: as `concat`, with components class by class and a critic D(z, y) of codes and draws of the prior.

The components remove the class's mean and covariance from the code; the critic acts on what is left.
"""

from __future__ import annotations

import torch

from ...config.settings import TrainSettings
from ..cvae import CVAE
from ..losses import critics
from ..losses.evidence_bound import WeightedTerm, constant, ramp
from ..representation import ClassWhitening
from ..spec import Spec
from . import concat


def build(spec: Spec) -> CVAE:
    """An untrained model with its critic."""
    model = concat.build(spec)
    model.components = ClassWhitening(spec)
    model.critic = critics.PriorCritic(spec)
    return model


def extra_terms(model: CVAE, settings: TrainSettings, generator: torch.Generator) -> list[WeightedTerm]:
    """The critic's `fit`, and `fool`, whose weight rises to the setting `adversary` over the ramp of the divergence."""
    critic = model.critic
    if not isinstance(critic, critics.PriorCritic):
        raise TypeError("expected a model that `build` of this file made")
    return [
        WeightedTerm("critic_fit", critics.fit(critic, generator), constant(1.0)),
        WeightedTerm("critic_fool", critics.fool(critic), ramp(settings.adversary, settings.kl.steps)),
    ]
