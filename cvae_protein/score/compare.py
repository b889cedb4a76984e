"""Sets of structures side by side: differences of their means, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ..config.settings import ScoreSettings
from ..core.files import read_table, write_table
from .metrics import novelty
from .metrics.metric import Estimate, bounds, generator
from .score import STRUCTURE_METRICS

COMPARED = (*STRUCTURE_METRICS, *novelty.NEAREST, *novelty.COVERAGE)
DIFFERENCE_COLUMNS = (
    *("metric", "first", "second", "difference", "low", "high", "n_first", "n_second", "unit", "better"),
)


def difference(first: np.ndarray, second: np.ndarray, settings: ScoreSettings, random: np.random.Generator) -> Estimate:
    """Mean of the first values minus that of the second, with its interval; NaN if either set has no finite value.

    Both sets are resampled independently with replacement (two-sample bootstrap, Efron & Tibshirani 1993, chapter 8);
    no interval if either has fewer than two values. `n` is the number of values in both together.
    """
    own, other = (values[np.isfinite(values)] for values in (first, second))
    count = len(own) + len(other)
    if not len(own) or not len(other):
        return Estimate(n=count)
    value = float(own.mean() - other.mean())
    if min(len(own), len(other)) < 2:
        return Estimate(value, n=count)
    means = [
        np.array([values[random.integers(len(values), size=len(values))].mean() for _ in range(settings.bootstrap)])
        for values in (own, other)
    ]
    return Estimate(value, *bounds(means[0] - means[1], settings), count)


def differences(tables: Mapping[str, Path], settings: ScoreSettings) -> list[dict[str, object]]:
    """A row for each per-structure metric and pair of sets, from `tables`: the `structures.tsv` of each set by name.

    A metric for which a set has no number is left out of the pairs of that set.
    """
    values = {name: _columns(path) for name, path in tables.items()}
    rows = []
    for metric in COMPARED:
        for first, second in combinations(tables, 2):
            own, other = (values[name][metric.name] for name in (first, second))
            found = difference(own, other, settings, generator(settings, metric.name, first, second))
            if np.isnan(found.value):
                continue
            numbers = {"difference": found.value, "low": found.low, "high": found.high}
            row: dict[str, object] = {"metric": metric.name, "first": first, "second": second}
            row |= {key: f"{number:.6g}" for key, number in numbers.items()}
            counts = {"n_first": int(np.isfinite(own).sum()), "n_second": int(np.isfinite(other).sum())}
            rows.append(row | counts | {"unit": metric.unit, "better": metric.better})
    return rows


def write_differences(tables: Mapping[str, Path], settings: ScoreSettings, output: Path) -> None:
    """Write `differences` as a table."""
    write_table(output, DIFFERENCE_COLUMNS, differences(tables, settings))


def _columns(path: Path) -> dict[str, np.ndarray]:
    rows = [row for row in read_table(path, ("id", "kind")) if row["kind"] == "sample"]
    return {metric.name: _numbers(rows, metric.name) for metric in COMPARED}


def _numbers(rows: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    return np.array([float(row.get(name) or "nan") for row in rows])
