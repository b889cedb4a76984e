"""Flexibility of a chain's residues, predicted by a linear model from contacts and the shape of the CA trace.

Elastic networks capture how densely a residue is packed; that loops and strand ends move more than equally densely
packed helices is learnt from ensembles. `experiments/flexibility.py` fits the weights and evaluates them on held-out
proteins.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np

from ..core.elastic_network import (
    anisotropic_modes,
    contact_fluctuations,
    gaussian_fluctuations,
    packing_fluctuations,
    parameter_free_fluctuations,
)
from ..core.geometry import distances

WEIGHTS = Path(__file__).with_name("flexibility.json")
CUTOFFS, SHELLS = (7.3, 10.0), (7.0, 10.0, 16.0)  # Å, of Gaussian networks and of contacts
AHEAD = (2, 3, 4)  # residues from one CA to the other; their distance distinguishes helix, strand and turn
SHIFTS = range(-4, 3)  # offsets of the first of the two CA from the residue
BEYOND = 7.0  # Å, used for distances that reach beyond an end
FAR = 20  # residues from an end, at which its effect ceases
NEIGHBOURS = 5  # residues whose mean fluctuation is used beside a residue's own


def standardized(values: np.ndarray) -> np.ndarray:
    """Values (L,) minus their mean, divided by their standard deviation."""
    return (values - values.mean()) / max(float(values.std()), 1e-9)


def features(trace: np.ndarray) -> np.ndarray:
    """Features (L, F) of a CA trace (L, 3) in Å, from which the flexibility of its residues is predicted."""
    trace = np.asarray(trace, np.float64)
    length, places = len(trace), np.arange(len(trace))
    found = []
    for fluctuations in (
        anisotropic_modes(trace).fluctuations,
        *(gaussian_fluctuations(trace, cutoff) for cutoff in CUTOFFS),
        *(contact_fluctuations(trace, cutoff) for cutoff in SHELLS),
        packing_fluctuations(trace),
        parameter_free_fluctuations(trace),
    ):
        own = standardized(np.log(np.maximum(fluctuations, 1e-9)))
        padded = np.pad(own, NEIGHBOURS // 2, mode="edge")
        found += [own, np.convolve(padded, np.full(NEIGHBOURS, 1 / NEIGHBOURS), "valid")]
    apart = distances(trace)
    for ahead in AHEAD:
        for shift in SHIFTS:
            first = places + shift
            inside = (first >= 0) & (first + ahead < length)
            kept = np.clip(first, 0, length - 1), np.clip(first + ahead, 0, length - 1)
            found.append(np.where(inside, apart[kept], BEYOND))
    found.append(np.minimum(np.minimum(places, length - 1 - places), FAR) / FAR)
    return np.stack(found, axis=1)


@cache
def _weights() -> tuple[np.ndarray, float]:
    stored = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    return np.array(stored["weights"]), float(stored["spread"])


def flexibility(trace: np.ndarray) -> np.ndarray:
    """Expected RMSF of each residue of a CA trace (L, 3) relative to the chain's geometric mean (L,)."""
    weights, spread = _weights()
    return np.exp(spread * standardized(features(trace) @ weights))
