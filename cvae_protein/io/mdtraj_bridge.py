"""The one file that talks to mdtraj, which counts in nanometres: secondary structure, and frames of trajectories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mdtraj.geometry import _geometry

from ..core.structure import CA, Backbone, C, N, O

ANGSTROM_IN_NM = 0.1
ANGSTROM_PER_NM = 10.0


def secondary_structure(backbone: Backbone) -> tuple[str, ...]:
    """DSSP letters `H B E G I T S -` of every model, a string of length L each; `?` where a backbone atom is missing.

    Assigned by mdtraj (Kabsch & Sander (1983) Biopolymers 22, 2577); no hydrogen bond pattern runs across a break.
    """
    complete = np.flatnonzero(backbone.complete)
    letters = np.full((backbone.models, len(backbone)), "?")
    if not len(complete):
        return tuple("".join(row) for row in letters)
    broken = np.flatnonzero(backbone.breaks)
    piece = np.searchsorted(broken, complete)
    apart = (np.diff(piece) != 0) | (np.diff(complete) != 1)
    atoms = np.arange(4 * len(complete), dtype=np.int32).reshape(-1, 4)
    positions = backbone.coords[:, complete, :4].reshape(backbone.models, -1, 3)
    # What mdtraj.compute_dssp calls; it gathers these arrays from objects, an atom at a time, in four times the time.
    assigned = _geometry._dssp(
        (positions * ANGSTROM_IN_NM).astype(np.float32),
        np.ascontiguousarray(atoms[:, [N, C, O]]),
        np.ascontiguousarray(atoms[:, CA]),
        np.array([backbone.sequence[residue] == "P" for residue in complete], np.int32),
        np.append(0, np.cumsum(apart)).astype(np.int32),
    )
    letters[:, complete] = np.array(list(assigned.replace(" ", "-"))).reshape(backbone.models, -1)
    return tuple("".join(row) for row in letters)


def save_frames(coords: np.ndarray, topology: Path, output: Path) -> None:
    """Write positions (frame, atom, 3) in Å as XTC; `topology` is a PDB file of the same atoms."""
    import mdtraj

    trajectory = mdtraj.Trajectory(coords / ANGSTROM_PER_NM, mdtraj.load_topology(str(topology)))
    trajectory.save_xtc(str(output))
