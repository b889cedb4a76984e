"""Rows of the score table about sets of features: a class each, and over all classes, with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..config.settings import ScoreSettings
from ..core.labels import levels_match
from .features import Sight
from .intervals import Estimate, bounds, generator
from .metrics.distribution import AVERAGED, POOLED, FeatureSet, permuted_mmd, pooled, reason
from .metrics.metric import Metric
from .rows import ALL, Row, absent_rows

MOST_RESAMPLINGS = 200
POSSIBLE = {"share": (0.0, 1.0), "nat": (0.0, np.inf), "folds": (1.0, np.inf), "ratio": (0.0, np.inf)}
P_VALUE = Metric("mmd_p", "p", "none", lambda group: float("nan"))  # of permutations, in `_p_rows`
METRICS = (*POOLED, *AVERAGED, P_VALUE)


def class_features(sight: Sight, folds: np.ndarray) -> dict[str, FeatureSet]:
    """The features of each class asked for beside those of its held-out domains; of all where none was asked for."""
    names = sorted(set(folds.tolist()) - {ALL}) or sorted(set(folds.tolist()))
    groups = {}
    for fold in names:
        own = sight.own.take(np.flatnonzero((folds == fold) & sight.own.seen))
        members = np.array([fold == ALL or levels_match(fold, label) for label in sight.held_out.labels], bool)
        other = sight.held_out.take(np.flatnonzero(members & sight.held_out.seen))
        groups[fold] = FeatureSet.even(own.values, other.values, own.posteriors, other.posteriors)
    return groups


def _value(metric: Metric, group: FeatureSet) -> float:
    return float("nan") if reason(metric.name, group) else metric(group)


def _over_all(metric: Metric, values: Mapping[str, float], groups: Mapping[str, FeatureSet], of: FeatureSet) -> float:
    """The value over all classes: of the pooled set, or the mean over the classes where it is defined."""
    if metric in POOLED:
        return _value(metric, of)
    finite = [values[fold] for fold in groups if np.isfinite(values[fold])]
    return float(np.mean(finite)) if finite else float("nan")


def _evaluated(groups: Mapping[str, FeatureSet]) -> dict[tuple[str, str], float]:
    """Every metric of every class and over all: (metric, class) -> value."""
    found: dict[tuple[str, str], float] = {}
    complete = [group for group in groups.values() if len(group.own) and len(group.other)]
    everything = pooled(complete) if complete else next(iter(groups.values()))
    for metric in METRICS[:-1]:
        values = {fold: _value(metric, group) for fold, group in groups.items()}
        found |= {(metric.name, fold): value for fold, value in values.items()}
        found[metric.name, ALL] = _over_all(metric, values, groups, everything)
    return found


def _note(metric: Metric, fold: str, groups: Mapping[str, FeatureSet]) -> str:
    """Why a row has no number, or how many classes the mean is over."""
    if fold in groups:
        return reason(metric.name, groups[fold])
    if metric in POOLED:
        complete = [group for group in groups.values() if len(group.own) and len(group.other)]
        return reason(metric.name, pooled(complete) if complete else next(iter(groups.values())))
    reasons = [found for group in groups.values() if (found := reason(metric.name, group))]
    if not reasons:
        return ""
    return (
        reasons[0]
        if len(reasons) == len(groups)
        else f"mean over {len(groups) - len(reasons)} of {len(groups)} classes"
    )


def shifted_limits(value: float, drawn: np.ndarray, settings: ScoreSettings) -> tuple[float, float]:
    """Percentile interval, moved by what the resampling itself adds to the mean."""
    low, high = bounds(drawn, settings)
    moved = value - float(np.nanmean(drawn)) if np.isfinite(low) else 0.0
    return low + moved, high + moved


def distribution_rows(groups: Mapping[str, FeatureSet], settings: ScoreSettings) -> list[Row]:
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
            note = _note(metric, fold, groups)
            rows.append(
                Row(
                    metric.name,
                    metric.unit,
                    metric.better,
                    fold,
                    Estimate(value, float(low), float(high), count),
                    note=note,
                )
            )
    return [*rows, *_p_rows(groups, values, settings)]


def _p_rows(
    groups: Mapping[str, FeatureSet], values: Mapping[tuple[str, str], float], settings: ScoreSettings
) -> list[Row]:
    """p-values of `mmd` a class, and of its mean over classes; structures are permuted within classes."""
    drawn = {
        fold: permuted_mmd(group, settings.bootstrap, generator(settings, P_VALUE.name, fold))
        for fold, group in groups.items()
        if not reason("mmd", group)
    }
    if drawn and ALL not in groups:
        drawn[ALL] = np.mean(list(drawn.values()), axis=0)
    rows = []
    for fold in dict.fromkeys((ALL, *groups)):
        members = [groups[fold]] if fold in groups else list(groups.values())
        p, note = float("nan"), reason("mmd", members[0])
        if fold in drawn:
            above = int((drawn[fold] >= values["mmd", fold]).sum())
            p, note = (above + 1) / (len(drawn[fold]) + 1), "a p-value has no interval"
        count = sum(len(group.own) for group in members)
        estimate = Estimate(p, float("nan"), float("nan"), count)
        rows.append(Row(P_VALUE.name, P_VALUE.unit, P_VALUE.better, fold, estimate, note=note))
    return rows
