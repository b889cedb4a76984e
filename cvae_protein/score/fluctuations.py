"""Fluctuation of each residue over conformations of one chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..core.geometry import move, superpose
from ..core.structure import CA, Backbone
from ..io.write import pdb_text
from .ensemble import on_mean, rmsf
from .inputs import read_samples

LARGEST_B = 999.0  # the most that the six columns of a PDB file hold


@dataclass(frozen=True, eq=False)
class Fluctuations:
    """The mean of `count` conformations, superposed on it by CA, and the RMSF of each residue (L,) in Å about it."""

    mean: Backbone
    rmsf: np.ndarray
    count: int

    @staticmethod
    def read(samples: Path) -> Fluctuations:
        """Fluctuations of the conformations in a store, file or folder."""
        return Fluctuations.of([one.backbone for one in read_samples(samples).samples])

    @staticmethod
    def of(conformations: Sequence[Backbone]) -> Fluctuations:
        """Fluctuations of two or more conformations of the same length, none lacking a CA; otherwise `UserError`."""
        lengths = sorted({len(one) for one in conformations})
        if len(conformations) < 2 or len(lengths) > 1:
            said = f"{len(conformations)} of {' and '.join(map(str, lengths[:5])) or 'no'} residues"
            raise UserError(f"rmsf: expected two conformations or more of one length, got {said}")
        coords = np.stack([one.coords[0] for one in conformations]).astype(np.float64)
        if not np.isfinite(coords[:, :, CA]).all():
            raise UserError("rmsf: expected every CA in every conformation, some are missing")
        laid = on_mean(coords[:, :, CA])
        rotation, translation = superpose(coords[:, :, CA], laid.mean(axis=0))
        whole = move(coords.reshape(len(coords), -1, 3), rotation, translation).reshape(coords.shape)
        first = conformations[0]
        mean = Backbone("mean", first.sequence, whole.mean(axis=0, keepdims=True), first.residue_ids)
        return Fluctuations(mean, rmsf(laid), len(conformations))

    @property
    def b_factors(self) -> np.ndarray:
        """B-factors (L,) in Å²: 8 pi^2 / 3 times the squared RMSF, at most 999."""
        return np.minimum(8 * np.pi**2 / 3 * self.rmsf**2, LARGEST_B)

    @property
    def pdb(self) -> str:
        """The mean structure as a PDB file with `b_factors`."""
        return pdb_text([self.mean], "mean", self.b_factors)
