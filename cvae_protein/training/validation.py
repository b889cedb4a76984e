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
    """The domains of validation, whole and in their first conformation, in batches of like length.

    Of a large split a random choice, always the same.
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
    """Reconstruction and divergence in nats and RMSD of the decoded trace in Å by posterior means; active units.

    Columns of training domains have no prefix, and codes are as the encoder gives them. Those of the validation split
    have the prefix `validation_`, and codes are refined (latent refinement) as where the model is used;
    `validation_bound` is the negative evidence bound by one draw of the code, the same noise every time.
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
    """Means over a batch, with the bound where there is a generator to draw the codes by; posterior means (B, Z)."""
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
    """What the best row has least of: the held-out bound, its divergence weighted as the objective weights it at last.

    Rows before the weight has got there do not compete: each is worse than any later row. Nor do any where nothing is
    held out or a controller moves the weight; the last row is then the best.
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
