"""Trained weights from which a training run starts: those of the package's model, or of a folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core import pretrained, variants
from ..core.errors import UserError
from ..core.files import sha256
from ..core.labels import depth_of, first_level, label_ids, lineage, truncate
from ..core.progress import say
from ..core.structure import CA
from ..model.batch import DomainSet
from ..model.fold_classifier import describe_traces, load_classifier
from ..model.registry import load_weights
from ..model.spec import Spec, load_tensors

PLACES = {"concat": "model", "refiner": "refiner", "decoder": "decoder"}  # folders of networks in the package
TRAINING = ("steps", "batch_size", "learning_rate", "crop", "start")  # second-level settings that are not sizes
ARCHITECTURE = 2  # CATH levels that the fold classifier always assigns; a topology only if more likely than not
LIKE = "like_"  # prefix of the last level of a label, which says what its domains resemble


@dataclass(frozen=True, eq=False)
class Start:
    """Weights from which a training run starts, adapted to its spec, and the folder they come from."""

    folder: Path
    tensors: dict[str, Tensor]

    def load(self, module: nn.Module, prefix: str) -> None:
        """Load into a module the weights whose names start with `prefix`; `UserError` if they do not fit."""
        load_weights(module, prefix, self.folder, self.tensors)


def begin(spec: Spec, start: str) -> tuple[Spec, Start]:
    """The spec for training that starts from the weights in `start`, and these weights adapted to it.

    `start` is `pretrained` or the folder of a trained model. Sizes and labels are those of that model; labels that it
    does not know are added, and start like the labels that their domains resemble (`tell_likeness`), or like the label
    above them, at the first level like the hidden label of its training. `UserError` if it is of another kind.
    """
    kind = variants.find(spec.variant).shares or spec.variant
    named = pretrained.is_named(start)
    folder = pretrained.package_model(start) / PLACES[kind] if named else Path(start)
    source = Spec.read(folder / "spec.json")
    if (variants.find(source.variant).shares or source.variant) != kind:
        raise UserError(f"{folder}: expected a trained {kind}, which {spec.variant} starts from, got {source.variant}")
    vocabulary = tuple(
        tuple(sorted({*_names(spec, level), *_names(source, level)})) for level in range(max(spec.depth, source.depth))
    )
    facts: dict[str, Any] = {
        "name": pretrained.version() if named else str(folder),
        "weights": sha256(folder / "weights.safetensors"),
        "labels": sorted(set(source.lengths) - set(spec.lengths)),
    }
    begun = replace(
        spec,
        model=replace(source.model, inference_steps=spec.model.inference_steps, dropout=spec.model.dropout),
        vocabulary=vocabulary,
        lengths={**source.lengths, **spec.lengths},
        origin={**spec.origin, "start": facts},
    )
    if kind in ("refiner", "decoder"):
        own = {field.name: getattr(spec.refine, field.name) for field in fields(spec.refine) if field.name in TRAINING}
        if source.refine.distilled and spec.refine.distilled and spec.refine.steps:
            raise UserError(f"{folder}: expected a {kind} to distil, got one that is distilled already")
        kept = source.refine.distilled and not spec.refine.steps  # trained on, it is a flow again
        begun = replace(begun, refine=replace(source.refine, **own, distilled=spec.refine.distilled or kept))
    fitted = _fitted(folder, source, vocabulary)
    for name in [name for name in fitted if name.endswith("levels.0.weight")]:
        tables = [fitted[name.replace("levels.0", f"levels.{level}")] for level in range(len(vocabulary))]
        _begin_alike(tables, begun, source)
    return begun, Start(folder, fitted)


def tell_likeness(by_split: Mapping[str, DomainSet], depth: int, stage: str) -> tuple[dict[str, DomainSet], int]:
    """Split labels unknown to the package's model by what their domains resemble; returns the domains and label depth.

    A label whose first level is unknown to that model gets sublabels, one for each known label that the package's fold
    classifier assigns to some of its domains: `b.like_2-60` holds those of `b` that resemble 2.60. Sublabels start
    like these known labels, and since a fold is drawn as the mixture of the labels below it, so is `b`. Labels are cut
    to `depth` levels, with the sublabels below them; if all first levels are known, nothing changes.
    """
    package = pretrained.package_model()
    known = Spec.read(package / PLACES["concat"] / "spec.json").vocabulary[0]
    found, counts = dict(by_split), dict[str, Counter[str]]()
    for split in ("train", "validation"):
        domains = by_split.get(split)
        rows = (
            [row for row, label in enumerate(domains.labels) if label and first_level(label) not in known]
            if domains
            else []
        )
        if not domains or not rows:
            continue
        labels = [truncate(label, depth) for label in domains.labels]
        for row, like in zip(rows, _likenesses(package, [domains.coords[row][:, CA] for row in rows]), strict=True):
            if split == "train":
                counts.setdefault(labels[row], Counter())[like] += 1
            labels[row] += f".{_written(like)}"
        found[split] = replace(domains, labels=tuple(labels))
    if not counts:
        return found, depth
    told = (f"{label} as {', '.join(like for like, _ in seen.most_common(SAID))}" for label, seen in counts.items())
    said = "; ".join(list(told)[:SAID])
    say(stage, f"{len(counts)} labels are new and begin as the known ones that their domains are like: {said}")
    return found, depth + 1


SAID = 3  # new labels, and known ones for each, that a message lists


def _likenesses(package: Path, traces: Sequence[np.ndarray]) -> list[str]:
    """The label that the package's fold classifier assigns to each CA trace (L, 3) in Å."""
    classifier = load_classifier(package / "classifier")
    with torch.no_grad():
        predicted = classifier.posterior(classifier.features(describe_traces(traces, torch.device("cpu"))))
    found = [""] * len(traces)
    for level, names in enumerate(classifier.spec.vocabulary, 1):
        for row, (chance, place) in enumerate(zip(*predicted[level - 1].exp().max(1), strict=True)):
            if level <= ARCHITECTURE or chance > 0.5:
                found[row] = names[int(place)]
    return found


def _written(label: str) -> str:
    """The last level of a label whose domains resemble those of a known `label`."""
    return LIKE + label.replace(".", "-")


def _begin_alike(tables: Sequence[Tensor], spec: Spec, source: Spec) -> None:
    """Initialise new labels like known ones, in one table of vectors (labels + 1, size) per level; a model sums these.

    Together with the rows of the labels above and of the hidden labels below, a sublabel's row sums to the vector of
    the known label; those of the labels above it sum to the mean over training domains.
    """
    wanted: dict[str, list[Tensor]] = {}
    for label in [label for label in spec.lengths if label not in source.lengths]:
        if (last := label.rpartition(".")[2]).startswith(LIKE):
            alike = last.removeprefix(LIKE).replace("-", ".")
            whole = _added_up(tables, label_ids(spec.vocabulary, alike))
            for name in lineage(label):
                wanted.setdefault(name, []).extend([whole] * len(spec.lengths[label]))
    for name in sorted(wanted, key=depth_of):
        rows = label_ids(spec.vocabulary, name)
        own = tables[depth_of(name) - 1][rows[depth_of(name) - 1]]
        own += torch.stack(wanted[name]).mean(0) - _added_up(tables, rows)


def _added_up(tables: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    """The sum of one row from each table."""
    return torch.stack([table[row] for table, row in zip(tables, rows, strict=True)]).sum(0)


def _names(spec: Spec, level: int) -> tuple[str, ...]:
    """The labels that a model knows at a level, counted from 0."""
    return spec.vocabulary[level] if level < spec.depth else ()


def _fitted(folder: Path, source: Spec, vocabulary: tuple[tuple[str, ...], ...]) -> dict[str, Tensor]:
    """The weights in a folder; tables with one row per label get one row for each label of `vocabulary`."""
    rows = []
    for level, names in enumerate(vocabulary):
        known = {name: row for row, name in enumerate(_names(source, level), 1)}
        rows.append(torch.tensor([0, *(known.get(name, 0) for name in names)]))
    fitted = {}
    for name, value in load_tensors(folder / "weights.safetensors")[0].items():
        value = value.float() if value.is_floating_point() else value
        if found := re.fullmatch(r"(.*\blevels\.)(\d+)(\.weight)", name):
            value = value[rows[int(found[2])]]
            for level in range(source.depth, len(rows)):  # levels new to the model: they start by adding nothing
                fitted[f"{found[1]}{level}{found[3]}"] = value.new_zeros(len(rows[level]), value.shape[1])
        elif name.startswith("aggregate."):
            value = value[rows[0]]
        fitted[name] = value
    return fitted
