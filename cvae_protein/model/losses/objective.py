"""The terms that a variant is trained on: the evidence bound, what the settings add to it, and its own."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...config.settings import TermSettings
from ..cvae import CVAE
from . import critics, regularizers
from .evidence_bound import Term, Weight, WeightedTerm, constant, schedule

Build = Callable[[CVAE, torch.Generator], Term]
PLAIN: dict[str, Build] = {
    "variance_floor": lambda model, generator: regularizers.variance_floor,
    "mmd": lambda model, generator: regularizers.mmd(generator),
    "total_correlation": lambda model, generator: regularizers.total_correlation(generator),
    "class_mmd": lambda model, generator: regularizers.class_mmd,
    "hsic": lambda model, generator: regularizers.hsic,
    "label_seeking": regularizers.label_seeking,
    "mode_seeking": lambda model, generator: regularizers.mode_seeking(model),
    "fape": lambda model, generator: regularizers.fape,
    "step_length": lambda model, generator: regularizers.step_length,
}
"""Name of a setting -> its term."""

WITH_CRITIC: dict[str, Callable[[CVAE, torch.Generator], critics.Critic]] = {
    "label_adversary": lambda model, generator: critics.LabelCritic(_free_width(model), model.spec),
    "club": lambda model, generator: critics.LabelGaussian(_free_width(model), model.spec),
    "classifier": critics.TraceCritic,
}
"""Name of a setting -> the critic that the term `NAME_fit` trains and the term `NAME` fools."""


def _free_width(model: CVAE) -> int:
    """The number of code dimensions that must not know the label."""
    return len(regularizers.free_columns(model.blocks))


def further_terms(model: CVAE, settings: TermSettings, generator: torch.Generator) -> list[WeightedTerm]:
    """The terms whose weight is not 0; their critics become part of `model.critics`, to be trained with the model."""
    factor = schedule(settings.schedule)
    chosen = []
    for name in (*PLAIN, *WITH_CRITIC):
        if not (weight := getattr(settings, name)):
            continue
        if name in PLAIN:
            term = PLAIN[name](model, generator)
        else:
            critic = model.critics[name] = WITH_CRITIC[name](model, generator).to(model.log_sigma.device)
            chosen.append(WeightedTerm(f"{name}_fit", critics.fit(critic, generator), constant(1.0)))
            term = critics.fool(critic)
        chosen.append(WeightedTerm(name, term, _scaled(factor, weight)))
    return chosen


def _scaled(factor: Weight, weight: float) -> Weight:
    return lambda step: weight * factor(step)
