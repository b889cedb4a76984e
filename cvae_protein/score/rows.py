"""Rows of the score table: metrics evaluated, averaged over a class and over all, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ..config.settings import ScoreSettings
from .intervals import UNDEFINED, Estimate, bounds, generator, mean_estimate
from .metrics import diversity
from .metrics.diversity import ClassSet
from .metrics.metric import Better, Metric

ALL = "all"
SCORE_COLUMNS = ("variant", "seed", "split", "fold", "metric", "value", "low", "high", "n", "unit", "better", "note")
JACKKNIFED = ("clusters", "vendi")  # a structure drawn twice is no cluster of its own, so no bootstrap


@dataclass(frozen=True)
class Row:
    """One number of the score table; the variant and seed are added when it is written.

    `note` says why a number is absent, or what is to be known of it.
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
        """Why the value or its interval is absent, where nothing else was said."""
        if np.isnan(self.estimate.value):
            return "defined for no structure" if self.estimate.n == 0 else "undefined for what there is"
        return "" if np.isfinite(self.estimate.low) else "too few for an interval"


def evaluate(records: Iterable[Any], metrics: Sequence[Metric]) -> dict[str, np.ndarray]:
    """Each metric of each record: name -> values (n,)."""
    table = [[metric(record) for metric in metrics] for record in records]
    values = np.array(table, float).reshape(len(table), len(metrics))
    return {metric.name: values[:, column] for column, metric in enumerate(metrics)}


def structure_rows(
    metrics: Sequence[Metric],
    values: Mapping[str, np.ndarray],
    folds: np.ndarray,
    settings: ScoreSettings,
    suffix: str = "",
) -> list[Row]:
    """Mean of every per-structure metric over each class and over all; `folds` is the class of each structure (n,)."""
    rows = []
    for metric in metrics:
        name = metric.name + suffix
        for fold in (ALL, *sorted(set(folds.tolist()) - {ALL})):
            chosen = values[metric.name][(folds == fold) | (fold == ALL)]
            estimate = mean_estimate(chosen, settings, generator(settings, name, fold))
            rows.append(Row(name, metric.unit, metric.better, fold, estimate))
    return rows


def absent_rows(metrics: Iterable[Metric], note: str) -> list[Row]:
    """One row without a number for each metric, with the reason."""
    return [Row(metric.name, metric.unit, metric.better, ALL, UNDEFINED, note=note) for metric in metrics]


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _jackknife_variance(metric: Metric, group: ClassSet) -> float:
    """Variance of a metric of `group` by leaving out one paired structure at a time (Efron & Stein 1981)."""
    count = len(group.pair_tm)
    left = [np.delete(np.arange(count), index) for index in range(count)]
    values = [metric(ClassSet(group.features, group.reference, group.pair_tm[np.ix_(keep, keep)])) for keep in left]
    return float((count - 1) * np.var(values))


def _jackknife_limits(
    metric: Metric, groups: Mapping[str, ClassSet], values: Mapping[str, float], settings: ScoreSettings
) -> dict[str, tuple[float, float]]:
    """Normal intervals within what is possible, a class and for the mean over classes."""
    width = NormalDist().inv_cdf(0.5 + settings.confidence / 2)
    variances = {fold: _jackknife_variance(metric, group) for fold, group in groups.items()}
    variances[ALL] = sum(variances.values()) / max(len(groups), 1) ** 2
    spread = {fold: width * float(np.sqrt(variance)) for fold, variance in variances.items()}
    centre = {**values, ALL: _mean(values.values())}
    most = 1.0 if metric.unit == "share" else float("inf")
    return {fold: (max(0.0, centre[fold] - half), min(most, centre[fold] + half)) for fold, half in spread.items()}


def _bootstrap_limits(
    metric: Metric, groups: Mapping[str, ClassSet], settings: ScoreSettings
) -> dict[str, tuple[float, float]]:
    """Percentile intervals, a class and for the mean over classes."""
    draws = {}
    for fold, group in groups.items():
        random = generator(settings, metric.name, fold)
        draws[fold] = np.array([metric(group.resample(random)) for _ in range(settings.bootstrap)])
    if draws:
        draws[ALL] = np.mean(list(draws.values()), axis=0)
    return {fold: bounds(drawn, settings) for fold, drawn in draws.items()}


def _set_estimates(metric: Metric, groups: Mapping[str, ClassSet], settings: ScoreSettings) -> dict[str, Estimate]:
    """Value and interval a class, and their mean over classes as `all`; no interval below two structures a class."""
    values = {fold: metric(group) for fold, group in groups.items()}
    paired = metric.name in diversity.PAIRED
    counts = {fold: len(group.pair_tm) if paired else group.size for fold, group in groups.items()}
    defined = {fold: group for fold, group in groups.items() if np.isfinite(values[fold])}
    if metric.name in JACKKNIFED:
        limits = _jackknife_limits(metric, defined, {fold: values[fold] for fold in defined}, settings)
    else:
        limits = _bootstrap_limits(metric, defined, settings)
    counts[ALL] = sum(counts[fold] for fold in defined)
    values[ALL] = _mean(values.values())
    thin = {fold for fold in defined if counts[fold] < 2}
    if thin:
        thin.add(ALL)
    none = (float("nan"), float("nan"))
    return {
        fold: Estimate(value, *(none if fold in thin else limits.get(fold, none)), counts[fold])
        for fold, value in values.items()
    }


def set_rows(groups: Mapping[str, ClassSet], settings: ScoreSettings) -> list[Row]:
    """Every set metric of each class, and its mean over classes as `all`."""
    return [
        Row(metric.name, metric.unit, metric.better, fold, estimate)
        for metric in diversity.METRICS
        for fold, estimate in _set_estimates(metric, groups, settings).items()
    ]
