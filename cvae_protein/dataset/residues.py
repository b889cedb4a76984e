"""The protein residues of a parsed file as arrays: which atoms belong to a chain, and which conformer is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gemmi
import numpy as np

from ..errors import StructureError
from ..structure import ATOMS, LONGEST_PEPTIDE_BOND, C, N

AMINO_ACIDS = frozenset("ACDEFGHIKLMNPQRSTVWY")
METHODS = {"X-RAY DIFFRACTION": "X-ray", "SOLUTION NMR": "NMR", "SOLID-STATE NMR": "NMR", "ELECTRON MICROSCOPY": "EM"}
UNTOLD, POLYMER = int(gemmi.EntityType.Unknown.value), int(gemmi.EntityType.Polymer.value)
HETATM = ord("H")


@dataclass(frozen=True, eq=False)
class Structure:
    """Backbone and CB atoms of every amino-acid residue of a file's polymers, conformers resolved; R residues in all.

    `model` `number` are int (R,), `chain` `subchain` (author and label chain id) S8 (R,), `insertion` `letter` U1 (R,),
    `coords` float64 (R, 5, 3) in Å with NaN where missing, `resolution` in Å (NaN if unknown), `other_chains` the
    names of chains without protein.
    """

    name: str
    resolution: float
    method: str
    model: np.ndarray
    chain: np.ndarray
    subchain: np.ndarray
    number: np.ndarray
    insertion: np.ndarray
    letter: np.ndarray
    coords: np.ndarray
    other_chains: tuple[str, ...]

    @property
    def chains(self) -> list[str]:
        """Author names of the chains that hold protein, in the file's order."""
        return [name.decode() for name in dict.fromkeys(self.chain.tolist())]

    @property
    def models(self) -> list[int]:
        """Numbers of the models in the file's order."""
        return list(dict.fromkeys(self.model.tolist()))


def _names(array: np.ndarray) -> np.ndarray:
    """Zero-padded int8 names (A, 8) as byte strings (A,)."""
    return np.ascontiguousarray(array).view("S8")[:, 0]


def _letters(names: np.ndarray, atoms: np.ndarray) -> dict[bytes, str]:
    """One-letter code of each amino-acid residue name; an untabulated one counts if it has N, CA and C."""
    letters = {}
    for name in np.unique(names):
        info = gemmi.find_tabulated_residue(name.decode("latin-1"))
        letter = info.one_letter_code.upper() if info.is_amino_acid() else "X"
        if info.is_amino_acid() or {b"N", b"CA", b"C"} <= set(atoms[names == name].tolist()):
            letters[name] = letter if letter in AMINO_ACIDS else "X"
    return letters


def residues_of(structure: gemmi.Structure, name: str) -> Structure:
    """Group the atoms of polymer amino acids into residues, one conformer each; `name` is the file's, for messages.

    Raises `StructureError("no_protein")` where there is no such residue.
    """
    flat: Any = gemmi.FlatStructure(structure)
    # What follows TER in the PDB format may be a ligand or the chain behind a gap, so that gemmi's verdict is not used.
    told = flat.entity_type if structure.input_format != gemmi.CoorFormat.Pdb else np.zeros_like(flat.entity_type)
    polymer = np.flatnonzero((told == POLYMER) | (told == UNTOLD))
    names, atoms = _names(flat.residue_names[polymer]), _names(flat.atom_names[polymer])
    letters = _letters(names, atoms)
    protein = np.isin(names, list(letters))
    if not protein.any():
        raise StructureError("no_protein", f"{name}: no amino-acid residue in its {len(structure[0])} chains")
    chosen, names, atoms = polymer[protein], names[protein], atoms[protein]
    columns = (flat.model_num, _names(flat.chain_ids), _names(flat.subchains), flat.resnums, flat.icodes)
    keys = [column[chosen] for column in columns]
    new = np.append(True, np.any([key[1:] != key[:-1] for key in keys], axis=0))
    start, residue = np.flatnonzero(new), np.cumsum(new) - 1
    kept = _one_conformer(np.append(start, len(chosen)), names, flat.altlocs[chosen], flat.occ[chosen])
    coords = _coords(flat.pos[chosen[kept]], atoms[kept], residue[kept], len(start))
    type_of = names[np.flatnonzero(kept)[np.unique(residue[kept], return_index=True)[1]]]
    foreign = (told[chosen[start]] == UNTOLD) & (flat.het_flags[chosen[start]] == HETATM)
    rows = np.flatnonzero(~foreign | _within_chain(foreign, keys[0][start], keys[1][start], coords))
    if not len(rows):
        raise StructureError("no_protein", f"{name}: {len(start)} amino acids as ligands, none in a chain")
    model, chain, subchain, number, insertion = (key[start[rows]] for key in keys)
    return Structure(
        name=name,
        resolution=structure.resolution or float("nan"),
        method=_method(structure),
        model=model,
        chain=chain,
        subchain=subchain,
        number=number,
        insertion=np.array([chr(code).strip() for code in insertion], "U1"),
        letter=np.array([letters[key] for key in type_of[rows].tolist()], "U1"),
        coords=coords[rows],
        other_chains=tuple(part.name for part in structure[0] if part.name.encode() not in set(chain.tolist())),
    )


def _within_chain(hetero: np.ndarray, model: np.ndarray, chain: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """Which residues (R,) stand before the last ATOM residue of their chain, or have a peptide bond to a neighbour.

    Tells the modified residues of a chain from free amino acids in files that do not say which are which: both are
    HETATM there.
    """
    index = np.arange(len(hetero))
    joined = (model[1:] == model[:-1]) & (chain[1:] == chain[:-1])
    run = np.append(0, np.cumsum(~joined))
    last = np.full(run[-1] + 1, -1)
    np.maximum.at(last, run[~hetero], index[~hetero])
    bonded = joined & (np.linalg.norm(coords[1:, N] - coords[:-1, C], axis=-1) < LONGEST_PEPTIDE_BOND)
    return (index < last[run]) | np.append(bonded, False) | np.append(False, bonded)


def _coords(positions: np.ndarray, atoms: np.ndarray, residue: np.ndarray, length: int) -> np.ndarray:
    """Scatter atom positions (A, 3) into (length, 5, 3), NaN where the atom is missing; the first of equals stays."""
    coords = np.full((length, len(ATOMS), 3), np.nan)
    for index, atom in enumerate(ATOMS):
        found = np.flatnonzero(atoms == atom.encode())[::-1]
        coords[residue[found], index] = positions[found]
    return coords


def _method(structure: gemmi.Structure) -> str:
    text = dict(structure.info).get("_exptl.method", "").strip()
    return METHODS.get(text.upper(), text)


def _one_conformer(bounds: np.ndarray, names: np.ndarray, altlocs: np.ndarray, occupancy: np.ndarray) -> np.ndarray:
    """Which atoms belong to the chosen conformer of their residue (A,); residue r has the atoms bounds[r]:bounds[r+1].

    Of several residue types the one with the highest mean occupancy, then of several alternative locations the one with
    the highest summed occupancy; ties go to the first in the file and the first letter. Atoms without a letter belong
    to every conformer.
    """
    kept = np.ones(len(names), bool)
    varied = altlocs != 0
    varied[1:] |= (names[1:] != names[:-1]) & ~np.isin(np.arange(1, len(names)), bounds)
    for residue in np.unique(np.searchsorted(bounds, np.flatnonzero(varied), side="right") - 1):
        part = slice(bounds[residue], bounds[residue + 1])
        types = dict.fromkeys(names[part].tolist())
        if len(types) > 1:
            kept[part] &= names[part] == max(types, key=lambda name: occupancy[part][names[part] == name].mean())
        letters = sorted(set(altlocs[part][kept[part]].tolist()) - {0})
        if len(letters) > 1:
            sums = {letter: occupancy[part][kept[part] & (altlocs[part] == letter)].sum() for letter in letters}
            kept[part] &= np.isin(altlocs[part], (0, max(letters, key=sums.__getitem__)))
    return kept
