"""What a metric is, and the structure that the per-structure metrics look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ...core.geometry import torsions
from ...core.structure import CA, Backbone
from ...io.mdtraj_bridge import secondary_structure

Better = Literal["low", "high", "none"]
UNASSIGNED = "?"  # letter of a residue without secondary structure, for an atom is missing


@dataclass(frozen=True)
class Metric:
    """One number about a structure, a set of structures or a set of codes.

    `function` takes the record of its kind (`Judged`, `Pair`, `ClassSet`, `Codes`), returns a float that is NaN where
    the metric is undefined, and changes nothing; its docstring is the definition.
    """

    name: str
    unit: str
    better: Better
    function: Callable[[Any], float]

    def __call__(self, record: Any) -> float:
        """The metric of one record."""
        return float(self.function(record))


@dataclass(frozen=True, eq=False)
class Judged:
    """The first model of a structure, prepared once for all metrics.

    `coords` is float64 (L, 5, 3) in Å, NaN where missing; `label` the class asked for, or the full label of a real
    domain; `ss` one DSSP letter a residue, `?` where an atom is missing.
    """

    id: str
    label: str
    coords: np.ndarray
    breaks: np.ndarray
    ss: str

    @classmethod
    def of(cls, backbone: Backbone, label: str) -> Judged:
        """Prepare the first model of `backbone`.

        Its secondary structure is assigned afresh with the residue types hidden: DSSP tells proline apart, which a
        sample has not, so a real domain's stored letters would not compare with a sample's.
        """
        hidden = replace(backbone.model(0), sequence="X" * len(backbone))
        ss = secondary_structure(hidden)[0]
        return cls(backbone.id, label, backbone.coords[0].astype(np.float64), backbone.breaks, ss)

    def __len__(self) -> int:
        return len(self.coords)

    @cached_property
    def ca(self) -> np.ndarray:
        """CA trace without the residues that lack it, Å (≤L, 3)."""
        trace = self.coords[:, CA]
        return trace[np.isfinite(trace).all(axis=1)]

    @cached_property
    def torsions(self) -> np.ndarray:
        """phi, psi, omega in radians, NaN at ends and breaks (L, 3)."""
        return torsions(self.coords, self.breaks)
