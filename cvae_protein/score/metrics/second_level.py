"""Metrics of a decoder as second level: the label in its noise, the norm of the noise, what both levels reconstruct."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ...config.settings import ScoreSettings
from ...core.errors import UserError
from ...core.labels import truncate
from .latent import DEEPER, PROBES, Codes, most_skilled, probe_predictions
from .metric import ALL, LEVELS, Metric, ScoreRow, generator, grouped_estimate

NOISE_LEAK = "noise_leakage"
Numbers = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Inverted:
    """Held-out domains for which the noise of the second level was found.

    `rows` (n,) are their indices among the held-out codes, `features` (n, F) the features of the noise for probes;
    `norm`, `code_rmsd` and `both_rmsd` (n,) are as in `latents.h5`.
    """

    rows: np.ndarray
    features: np.ndarray
    norm: np.ndarray
    code_rmsd: np.ndarray
    both_rmsd: np.ndarray


def read_inverted(path: Path) -> Inverted | None:
    """The group `second_level` of `latents.h5`; None if there is none, as with a refiner."""
    with h5py.File(path, "r", locking=False) as file:
        if "second_level" not in file:
            return None
        try:
            found = {name: np.asarray(values[:], float) for name, values in file["second_level"].items()}
            return Inverted(found.pop("row").astype(int), **found)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: not a readable group second_level ({error}); sample again") from error


def second_level_norm(domain: Numbers) -> float:
    """Squared norm of the noise that the decoder maps to a domain, over its dimensions: 1 if the flow fits."""
    return domain["norm"]


def both_levels_rmsd(domain: Numbers) -> float:
    """CA RMSD, before relaxation, of a domain reconstructed from its code and its noise, found by inversion."""
    return domain["both_rmsd"]


def code_alone_rmsd(domain: Numbers) -> float:
    """As `both_levels_rmsd`, from the code alone, with the mean of the noise."""
    return domain["code_rmsd"]


METRICS = (
    Metric("second_level_norm", "none", "none", second_level_norm),
    Metric("both_levels_rmsd", "Å", "low", both_levels_rmsd),
    Metric("code_alone_rmsd", "Å", "low", code_alone_rmsd),
)


def second_level_rows(
    inverted: Inverted, held_out: Codes, superfamily: Mapping[str, str], settings: ScoreSettings
) -> list[ScoreRow]:
    """Rows of each metric, and of the skill with which new probes predict each level of the label from the noise.

    `held_out` are the codes that `inverted.rows` refers to. Intervals of means are over superfamilies.
    """
    domains = held_out.take(inverted.rows)
    groups = np.array([superfamily.get(name, "") or name for name in domains.ids.tolist()])
    table = zip(inverted.norm, inverted.code_rmsd, inverted.both_rmsd, strict=True)
    records = [dict(zip(("norm", "code_rmsd", "both_rmsd"), row, strict=True)) for row in table]
    rows = []
    for metric in METRICS:
        values = np.array([metric(record) for record in records])
        random = generator(settings, metric.name)
        rows.append(metric.row(ALL, grouped_estimate(values, groups, settings, random)))
    for level in LEVELS:
        name = f"{NOISE_LEAK}{DEEPER[level]}"
        labels = np.array([truncate(label, level) for label in domains.labels.tolist()])
        attempts = {
            probe: probe_predictions(inverted.features, labels, groups, probe, settings.seed) for probe in PROBES
        }
        estimate = most_skilled(attempts).estimate(settings, generator(settings, name))
        if estimate.n or level == 1:
            rows.append(ScoreRow(name, "skill", "zero", ALL, estimate))
    return rows
