"""Metrics of a set of samples of one class: pairwise TM-scores, clusters, Vendi score, distances of distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.stats import wasserstein_distance

from ...config.settings import ScoreSettings
from ...similarity.tm_score import SAME_FOLD
from .metric import ALL, Estimate, Metric, ScoreRow, bounds, generator, mean_of


@dataclass(frozen=True, eq=False)
class ClassSet:
    """The structures of one class.

    `features` and `reference` hold one array per per-structure metric, for the set (n) and the held-out domains (m);
    `pair_tm` (k, k) is the symmetric TM-score between k structures of the set, NaN on the diagonal.
    """

    features: Mapping[str, np.ndarray]
    reference: Mapping[str, np.ndarray]
    pair_tm: np.ndarray

    @property
    def size(self) -> int:
        """Number of structures."""
        return len(next(iter(self.features.values()), ()))

    def resample(self, generator: np.random.Generator) -> ClassSet:
        """A bootstrap set: structures, held-out domains and paired structures each drawn with replacement."""
        own = _draw(generator, self.size)
        other = _draw(generator, len(next(iter(self.reference.values()), ())))
        paired = _draw(generator, len(self.pair_tm))
        return ClassSet(
            {name: values[own] for name, values in self.features.items()},
            {name: values[other] for name, values in self.reference.items()},
            self.pair_tm[np.ix_(paired, paired)],
        )


def _draw(generator: np.random.Generator, count: int) -> np.ndarray:
    return generator.integers(count, size=count) if count else np.zeros(0, int)


def _wasserstein(group: ClassSet, name: str) -> float:
    ours, theirs = (values.get(name, np.zeros(0)) for values in (group.features, group.reference))
    ours, theirs = ours[np.isfinite(ours)], theirs[np.isfinite(theirs)]
    return float(wasserstein_distance(ours, theirs)) if len(ours) and len(theirs) else float("nan")


def wasserstein_helix(group: ClassSet) -> float:
    """Wasserstein-1 distance between the helix shares of the set and of the held-out domains of the class."""
    return _wasserstein(group, "helix")


def wasserstein_strand(group: ClassSet) -> float:
    """Wasserstein-1 distance between the strand shares of the set and of the held-out domains of the class."""
    return _wasserstein(group, "strand")


def wasserstein_rg(group: ClassSet) -> float:
    """Wasserstein-1 distance between the relative radii of gyration of the set and of the held-out domains."""
    return _wasserstein(group, "relative_rg")


def mean_pairwise_tm(group: ClassSet) -> float:
    """Mean TM-score between structures of the class, each pair the mean of its two normalisations."""
    finite = group.pair_tm[np.isfinite(group.pair_tm)]
    return float(finite.mean()) if len(finite) else float("nan")


def cluster_share(group: ClassSet) -> float:
    """Number of clusters at TM 0.5 over the number of structures: 1 if no two share a fold.

    Greedy in the given order: a structure joins the first leader with a mutual TM-score above 0.5, or becomes a leader.
    """
    count = len(group.pair_tm)
    leaders: list[int] = []
    for index in range(count):
        if not any(group.pair_tm[index, leader] > SAME_FOLD for leader in leaders):
            leaders.append(index)
    return len(leaders) / count if count else float("nan")


def vendi_score(group: ClassSet) -> float:
    """Vendi score: the effective number of different structures, exp of the entropy of the eigenvalues of TM / k.

    Friedman & Dieng 2023, arXiv:2210.02410, with the symmetric TM-score as the kernel: 1 for copies, k for structures
    without similarity. The matrix of TM-scores need not be positive; eigenvalues below 0 count as 0.
    """
    if not len(group.pair_tm):
        return float("nan")
    values = np.maximum(np.linalg.eigvalsh(np.nan_to_num(group.pair_tm, nan=1.0)), 0)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def memorisation_ratio(group: ClassSet) -> float:
    """Mean TM to the nearest training domain over mean TM to the nearest held-out one, among as many of each.

    About 1 if the set is no closer to training than to unseen domains; above 1 if it repeats training.
    """
    training = group.features.get("training_tm_matched", np.zeros(0))
    held_out = group.features.get("nearest_tm", np.zeros(0))
    both = np.isfinite(training) & np.isfinite(held_out)
    if not both.any() or held_out[both].mean() == 0:
        return float("nan")
    return float(training[both].mean() / held_out[both].mean())


METRICS = (
    Metric("wasserstein_helix", "share", "low", wasserstein_helix),
    Metric("wasserstein_strand", "share", "low", wasserstein_strand),
    Metric("wasserstein_rg", "ratio", "low", wasserstein_rg),
    Metric("mean_pairwise_tm", "score", "real", mean_pairwise_tm),
    Metric("cluster_share", "share", "real", cluster_share),
    Metric("vendi_score", "structures", "real", vendi_score),
    Metric("memorisation_ratio", "ratio", "real", memorisation_ratio),
)
"""Metrics of a `ClassSet`."""
PAIRED = ("mean_pairwise_tm", "cluster_share", "vendi_score")
"""Metrics that depend on `pair_tm` only."""
JACKKNIFED = ("cluster_share", "vendi_score")  # no bootstrap: a structure drawn twice is not a cluster of its own


def _jackknife_variance(metric: Metric, group: ClassSet) -> float:
    """Variance of a metric of `group` by leaving out one paired structure at a time (Efron & Stein 1981)."""
    count = len(group.pair_tm)
    left = [np.delete(np.arange(count), index) for index in range(count)]
    values = [metric(ClassSet(group.features, group.reference, group.pair_tm[np.ix_(keep, keep)])) for keep in left]
    return float((count - 1) * np.var(values))


def _jackknife_limits(
    metric: Metric, groups: Mapping[str, ClassSet], values: Mapping[str, float], settings: ScoreSettings
) -> dict[str, tuple[float, float]]:
    """Normal intervals, limited to possible values, per class and for the mean over classes."""
    width = NormalDist().inv_cdf(0.5 + settings.confidence / 2)
    variances = {fold: _jackknife_variance(metric, group) for fold, group in groups.items()}
    variances[ALL] = sum(variances.values()) / max(len(groups), 1) ** 2
    spread = {fold: width * float(np.sqrt(variance)) for fold, variance in variances.items()}
    centre = {**values, ALL: mean_of(values.values())}
    most = 1.0 if metric.unit == "share" else float("inf")
    return {fold: (max(0.0, centre[fold] - half), min(most, centre[fold] + half)) for fold, half in spread.items()}


def _bootstrap_limits(
    metric: Metric, groups: Mapping[str, ClassSet], settings: ScoreSettings
) -> dict[str, tuple[float, float]]:
    """Percentile intervals, per class and for the mean over classes."""
    draws = {}
    for fold, group in groups.items():
        random = generator(settings, metric.name, fold)
        draws[fold] = np.array([metric(group.resample(random)) for _ in range(settings.bootstrap)])
    if draws:
        draws[ALL] = np.mean(list(draws.values()), axis=0)
    return {fold: bounds(drawn, settings) for fold, drawn in draws.items()}


def _set_estimates(metric: Metric, groups: Mapping[str, ClassSet], settings: ScoreSettings) -> dict[str, Estimate]:
    """Value and interval per class, and their mean over classes as `all`; no interval below two structures."""
    values = {fold: metric(group) for fold, group in groups.items()}
    paired = metric.name in PAIRED
    counts = {fold: len(group.pair_tm) if paired else group.size for fold, group in groups.items()}
    defined = {fold: group for fold, group in groups.items() if np.isfinite(values[fold])}
    if metric.name in JACKKNIFED:
        limits = _jackknife_limits(metric, defined, {fold: values[fold] for fold in defined}, settings)
    else:
        limits = _bootstrap_limits(metric, defined, settings)
    counts[ALL] = sum(counts[fold] for fold in defined)
    values[ALL] = mean_of(values.values())
    thin = {fold for fold in defined if counts[fold] < 2}
    if thin:
        thin.add(ALL)
    none = (float("nan"), float("nan"))
    return {
        fold: Estimate(value, *(none if fold in thin else limits.get(fold, none)), counts[fold])
        for fold, value in values.items()
    }


def set_rows(groups: Mapping[str, ClassSet], settings: ScoreSettings) -> list[ScoreRow]:
    """Every set metric of each class, and its mean over classes as `all`."""
    return [
        metric.row(fold, estimate)
        for metric in METRICS
        for fold, estimate in _set_estimates(metric, groups, settings).items()
    ]
