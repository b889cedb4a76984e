"""The terms that a variant is trained on: the evidence bound, what the settings ask for beyond it, and its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

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


def _label_adversary(model: CVAE, generator: torch.Generator) -> tuple[nn.Module, Term, Term]:
    critic = critics.LabelCritic(len(regularizers.free_columns(model.blocks)), model.spec)
    return critic, critics.tell_label(critic), critics.hide_label(critic)


def _club(model: CVAE, generator: torch.Generator) -> tuple[nn.Module, Term, Term]:
    critic = critics.LabelGaussian(len(regularizers.free_columns(model.blocks)), model.spec)
    return critic, critics.describe_codes(critic), critics.club(critic)


def _classifier(model: CVAE, generator: torch.Generator) -> tuple[nn.Module, Term, Term]:
    critic = critics.LabelCritic(2 * len(critics.SPANS), model.spec)
    return critic, critics.tell_trace(critic), critics.obey_label(model, critic, generator)


JUDGED = {"label_adversary": _label_adversary, "club": _club, "classifier": _classifier}
"""Name of a setting -> its critic, the term `NAME_fit` that trains the critic, and the term that uses it."""


def further_terms(model: CVAE, settings: TermSettings, generator: torch.Generator) -> list[WeightedTerm]:
    """The terms whose weight is not 0; their critics become part of `model.critics`, to be trained with the model."""
    factor = schedule(settings.schedule)
    chosen = []
    for name in (*PLAIN, *JUDGED):
        if not (weight := getattr(settings, name)):
            continue
        if name in PLAIN:
            term = PLAIN[name](model, generator)
        else:
            critic, fit, term = JUDGED[name](model, generator)
            model.critics[name] = critic.to(model.log_sigma.device)
            chosen.append(WeightedTerm(f"{name}_fit", fit, constant(1.0)))
        chosen.append(WeightedTerm(name, term, _scaled(factor, weight)))
    return chosen


def _scaled(factor: Weight, weight: float) -> Weight:
    return lambda step: weight * factor(step)
