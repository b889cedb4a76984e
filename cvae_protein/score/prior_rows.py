"""How far the codes of the training domains are from the prior that samples are drawn from, a class each."""

from __future__ import annotations

import numpy as np

from ..config.settings import ScoreSettings
from ..core.labels import first_level
from .distribution_rows import MOST_RESAMPLINGS, shifted_limits
from .intervals import Estimate, generator
from .metrics.distribution import NEIGHBOURS, FeatureSet, mmd
from .metrics.latent import Codes
from .metrics.metric import Metric
from .rows import ALL, Row, absent_rows

MOST_OF_CLASS = 256  # domains of a class whose codes are compared
METRIC = Metric("prior_mmd", "none", "low", mmd)


def _class_sets(codes: Codes, drawn: np.ndarray, settings: ScoreSettings) -> dict[str, FeatureSet]:
    """For each first-level class one draw of the posterior of each domain beside one draw of the prior for it."""
    folds = np.array([first_level(label) for label in codes.labels.tolist()])
    groups = {}
    for fold in sorted(set(folds.tolist()) - {""}):
        random = generator(settings, METRIC.name, fold)
        rows = random.permutation(np.flatnonzero(folds == fold))[:MOST_OF_CLASS]
        spread = np.exp(np.nan_to_num(codes.logvar[rows], nan=-np.inf) / 2)
        posterior = codes.mean[rows] + spread * random.standard_normal(spread.shape)
        groups[fold] = FeatureSet.even(posterior, drawn[rows])
    return groups


def prior_rows(codes: Codes, settings: ScoreSettings) -> list[Row]:
    """Rows of `prior_mmd` of each class, and their mean: 0 where the prior of a class is what its codes look like."""
    training = codes.take(codes.splits == "train")
    if training.drawn is None or not len(training):
        return absent_rows((METRIC,), "no draws of the prior for training domains in latents.h5")
    groups = _class_sets(training, training.drawn, settings)
    values: dict[str, float] = {}
    resampled: dict[str, np.ndarray] = {}
    for fold, group in groups.items():
        if len(group.own) >= NEIGHBOURS and np.isfinite(group.own).all() and np.isfinite(group.other).all():
            values[fold], random = METRIC(group), generator(settings, METRIC.name, fold, "interval")
            count = min(settings.bootstrap, MOST_RESAMPLINGS)
            resampled[fold] = np.array([METRIC(group.resample(random)) for _ in range(count)])
    rows = []
    if values:
        resampled[ALL], values[ALL] = np.mean(list(resampled.values()), axis=0), float(np.mean(list(values.values())))
    for fold in (ALL, *groups):
        members = groups if fold == ALL else {fold: groups[fold]}
        count = sum(len(group.own) for group in members.values())
        if fold not in values:
            nothing = Estimate(float("nan"), float("nan"), float("nan"), count)
            note = f"needs {NEIGHBOURS} training domains with finite codes"
            rows.append(Row(METRIC.name, METRIC.unit, METRIC.better, fold, nothing, "train", note))
            continue
        limits = shifted_limits(values[fold], resampled[fold], settings)
        rows.append(Row(METRIC.name, METRIC.unit, METRIC.better, fold, Estimate(values[fold], *limits, count), "train"))
    return rows
