"""Validation of a variant while it trains: the evidence bound, its parts, RMSD and active units."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from ..config.settings import TrainSettings
from ..model.batch import Batch, DomainSet, by_length
from ..model.cvae import CVAE, Output
from ..model.losses.evidence_bound import kl, reconstruction, squared_error
from ..model.spec import Spec

MOST_WATCHED = {"train": 512, "validation": 128}  # domains; more would take longer than the training between two rows
EvalBatches = dict[str, list[Batch]]


def eval_batches(by_split: dict[str, DomainSet], spec: Spec, device: torch.device) -> EvalBatches:
    """Domains to validate on, by split, whole and in their first conformation, in batches of similar length.

    A large split is represented by a fixed random subset.
    """
    evaluation: EvalBatches = {}
    for split in ("train", "validation"):
        if split not in by_split:
            continue
        domains = by_split[split].first_conformations()
        rows = np.sort(np.random.default_rng(0).permutation(len(domains))[: MOST_WATCHED[split]])
        evaluation[split] = [domains.batch(spec, rows[part]).to(device) for part in by_length(domains.lengths[rows])]
    return evaluation


@torch.no_grad()
def validate(model: CVAE, evaluation: EvalBatches) -> dict[str, float]:
    """Reconstruction and divergence in nats, RMSD of the trace in Å decoded from posterior means, and active units.

    `rmsd` and `active_units` of training domains have no prefix; their codes are the encoder's. Columns of the
    validation split have the prefix `validation_`, and their codes are refined (latent refinement) as when the model is
    used; `validation_bound` is the negative evidence bound from one draw of the code, with the same noise every time.
    """
    seen: dict[str, float] = {}
    for split, batches in evaluation.items():
        prefix = "" if split == "train" else f"{split}_"
        generator = None if split == "train" else torch.Generator().manual_seed(0)
        name, count = prefix or "evaluated_", sum(len(batch.mask) for batch in batches)
        sums: dict[str, float] = {}
        means = []
        for batch in batches:
            found, mean = _validate_batch(model, batch, generator)
            means.append(mean)
            for key, value in found.items():
                sums[key] = sums.get(key, 0.0) + value * len(batch.mask) / count
        for key, value in sums.items():
            seen[f"{prefix if key == 'rmsd' else name}{key}"] = value
        if not prefix and count > 1:
            seen["active_units"] = (torch.cat(means).var(0) > 0.01).sum().item()
    return seen


def _validate_batch(
    model: CVAE, batch: Batch, generator: torch.Generator | None
) -> tuple[dict[str, float], torch.Tensor]:
    """Means over a batch, with the bound if there is a generator to draw codes with; and posterior means (B, Z)."""
    _, target = model.describe(batch)
    steps = 0 if generator is None else model.spec.model.inference_steps
    posterior = model.infer(batch, steps)
    prior = model.prior(model.condition(batch.labels, batch.lengths))

    def decoded(z: torch.Tensor) -> Output:
        trace = model.decode(z, batch.labels, batch.mask)
        return Output(posterior, prior, z, target, trace, model.log_sigma, model.blocks)

    output = decoded(posterior.mean)
    found = {
        "reconstruction": reconstruction(batch, output).item(),
        "kl": kl(batch, output).item(),
        "rmsd": (squared_error(batch, output) / batch.lengths).sqrt().mean().item(),
    }
    if generator is not None:
        found["bound"] = reconstruction(batch, decoded(posterior.sample(generator))).item() + found["kl"]
    return found, posterior.mean


def selection_score(settings: TrainSettings, evaluation: EvalBatches) -> Callable[[dict[str, float]], float]:
    """The score that the best row minimises: the held-out bound, with the divergence at its final weight.

    Rows before the weight has reached that value do not compete: each is worse than any later row. Nor do any if
    nothing is held out or a controller adapts the weight; the last row is then the best.
    """
    if "validation" not in evaluation or settings.kl.kind == "target_rate":
        return lambda row: -row["step"]
    rises = settings.kl.kind in ("ramp", "cosine")

    def score(row: dict[str, float]) -> float:
        if rises and row["step"] < min(settings.kl.steps, settings.steps):
            return NOT_YET - row["step"]
        bound = row["validation_bound"] + (settings.kl.weight - 1) * row["validation_kl"]
        return bound if math.isfinite(bound) else math.inf

    return score


NOT_YET = 1e12  # nats, more than any bound
