"""Whether a structure could exist: chain, overlaps, bond lengths, angles, torsions and hand; metrics of a `Judged`."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ...core.geometry import dihedral
from ...core.structure import ATOMS, CA, LONGEST_CA_STEP, C, N
from ..ramachandran import ALLOWED, FAVOURED, region
from .metric import Judged, Metric

TRANS_STEP, CIS_STEP = 3.80, 2.95  # Å between neighbouring CA
STEP_TOLERANCE = 0.1  # Å
CLASH = 3.0  # Å between CA of residues at least CLASH_APART apart along the chain
CLASH_APART = 3
OVERLAP = 1.0  # Å between atoms of different residues
BONDS = ((1.458, 0.019), (1.525, 0.021), (1.329, 0.014))  # N-CA, CA-C, C-N: mean and σ in Å
ANGLES = ((111.0, 2.7), (117.2, 2.2), (121.7, 2.5))  # N-CA-C, CA-C-N, C-N-CA: mean and σ in degrees
HELIX_TURN = 50.0  # degrees, virtual CA torsion of a right-handed α-helix; -50 in a left-handed one
HELIX_TURN_WIDTH = 30.0
HELIX_REACH = (4.5, 6.0)  # Å between CA i and i+3 of a helix
HELIX_WINDOWS = 3  # consecutive windows of four residues that make a helix


def _steps(structure: Judged) -> np.ndarray:
    return np.linalg.norm(np.diff(structure.coords[:, CA], axis=0), axis=1)


def chain_breaks(structure: Judged) -> float:
    """Neighbouring residues that no peptide bond joins: C-N above 2.0 Å, or CA-CA above 4.5 Å, or CA missing."""
    return float((structure.breaks | ~(_steps(structure) <= LONGEST_CA_STEP)).sum())


def ca_step_deviation(structure: Judged) -> float:
    """Mean distance of the CA-CA steps from 3.80 Å (trans) or 2.95 Å (cis), whichever is nearer."""
    steps = _steps(structure)
    steps = steps[np.isfinite(steps)]
    if not len(steps):
        return float("nan")
    return float(np.minimum(np.abs(steps - TRANS_STEP), np.abs(steps - CIS_STEP)).mean())


def ca_steps_ideal(structure: Judged) -> float:
    """Share of CA-CA steps within 0.1 Å of 3.80 Å (trans) or 2.95 Å (cis)."""
    steps = _steps(structure)
    steps = steps[np.isfinite(steps)]
    if not len(steps):
        return float("nan")
    return float((np.minimum(np.abs(steps - TRANS_STEP), np.abs(steps - CIS_STEP)) <= STEP_TOLERANCE).mean())


def clashes(structure: Judged) -> float:
    """Pairs of CA closer than 3.0 Å, at least three residues apart."""
    trace = structure.coords[:, CA]
    i, j = np.triu_indices(len(trace), CLASH_APART)
    return float((np.linalg.norm(trace[i] - trace[j], axis=1) < CLASH).sum())


def _alpha_alone(structure: Judged) -> bool:
    """Whether no residue has its N and C."""
    return not np.isfinite(structure.coords[:, (N, C)]).all(axis=(1, 2)).any()


def overlaps(structure: Judged) -> float:
    """Pairs of atoms (N CA C O CB) of different residues closer than 1.0 Å; NaN where there are CA alone."""
    if _alpha_alone(structure):
        return float("nan")
    atoms = structure.coords.reshape(-1, 3)
    found = np.flatnonzero(np.isfinite(atoms).all(axis=1))
    residue = found // len(ATOMS)
    tree = cKDTree(atoms[found])
    near = tree.query_pairs(np.nextafter(OVERLAP, 0), output_type="ndarray")
    return float((residue[near[:, 0]] != residue[near[:, 1]]).sum())


def physical_yield(structure: Judged) -> float:
    """1 where the chain is whole (C-N ≤ 2.0, CA-CA ≤ 4.5 Å), no atoms overlap (< 1.0 Å) and no CA clash (< 3.0 Å).

    NaN where there are CA alone, of which fewer faults can be seen.
    """
    if _alpha_alone(structure):
        return float("nan")
    return float(not (chain_breaks(structure) or clashes(structure) or overlaps(structure)))


def _root_mean_square(deviations: np.ndarray) -> float:
    deviations = deviations[np.isfinite(deviations)]
    return float(np.sqrt(np.square(deviations).mean())) if len(deviations) else float("nan")


def bond_rmsz(structure: Judged) -> float:
    """Root mean square Z of the bonds N-CA, CA-C and C-N within unbroken chain, by the values of Engh & Huber.

    1.458 ± 0.019, 1.525 ± 0.021 and 1.329 ± 0.014 Å (Engh & Huber 1991, doi:10.1107/S0108767391001071).
    """
    n, ca, c = (structure.coords[:, atom] for atom in (N, CA, C))
    lengths = (
        np.linalg.norm(ca - n, axis=1),
        np.linalg.norm(c - ca, axis=1),
        np.where(structure.breaks, np.nan, np.linalg.norm(n[1:] - c[:-1], axis=1)),
    )
    return _root_mean_square(
        np.concatenate([(value - mean) / sigma for value, (mean, sigma) in zip(lengths, BONDS, strict=True)])
    )


def _angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Angle at `b` in degrees, from arrays (n, 3); NaN where atoms coincide."""
    first, second = a - b, c - b
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (first * second).sum(axis=1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def angle_rmsz(structure: Judged) -> float:
    """Root mean square Z of the angles N-CA-C, CA-C-N and C-N-CA within unbroken chain, by the values of Engh & Huber.

    111.0 ± 2.7, 117.2 ± 2.2 and 121.7 ± 2.5 degrees (Engh & Huber 1991 and 2001).
    """
    n, ca, c = (structure.coords[:, atom] for atom in (N, CA, C))
    angles = (
        _angle(n, ca, c),
        np.where(structure.breaks, np.nan, _angle(ca[:-1], c[:-1], n[1:])),
        np.where(structure.breaks, np.nan, _angle(c[:-1], n[1:], ca[1:])),
    )
    return _root_mean_square(
        np.concatenate([(value - mean) / sigma for value, (mean, sigma) in zip(angles, ANGLES, strict=True)])
    )


def _regions(structure: Judged) -> np.ndarray:
    phi, psi = structure.torsions[:, 0], structure.torsions[:, 1]
    both = np.isfinite(phi) & np.isfinite(psi)
    return region(phi[both], psi[both])


def ramachandran_favoured(structure: Judged) -> float:
    """Share of residues in the favoured region (98 % of good residues) of the general Ramachandran plot.

    Residue types are unknown in a sample, so glycine and proline count too, in real domains alike: real ones reach
    about 0.89 here, not the 0.98 of a plot by type. Lovell et al. 2003, doi:10.1002/prot.10286.
    """
    regions = _regions(structure)
    return float((regions == FAVOURED).mean()) if len(regions) else float("nan")


def ramachandran_outlier(structure: Judged) -> float:
    """Share of residues outside the allowed region (99.95 %) of the general Ramachandran plot, all types alike."""
    regions = _regions(structure)
    return float((regions < ALLOWED).mean()) if len(regions) else float("nan")


def _helical(trace: np.ndarray, turn: float) -> int:
    """Windows of four CA in helices that turn by `turn` degrees."""
    torsion = np.degrees(dihedral(trace[:-3], trace[1:-2], trace[2:-1], trace[3:]))
    reach = np.linalg.norm(trace[3:] - trace[:-3], axis=1)
    fits = (np.abs(torsion - turn) <= HELIX_TURN_WIDTH) & (reach >= HELIX_REACH[0]) & (reach <= HELIX_REACH[1])
    window = np.ones(HELIX_WINDOWS, int)
    starts = np.convolve(fits, window, "valid") == HELIX_WINDOWS
    return int((np.convolve(starts, window) > 0).sum())


def left_handed_helix(structure: Judged) -> float:
    """Share of the helical windows that turn to the left; NaN where there is no helix.

    A window is four CA with torsion 50 ± 30° (right) or -50 ± 30° (left) and 4.5-6.0 Å from first to last; at least
    three consecutive ones make a helix. Virtual torsion of the α-helix after Levitt 1976,
    doi:10.1016/0022-2836(76)90004-8.
    """
    trace = structure.coords[:, CA]
    if len(trace) < HELIX_WINDOWS + 3:
        return float("nan")
    left, right = _helical(trace, -HELIX_TURN), _helical(trace, HELIX_TURN)
    return left / (left + right) if left + right else float("nan")


METRICS = (
    Metric("physical_yield", "share", "high", physical_yield),
    Metric("chain_breaks", "breaks", "low", chain_breaks),
    Metric("clashes", "pairs", "low", clashes),
    Metric("overlaps", "pairs", "low", overlaps),
    Metric("ca_step_deviation", "Å", "low", ca_step_deviation),
    Metric("ca_steps_ideal", "share", "high", ca_steps_ideal),
    Metric("bond_rmsz", "Z", "low", bond_rmsz),
    Metric("angle_rmsz", "Z", "low", angle_rmsz),
    Metric("ramachandran_favoured", "share", "high", ramachandran_favoured),
    Metric("ramachandran_outlier", "share", "low", ramachandran_outlier),
    Metric("left_handed_helix", "share", "low", left_handed_helix),
)
"""Metrics of a `Judged`."""
