"""Settings that are fine alone and wrong together."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from .config.settings import RefineSettings, TrainSettings
from .settings.data import LabelSettings, SplitSettings
from .settings.run import Settings

ALWAYS_TRAINED = ("pca", "refiner")  # in every run, no variants to choose
REFERENCE = "reference"  # the trained model that comes with the package, told labels of CATH


def variants() -> list[str]:
    """Names that can be asked for: files of `model/variants/`, without the baseline, and the package's own model."""
    folder = Path(__file__).parent / "model" / "variants"
    names = (path.stem for path in folder.glob("[a-z]*.py"))
    return sorted([REFERENCE, *(name for name in names if name not in ALWAYS_TRAINED)])


def disagreements(settings: Any, prefix: tuple[str, ...]) -> Iterator[str]:
    """One line a disagreement, within a section and over the whole."""
    dotted = "".join(f"{part}." for part in prefix)
    if check := CHECKS.get(type(settings)):
        yield from (f"{dotted}{line}" for line in check(settings))
    for field in fields(settings):
        if is_dataclass(value := getattr(settings, field.name)):
            yield from disagreements(value, (*prefix, field.name))


def _label_mistakes(labels: LabelSettings) -> Iterator[str]:
    if labels.min_length > labels.max_length:
        yield f"min_length: expected at most max_length, got {labels.min_length} > {labels.max_length}"
    if doubled := _doubled(labels.classes):
        yield f"classes: expected each class once, got {doubled} more than once"
    if labels.scheme == "cluster" and labels.depth > 1:
        yield f"depth: expected 1 for the scheme cluster, whose classes have one level, got {labels.depth}"
    letters = {"cath": str.isdecimal, "scope": str.isalpha}.get(labels.scheme)
    if letters and labels.classes and not any(map(letters, labels.classes)):
        example = "1, 2, 3" if labels.scheme == "cath" else "a, b, c, d"
        yield f"classes: expected classes of {labels.scheme} such as {example}, got {', '.join(labels.classes)}"


def _split_mistakes(split: SplitSettings) -> Iterator[str]:
    if math.fsum((split.test, split.validation)) >= 1:
        yield f"test: expected test + validation < 1, got {split.test} + {split.validation}: no domain would train"


def _train_mistakes(train: TrainSettings) -> Iterator[str]:
    if train.terms.schedule.kind == "target_rate":
        yield "terms.schedule.kind: expected constant, ramp, cosine or cycle; target_rate steers the divergence alone"
    if train.terms.compare_structures and train.batch_size < 2 * train.processes:
        yield f"batch_size: expected 2 or more a process where terms compare structures, got {train.batch_size}"


def _refine_mistakes(refine: RefineSettings) -> Iterator[str]:
    if refine.width % refine.heads:
        yield f"heads: expected a divisor of width, got {refine.heads} heads for {refine.width} channels"


def _run_mistakes(settings: Settings) -> Iterator[str]:
    known = variants()
    for name in settings.variants:
        if name in ALWAYS_TRAINED:
            yield f"variants: {name} is trained in every run and is not listed"
        elif name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            said = f"; did you mean {near[0]}?" if near else ""
            yield f"variants: expected some of {', '.join(known)} (files in model/variants), got {name!r}{said}"
    if REFERENCE in settings.variants and settings.labels.scheme != "cath":
        yield f"variants: expected no reference with labels.scheme {settings.labels.scheme}; it is told labels of cath"
    if doubled := _doubled(settings.variants):
        yield f"variants: expected each variant once, got {doubled} more than once"
    if doubled := _doubled(settings.seeds):
        yield f"seeds: expected each seed once, got {doubled} more than once"
    if min(settings.seeds) < 0:
        yield f"seeds: expected whole numbers ≥ 0, got {min(settings.seeds)}"
    if settings.labels.scheme == "cluster" and settings.split.scheme != "sequence":
        yield (
            "split.scheme: expected sequence with labels.scheme cluster, whose classes would else be held out whole, "
            f"got {settings.split.scheme}"
        )


def _doubled(values: tuple) -> str:
    """The values met more than once, as text."""
    return ", ".join(dict.fromkeys(str(value) for value in values if values.count(value) > 1))


CHECKS: Mapping[type, Callable[[Any], Iterator[str]]] = types.MappingProxyType(
    {
        LabelSettings: _label_mistakes,
        SplitSettings: _split_mistakes,
        RefineSettings: _refine_mistakes,
        TrainSettings: _train_mistakes,
        Settings: _run_mistakes,
    }
)
