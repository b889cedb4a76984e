"""Metrics between sets in the feature space of the fold classifier: Fréchet, kernel, precision and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from ...config.settings import ScoreSettings
from ...core.labels import is_within
from .classifier import EmbeddingPair
from .metric import (
    ALL,
    LEVELS,
    MOST_RESAMPLINGS,
    Estimate,
    Metric,
    ScoreRow,
    absent_rows,
    bounds,
    classes,
    generator,
    mean_of,
)

NEIGHBOURS = 5  # k of the neighbourhoods
SHARES = ((0.5, 4), (0.6, 4), (0.75, 4), (1.0, 1))  # of both sets, and draws of each, for `fpsd_limit`


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m) of points (n, F) and (m, F)."""
    squares = np.square(first).sum(1)[:, None] + np.square(second).sum(1)
    return np.maximum(squares - 2 * first @ second.T, 0.0)


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of the structures of one class, `own` (n, F), and of its held-out domains, `other` (m, F).

    `own_posteriors` and `other_posteriors` hold the labels' probabilities (n, labels), (m, labels) per level;
    `weights` (m,), which sum to 1, are those of the held-out domains in moments and means.
    """

    own: np.ndarray
    other: np.ndarray
    own_posteriors: tuple[np.ndarray, ...]
    other_posteriors: tuple[np.ndarray, ...]
    weights: np.ndarray

    @staticmethod
    def even(
        own: np.ndarray, other: np.ndarray, own_p: Sequence[np.ndarray] = (), other_p: Sequence[np.ndarray] = ()
    ) -> FeatureSet:
        """A set whose held-out domains have equal weights."""
        return FeatureSet(own, other, tuple(own_p), tuple(other_p), np.full(len(other), 1 / max(len(other), 1)))

    def take(self, own: np.ndarray, other: np.ndarray) -> FeatureSet:
        """A subset of the structures and of the held-out domains, which keep their relative weights."""
        weights = self.weights[other]
        part = FeatureSet(
            self.own[own],
            self.other[other],
            tuple(p[own] for p in self.own_posteriors),
            tuple(p[other] for p in self.other_posteriors),
            weights / weights.sum() if len(weights) else weights,
        )
        part.__dict__["distances"] = tuple(
            table[np.ix_(a, b)]
            for table, a, b in zip(self.distances, (own, other, own), (own, other, other), strict=True)
        )
        return part

    def resample(self, random: np.random.Generator) -> FeatureSet:
        """A bootstrap set: structures and held-out domains each drawn with replacement."""
        own, other = (
            random.integers(len(x), size=len(x)) if len(x) else np.zeros(0, int) for x in (self.own, self.other)
        )
        return self.take(own, other)

    @cached_property
    def distances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Squared distances within the structures (n, n), within the held-out domains (m, m), and between (n, m)."""
        return tuple(  # type: ignore[return-value]
            squared_distances(a, b) for a, b in ((self.own, self.own), (self.other, self.other), (self.own, self.other))
        )


def pooled(groups: Sequence[FeatureSet]) -> FeatureSet:
    """All classes as one set; the held-out domains of a class are weighted by the number of its structures."""
    total = sum(len(group.own) for group in groups)
    levels = range(min(len(group.own_posteriors) for group in groups))
    return FeatureSet(
        np.concatenate([group.own for group in groups]),
        np.concatenate([group.other for group in groups]),
        tuple(np.concatenate([group.own_posteriors[level] for group in groups]) for level in levels),
        tuple(np.concatenate([group.other_posteriors[level] for group in groups]) for level in levels),
        np.concatenate([group.weights * len(group.own) / total for group in groups]),
    )


def frechet(mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray) -> float:
    """Squared Fréchet distance of two Gaussians: |m - m'|² + tr(S + S' - 2 (S S')^½) (Dowson & Landau 1982)."""
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other_covariance @ root), 0)).sum()
    return float(np.square(mean - other_mean).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * cross)


def _moments(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and covariance; the latter is unbiased for equal weights."""
    mean = weights @ values
    centred = values - mean
    return mean, (centred * weights[:, None]).T @ centred / max(1 - np.square(weights).sum(), 1e-12)


def fpsd(group: FeatureSet) -> float:
    """Squared Fréchet distance of the features of the set and of the held-out domains, as Gaussians.

    Heusel et al. 2017, arXiv:1706.08500; with features of a fold classifier: Geffner et al. 2025, arXiv:2503.00710.
    Biased upwards in small sets.
    """
    even = np.full(len(group.own), 1 / len(group.own))
    return frechet(*_moments(group.own, even), *_moments(group.other, group.weights))


def fpsd_limit(group: FeatureSet) -> float:
    """`fpsd` extrapolated to infinitely many structures, by a line in 1 / size through that of subsets of both sets.

    Chong & Forsyth 2020, arXiv:1911.07023. May fall below 0, being free of the bias.
    """
    random = np.random.default_rng(0)
    inverse, values = [], []
    for share, draws in SHARES:
        for _ in range(draws):
            own, other = (random.permutation(len(x))[: round(share * len(x))] for x in (group.own, group.other))
            weights = group.weights[other] / group.weights[other].sum()
            even = np.full(len(own), 1 / len(own))
            inverse.append(1 / share)
            values.append(frechet(*_moments(group.own[own], even), *_moments(group.other[other], weights)))
    return float(np.polyfit(inverse, values, 1)[1])


def unbiased_mmd(own: np.ndarray, other: np.ndarray, between: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of kernels (n, n), (m, m), (n, m) (Gretton et al. 2012, eq. 3)."""
    n, m = between.shape
    within = (own.sum() - np.trace(own)) / (n * (n - 1)) + (other.sum() - np.trace(other)) / (m * (m - 1))
    return float(within - 2 * between.mean())


def kid(group: FeatureSet) -> float:
    """Unbiased squared MMD with the kernel (x·y / F + 1)³ (Bińkowski et al. 2018, arXiv:1801.01401)."""
    width = group.own.shape[1]
    pairs = ((group.own, group.own), (group.other, group.other), (group.own, group.other))
    return unbiased_mmd(*((a @ b.T / width + 1) ** 3 for a, b in pairs))


def gaussian_kernels(group: FeatureSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """exp(-d² / 2 s²) within the set, within the held-out domains and between; s² is the median of all d²."""
    own, other, between = group.distances
    upper = [table[np.triu_indices(len(table), 1)] for table in (own, other)]
    median = float(np.median(np.concatenate([*upper, between.ravel()]))) or 1.0
    return np.exp(-own / (2 * median)), np.exp(-other / (2 * median)), np.exp(-between / (2 * median))


def mmd(group: FeatureSet) -> float:
    """Unbiased squared MMD with a Gaussian kernel of the median distance (Gretton et al. 2012)."""
    return unbiased_mmd(*gaussian_kernels(group))


def permuted_mmd(group: FeatureSet, count: int, random: np.random.Generator) -> np.ndarray:
    """`feature_mmd` of `count` random divisions of the pooled structures into sets of the same sizes (count,)."""
    own, other, between = gaussian_kernels(group)
    table = np.block([[own, between], [between.T, other]])
    np.fill_diagonal(table, 0)
    n, m = between.shape
    first = (np.argsort(random.random((count, n + m)), axis=1) < n).astype(float)  # (count, n + m)
    second = 1 - first
    ours, theirs = first @ table, second @ table
    within = (ours * first).sum(1) / (n * (n - 1)) + (theirs * second).sum(1) / (m * (m - 1))
    return within - 2 * (ours * second).sum(1) / (n * m)


def _radii(distances: np.ndarray) -> np.ndarray:
    """Squared distance to the fifth neighbour within a set (n,)."""
    return np.partition(distances, NEIGHBOURS, axis=1)[:, NEIGHBOURS]  # the first is the point itself


def precision(group: FeatureSet) -> float:
    """Share of the set within some held-out domain's distance to its fifth neighbour (Kynkäänniemi et al. 2019)."""
    _, other, between = group.distances
    return float((between <= _radii(other)).any(axis=1).mean())


def recall(group: FeatureSet) -> float:
    """Share of the held-out domains within some structure's distance to its fifth neighbour (the same source)."""
    own, _, between = group.distances
    return float((between <= _radii(own)[:, None]).any(axis=0).mean())


def density(group: FeatureSet) -> float:
    """Mean number of held-out domains whose neighbourhood contains a given structure, over 5 (Naeem et al. 2020)."""
    _, other, between = group.distances
    return float((between <= _radii(other)).sum(axis=1).mean() / NEIGHBOURS)


def coverage(group: FeatureSet) -> float:
    """Share of the held-out domains whose neighbourhood contains a structure of the set (Naeem et al. 2020)."""
    _, other, between = group.distances
    return float((between <= _radii(other)).any(axis=0).mean())


def fold_score(posterior: np.ndarray) -> float:
    """exp(mean divergence of rows (n, labels) from their mean): high if sure and varied (Salimans et al. 2016)."""
    mean = posterior.mean(axis=0)
    ratio = np.log(np.maximum(posterior, 1e-300)) - np.log(np.maximum(mean, 1e-300))
    return float(np.exp((posterior * ratio).sum(axis=1).mean()))


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen-Shannon divergence of two distributions in nats (Lin 1991); 0 to log 2."""
    middle = (first + second) / 2
    parts = (p * (np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(middle, 1e-300))) for p in (first, second))
    return float(sum(part.sum() for part in parts) / 2)


def fold_score_at(group: FeatureSet, level: int) -> float:
    """`fold_score` of the set's posterior at a level, 0 = first, -1 = deepest (as Geffner et al. 2025)."""
    return fold_score(group.own_posteriors[level])


def fjsd_at(group: FeatureSet, level: int) -> float:
    """Divergence of the mean posteriors of the set and of the held-out domains at a level (Geffner et al. 2025)."""
    return divergence(group.own_posteriors[level].mean(axis=0), group.weights @ group.other_posteriors[level])


POOLED = (
    Metric("fpsd", "distance²", "low", fpsd),
    Metric("fpsd_limit", "distance²", "low", fpsd_limit),
    Metric("fold_score", "folds", "real", partial(fold_score_at, level=-1)),
    *(Metric(f"fold_score_level{k}", "folds", "real", partial(fold_score_at, level=k - 1)) for k in LEVELS),
    Metric("fjsd", "nat", "low", partial(fjsd_at, level=-1)),
    *(Metric(f"fjsd_level{k}", "nat", "low", partial(fjsd_at, level=k - 1)) for k in LEVELS),
)
"""Metrics whose value over all classes is that of the pooled set."""
AVERAGED = (
    Metric("kid", "none", "zero", kid),
    Metric("feature_mmd", "none", "zero", mmd),
    Metric("precision", "share", "real", precision),
    Metric("recall", "share", "real", recall),
    Metric("density", "ratio", "real", density),
    Metric("coverage", "share", "high", coverage),
)
"""Metrics whose value over all classes is their mean over classes."""


def reason(name: str, group: FeatureSet) -> str:
    """Why a metric is undefined for a set; empty where it is defined."""
    n, m, width = len(group.own), len(group.other), group.own.shape[-1]
    if not n:
        return "no structure of the class"
    if not m:
        return "no held-out domain of the class"
    level = name.rpartition("_level")[2] if "_level" in name else ""
    if level and int(level) > len(group.own_posteriors):
        return "the fold classifier predicts no label of this level"
    kind = name.split("_level")[0]
    fewest = {
        "fpsd": width + 1,
        "fpsd_limit": 2 * (width + 1),
        "fold_score": 2,
        "fjsd": 2,
        "kid": NEIGHBOURS,
        "feature_mmd": NEIGHBOURS,
    }.get(kind, NEIGHBOURS + 1)
    if min(n, m) >= fewest:
        return ""
    return f"needs {fewest} structures and held-out domains, has {n} and {m}"


POSSIBLE = {"share": (0.0, 1.0), "nat": (0.0, np.inf), "folds": (1.0, np.inf), "ratio": (0.0, np.inf)}
P_VALUE = Metric("feature_mmd_p", "p", "none", lambda group: float("nan"))  # of permutations, in `_p_rows`
METRICS = (*POOLED, *AVERAGED, P_VALUE)


def class_features(embeddings: EmbeddingPair, folds: np.ndarray) -> dict[str, FeatureSet]:
    """The features of each target class and of its held-out domains; of all structures without a target."""
    groups = {}
    for fold in classes(folds):
        own = embeddings.own.take(np.flatnonzero((folds == fold) & embeddings.own.seen))
        members = np.array([fold == ALL or is_within(label, fold) for label in embeddings.held_out.labels], bool)
        other = embeddings.held_out.take(np.flatnonzero(members & embeddings.held_out.seen))
        groups[fold] = FeatureSet.even(own.values, other.values, own.posteriors, other.posteriors)
    return groups


def _value(metric: Metric, group: FeatureSet) -> float:
    return float("nan") if reason(metric.name, group) else metric(group)


def _everything(groups: Mapping[str, FeatureSet]) -> FeatureSet:
    """All classes with structures and held-out domains as one set; the first class if none has both."""
    complete = [group for group in groups.values() if len(group.own) and len(group.other)]
    return pooled(complete) if complete else next(iter(groups.values()))


def _evaluated(groups: Mapping[str, FeatureSet]) -> dict[tuple[str, str], float]:
    """Every metric of every class and over all: (metric, class) -> value."""
    found: dict[tuple[str, str], float] = {}
    everything = _everything(groups)
    for metric in METRICS[:-1]:
        values = {fold: _value(metric, group) for fold, group in groups.items()}
        found |= {(metric.name, fold): value for fold, value in values.items()}
        found[metric.name, ALL] = _value(metric, everything) if metric in POOLED else mean_of(values.values())
    return found


def _note(metric: Metric, fold: str, groups: Mapping[str, FeatureSet]) -> str:
    """Why a row has no number, or how many classes the mean is over."""
    if fold in groups:
        return reason(metric.name, groups[fold])
    if metric in POOLED:
        return reason(metric.name, _everything(groups))
    reasons = [found for group in groups.values() if (found := reason(metric.name, group))]
    if len(reasons) == len(groups):
        return reasons[0]
    return f"mean over {len(groups) - len(reasons)} of {len(groups)} classes" if reasons else ""


def shifted_limits(value: float, drawn: np.ndarray, settings: ScoreSettings) -> tuple[float, float]:
    """Percentile interval, corrected for the shift that the resampling itself adds to the mean."""
    low, high = bounds(drawn, settings)
    moved = value - float(np.nanmean(drawn)) if np.isfinite(low) else 0.0
    return low + moved, high + moved


def distribution_rows(groups: Mapping[str, FeatureSet], settings: ScoreSettings) -> list[ScoreRow]:
    """Every metric of `distribution` of each class and over all, with the reason where one is undefined."""
    if not groups:
        return absent_rows(METRICS, "no structure was given")
    values = _evaluated(groups)
    randoms = {fold: generator(settings, "distribution", fold) for fold in groups}
    drawn: dict[tuple[str, str], list[float]] = {key: [] for key in values}
    for _ in range(min(settings.bootstrap, MOST_RESAMPLINGS)):
        for key, value in _evaluated({f: group.resample(randoms[f]) for f, group in groups.items()}).items():
            drawn[key].append(value)
    rows = []
    for metric in METRICS[:-1]:
        for fold in dict.fromkeys((ALL, *groups)):
            value = values[metric.name, fold]
            limits = shifted_limits(value, np.array(drawn[metric.name, fold]), settings)
            low, high = np.clip(limits, *POSSIBLE.get(metric.unit, (-np.inf, np.inf)))
            count = len(groups[fold].own) if fold in groups else sum(len(group.own) for group in groups.values())
            estimate = Estimate(value, float(low), float(high), count)
            rows.append(metric.row(fold, estimate, note=_note(metric, fold, groups)))
    return [*rows, *_p_rows(groups, values, settings)]


def _p_rows(
    groups: Mapping[str, FeatureSet], values: Mapping[tuple[str, str], float], settings: ScoreSettings
) -> list[ScoreRow]:
    """p-values of `feature_mmd` per class, and of its mean over classes; structures are permuted within classes."""
    drawn = {
        fold: permuted_mmd(group, settings.bootstrap, generator(settings, P_VALUE.name, fold))
        for fold, group in groups.items()
        if not reason("feature_mmd", group)
    }
    if drawn and ALL not in groups:
        drawn[ALL] = np.mean(list(drawn.values()), axis=0)
    rows = []
    for fold in dict.fromkeys((ALL, *groups)):
        members = [groups[fold]] if fold in groups else list(groups.values())
        p, note = float("nan"), reason("feature_mmd", members[0])
        if fold in drawn:
            above = int((drawn[fold] >= values["feature_mmd", fold]).sum())
            p, note = (above + 1) / (len(drawn[fold]) + 1), "a p-value has no interval"
        count = sum(len(group.own) for group in members)
        rows.append(P_VALUE.row(fold, Estimate(p, n=count), note=note))
    return rows
