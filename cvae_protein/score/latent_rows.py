"""Rows of the score table about the codes: active units, rate, information and leak."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..config.settings import ScoreSettings
from ..core.progress import Progress
from .intervals import UNDEFINED, Estimate, bounds, generator, mean_estimate
from .metrics.latent import METRICS, MOST_CODES, Codes, information
from .probes import PROBES, Guesses, guesses
from .rows import ALL, Row

LEVELS = (1, 2, 3)  # of the label, attacked by probes: class, architecture, topology
EVERY = "every"  # split of the rows that look at all domains


def _unit_rows(codes: Codes, settings: ScoreSettings) -> list[Row]:
    rows = []
    for metric in METRICS:
        random = generator(settings, metric.name)
        value, low, high = metric(codes), float("nan"), float("nan")
        if np.isfinite(value):
            drawn = (random.integers(len(codes), size=len(codes)) for _ in range(settings.bootstrap))
            low, high = bounds(np.array([metric(codes.take(rows)) for rows in drawn]), settings)
        rows.append(Row(metric.name, metric.unit, metric.better, ALL, Estimate(value, low, high, len(codes))))
    for column in range(codes.kl.shape[1]):
        name = f"kl_{column:03d}"
        estimate = mean_estimate(codes.kl[:, column], settings, generator(settings, name))
        rows.append(Row(name, "nat", "none", ALL, estimate))
    return rows


def _information_rows(codes: Codes, settings: ScoreSettings) -> list[Row]:
    """Mutual information of code and structure, and the log D that the estimate cannot pass."""
    random = generator(settings, "mutual_information")
    if len(codes) > MOST_CODES:
        codes = codes.take(random.permutation(len(codes))[:MOST_CODES])
    estimate = mean_estimate(information(codes, random), settings, random)
    bound = float(np.log(len(codes))) if len(codes) else float("nan")
    return [
        Row("mutual_information", "nat", "none", ALL, estimate),
        Row("mutual_information_bound", "nat", "none", ALL, Estimate(bound, bound, bound, len(codes))),
    ]


def _at_level(labels: np.ndarray, level: int) -> np.ndarray:
    """Labels cut to their first `level` levels (D,)."""
    return np.array([".".join(label.split(".")[:level]) for label in labels.tolist()])


def _best(attempts: Mapping[str, Guesses]) -> Guesses:
    """The guesses of the most skilled probe."""
    return max(attempts.values(), key=lambda each: -1.0 if np.isnan(each.skill) else each.skill)


def _leak_rows(codes: Codes, superfamily: Mapping[str, str], settings: ScoreSettings) -> list[Row]:
    """Skill of fresh probes: on the whole code, on each block, on drawn codes, and at deeper levels of the label."""
    groups = np.array([superfamily.get(name, "") or name for name in codes.ids.tolist()])
    noise = generator(settings, "leak_skill_sampled").standard_normal(codes.mean.shape)
    views = {
        "leak_skill": codes.mean,
        "leak_skill_sampled": codes.mean + np.exp(np.nan_to_num(codes.logvar, nan=-np.inf) / 2) * noise,
    }
    for name, (start, stop) in codes.blocks.items():
        if (start, stop) != (0, codes.mean.shape[1]):
            views[f"leak_skill_{name}"] = codes.mean[:, start:stop]
    plans = [(name, view, 1) for name, view in views.items()]
    plans += [(f"leak_skill_level{level}", codes.mean, level) for level in LEVELS[1:]]
    progress = Progress("probes", len(plans), "attacks")
    rows = []
    for name, view, level in plans:
        labels = _at_level(codes.labels, level)
        attempts = {probe: guesses(view, labels, groups, probe, settings.seed) for probe in PROBES}
        found = {f"{name}": _best(attempts)}
        if name == "leak_skill":
            found |= {f"{name}_{probe}": attempt for probe, attempt in attempts.items()}
        for metric, attempt in found.items():
            estimate = attempt.estimate(settings, generator(settings, metric))
            if estimate.n or level == 1:
                rows.append(Row(metric, "skill", "low", ALL, estimate, EVERY))
        progress.advance()
    return rows


def latent_rows(codes: Codes, superfamily: Mapping[str, str], settings: ScoreSettings) -> list[Row]:
    """All rows about the codes: held-out domains for use of the code, all domains for the leak."""
    held_out = codes.take(codes.splits == "test")
    leak = _leak_rows(codes.take(codes.splits != "excluded"), superfamily, settings)
    told = Estimate(codes.levels, codes.levels, codes.levels, len(codes)) if codes.levels else UNDEFINED
    known = Row("told_levels", "levels", "none", ALL, told, EVERY)
    return [*_unit_rows(held_out, settings), *_information_rows(held_out, settings), *leak, known]
