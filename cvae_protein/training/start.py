"""Trained weights that a training begins with: those of the package's model, or of a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core import pretrained, variants
from ..core.errors import UserError
from ..core.files import sha256
from ..model.registry import load_weights
from ..model.spec import Spec, load_tensors

PLACES = {"concat": "model", "refiner": "refiner", "decoder": "decoder"}  # of a network in the package
TRAINING = ("steps", "batch_size", "learning_rate", "crop", "start")  # settings of a second level that are no sizes


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
    does not know are added, and begin as the hidden label that it was trained with. `UserError` where it is of another
    kind.
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
        begun = replace(begun, refine=replace(source.refine, **own))
    return begun, Start(folder, _fitted(folder, source, vocabulary))


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
