"""The backbone atoms of a file as columns: what every reader of a format makes, and residues are grouped from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gemmi
import numpy as np

from ..core.structure import ATOMS

METHODS = {"X-RAY DIFFRACTION": "X-ray", "SOLUTION NMR": "NMR", "SOLID-STATE NMR": "NMR", "ELECTRON MICROSCOPY": "EM"}
UNTOLD, POLYMER = int(gemmi.EntityType.Unknown.value), int(gemmi.EntityType.Polymer.value)
HETATM = ord("H")


@dataclass(frozen=True, eq=False)
class Atoms:
    """Every atom named N, CA, C, O or CB of a file, in its order (A).

    `model` `number` are int32, `chain` `subchain` (author and label chain id) and `residue` are S8, `insertion`
    `altloc` (zero if none) uint8, `atom` the index in `structure.ATOMS`, `entity` the number of a
    `gemmi.EntityType`, `hetero` bool, `occupancy` float32, `position` float64 (A, 3) in Å. `chains` names the chains of
    the first model, with or without such atoms; `resolution` in Å is NaN where unknown.
    """

    model: np.ndarray
    chain: np.ndarray
    subchain: np.ndarray
    number: np.ndarray
    insertion: np.ndarray
    residue: np.ndarray
    atom: np.ndarray
    altloc: np.ndarray
    entity: np.ndarray
    hetero: np.ndarray
    occupancy: np.ndarray
    position: np.ndarray
    chains: tuple[str, ...]
    resolution: float
    method: str


def codes(names: np.ndarray) -> np.ndarray:
    """Names S8 (A,) as uint64 (A,), equal where the names are: numbers are compared and sorted faster than text."""
    return np.ascontiguousarray(names).view("<u8")


def name_code(name: str) -> int:
    """`codes` of one name of up to 8 letters."""
    return int.from_bytes(name.encode().ljust(8, b"\0"), "little")


ATOM_CODES = [name_code(name) for name in ATOMS]


def atom_index(names: np.ndarray) -> np.ndarray:
    """Index in `structure.ATOMS` of each `codes` of an atom name, -1 for any other; int8 (A,)."""
    index = np.full(len(names), -1, np.int8)
    for place, code in enumerate(ATOM_CODES):
        index[names == code] = place
    return index


def entry_facts(structure: gemmi.Structure) -> tuple[float, str]:
    """Resolution in Å (NaN if unknown) and method of a file that gemmi has read."""
    text = dict(structure.info).get("_exptl.method", "").strip()
    return structure.resolution or float("nan"), METHODS.get(text.upper(), text)


def atoms_of(structure: gemmi.Structure) -> Atoms:
    """The backbone atoms of a structure that gemmi has read."""
    flat: Any = gemmi.FlatStructure(structure)
    index = atom_index(_names(flat.atom_names).view("<u8"))
    found = np.flatnonzero(index >= 0)
    # What follows TER in the PDB format may be a ligand or the chain behind a gap, so that gemmi's verdict is not used.
    told = structure.input_format != gemmi.CoorFormat.Pdb
    resolution, method = entry_facts(structure)
    insertion = np.asarray(flat.icodes)[found].astype(np.uint8)
    return Atoms(
        model=np.asarray(flat.model_num)[found].astype(np.int32),
        chain=_names(flat.chain_ids)[found],
        subchain=_names(flat.subchains)[found],
        number=np.asarray(flat.resnums)[found].astype(np.int32),
        insertion=np.where(insertion == ord(" "), 0, insertion),
        residue=_names(flat.residue_names)[found],
        atom=index[found],
        altloc=np.asarray(flat.altlocs)[found].astype(np.uint8),
        entity=np.asarray(flat.entity_type)[found] if told else np.full(len(found), UNTOLD),
        hetero=np.asarray(flat.het_flags)[found] == HETATM,
        occupancy=np.asarray(flat.occ)[found],
        position=np.asarray(flat.pos)[found],
        chains=tuple(chain.name for chain in structure[0]),
        resolution=resolution,
        method=method,
    )


def _names(array: np.ndarray) -> np.ndarray:
    """Zero-padded int8 names (A, 8) as byte strings (A,)."""
    return np.ascontiguousarray(array).view("S8")[:, 0]
