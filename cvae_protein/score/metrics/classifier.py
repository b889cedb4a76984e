"""What the oracle says of structures: accuracy, fidelity to the class asked for, and what a swapped label does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...config.settings import ScoreSettings
from ...core.labels import levels_match, upper
from ...similarity.nearest_structures import Placed
from ..features import Features, Sight
from ..intervals import Estimate, bounds, generator
from ..rows import ALL, Row, evaluate, structure_rows
from .metric import Metric

LEVELS = (1, 2, 3)  # class, architecture, topology
WORST = "worst_decile"  # of the classes, as a fold


@dataclass(frozen=True)
class Opinion:
    """What the oracle takes a structure for, level by level, beside the class asked for and the nearest domain's.

    `known` says down to which level the oracle knows the class asked for; empty texts where there is none.
    """

    asked: str
    told: tuple[str, ...]
    known: int
    nearest: str = ""

    @property
    def depth(self) -> int:
        """The level asked for, or the oracle's deepest."""
        return min(self.asked.count(".") + 1, len(self.told)) if self.asked else 0


def accuracy_at(opinion: Opinion, level: int) -> float:
    """1 where the likeliest class of a level is the one asked for, else 0; NaN where none of it was asked for."""
    if not opinion.asked or level > min(opinion.depth, opinion.known) or not opinion.told[level - 1]:
        return float("nan")
    return float(opinion.told[level - 1] == upper(opinion.asked, level))


def oracle_accuracy(opinion: Opinion) -> float:
    """1 where the likeliest class is the one asked for, at the level asked for, else 0."""
    return accuracy_at(opinion, opinion.depth) if opinion.depth else float("nan")


def oracle_disagreement(opinion: Opinion) -> float:
    """1 where the likeliest class is not that of the nearest held-out domain, at the level asked for, else 0."""
    depth = min(opinion.depth or 1, len(opinion.told))
    if not opinion.nearest or not opinion.told[depth - 1]:
        return float("nan")
    return float(opinion.told[depth - 1] != upper(opinion.nearest, depth))


METRICS = (
    Metric("oracle_accuracy", "share", "high", oracle_accuracy),
    *(Metric(f"oracle_accuracy_level{level}", "share", "high", partial(accuracy_at, level=level)) for level in LEVELS),
    Metric("oracle_disagreement", "share", "none", oracle_disagreement),
)
"""Metrics of an `Opinion`."""
FIDELITY = {
    accuracy.name: Metric(accuracy.name.replace("oracle_accuracy", "fidelity"), "ratio", "high", accuracy.function)
    for accuracy in METRICS
    if accuracy.name.startswith("oracle_accuracy")
}
"""For each accuracy the metric that sets it against the same of the held-out domains."""
SWAPS = (
    Metric("swap_flip", "share", "high", oracle_accuracy),
    Metric("swap_flip_control", "share", "none", oracle_accuracy),
    Metric("swap_flip_chance", "share", "none", oracle_accuracy),
)
"""Of held-out domains decoded under another class's label, and of the same under their own, asked for as the other."""


def opinions(features: Features, asked: Sequence[str], nearest: Sequence[str] = ()) -> list[Opinion]:
    """The oracle's opinion of each structure, asked for as the class `asked` or as none."""
    known = {label: _known(features, label) for label in set(asked)}
    return [
        Opinion(label, tuple(told[row] for told in features.likeliest), known[label], nearest[row] if nearest else "")
        for row, label in enumerate(asked)
    ]


def _known(features: Features, label: str) -> int:
    """Levels of a label that the oracle knows, from the first on."""
    level = 0
    while level < min(features.levels, label.count(".") + 1) and upper(label, level + 1) in features.names[level]:
        level += 1
    return level if label else 0


def accuracy_rows(sight: Sight, placed: Sequence[Placed], settings: ScoreSettings) -> list[Row]:
    """Rows of `METRICS` and of fidelity, the accuracy over that on the held-out domains of the class."""
    asked = [hits.label for hits in placed]
    found = evaluate(opinions(sight.own, asked, [hits.held_out.label for hits in placed]), METRICS)
    folds = np.array([label or ALL for label in asked], object)
    rows = [_explained(row, asked) for row in structure_rows(METRICS, found, folds, settings)]
    for metric in METRICS:
        if metric.name in FIDELITY:
            rows += _fidelity_rows(FIDELITY[metric.name], metric, found[metric.name], folds, sight, settings)
    return rows


def _explained(row: Row, asked: Sequence[str]) -> Row:
    """The row, with the reason where it has no number."""
    if row.estimate.n or not row.metric.startswith("oracle_accuracy"):
        return row
    note = "the oracle knows no class of this level that was asked for" if any(asked) else "no class was asked for"
    return Row(row.metric, row.unit, row.better, row.fold, row.estimate, note=note)


def _fidelity_rows(
    fidelity: Metric, accuracy: Metric, own: np.ndarray, folds: np.ndarray, sight: Sight, settings: ScoreSettings
) -> list[Row]:
    """Ratio of accuracies a class; its mean over classes as `all`, and over their worst tenth.

    Superfamilies of real domains are resampled whole.
    """
    values, drawn, counts, notes = {}, {}, {}, {}
    for fold in sorted(set(folds.tolist()) - {ALL}):
        rows = (folds == fold) & np.isfinite(own)
        chosen = own[rows]
        members = sight.held_out.take([k for k, label in enumerate(sight.held_out.labels) if levels_match(fold, label)])
        theirs = evaluate(opinions(members, [fold] * len(members)), (accuracy,))[accuracy.name]
        known = np.isfinite(theirs)
        theirs = theirs[known]
        counts[fold], notes[fold] = len(chosen), _fidelity_reason(chosen, theirs)
        random = generator(settings, fidelity.name, fold)
        values[fold], drawn[fold] = float("nan"), np.full(settings.bootstrap, np.nan)
        if not notes[fold]:
            values[fold] = chosen.mean() / theirs.mean()
            ours = resampled(chosen, sight.witnesses(sight.own)[rows], settings.bootstrap, random)
            real = resampled(theirs, sight.witnesses(members)[known], settings.bootstrap, random)
            drawn[fold] = np.divide(ours, real, out=np.full(settings.bootstrap, np.nan), where=real > 0)
    defined = [fold for fold in values if not notes[fold]]
    table = np.array([drawn[fold] for fold in defined]).reshape(len(defined), settings.bootstrap)
    worst = max(1, -(-len(defined) // 10))
    nothing = np.full(settings.bootstrap, np.nan)
    for name, keep in ((ALL, len(defined)), (WORST, worst)):
        values[name] = float(np.mean(sorted(values[fold] for fold in defined)[:keep])) if defined else float("nan")
        drawn[name] = np.sort(table, axis=0)[:keep].mean(axis=0) if defined else nothing
        counts[name] = sum(counts[fold] for fold in defined)
        notes[name] = f"mean over {keep} of {len(notes) - (name == WORST)} classes" if defined else _first(notes)
    estimates = {fold: Estimate(value, *bounds(drawn[fold], settings), counts[fold]) for fold, value in values.items()}
    return [Row(fidelity.name, fidelity.unit, fidelity.better, f, e, note=notes[f]) for f, e in estimates.items()]


def resampled(values: np.ndarray, witnesses: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Means (count,) of values (n,) whose witnesses are drawn with replacement, each with all its values."""
    _, place = np.unique(witnesses, return_inverse=True)
    sizes = np.bincount(place)
    drawn = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=count)
    return (drawn @ np.bincount(place, values)) / (drawn @ sizes)


def _first(notes: Mapping[str, str]) -> str:
    return next(iter(notes.values()), "no class was asked for")


def _fidelity_reason(own: np.ndarray, real: np.ndarray) -> str:
    """Why the ratio is undefined; empty where it is not."""
    if not len(own):
        return "no structure of a class that the oracle knows at this level"
    if not len(real):
        return "no held-out domain of the class"
    return "" if real.any() else "the oracle tells no held-out domain of the class"


def told_columns(features: Features, asked: Sequence[str]) -> list[dict[str, str]]:
    """Of each structure the likeliest label at the level asked for, and the probability of the class asked for."""
    rows = []
    for row, opinion in enumerate(opinions(features, asked)):
        told = opinion.told[max(opinion.depth, 1) - 1]
        probability = features.probability(row, upper(opinion.asked, opinion.depth)) if opinion.asked else float("nan")
        rows.append({"oracle_label": told, "oracle_probability": f"{probability:.4g}"})
    return rows


def swap_rows(swapped: Features, reconstructions: Features, settings: ScoreSettings) -> list[Row]:
    """How often the oracle follows a label that was swapped, beside the same domains under their own label and chance.

    `swapped` holds the class asked for by the swap as its labels; the rows' classes are those.
    """
    asked = list(swapped.labels)
    folds = np.array(asked, object)
    rows = []
    for metric, view in zip(SWAPS, (swapped, reconstructions.of(swapped.ids)), strict=False):
        rows += structure_rows((metric,), evaluate(opinions(view, asked), (metric,)), folds, settings)
    classes = len(swapped.names[0])
    chance = Estimate(1 / classes, 1 / classes, 1 / classes, classes)
    return [*rows, Row("swap_flip_chance", "share", "none", ALL, chance, note="1 / number of classes")]
