"""Trained weights that a training begins with: those of the package's model, or of a folder."""

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

PLACES = {"concat": "model", "refiner": "refiner", "decoder": "decoder"}  # of a network in the package
TRAINING = ("steps", "batch_size", "learning_rate", "crop", "start")  # settings of a second level that are no sizes
ARCHITECTURE = 2  # levels of CATH that the fold classifier tells at least, a topology where it is likelier than not
LIKE = "like_"  # how the last level of a label begins that says what its domains are like


@dataclass(frozen=True, eq=False)
class Start:
    """Weights that a training begins with, fitted to its spec, and the folder that they are from."""

    folder: Path
    tensors: dict[str, Tensor]

    def load(self, module: nn.Module, prefix: str) -> None:
        """Give a module its weights, which are named by a prefix; `UserError` where they do not fit."""
        load_weights(module, prefix, self.folder, self.tensors)


def begin(spec: Spec, start: str) -> tuple[Spec, Start]:
    """What `spec` becomes where its training begins with the weights in `start`, and these, fitted to it.

    `start` is `pretrained` or the folder of a trained model. Sizes and labels are those of that model; labels that it
    does not know are added, and begin as what their domains are like (`tell_likeness`), or as the label above them, the
    first level as the hidden label that it was trained with. `UserError` where it is of another kind.
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
    """Domains whose labels the package's model does not know, told what they are like; and their labels' depth.

    A label whose first level that model does not know gets finer ones below it, one for each known label that the
    package's fold classifier takes some of its domains for: `b.like_2-60` is what is like 2.60 in `b`. They begin as
    these known labels, and as a fold is drawn as the mixture of what lies below it, so is `b`. Labels are cut to
    `depth` levels, below which the finer ones lie; where all first levels are known, nothing changes.
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


SAID = 3  # new labels, and known ones of each, that a line names


def _likenesses(package: Path, traces: Sequence[np.ndarray]) -> list[str]:
    """The label that the package's fold classifier takes each CA trace (L, 3) in Å for."""
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
    """The last level of a label whose domains are like those of a known `label`."""
    return LIKE + label.replace(".", "-")


def _begin_alike(tables: Sequence[Tensor], spec: Spec, source: Spec) -> None:
    """Set the rows of labels that begin as others, in tables of vectors (labels + 1, size) that are added up by level.

    With what a model is told beside them, the label above and hidden ones below, they add up to what the known label
    does; those above them to the mean over training domains.
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
    """The sum of a row of each table."""
    return torch.stack([table[row] for table, row in zip(tables, rows, strict=True)]).sum(0)


def _names(spec: Spec, level: int) -> tuple[str, ...]:
    """The labels that a model knows at a level, from 0."""
    return spec.vocabulary[level] if level < spec.depth else ()


def _fitted(folder: Path, source: Spec, vocabulary: tuple[tuple[str, ...], ...]) -> dict[str, Tensor]:
    """The weights in a folder, with a row for each label of `vocabulary` where they have one for each of their own."""
    rows = []
    for level, names in enumerate(vocabulary):
        known = {name: row for row, name in enumerate(_names(source, level), 1)}
        rows.append(torch.tensor([0, *(known.get(name, 0) for name in names)]))
    fitted = {}
    for name, value in load_tensors(folder / "weights.safetensors")[0].items():
        value = value.float() if value.is_floating_point() else value
        if found := re.fullmatch(r"(.*\blevels\.)(\d+)(\.weight)", name):
            value = value[rows[int(found[2])]]
            for level in range(source.depth, len(rows)):  # levels that it was not told: they begin by adding nothing
                fitted[f"{found[1]}{level}{found[3]}"] = value.new_zeros(len(rows[level]), value.shape[1])
        elif name.startswith("aggregate."):
            value = value[rows[0]]
        fitted[name] = value
    return fitted
