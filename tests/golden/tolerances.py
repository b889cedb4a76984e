"""How far a stage's output may be from what is recorded, and how far it was on other instruction sets."""

from __future__ import annotations

import numpy as np
from golden.stages import METRICS, Arrays, chains, metrics

from cvae_protein.core.geometry import rmsd

LONG = "relaxed "  # how the names of what is seen of the long relaxation begin

TOLERANCES = {
    "coords": (0, 3.8e-5),  # Å
    "lengths": (0, 0),
    "models": (0, 0),
    "sequences": (0, 0),
    "residue_ids": (0, 0),
    "torsions": (4.4e-16, 1.0e-12),  # radians
    "secondary_structure": (0, 0),
    "weights": (0, 0),
    "log_sigma": (0, 7.5e-8),
    "label_ids": (0, 0),
    "coefficients": (6.6e-7, 6.6e-6),  # Å
    "target": (2.4e-6, 2.4e-5),  # Å
    "posterior_mean": (2.4e-6, 2.4e-5),
    "posterior_logvar": (9.5e-7, 9.5e-6),
    "partly_refined_mean": (2.6e-6, 2.6e-5),
    "refined_mean": (5.7e-5, 5.7e-4),
    "noise_of_codes": (1.5e-6, 1.5e-5),
    "codes_of_noise": (7.2e-7, 7.2e-6),
    "drawn_codes": (1.5e-6, 1.5e-5),
    "aggregate_codes": (8.3e-7, 8.3e-6),
    "trace": (6.9e-6, 6.9e-5),  # Å
    "drawn_trace": (1.1e-5, 1.1e-4),  # Å
    "velocity": (2.5e-6, 2.5e-5),
    "ca": (5.7e-6, 5.7e-5),  # Å
    "carbonyl": (2.7e-5, 2.7e-4),
    "unrelaxed": (9.5e-7, 1.9e-5),  # Å
    "early_gradient": (6.1e-5, 6.1e-4),
    "late_gradient": (3.4e-5, 3.4e-4),
    "partly_relaxed": (1.2e-4, 1.2e-3),  # Å
    "relaxed RMSD": (1.1e-1, 3.3e-1),  # Å
    "relaxed physically valid": (0, 0),
    "relaxed chain breaks": (0, 0),
    "relaxed clashes": (0, 0),
    "relaxed overlaps": (0, 0),
    "relaxed CA step deviation": (9.2e-4, 2.7e-3),  # Å
    "relaxed share of ideal CA steps": (0, 2.0e-2),
    "relaxed bond RMSZ": (3.1e-2, 9.2e-2),
    "relaxed angle RMSZ": (4.8e-2, 1.4e-1),
    "relaxed share of Ramachandran favoured": (1.6e-2, 4.8e-2),
    "relaxed share of Ramachandran outliers": (1.6e-2, 4.8e-2),
    "relaxed share of left-handed helix": (0, 2.0e-2),
    "relaxed share of helix": (0, 2.0e-2),
    "relaxed share of strand": (4.7e-2, 1.4e-1),
    "relaxed radius of gyration": (2.8e-2, 8.4e-2),  # Å
    "relaxed relative radius of gyration": (2.6e-3, 7.9e-3),
    "metrics_of_domains": (4.4e-16, 1.0e-12),
    "metrics_of_relaxed": (4.4e-16, 1.0e-12),
    "evidence_terms": (0, 3.1e-4),  # nats
    "batch_codes": (2.4e-6, 2.4e-5),
    "batch_terms": (1.5e-5, 3.1e-4),  # nats
    "log_gradient_norms": (1.2e-6, 1.2e-5),
}
"""Name of an output -> the largest difference from its record that was measured, and the tolerance.

Measured by `python -m golden.record --spread` on an AMD EPYC with AVX-512, PyTorch 2.13.0: with one thread and two, and
with the instruction sets of older processors, from SSE on (17 environments); for the long relaxation, also 100 times
from inputs that were changed in the last place. The tolerance is 10 times the difference, 3 times for the long
relaxation, whose differences no longer grow; where hardly anything differed it is the rounding of the type of number,
and a residue for shares of residues.
"""


def beyond_tolerance(seen: dict[str, float]) -> str:
    """The differences that are too large, in words; empty where none is."""
    return "; ".join(
        f"{name} differs by {value:.3g}, tolerance {TOLERANCES[name][1]:.3g}"
        for name, value in seen.items()
        if not value <= TOLERANCES[name][1]
    )


def differences(found: Arrays, recorded: Arrays) -> dict[str, float]:
    """Name of each output -> its largest absolute difference from the record."""
    seen: dict[str, float] = {}
    for name, values in found.items():
        if name == "relaxed":
            seen |= differences_of_relaxed(values, recorded)
        else:
            seen[name] = largest_difference(values, recorded[name])
    return seen


def differences_of_relaxed(found: np.ndarray, recorded: Arrays) -> dict[str, float]:
    """Largest RMSD, and largest difference of each metric of physical validity, of the long relaxation."""
    if not np.isfinite(largest_difference(found, recorded["relaxed"])):
        return {f"{LONG}RMSD": np.inf}
    sides = chains(recorded, found), chains(recorded, recorded["relaxed"])
    pairs = zip(*sides, strict=True)
    seen = {f"{LONG}RMSD": max(float(rmsd(a.reshape(-1, 3), b.reshape(-1, 3))) for a, b in pairs)}
    tables = [metrics(side) for side in sides]
    for column, metric in enumerate(METRICS):
        seen[f"{LONG}{metric}"] = largest_difference(*(table[:, column] for table in tables))
    return seen


def largest_difference(found: np.ndarray, recorded: np.ndarray) -> float:
    """Largest absolute difference of two arrays; infinite where shape, text or what is missing differs."""
    if found.shape != recorded.shape or found.dtype.kind != recorded.dtype.kind:
        return np.inf
    if found.dtype.kind == "U":
        return 0.0 if (found == recorded).all() else np.inf
    if (np.isfinite(found) != np.isfinite(recorded)).any():
        return np.inf
    return float(np.abs(np.nan_to_num(found).astype(float) - np.nan_to_num(recorded)).max(initial=0))
