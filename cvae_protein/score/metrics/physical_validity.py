"""Metrics of one structure: chain, overlaps, bonds, angles, Ramachandran regions, hand, helix, strand, size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from ...core.geometry import dihedral, radius_of_gyration
from ...core.structure import ATOMS, CA, LONGEST_CA_STEP, Backbone, C, N
from .metric import UNASSIGNED, Metric, PreparedStructure

HELIX, STRAND = "HGI", "EB"  # DSSP letters
GYRATION_SCALE, GYRATION_EXPONENT = 2.2, 0.38  # Å; of folded chains, Skolnick et al. 1997


def _share(structure: PreparedStructure, letters: str) -> float:
    known = [letter for letter in structure.ss if letter != UNASSIGNED]
    return sum(letter in letters for letter in known) / len(known) if known else float("nan")


def helix(structure: PreparedStructure) -> float:
    """Share of residues in a helix: DSSP letters H, G and I (Kabsch & Sander 1983, doi:10.1002/bip.360221211)."""
    return _share(structure, HELIX)


def strand(structure: PreparedStructure) -> float:
    """Share of residues in a strand or bridge: DSSP letters E and B."""
    return _share(structure, STRAND)


def rg(structure: PreparedStructure) -> float:
    """Radius of gyration of the CA atoms."""
    return float(radius_of_gyration(structure.ca)) if len(structure.ca) else float("nan")


def relative_rg(structure: PreparedStructure) -> float:
    """Radius of gyration over 2.2 L^0.38 Å, that of a globular chain of the same length (Skolnick et al. 1997)."""
    return rg(structure) / (GYRATION_SCALE * len(structure) ** GYRATION_EXPONENT) if len(structure) else float("nan")


COMPOSITION = (
    Metric("helix", "share", "real", helix),
    Metric("strand", "share", "real", strand),
    Metric("rg", "Å", "none", rg),
    Metric("relative_rg", "ratio", "real", relative_rg),
)
"""Metrics of a `PreparedStructure`."""
STEP = 5  # degrees per cell of the map
OUTLIER, ALLOWED, FAVOURED = 0, 1, 2
# One line per cell of phi and one letter per cell of psi, both from -180 degrees on. F favoured, a allowed.
MAP = """
aaaaa...............................................aaaaaaaaaaaaaaaaFFFa
aaaaaa..........................................aaaaaaaaaaaaaaaaaFFFFFFF
Faaaaaa...............................aaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFF
FFaaaaaa...........................aaaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFF
FFaaaaaa...........aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFF
FFFaaaaaa.........aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFF
FFFaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFFFF
FFaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFFFF
FFaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFaaaaaaaaFFFFFFFFFFFFFFFFFFF
FFaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFaaaaaaaFFFFFFFFFFFFFFFFFFF
FFaaaaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFFFFaaaaaaaFFFFFFFFFFFFFFFFFFF
FFaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFFFFFFaaaaaaaaFFFFFFFFFFFFFFFFFFF
FFaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFFFFFFFaaaaaaaaFFFFFFFFFFFFFFFFFFF
FaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFFFFFFFaaaaaaaaFFFFFFFFFFFFFFFFFFF
FaaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFFFFFFaaaaaaaaaFFFFFFFFFFFFFFFFFFF
FFaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFFFFFFaaaaaaaFFFFFFFFFFFFFFFFFFFFF
FFaaaaaaaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFFFFFaaaaaFFFFFFFFFFFFFFFFFFFFFFFF
FFaaaaaaa..aaaaaaaaaaaaaFFFFFFFFFFFFFFFFFFaaaaFFFFFFFFFFFFFFFFFFFFFFFFFF
FFaaaaa........aaaaaaaaFFFFFFFFFFFFFFFFFFaaaaaFFFFFFFFFFFFFFFFFFFFFFFFFF
FFaaaaa..........aaaaaaFFFFFFFFFFFFFFFFFaaaaaaFFFFFFFFFFFFFFFFFFFFFFFFFF
FFaaaa............aaaaaaFFFFFFFFFFFFFFFaaaaaaaaaFFFFFFFFFFFFFFFFFFFFFFFF
Faaaa..............aaaaaFFFFFFFFFFFFFFaaaaaaaaaaaaaaaaFFFFFFFFFFFFFFFFFF
aaaa...............aaaaaFFFFFFFFFFFFFaaa..aaaaaaaaaaaaaaaFFFFFFFFFFFFFFF
aa..................aaaFFFFFFFFFFFFFaaa......aaaaaaaaaaaaaFFFFFFFFFFFFFa
a...................aaaFFFFFFFFFFFaaaa.................aaaFFFFFFFFFFFaaa
....................aaaFFFFFFFFFFaaa....................aaaFFFFFFFFaaaaa
....................aaaFFFFFFFFaaa......................aaaFFFFFFFaaaa..
....................aaaaFFFFFaaaa.......................aaaaFFFFaaaa....
....................aaaaaaaaaaa.........................aaaaaaaaaa......
....................aaaaaaaaa............................aaaaaaa........
.....................aaaaaaa..............................aaaaa.........
......................aaaa.................................aa...........
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
.............................................aaaaa......................
.........aaaa..............................aaaaaaaaa....................
.......aaaaaaaa...........................aaaaaaaaaa....................
.....aaaaaaaaaaa........................aaaaFFFFaaaaa...................
...aaaaaaaaaaaaaa.....................aaaaFFFFFFFaaaaa..................
.aaaaaaaaaaaaaaaa...................aaaaFFFFFFFFFaaaaa..................
aaaaaaaaaaaaaaaaa.....aaaaaaaaa....aaaaFFFFFFFFFFaaaaa.................a
aaaaaaaaaaaaaaaaa....aaaaaaaaaaaaaaaaFFFFFFFFFFFaaaaaa...............aaa
aaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaFFFFFFFFFaaaaaaaaa.............aaaaa
aaaaaaaaaaaaaaaa....aaaaaaaaaaaaaaaaFFFFFFFaaaaaaaaaa............aaaaaaa
aaaaaaaa...aaa......aaaaaaaaaaaaaaaaFFFFaaaaaaaaaaa.............aaaaaaaa
.....................aaaaaaaaaaaaaaaaaaaaaaaa....................aaaaaa.
......................aaaaaaaaaaaaaaaaaaaaa.......................aaa...
...............................aaaaaaaaa................................
.................................aaaa...................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
........................................................................
..................................................................aaa...
a..............................................................aaaaaaaaa
aaa.........................................................aaaaaaaaaaaa
"""
"""Contours of the general case at 98 % and 99.95 % of good residues, digitised at 5 degrees.

Lovell et al. 2003, Structure validation by Cα geometry: φ, ψ and Cβ deviation, Proteins 50:437, doi:10.1002/prot.10286
(500 structures of high resolution, residues with B < 30).
"""
CODES = np.array([[".aF".index(letter) for letter in line] for line in MAP.split()], np.int8)


def region(phi: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """OUTLIER, ALLOWED or FAVOURED for torsions in radians, both (n,) and finite."""
    cells = [(np.floor(np.degrees(angle) / STEP).astype(int) + 180 // STEP) % len(CODES) for angle in (phi, psi)]
    return CODES[cells[0], cells[1]]


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


def _steps(structure: PreparedStructure) -> np.ndarray:
    return np.linalg.norm(np.diff(structure.coords[:, CA], axis=0), axis=1)


def chain_breaks(structure: PreparedStructure) -> float:
    """Number of neighbouring residues without a peptide bond: C-N above 2.0 Å, CA-CA above 4.5 Å, or CA missing."""
    return float((structure.breaks | ~(_steps(structure) <= LONGEST_CA_STEP)).sum())


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _step_deviations(structure: PreparedStructure) -> np.ndarray:
    steps = _steps(structure)
    steps = steps[np.isfinite(steps)]
    return np.minimum(np.abs(steps - TRANS_STEP), np.abs(steps - CIS_STEP))


def ca_step_deviation(structure: PreparedStructure) -> float:
    """Mean distance of the CA-CA steps from 3.80 Å (trans) or 2.95 Å (cis), whichever is nearer."""
    return _mean(_step_deviations(structure))


def ca_steps_ideal(structure: PreparedStructure) -> float:
    """Share of CA-CA steps within 0.1 Å of 3.80 Å (trans) or 2.95 Å (cis)."""
    return _mean(_step_deviations(structure) <= STEP_TOLERANCE)


def clashes(structure: PreparedStructure) -> float:
    """Number of pairs of CA closer than 3.0 Å, at least three residues apart."""
    trace = structure.coords[:, CA]
    i, j = np.triu_indices(len(trace), CLASH_APART)
    return float((np.linalg.norm(trace[i] - trace[j], axis=1) < CLASH).sum())


def _alpha_alone(structure: PreparedStructure) -> bool:
    """Whether no residue has both N and C."""
    return not np.isfinite(structure.coords[:, (N, C)]).all(axis=(1, 2)).any()


def overlaps(structure: PreparedStructure) -> float:
    """Number of pairs of atoms (N CA C O CB) of different residues closer than 1.0 Å; NaN for CA alone."""
    if _alpha_alone(structure):
        return float("nan")
    atoms = structure.coords.reshape(-1, 3)
    found = np.flatnonzero(np.isfinite(atoms).all(axis=1))
    residue = found // len(ATOMS)
    tree = cKDTree(atoms[found])
    near = tree.query_pairs(np.nextafter(OVERLAP, 0), output_type="ndarray")
    return float((residue[near[:, 0]] != residue[near[:, 1]]).sum())


def physically_valid(structure: PreparedStructure) -> float:
    """1 where the chain is whole (C-N ≤ 2.0, CA-CA ≤ 4.5 Å), no atoms overlap (< 1.0 Å) and no CA clash (< 3.0 Å).

    NaN for CA alone, in which fewer faults can be seen.
    """
    if _alpha_alone(structure):
        return float("nan")
    return float(not (chain_breaks(structure) or clashes(structure) or overlaps(structure)))


def is_valid(backbone: Backbone) -> bool:
    """Whether the first model is physically valid; False for CA alone."""
    return physically_valid(PreparedStructure.of(backbone, "")) == 1.0


def _rmsz(values: Sequence[np.ndarray], ideals: Sequence[tuple[float, float]]) -> float:
    """Root mean square Z of values (n,) of several kinds, each with its mean and σ; NaN are left out."""
    scores = np.concatenate([(value - mean) / sigma for value, (mean, sigma) in zip(values, ideals, strict=True)])
    return float(np.sqrt(_mean(np.square(scores[np.isfinite(scores)]))))


def bond_rmsz(structure: PreparedStructure) -> float:
    """Root mean square Z of the bonds N-CA, CA-C and C-N, not across breaks, by the values of Engh & Huber.

    1.458 ± 0.019, 1.525 ± 0.021 and 1.329 ± 0.014 Å (Engh & Huber 1991, doi:10.1107/S0108767391001071).
    """
    n, ca, c = (structure.coords[:, atom] for atom in (N, CA, C))
    lengths = (
        np.linalg.norm(ca - n, axis=1),
        np.linalg.norm(c - ca, axis=1),
        np.where(structure.breaks, np.nan, np.linalg.norm(n[1:] - c[:-1], axis=1)),
    )
    return _rmsz(lengths, BONDS)


def _angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Angle at `b` in degrees, from arrays (n, 3); NaN where atoms coincide."""
    first, second = a - b, c - b
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (first * second).sum(axis=1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def angle_rmsz(structure: PreparedStructure) -> float:
    """Root mean square Z of the angles N-CA-C, CA-C-N and C-N-CA, not across breaks, by the values of Engh & Huber.

    111.0 ± 2.7, 117.2 ± 2.2 and 121.7 ± 2.5 degrees (Engh & Huber 1991 and 2001).
    """
    n, ca, c = (structure.coords[:, atom] for atom in (N, CA, C))
    angles = (
        _angle(n, ca, c),
        np.where(structure.breaks, np.nan, _angle(ca[:-1], c[:-1], n[1:])),
        np.where(structure.breaks, np.nan, _angle(c[:-1], n[1:], ca[1:])),
    )
    return _rmsz(angles, ANGLES)


def _regions(structure: PreparedStructure) -> np.ndarray:
    phi, psi = structure.torsions[:, 0], structure.torsions[:, 1]
    both = np.isfinite(phi) & np.isfinite(psi)
    return region(phi[both], psi[both])


def ramachandran_favoured(structure: PreparedStructure) -> float:
    """Share of residues in the favoured region (98 % of good residues) of the general Ramachandran plot.

    Samples have no residue types, so glycine and proline count too, also in real domains, which reach about 0.89 here,
    not the 0.98 of a plot by type. Lovell et al. 2003, doi:10.1002/prot.10286.
    """
    return _mean(_regions(structure) == FAVOURED)


def ramachandran_outlier(structure: PreparedStructure) -> float:
    """Share of residues outside the allowed region (99.95 %) of the general Ramachandran plot, all types alike."""
    return _mean(_regions(structure) < ALLOWED)


def _helical(trace: np.ndarray, turn: float) -> int:
    """Number of windows of four CA in helices with a virtual torsion of about `turn` degrees."""
    torsion = np.degrees(dihedral(trace[:-3], trace[1:-2], trace[2:-1], trace[3:]))
    reach = np.linalg.norm(trace[3:] - trace[:-3], axis=1)
    fits = (np.abs(torsion - turn) <= HELIX_TURN_WIDTH) & (reach >= HELIX_REACH[0]) & (reach <= HELIX_REACH[1])
    window = np.ones(HELIX_WINDOWS, int)
    starts = np.convolve(fits, window, "valid") == HELIX_WINDOWS
    return int((np.convolve(starts, window) > 0).sum())


def left_handed_helix(structure: PreparedStructure) -> float:
    """Share of the helical windows that turn to the left; NaN if there is no helix.

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
    Metric("physically_valid", "share", "high", physically_valid),
    Metric("chain_breaks", "breaks", "low", chain_breaks),
    Metric("clashes", "pairs", "low", clashes),
    Metric("overlaps", "pairs", "low", overlaps),
    Metric("ca_step_deviation", "Å", "low", ca_step_deviation),
    Metric("ca_steps_ideal", "share", "high", ca_steps_ideal),
    Metric("bond_rmsz", "Z", "low", bond_rmsz),
    Metric("angle_rmsz", "Z", "low", angle_rmsz),
    Metric("ramachandran_favoured", "share", "real", ramachandran_favoured),
    Metric("ramachandran_outlier", "share", "low", ramachandran_outlier),
    Metric("left_handed_helix", "share", "low", left_handed_helix),
)
"""Metrics of a `PreparedStructure`."""
