"""What a metric is, the structure that metrics see, rows of the score table and their bootstrap intervals."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ...config.settings import ScoreSettings
from ...core.geometry import torsions
from ...core.secondary_structure import secondary_structure
from ...core.structure import CA, Backbone

Better = Literal["low", "high", "real", "zero", "none"]  # real, zero: better closer to the row `real`, to 0
LEVELS = (1, 2, 3)  # label levels with rows of their own: class, architecture, topology
MOST_RESAMPLINGS = 200  # of metrics that are slow to compute
UNASSIGNED = "?"  # letter of a residue without secondary structure because an atom is missing


@dataclass(frozen=True)
class Metric:
    """One number about a structure, a set of structures or a set of codes.

    `function` takes the record of its kind (`PreparedStructure`, `Pair`, `ClassSet`, `Codes`), returns a float that is
    NaN where the metric is undefined, and changes nothing; its docstring is the definition.
    """

    name: str
    unit: str
    better: Better
    function: Callable[[Any], float]

    def __call__(self, record: Any) -> float:
        """The metric of one record."""
        return float(self.function(record))

    def row(self, fold: str, estimate: Estimate, split: str = "test", note: str = "") -> ScoreRow:
        """The row of the metric over a class."""
        return ScoreRow(self.name, self.unit, self.better, fold, estimate, split, note)


@dataclass(frozen=True, eq=False)
class PreparedStructure:
    """The first model of a structure, prepared once for all metrics.

    `coords` is float64 (L, 5, 3) in Å, NaN where missing; `label` the target class, or the full label of a real
    domain; `ss` one DSSP letter per residue, `?` where an atom is missing.
    """

    id: str
    label: str
    coords: np.ndarray
    breaks: np.ndarray
    ss: str

    @classmethod
    def of(cls, backbone: Backbone, label: str, ss: str = "") -> PreparedStructure:
        """Prepare the first model of `backbone`; `ss` are its DSSP letters, if known."""
        ss = ss or secondary_structure(backbone.model(0))[0]
        return cls(backbone.id, label, backbone.coords[0].astype(np.float64), backbone.breaks, ss)

    def __len__(self) -> int:
        return len(self.coords)

    @cached_property
    def ca(self) -> np.ndarray:
        """CA trace without the residues that lack it, Å (≤L, 3)."""
        trace = self.coords[:, CA]
        return trace[np.isfinite(trace).all(axis=1)]

    @cached_property
    def torsions(self) -> np.ndarray:
        """phi, psi, omega in radians, NaN at ends and breaks (L, 3)."""
        return torsions(self.coords, self.breaks)


CHUNK = 4_000_000  # resampled values held at once


@dataclass(frozen=True)
class Estimate:
    """A value, its interval and the number of structures behind it; NaN where undefined."""

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    n: int = 0


UNDEFINED = Estimate()


def generator(settings: ScoreSettings, *names: str) -> np.random.Generator:
    """The random generator of one row, determined by the seed and the names."""
    return np.random.default_rng([settings.seed, *(zlib.crc32(name.encode()) for name in names)])


def bounds(values: np.ndarray, settings: ScoreSettings) -> tuple[float, float]:
    """Lower and upper percentile of resampled values at the set confidence; NaN where fewer than half are defined."""
    finite = values[np.isfinite(values)]
    if len(finite) * 2 < len(values) or not len(finite):
        return float("nan"), float("nan")
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def mean_estimate(values: np.ndarray, settings: ScoreSettings, random: np.random.Generator) -> Estimate:
    """Mean of the finite values with its percentile bootstrap interval (Efron 1979); no interval below two values."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    count = len(finite)
    if count == 0:
        return UNDEFINED
    if count == 1:
        return Estimate(float(finite[0]), n=1)
    means, rows = [], max(1, CHUNK // count)
    for start in range(0, settings.bootstrap, rows):
        drawn = random.integers(count, size=(min(rows, settings.bootstrap - start), count))
        means.append(finite[drawn].mean(axis=1))
    return Estimate(float(finite.mean()), *bounds(np.concatenate(means), settings), count)


ALL = "all"
SCORE_COLUMNS = ("variant", "seed", "split", "fold", "metric", "value", "low", "high", "n", "unit", "better", "note")


@dataclass(frozen=True)
class ScoreRow:
    """One number of the score table; the variant and seed are added when it is written.

    `note` says why a number is absent, or qualifies it.
    """

    metric: str
    unit: str
    better: Better
    fold: str
    estimate: Estimate
    split: str = "test"
    note: str = ""

    def cells(self, variant: str, seed: str) -> dict[str, object]:
        """The row as `scores.tsv` holds it."""
        numbers = {name: f"{getattr(self.estimate, name):.6g}" for name in ("value", "low", "high")}
        return {
            "variant": variant,
            "seed": seed,
            "split": self.split,
            "fold": self.fold,
            "metric": self.metric,
            **numbers,
            "n": self.estimate.n,
            "unit": self.unit,
            "better": self.better,
            "note": self.note or self._reason(),
        }

    def _reason(self) -> str:
        """Why the value or its interval is absent, if there is no other note."""
        if np.isnan(self.estimate.value):
            return "defined for no structure" if self.estimate.n == 0 else "undefined for what there is"
        return "" if np.isfinite(self.estimate.low) else "too few for an interval"


def evaluate(records: Iterable[Any], metrics: Sequence[Metric]) -> dict[str, np.ndarray]:
    """Each metric of each record: name -> values (n,)."""
    table = [[metric(record) for metric in metrics] for record in records]
    values = np.array(table, float).reshape(len(table), len(metrics))
    return {metric.name: values[:, column] for column, metric in enumerate(metrics)}


def classes(folds: np.ndarray) -> list[str]:
    """The target classes among `folds` (n,), sorted; only `all` if there is none."""
    return sorted(set(folds.tolist()) - {ALL}) or sorted(set(folds.tolist()))


def structure_rows(
    metrics: Sequence[Metric],
    values: Mapping[str, np.ndarray],
    folds: np.ndarray,
    settings: ScoreSettings,
    suffix: str = "",
) -> list[ScoreRow]:
    """Mean of every per-structure metric over each class and over all; `folds` is the class of each structure (n,)."""
    rows = []
    for metric in metrics:
        name = metric.name + suffix
        for fold in (ALL, *sorted(set(folds.tolist()) - {ALL})):
            chosen = values[metric.name][(folds == fold) | (fold == ALL)]
            estimate = mean_estimate(chosen, settings, generator(settings, name, fold))
            rows.append(ScoreRow(name, metric.unit, metric.better, fold, estimate))
    return rows


def absent_rows(metrics: Iterable[Metric], note: str) -> list[ScoreRow]:
    """One row without a number for each metric, with the reason."""
    return [metric.row(ALL, UNDEFINED, note=note) for metric in metrics]


def mean_of(values: Iterable[float]) -> float:
    """Mean of the finite values; NaN if there is none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def bootstrap_means(values: np.ndarray, groups: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Means (count,) of values (n,) whose `groups` are drawn with replacement, each with all its values."""
    _, place = np.unique(groups, return_inverse=True)
    sizes = np.bincount(place)
    drawn = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=count)
    return (drawn @ np.bincount(place, values)) / (drawn @ sizes)


def grouped_estimate(
    values: np.ndarray, groups: np.ndarray, settings: ScoreSettings, random: np.random.Generator
) -> Estimate:
    """Mean of values (n,), and its interval over their `groups`; no interval below two groups."""
    if not len(values):
        return UNDEFINED
    limits = (float("nan"), float("nan"))
    if len(np.unique(groups)) > 1:
        limits = bounds(bootstrap_means(values, groups, settings.bootstrap, random), settings)
    return Estimate(float(values.mean()), *limits, len(values))
