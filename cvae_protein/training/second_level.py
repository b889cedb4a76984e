"""Training code shared by the second levels, refiner and decoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..config.settings import DecoderSettings, RefineSettings, TrainSettings
from ..core.errors import UserError
from ..model.batch import DomainSet, LengthBuckets
from ..model.representation import PrincipalComponents, encode_trace
from ..model.spec import Spec
from .checkpoint import TrainingState
from .distributed import Ranks
from .loop import Losses, Task, minimise
from .start import Start

Network = TypeVar("Network", bound=nn.Module)
MOST_LINEAR = 1 << 15  # structures that principal components are fitted to: all are in memory at once


def fit_components(domains: DomainSet, spec: Spec, count: int) -> PrincipalComponents:
    """The first `count` principal components of the training coefficients, used to coarsen traces."""
    linear = PrincipalComponents(3 * spec.model.coefficients, count)
    rows = np.arange(len(domains))
    if len(rows) > MOST_LINEAR:
        rows = np.linspace(0, len(rows) - 1, MOST_LINEAR).astype(int)
    batch = domains.batch(spec, rows)
    flat = encode_trace(batch.ca, batch.mask, spec.model.coefficients)[0].flatten(1)
    linear.fit(flat, torch.from_numpy(domains.weights[rows]).float())
    return linear


def teacher_of(net: Network, distilled: bool, begun: Start | None, kind: str) -> Network | None:
    """The teacher of a `distilled` network: a copy of `net` with the weights of `begun`; None if it is not distilled.

    `UserError` if there are no weights to distil.
    """
    if not distilled:
        return None
    if begun is None:
        raise UserError(
            f"train {kind}: expected `start` beside `distilled`, the weights that are distilled, found none"
        )
    teacher = copy.deepcopy(net).requires_grad_(False)
    begun.load(teacher, f"{kind}.")
    return teacher


def train_network(
    net: nn.Module,
    spec: Spec,
    by_split: dict[str, DomainSet],
    losses: Callable[[int, Ranks], tuple[Losses, float]],
    watch: Callable[[], dict[str, float]],
    settings: TrainSettings,
    ranks: Ranks,
    checkpoint: Path | None,
    generator: torch.Generator,
    rng: np.random.Generator,
    begun: Start | None,
    drawn: LengthBuckets | None = None,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Train a second level; returns its weights, with its kind prefixed to their names, and its history.

    The weights are those of the row with the lowest `validation_flow`, or of the last row without a validation split.
    `begun` holds the weights to start from, if any; with zero steps they stay unchanged.
    """
    own = cast(RefineSettings | DecoderSettings, spec.refine)
    if begun:
        begun.load(net, f"{spec.variant}.")
    optimizer = torch.optim.AdamW(net.parameters(), own.learning_rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    task = Task(
        stage=f"train {spec.variant} seed {spec.seed}",
        module=net,
        losses=losses,
        watch=watch,
        score=lambda row: row["validation_flow"] if "validation" in by_split else -row["step"],
        steps=own.steps,
        learning_rate=own.learning_rate,
        identity={"spec": spec.to_json()},
        seed=spec.seed,
        checkpoint=checkpoint,
        ranks=ranks,
        structures=own.batch_size,
        started=bool(begun),
    )
    rows = minimise(task, TrainingState(net.named_parameters(), optimizer, generator, rng, (), drawn), settings)
    return {f"{spec.variant}.{name}": value for name, value in net.cpu().state_dict().items()}, rows
