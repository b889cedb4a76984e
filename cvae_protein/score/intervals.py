"""Percentile bootstrap intervals, one generator a row, so that adding a metric changes no other interval."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from ..config.settings import ScoreSettings

CHUNK = 4_000_000  # resampled values held at once


@dataclass(frozen=True)
class Estimate:
    """A value, its interval and the number of structures behind it; NaN where undefined."""

    value: float
    low: float
    high: float
    n: int


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"), 0)


def generator(settings: ScoreSettings, *names: str) -> np.random.Generator:
    """The random generator of one row, fixed by the seed and the names."""
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
        return Estimate(float(finite[0]), float("nan"), float("nan"), 1)
    means, rows = [], max(1, CHUNK // count)
    for start in range(0, settings.bootstrap, rows):
        drawn = random.integers(count, size=(min(rows, settings.bootstrap - start), count))
        means.append(finite[drawn].mean(axis=1))
    return Estimate(float(finite.mean()), *bounds(np.concatenate(means), settings), count)
