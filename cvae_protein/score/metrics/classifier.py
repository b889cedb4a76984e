"""Metrics of the fold classifier's predictions: fidelity to the target class, swapped labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path

import h5py
import numpy as np

from ...config.settings import ScoreSettings
from ...core.errors import UserError
from ...core.files import check_may_read
from ...core.labels import depth_of, is_within, lineage, truncate
from .metric import (
    ALL,
    LEVELS,
    Estimate,
    Metric,
    ScoreRow,
    bootstrap_means,
    bounds,
    evaluate,
    generator,
    structure_rows,
)
from .novelty import NearestDomains


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of structures by the fold classifier, and the probabilities of their labels.

    `ids` and `labels` (n), `values` (n, F) standardised over the training domains; per level of the label: `names` the
    labels that the classifier knows and `posteriors` (n, labels) their probabilities. NaN where a structure could not
    be embedded.
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
        """Levels of the label that the classifier predicts."""
        return len(self.names)

    @cached_property
    def seen(self) -> np.ndarray:
        """Whether each structure could be embedded (n,)."""
        return np.isfinite(self.values).all(axis=1)

    @cached_property
    def likeliest(self) -> tuple[tuple[str, ...], ...]:
        """The most probable label of each structure at each level, levels x n; empty where it could not be embedded."""
        found = []
        for names, p in zip(self.names, self.posteriors, strict=True):
            best = np.argmax(np.nan_to_num(p, nan=-1.0), axis=1) if len(p) else np.zeros(0, int)
            found.append(tuple(names[k] if ok else "" for k, ok in zip(best.tolist(), self.seen.tolist(), strict=True)))
        return tuple(found)

    def probability(self, row: int, label: str) -> float:
        """Probability of a label for one structure; NaN for a label that the classifier does not know."""
        level = depth_of(label)
        if level > self.levels or label not in self.names[level - 1]:
            return float("nan")
        return float(self.posteriors[level - 1][row, self.names[level - 1].index(label)])

    def take(self, rows: Sequence[int] | np.ndarray) -> Embeddings:
        """The structures `rows`, in that order."""
        rows = np.asarray(rows, int)
        return Embeddings(
            tuple(self.ids[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            self.values[rows],
            self.names,
            tuple(p[rows] for p in self.posteriors),
        )

    def of(self, ids: Sequence[str], *, all_there: bool = True) -> Embeddings:
        """The structures of these ids, in their order.

        An absent one counts as not embedded or, with `all_there`, raises `UserError`.
        """
        place = {name: row for row, name in enumerate(self.ids)}
        if all_there and (missing := [name for name in ids if name not in place]):
            raise UserError(
                f"features: expected every structure that is scored, found none of {missing[0]!r}; embed again"
            )
        rows = [place.get(name, len(self)) for name in ids]  # the row after the last stands for absent ones
        values, *posteriors = (
            np.vstack([table, np.full(table.shape[1], np.nan)])[rows] for table in (self.values, *self.posteriors)
        )
        labels = (*self.labels, "")
        return Embeddings(tuple(ids), tuple(labels[row] for row in rows), values, self.names, tuple(posteriors))


@dataclass(frozen=True, eq=False)
class EmbeddingPair:
    """Embeddings of the evaluated structures, in their order, and of the held-out domains, in theirs.

    `superfamily` gives that of each real domain: domains of one superfamily are not independent.
    """

    own: Embeddings
    held_out: Embeddings
    superfamily: Mapping[str, str] = field(default_factory=dict)

    def bootstrap_groups(self, features: Embeddings) -> np.ndarray:
        """For each structure, the group that is resampled as a unit: its superfamily, or itself (n,)."""
        return np.array([self.superfamily.get(name) or name for name in features.ids], object)


def read_features(path: Path) -> Embeddings:
    """The embeddings in a file; `UserError` if it is absent or has another format."""
    if not path.is_file():
        raise UserError(f"{path}: expected the features that `cvae-protein embed` writes, found no file there")
    check_may_read(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            ids, labels = (tuple(str(text) for text in file[name].asstr()[:]) for name in ("id", "label"))
            levels = sorted((name for name in file if name.startswith("level")), key=lambda name: int(name[5:]))
            names = tuple(tuple(str(text) for text in file[level].attrs["labels"]) for level in levels)
            posteriors = tuple(np.asarray(file[level][:], float) for level in levels)
            return Embeddings(ids, labels, np.asarray(file["feature"][:], float), names, posteriors)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a readable file of features ({error})") from error


def check_one_classifier(first: Path, second: Path) -> None:
    """`UserError` if two files of features are from different classifiers, as after retraining."""
    seen_by = []
    for path in (first, second):
        check_may_read(path)
        with h5py.File(path, "r", locking=False) as file:
            seen_by.append(str(file.attrs.get("classifier", "")))
    if seen_by[0] != seen_by[1]:
        raise UserError(f"{first}: of another fold classifier than {second}; embed both again by the same one")


WORST = "worst_decile"  # of the classes, as a fold


@dataclass(frozen=True)
class Prediction:
    """The predicted labels of a structure, level by level, its target class and the label of its nearest domain.

    `known_depth` is the level down to which the classifier knows the target; labels are empty if there are none.
    """

    target: str
    predicted: tuple[str, ...]
    known_depth: int
    nearest: str = ""

    @property
    def depth(self) -> int:
        """The level of the target, or the classifier's deepest."""
        return min(depth_of(self.target), len(self.predicted))


def accuracy_at(prediction: Prediction, level: int) -> float:
    """1 where the most probable class of a level is the target's, else 0; NaN without a target at that level."""
    if (
        not prediction.target
        or level > min(prediction.depth, prediction.known_depth)
        or not prediction.predicted[level - 1]
    ):
        return float("nan")
    return float(prediction.predicted[level - 1] == truncate(prediction.target, level))


def classifier_accuracy(prediction: Prediction) -> float:
    """1 where the most probable class is the target, at the target's level, else 0."""
    return accuracy_at(prediction, prediction.depth) if prediction.depth else float("nan")


def classifier_nearest_disagreement(prediction: Prediction) -> float:
    """1 where the most probable class is not that of the nearest held-out domain, at the target's level, else 0."""
    depth = min(prediction.depth or 1, len(prediction.predicted))
    if not prediction.nearest or not prediction.predicted[depth - 1]:
        return float("nan")
    return float(prediction.predicted[depth - 1] != truncate(prediction.nearest, depth))


METRICS = (
    Metric("classifier_accuracy", "share", "high", classifier_accuracy),
    *(
        Metric(f"classifier_accuracy_level{level}", "share", "high", partial(accuracy_at, level=level))
        for level in LEVELS
    ),
    Metric("classifier_nearest_disagreement", "share", "none", classifier_nearest_disagreement),
)
"""Metrics of a `Prediction`."""
FIDELITY = {
    accuracy.name: Metric(accuracy.name.replace("classifier_accuracy", "fidelity"), "ratio", "high", accuracy.function)
    for accuracy in METRICS
    if accuracy.name.startswith("classifier_accuracy")
}
"""For each accuracy, the metric that divides it by the accuracy on the held-out domains."""
SWAPS = (
    Metric("swap_followed", "share", "high", classifier_accuracy),
    Metric("swap_followed_control", "share", "none", classifier_accuracy),
    Metric("swap_followed_chance", "share", "none", classifier_accuracy),
)
"""Metrics of held-out domains decoded under another class's label, the target, and of the same under their own."""


def predict_folds(features: Embeddings, targets: Sequence[str], nearest: Sequence[str] = ()) -> list[Prediction]:
    """The prediction for each structure with its target class, which may be empty."""
    known = {label: _known(features, label) for label in set(targets)}
    return [
        Prediction(
            label, tuple(labels[row] for labels in features.likeliest), known[label], nearest[row] if nearest else ""
        )
        for row, label in enumerate(targets)
    ]


def _known(features: Embeddings, label: str) -> int:
    """Number of levels of a label that the classifier knows, counted from the first."""
    found = zip(lineage(label), features.names, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] in pair[1], found))


def accuracy_rows(
    embeddings: EmbeddingPair, nearest: Sequence[NearestDomains], settings: ScoreSettings
) -> list[ScoreRow]:
    """Rows of `METRICS` and of fidelity, the accuracy over that on the held-out domains of the class."""
    targets = [hits.label for hits in nearest]
    found = evaluate(predict_folds(embeddings.own, targets, [hits.held_out.label for hits in nearest]), METRICS)
    folds = np.array([label or ALL for label in targets], object)
    rows = [_explained(row, targets) for row in structure_rows(METRICS, found, folds, settings)]
    for metric in METRICS:
        if metric.name in FIDELITY:
            rows += _fidelity_rows(FIDELITY[metric.name], metric, found[metric.name], folds, embeddings, settings)
    return rows


def _explained(row: ScoreRow, targets: Sequence[str]) -> ScoreRow:
    """The row, with the reason if it has no number."""
    if row.estimate.n or not row.metric.startswith("classifier_accuracy"):
        return row
    note = "the fold classifier knows no target class of this level" if any(targets) else "no target class was given"
    return replace(row, note=note)


def _fidelity_rows(
    fidelity: Metric,
    accuracy: Metric,
    own: np.ndarray,
    folds: np.ndarray,
    embeddings: EmbeddingPair,
    settings: ScoreSettings,
) -> list[ScoreRow]:
    """Ratio of accuracies per class; its mean over classes as `all`, and over their worst tenth.

    Superfamilies of real domains are resampled as units.
    """
    values, drawn, counts, notes = {}, {}, {}, {}
    for fold in sorted(set(folds.tolist()) - {ALL}):
        rows = (folds == fold) & np.isfinite(own)
        chosen = own[rows]
        members = embeddings.held_out.take(
            [k for k, label in enumerate(embeddings.held_out.labels) if is_within(label, fold)]
        )
        theirs = evaluate(predict_folds(members, [fold] * len(members)), (accuracy,))[accuracy.name]
        known = np.isfinite(theirs)
        theirs = theirs[known]
        counts[fold], notes[fold] = len(chosen), _fidelity_reason(chosen, theirs)
        random = generator(settings, fidelity.name, fold)
        values[fold], drawn[fold] = float("nan"), np.full(settings.bootstrap, np.nan)
        if not notes[fold]:
            values[fold] = chosen.mean() / theirs.mean()
            ours = bootstrap_means(
                chosen, embeddings.bootstrap_groups(embeddings.own)[rows], settings.bootstrap, random
            )
            real = bootstrap_means(theirs, embeddings.bootstrap_groups(members)[known], settings.bootstrap, random)
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
    return next(iter(notes.values()), "no target class was given")


def _fidelity_reason(own: np.ndarray, real: np.ndarray) -> str:
    """Why the ratio is undefined; empty where it is not."""
    if not len(own):
        return "no structure of a class that the fold classifier knows at this level"
    if not len(real):
        return "no held-out domain of the class"
    return "" if real.any() else "the fold classifier recognises no held-out domain of the class"


def prediction_columns(features: Embeddings, targets: Sequence[str]) -> list[dict[str, str]]:
    """For each structure, the most probable label at the target's level, and the probability of the target."""
    rows = []
    for row, prediction in enumerate(predict_folds(features, targets)):
        predicted = prediction.predicted[max(prediction.depth, 1) - 1]
        probability = (
            features.probability(row, truncate(prediction.target, prediction.depth))
            if prediction.target
            else float("nan")
        )
        rows.append({"predicted_label": predicted, "target_probability": f"{probability:.4g}"})
    return rows


def swap_rows(swapped: Embeddings, reconstructions: Embeddings, settings: ScoreSettings) -> list[ScoreRow]:
    """How often the predicted class follows a swapped label, also for the same domains under their own, and by chance.

    The labels of `swapped` are the target classes of the swap, which are also the classes of the rows.
    """
    targets = list(swapped.labels)
    folds = np.array(targets, object)
    rows = []
    for metric, view in zip(SWAPS, (swapped, reconstructions.of(swapped.ids)), strict=False):
        rows += structure_rows((metric,), evaluate(predict_folds(view, targets), (metric,)), folds, settings)
    classes = len(swapped.names[0])
    chance = Estimate(1 / classes, 1 / classes, 1 / classes, classes)
    return [*rows, SWAPS[-1].row(ALL, chance, note="1 / number of classes")]
