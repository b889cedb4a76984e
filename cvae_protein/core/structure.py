"""The one type for a structure: a deposited domain, an ensemble, a reconstruction and a sample are all `Backbone`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

ATOMS = ("N", "CA", "C", "O", "CB")
N, CA, C, O, CB = range(5)
LONGEST_PEPTIDE_BOND = 2.0  # Å between C and the next N; beyond it the chain is broken (ideal 1.33)
LONGEST_CA_STEP = 4.5  # Å between neighbouring CA, the limit where C or N is missing (ideal 3.80)


@dataclass(frozen=True, eq=False)
class Backbone:
    """Backbone and CB atoms of one chain or domain, in one or more conformations.

    Attributes
    ----------
    id : name of the domain or sample
    sequence : one letter per residue, `X` where unknown (L)
    coords : positions of N, CA, C, O, CB in Å, NaN where missing; float32 (model, L, 5, 3)
    residue_ids : author residue numbers with insertion codes, such as `52A` (L)
    """

    id: str
    sequence: str
    coords: np.ndarray
    residue_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        coords = np.asarray(self.coords, dtype=np.float32)
        if coords.ndim != 4 or coords.shape[2:] != (5, 3):
            raise ValueError(f"{self.id}: expected coordinates (model, L, 5, 3), got {coords.shape}")
        if not len(self.sequence) == len(self.residue_ids) == coords.shape[1]:
            raise ValueError(
                f"{self.id}: {len(self.sequence)} letters, {len(self.residue_ids)} residue ids and "
                f"coordinates of {coords.shape[1]} residues; expected the same number"
            )
        object.__setattr__(self, "coords", coords)

    def __len__(self) -> int:
        return self.coords.shape[1]

    @property
    def models(self) -> int:
        """Number of conformations."""
        return self.coords.shape[0]

    @property
    def ca(self) -> np.ndarray:
        """CA trace of every model in Å (model, L, 3)."""
        return self.coords[:, :, CA]

    def model(self, index: int) -> Backbone:
        """The structure with only its conformation `index`."""
        return replace(self, coords=self.coords[index : index + 1])

    @cached_property
    def complete(self) -> np.ndarray:
        """Which residues have N, CA, C and O in every model (L,)."""
        return np.isfinite(self.coords[:, :, :4]).all(axis=(0, 2, 3))

    @cached_property
    def breaks(self) -> np.ndarray:
        """Whether the chain is broken between residues i and i+1 in the first model (L-1,)."""
        first = self.coords[0]
        peptide = np.linalg.norm(first[1:, N] - first[:-1, C], axis=-1)
        step = np.linalg.norm(first[1:, CA] - first[:-1, CA], axis=-1)
        broken = np.where(np.isfinite(peptide), peptide > LONGEST_PEPTIDE_BOND, step > LONGEST_CA_STEP)
        return broken | ~np.isfinite(step)
