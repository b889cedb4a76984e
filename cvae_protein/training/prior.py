"""The priors fitted to a trained model's codes: one Gaussian per class, and a flow stopped early on validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config.settings import TrainSettings
from ..core import variants
from ..core.progress import say
from ..model.batch import DomainSet, hide_labels
from ..model.codes import CodeSet, resumed_codes
from ..model.cvae import CVAE
from ..model.priors import AggregatePosterior, LatentFlow, TrainingCodes
from .checkpoint import TrainingState
from .distributed import Ranks
from .loop import Losses, Task, minimise
from .start import Start

CODES_A_STEP = 256
MOST_WATCHED = 512  # codes evaluated per split
MOST_WIDENED = 256  # validation codes that determine how far a flow is widened
DRAWS = 4  # noises and times per evaluated code


def fit_priors(
    model: CVAE,
    by_split: Mapping[str, DomainSet],
    settings: TrainSettings,
    begun: Start | None = None,
    inferred: Path | None = None,
) -> tuple[dict[str, Tensor], dict[str, float], dict[str, CodeSet]]:
    """Fit the priors of a trained model; returns their weights, a summary of the flow, and the codes by split.

    The aggregate posterior of whole training domains is one Gaussian per class; a flow or the codes themselves are
    added as variant and settings say. The returned codes are of each domain's first conformation. `begun` holds the
    weights of the model that training started from: the flow continues from its own, and classes without domains keep
    theirs. `inferred` is a file that keeps the codes should training be interrupted.
    """
    spec, domains = model.spec, by_split["train"]
    codes = resumed_codes(inferred, "train", model, domains, spec.model.inference_steps)
    aggregate = AggregatePosterior(spec.model.latent, len(spec.vocabulary[0]))
    if begun:
        begun.load(aggregate, "aggregate.")
    first = torch.tensor(sorted({name: row for row, name in reversed(list(enumerate(domains.ids)))}.values()))
    kept = {"train": codes.take(first)}
    own = kept["train"]
    aggregate.fit(own.posterior.mean, own.posterior.logvar, own.labels[:, 0], own.lengths)
    tensors = {f"aggregate.{name}": value for name, value in aggregate.state_dict().items()}
    record = variants.find(spec.variant)
    if record.prior == "training_codes":
        memory = TrainingCodes(own.posterior.mean, own.posterior.logvar, own.labels, own.lengths)
        tensors |= {f"memory.{name}": value for name, value in vars(memory).items()}
    if not record.has_flow or not settings.flow_steps:
        return tensors, {}, kept
    torch.manual_seed(spec.seed)  # initial weights, also where a finished training was resumed
    flow = LatentFlow(spec, settings.flow_dropout)
    if begun:
        begun.load(flow, "flow.")
    else:
        flow.whiten(aggregate)
    watched = {"evaluated": codes}
    if "validation" in by_split:
        held_out = by_split["validation"].first_conformations()
        kept["validation"] = resumed_codes(inferred, "validation", model, held_out, spec.model.inference_steps)
        watched["validation"] = kept["validation"]
    stage = f"fit codes of {spec.variant} seed {spec.seed}"
    stopped = next(row for row in fit_flow(flow, watched, settings, stage, spec.seed, bool(begun)) if row["best"])
    summary = {"flow_step": stopped["step"]} | {
        name: stopped[name] for name in stopped if name.startswith(tuple(watched))
    }
    if "validation" in watched:
        rows = _watched(watched["validation"])[:MOST_WIDENED]
        summary["flow_widened"] = flow.widen(*watched["validation"].draw(rows, torch.Generator().manual_seed(0)))
    for split, each in watched.items():
        summary |= {f"{split}_{name}": value for name, value in log_likelihoods(flow, aggregate, each).items()}
    shown = "validation" if "validation" in watched else "evaluated"
    gain = summary[f"{shown}_nats"] - summary[f"{shown}_gaussian_nats"]
    say(stage, f"kept step {stopped['step']}: codes of {shown} {gain:+.1f} nats likelier than by one Gaussian for all")
    return tensors | {f"flow.{name}": value for name, value in flow.state_dict().items()}, summary, kept


def log_likelihoods(flow: LatentFlow, aggregate: AggregatePosterior, codes: CodeSet) -> dict[str, float]:
    """Mean log likelihood in nats, for one draw per code, under the flow and under one Gaussian for all classes."""
    rows = _watched(codes)
    z, labels, lengths = codes.draw(rows, torch.Generator().manual_seed(0))
    gaussian = aggregate.log_density(z, torch.zeros_like(lengths), lengths)
    found = {"nats": flow.log_density(z, labels, lengths)[0], "gaussian_nats": gaussian}
    return {name: each.mean().item() for name, each in found.items()}


def _watched(codes: CodeSet) -> Tensor:
    """Rows of the codes that are evaluated: all, or a fixed random subset."""
    return torch.from_numpy(np.random.default_rng(0).permutation(len(codes.chance))[:MOST_WATCHED])


def fit_flow(
    flow: LatentFlow,
    watched: Mapping[str, CodeSet],
    settings: TrainSettings,
    stage: str,
    seed: int,
    started: bool = False,
) -> list[dict[str, float]]:
    """Train a flow on the codes `evaluated`, keeping the weights with the lowest loss on the codes `validation`.

    Without these, the weights of the last step are kept. The flow may be `started` with trained weights. Rows have the
    flow's loss and, as `gaussian_flow`, that of the Gaussian by which codes are whitened.
    """
    codes = watched["evaluated"]
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)

    def losses(step: int, ranks: Ranks) -> tuple[Losses, float]:
        rows = torch.from_numpy(rng.choice(len(codes.chance), CODES_A_STEP, p=codes.chance))
        z, labels, lengths = codes.draw(rows, generator)
        labels = hide_labels(labels, settings.flow_label_dropout, rng)
        return {"flow": (flow.losses(z, labels, lengths, generator)[0].mean(), 1.0)}, 1.0

    @torch.no_grad()
    def watch() -> dict[str, float]:
        seen: dict[str, float] = {}
        for split, each in watched.items():
            fixed = torch.Generator().manual_seed(0)
            drawn = each.draw(_watched(each).repeat(DRAWS), fixed)
            own, gaussian = flow.losses(*drawn, fixed)
            seen |= {f"{split}_flow": own.mean().item(), f"{split}_gaussian_flow": gaussian.mean().item()}
        return seen

    score = (lambda row: row["validation_flow"]) if "validation" in watched else (lambda row: -row["step"])
    optimizer = torch.optim.AdamW(
        flow.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    task = Task(
        stage, flow, losses, watch, settings.flow_steps, settings.learning_rate, {}, seed, score=score, started=started
    )
    often = replace(settings, report_every=max(1, settings.flow_steps // ROWS), patience=PATIENCE)
    return minimise(task, TrainingState(flow.named_parameters(), optimizer, generator, rng), often)


ROWS = 20  # of the history
PATIENCE = 2  # rows without improvement on validation that end training: averaged weights rarely improve after them
