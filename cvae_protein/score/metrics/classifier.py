"""Metrics of the fold classifier's predictions: fidelity to the class asked for, swapped labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import h5py
import numpy as np

from ...config.settings import ScoreSettings
from ...core.errors import UserError
from ...core.labels import is_within, truncate
from .metric import ALL, LEVELS, Estimate, Metric, Row, bounds, evaluate, generator, resampled, structure_rows
from .novelty import Placed


@dataclass(frozen=True, eq=False)
class Features:
    """Features of structures.

    `ids` and `labels` (n), `values` (n, F) standardised over the training domains; a level of the label each:
    `names` the labels that the oracle knows and `posteriors` (n, labels) their probabilities. NaN where a structure
    could not be seen.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    values: np.ndarray
    names: tuple[tuple[str, ...], ...]
    posteriors: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def levels(self) -> int:
        """Levels of the label that the oracle tells."""
        return len(self.names)

    @cached_property
    def seen(self) -> np.ndarray:
        """Whether each structure could be seen (n,)."""
        return np.isfinite(self.values).all(axis=1)

    @cached_property
    def likeliest(self) -> tuple[tuple[str, ...], ...]:
        """The likeliest label of each structure at each level, levels x n; empty where it could not be seen."""
        found = []
        for names, p in zip(self.names, self.posteriors, strict=True):
            best = np.argmax(np.nan_to_num(p, nan=-1.0), axis=1) if len(p) else np.zeros(0, int)
            found.append(tuple(names[k] if ok else "" for k, ok in zip(best.tolist(), self.seen.tolist(), strict=True)))
        return tuple(found)

    def probability(self, row: int, label: str) -> float:
        """Probability of a label for one structure; NaN for a label that the oracle does not know."""
        level = label.count(".") + 1
        if level > self.levels or label not in self.names[level - 1]:
            return float("nan")
        return float(self.posteriors[level - 1][row, self.names[level - 1].index(label)])

    def take(self, rows: Sequence[int] | np.ndarray) -> Features:
        """Some of the structures, in that order."""
        rows = np.asarray(rows, int)
        return Features(
            tuple(self.ids[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            self.values[rows],
            self.names,
            tuple(p[rows] for p in self.posteriors),
        )

    def of(self, ids: Sequence[str], *, all_there: bool = True) -> Features:
        """The structures of these ids, in their order.

        One that is absent could not be seen or, with `all_there`, is a `UserError`.
        """
        place = {name: row for row, name in enumerate(self.ids)}
        if all_there and (missing := [name for name in ids if name not in place]):
            raise UserError(
                f"features: expected every structure that is scored, found none of {missing[0]!r}; embed again"
            )
        rows = [place.get(name, len(self)) for name in ids]  # the row behind the last stands for what is absent
        values, *posteriors = (
            np.vstack([table, np.full(table.shape[1], np.nan)])[rows] for table in (self.values, *self.posteriors)
        )
        labels = (*self.labels, "")
        return Features(tuple(ids), tuple(labels[row] for row in rows), values, self.names, tuple(posteriors))


@dataclass(frozen=True, eq=False)
class Sight:
    """Features of the structures that are judged, in their order, and of the held-out domains, in theirs.

    `superfamily` names that of a real domain: those of one are no independent witnesses.
    """

    own: Features
    held_out: Features
    superfamily: Mapping[str, str] = field(default_factory=dict)

    def witnesses(self, features: Features) -> np.ndarray:
        """For each structure what it is one witness of: its superfamily, or itself (n,)."""
        return np.array([self.superfamily.get(name) or name for name in features.ids], object)


def read_features(path: Path) -> Features:
    """The features of a file; `UserError` where it is absent or of another form."""
    if not path.is_file():
        raise UserError(f"{path}: expected the features that `cvae-protein embed` writes, found no file there")
    try:
        with h5py.File(path, "r") as file:
            ids, labels = (tuple(str(text) for text in file[name].asstr()[:]) for name in ("id", "label"))
            levels = sorted((name for name in file if name.startswith("level")), key=lambda name: int(name[5:]))
            names = tuple(tuple(str(text) for text in file[level].attrs["labels"]) for level in levels)
            posteriors = tuple(np.asarray(file[level][:], float) for level in levels)
            return Features(ids, labels, np.asarray(file["feature"][:], float), names, posteriors)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a readable file of features ({error})") from error


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
    return float(opinion.told[level - 1] == truncate(opinion.asked, level))


def oracle_accuracy(opinion: Opinion) -> float:
    """1 where the likeliest class is the one asked for, at the level asked for, else 0."""
    return accuracy_at(opinion, opinion.depth) if opinion.depth else float("nan")


def oracle_disagreement(opinion: Opinion) -> float:
    """1 where the likeliest class is not that of the nearest held-out domain, at the level asked for, else 0."""
    depth = min(opinion.depth or 1, len(opinion.told))
    if not opinion.nearest or not opinion.told[depth - 1]:
        return float("nan")
    return float(opinion.told[depth - 1] != truncate(opinion.nearest, depth))


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
    while level < min(features.levels, label.count(".") + 1) and truncate(label, level + 1) in features.names[level]:
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
    return replace(row, note=note)


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
        members = sight.held_out.take([k for k, label in enumerate(sight.held_out.labels) if is_within(label, fold)])
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
    return [fidelity.row(fold, estimate, note=notes[fold]) for fold, estimate in estimates.items()]


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
        probability = (
            features.probability(row, truncate(opinion.asked, opinion.depth)) if opinion.asked else float("nan")
        )
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
    return [*rows, SWAPS[-1].row(ALL, chance, note="1 / number of classes")]
