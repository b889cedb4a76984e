"""Whether a backbone is good enough for the store: its length, its missing atoms, its geometry."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..config.settings import FeaturizeSettings, LabelSettings
from ..core.errors import StructureError
from ..core.structure import Backbone
from ..store.layout import MISSING, RESOLUTION
from ..store.write import RESIDUE_ID_BYTES

CLOSEST_ATOMS = 0.5  # Å; two atoms of one conformation that lie closer coincide
LARGEST_COORDINATE = 9999.999  # Å; what the PDB format can hold
LARGEST_RADIUS = -MISSING * RESOLUTION - 1  # Å; what the store can hold


def check_geometry(backbone: Backbone) -> None:
    """Raise `StructureError("bad_geometry")` where coordinates are infinite, absurd, too far apart or coincide."""
    for number, model in enumerate(backbone.coords.reshape(backbone.models, -1, 3), 1):
        where = f"{backbone.id}, model {number}"
        if np.isinf(model).any() or np.abs(model[np.isfinite(model)]).max(initial=0) > LARGEST_COORDINATE:
            raise StructureError("bad_geometry", f"{where}: a coordinate is not within ±{LARGEST_COORDINATE:.0f} Å")
        atoms = model[np.isfinite(model).all(-1)].astype(np.float64)
        radius = np.abs(atoms - atoms.mean(axis=0)).max(initial=0) if len(atoms) else 0.0
        if radius > LARGEST_RADIUS:
            raise StructureError("bad_geometry", f"{where}: an atom is {radius:.0f} Å from the centre")
        if close := len(cKDTree(atoms).query_pairs(CLOSEST_ATOMS)) if len(atoms) else 0:
            raise StructureError("bad_geometry", f"{where}: {close} pairs of atoms closer than {CLOSEST_ATOMS} Å")


def check_quality(backbone: Backbone, settings: FeaturizeSettings, labels: LabelSettings) -> None:
    """Raise `StructureError` where the structure is too short, too long, too incomplete or geometrically impossible.

    The minimum counts residues with N, CA, C and O in every model, the maximum counts all residues.
    """
    complete, length = int(backbone.complete.sum()), len(backbone)
    if not complete:
        raise StructureError("no_complete_residue", f"{backbone.id}: none of {length} residues has N, CA, C and O")
    if complete < labels.min_length:
        raise StructureError("too_short", f"{complete} complete residues, the minimum is {labels.min_length}")
    if length > labels.max_length:
        raise StructureError("too_long", f"{length} residues, the maximum is {labels.max_length}")
    if length - complete > settings.max_missing * length:
        raise StructureError(
            "incomplete",
            f"{length - complete} of {length} residues lack N, CA, C or O; at most {settings.max_missing:.0%}",
        )
    if len(longest := max(backbone.residue_ids, key=len)) > RESIDUE_ID_BYTES:
        raise StructureError("not_a_structure", f"residue number {longest} has more than {RESIDUE_ID_BYTES} characters")
    check_geometry(backbone)
