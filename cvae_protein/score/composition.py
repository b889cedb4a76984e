"""Secondary structure and compactness of one structure; metrics of a `Judged`."""

from __future__ import annotations

from ..core.geometry import radius_of_gyration
from .metrics.metric import UNASSIGNED, Judged, Metric

HELIX, STRAND = "HGI", "EB"  # DSSP letters
GYRATION_SCALE, GYRATION_EXPONENT = 2.2, 0.38  # Å; of folded chains, Skolnick et al. 1997


def _share(structure: Judged, letters: str) -> float:
    known = [letter for letter in structure.ss if letter != UNASSIGNED]
    return sum(letter in letters for letter in known) / len(known) if known else float("nan")


def helix(structure: Judged) -> float:
    """Share of residues in a helix: DSSP letters H, G and I (Kabsch & Sander 1983, doi:10.1002/bip.360221211)."""
    return _share(structure, HELIX)


def strand(structure: Judged) -> float:
    """Share of residues in a strand or bridge: DSSP letters E and B."""
    return _share(structure, STRAND)


def rg(structure: Judged) -> float:
    """Radius of gyration of the CA atoms."""
    return float(radius_of_gyration(structure.ca)) if len(structure.ca) else float("nan")


def relative_rg(structure: Judged) -> float:
    """Radius of gyration over 2.2 L^0.38 Å, that of a globular chain of the length (Skolnick et al. 1997)."""
    return rg(structure) / (GYRATION_SCALE * len(structure) ** GYRATION_EXPONENT) if len(structure) else float("nan")


METRICS = (
    Metric("helix", "share", "none", helix),
    Metric("strand", "share", "none", strand),
    Metric("rg", "Å", "none", rg),
    Metric("relative_rg", "ratio", "none", relative_rg),
)
"""Metrics of a `Judged`."""
