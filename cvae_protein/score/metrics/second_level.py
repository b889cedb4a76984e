"""Metrics of a second level that is a decoder: the label in its noise, the norm of that, what both levels rebuild."""

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
    """Held-out domains whose noise of the second level was found.

    `rows` (n,) are their places among the held-out codes, `features` (n, F) what a probe sees of the noise; `norm`,
    `code_rmsd` and `both_rmsd` (n,) are as `latents.h5` holds them.
    """

    rows: np.ndarray
    features: np.ndarray
    norm: np.ndarray
    code_rmsd: np.ndarray
    both_rmsd: np.ndarray


def read_inverted(path: Path) -> Inverted | None:
    """The group `second_level` of `latents.h5`; None where there is none, as behind a refiner."""
    with h5py.File(path, "r", locking=False) as file:
        if "second_level" not in file:
            return None
        try:
            found = {name: np.asarray(values[:], float) for name, values in file["second_level"].items()}
            return Inverted(found.pop("row").astype(int), **found)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: not a readable group second_level ({error}); sample again") from error


def second_level_norm(domain: Numbers) -> float:
    """Squared norm of the noise that the decoder makes a domain of, over its numbers: 1 where the flow fits."""
    return domain["norm"]


def both_levels_rmsd(domain: Numbers) -> float:
    """RMSD of CA, before relaxation, of a domain built again from its code and its noise, both found by inversion."""
    return domain["both_rmsd"]


def code_alone_rmsd(domain: Numbers) -> float:
    """The same from the code alone, with the mean of the noise."""
    return domain["code_rmsd"]


METRICS = (
    Metric("second_level_norm", "none", "none", second_level_norm),
    Metric("both_levels_rmsd", "Å", "low", both_levels_rmsd),
    Metric("code_alone_rmsd", "Å", "low", code_alone_rmsd),
)


def second_level_rows(
    inverted: Inverted, held_out: Codes, superfamily: Mapping[str, str], settings: ScoreSettings
) -> list[ScoreRow]:
    """Rows of each metric, and of the skill with which fresh probes read each level of the label from the noise.

    `held_out` are the codes among which `inverted` has its rows. Intervals of means are over superfamilies.
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
