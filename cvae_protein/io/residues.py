"""Residues, chains and conformers from the atoms of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gemmi
import numpy as np

from ..core.errors import StructureError
from ..core.structure import ATOMS, CA, LONGEST_PEPTIDE_BOND, Backbone, C, N


class UnusualError(Exception):
    """The rows are not of the common form; a reader of every form shall read them."""


def require(usual: object) -> None:
    """Raise `UnusualError` where a condition of the common form does not hold."""
    if not usual:
        raise UnusualError


def changes(*columns: np.ndarray) -> np.ndarray:
    """Where any column (A,) has another value than in the row before; true for the first row."""
    new = np.ones(len(columns[0]), bool)
    for index, column in enumerate(columns):
        differ = column[1:] != column[:-1]
        new[1:] = differ if index == 0 else new[1:] | differ
    return new


METHODS = {"X-RAY DIFFRACTION": "X-ray", "SOLUTION NMR": "NMR", "SOLID-STATE NMR": "NMR", "ELECTRON MICROSCOPY": "EM"}
UNKNOWN_ENTITY, POLYMER = int(gemmi.EntityType.Unknown.value), int(gemmi.EntityType.Polymer.value)
HETATM = ord("H")


@dataclass(frozen=True, eq=False)
class AtomTable:
    """Every atom named N, CA, C, O or CB of a file, in its order (A).

    `model` `number` `label_number` (`auth_seq_id`, `label_seq_id`; the latter is the position in SEQRES, 0 where the
    file does not say) are int32, `chain` `subchain` (author and label chain id) and `residue` are S8, `insertion`
    `altloc` (zero if none) uint8, `atom` the index in `structure.ATOMS`, `entity` the number of a
    `gemmi.EntityType`, `hetero` bool, `occupancy` float32, `position` float64 (A, 3) in Å. `chains` names the chains of
    the first model, with or without such atoms; `resolution` in Å is NaN where unknown.
    """

    model: np.ndarray
    chain: np.ndarray
    subchain: np.ndarray
    number: np.ndarray
    label_number: np.ndarray
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


def atoms_of(structure: gemmi.Structure) -> AtomTable:
    """The backbone atoms of a structure that gemmi has read."""
    flat: Any = gemmi.FlatStructure(structure)
    index = atom_index(_names(flat.atom_names).view("<u8"))
    found = np.flatnonzero(index >= 0)
    # What follows TER in the PDB format may be a ligand or the chain behind a gap, so that gemmi's verdict is not used.
    has_entities = structure.input_format != gemmi.CoorFormat.Pdb
    resolution, method = entry_facts(structure)
    insertion = np.asarray(flat.icodes)[found].astype(np.uint8)
    residues = [residue for model in structure for chain in model for residue in chain]
    label_number = np.repeat([residue.label_seq or 0 for residue in residues], [len(residue) for residue in residues])
    return AtomTable(
        model=np.asarray(flat.model_num)[found].astype(np.int32),
        chain=_names(flat.chain_ids)[found],
        subchain=_names(flat.subchains)[found],
        number=np.asarray(flat.resnums)[found].astype(np.int32),
        label_number=label_number[found].astype(np.int32),
        insertion=np.where(insertion == ord(" "), 0, insertion),
        residue=_names(flat.residue_names)[found],
        atom=index[found],
        altloc=np.asarray(flat.altlocs)[found].astype(np.uint8),
        entity=np.asarray(flat.entity_type)[found] if has_entities else np.full(len(found), UNKNOWN_ENTITY),
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


AMINO_ACIDS = frozenset("ACDEFGHIKLMNPQRSTVWY")


@dataclass(frozen=True, eq=False)
class ParsedStructure:
    """Backbone and CB atoms of every amino-acid residue of a file's polymers, conformers resolved; R residues in all.

    A residue without any of these atoms is not there.

    `model` `number` `label_number` are int (R,), `chain` `subchain` (author and label chain id) S8 (R,), `insertion`
    `letter` U1 (R,), `coords` float64 (R, 5, 3) in Å with NaN where missing, `resolution` in Å (NaN if unknown),
    `other_chains` the names of chains without protein.
    """

    name: str
    resolution: float
    method: str
    model: np.ndarray
    chain: np.ndarray
    subchain: np.ndarray
    number: np.ndarray
    label_number: np.ndarray
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

    def backbone(self, rows: np.ndarray, name: str) -> Backbone:
        """The residues `rows`, int (model, L), as a structure; residue types and ids are those of the first model."""
        first = rows[0]
        ids = tuple(f"{n}{i}" for n, i in zip(self.number[first], self.insertion[first], strict=True))
        return Backbone(name, "".join(self.letter[first]), self.coords[rows], ids)


def _letters(atoms: AtomTable, names: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One-letter code of each atom's residue type, U1 (A,), empty where it is no amino acid.

    `names` are the `codes` of the types; one that gemmi does not tabulate counts where atoms `rows` are N, CA and C.
    """
    new = changes(names)
    kinds, first, kind = np.unique(names[new], return_index=True, return_inverse=True)  # of residues, which are fewer
    first, kind = np.flatnonzero(new)[first], kind[np.cumsum(new) - 1]
    letters = np.zeros(len(kinds), "U1")
    for index, name in enumerate(atoms.residue[rows[first]].tolist()):
        info = gemmi.find_tabulated_residue(name.decode("latin-1"))
        letter = info.one_letter_code.upper() if info.is_amino_acid() else "X"
        if info.is_amino_acid() or {N, CA, C} <= set(atoms.atom[rows[kind == index]].tolist()):
            letters[index] = letter if letter in AMINO_ACIDS else "X"
    return letters[kind]


def group_residues(atoms: AtomTable, name: str) -> ParsedStructure:
    """Group the atoms of polymer amino acids into residues, one conformer each; `name` is the file's, for messages.

    Raises `StructureError("no_protein")` where there is no such residue.
    """
    polymer = np.flatnonzero((atoms.entity == POLYMER) | (atoms.entity == UNKNOWN_ENTITY))
    names = codes(atoms.residue)[polymer]
    letters = _letters(atoms, names, polymer)
    protein = letters != ""
    if not protein.any():
        raise StructureError("no_protein", f"{name}: no amino acid with a backbone atom in {len(atoms.chains)} chains")
    chosen, names, letters = polymer[protein], names[protein], letters[protein]
    keys = (atoms.model, codes(atoms.chain), codes(atoms.subchain), atoms.number, atoms.insertion)
    new = changes(*(key[chosen] for key in keys))
    start, residue = np.flatnonzero(new), np.cumsum(new) - 1
    kept = _one_conformer(start, names, atoms.altloc[chosen], atoms.occupancy[chosen])
    coords = _coords(atoms.position[chosen[kept]], atoms.atom[chosen[kept]], residue[kept], len(start))
    first = np.flatnonzero(kept)[np.searchsorted(residue[kept], np.arange(len(start)))]
    heads = chosen[start]
    foreign = (atoms.entity[heads] == UNKNOWN_ENTITY) & atoms.hetero[heads]
    rows = np.arange(len(heads))
    if foreign.any():
        rows = np.flatnonzero(~foreign | _within_chain(foreign, atoms.model[heads], keys[1][heads], coords))
    if not len(rows):
        raise StructureError("no_protein", f"{name}: {len(start)} amino acids as ligands, none in a chain")
    heads = heads[rows]
    chain = atoms.chain[heads]
    present = set(chain.tolist())
    return ParsedStructure(
        name=name,
        resolution=atoms.resolution,
        method=atoms.method,
        model=atoms.model[heads],
        chain=chain,
        subchain=atoms.subchain[heads],
        number=atoms.number[heads],
        label_number=atoms.label_number[heads],
        insertion=atoms.insertion[heads].view("S1").astype("U1"),
        letter=letters[first[rows]],
        coords=coords[rows],
        other_chains=tuple(other for other in dict.fromkeys(atoms.chains) if other.encode() not in present),
    )


def _within_chain(hetero: np.ndarray, model: np.ndarray, chain: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """Which residues (R,) stand before the last ATOM residue of their chain, or have a peptide bond to a neighbour.

    Distinguishes the modified residues of a chain from free amino acids in files that do not say which are which: both
    are HETATM there.
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
    coords[residue[::-1], atoms[::-1]] = positions[::-1]  # of equal indices the last is written last
    return coords


def _one_conformer(start: np.ndarray, names: np.ndarray, altlocs: np.ndarray, occupancy: np.ndarray) -> np.ndarray:
    """Which atoms belong to the chosen conformer of their residue (A,); a residue begins at each atom of `start`.

    Of several residue types the one with the highest mean occupancy, then of several alternative locations the one with
    the highest summed occupancy, both over the backbone and CB; ties go to the first in the file and the first letter.
    Atoms without a letter belong to every conformer.
    """
    kept = np.ones(len(names), bool)
    varied = altlocs != 0
    varied[1:] |= names[1:] != names[:-1]
    varied[start] = altlocs[start] != 0  # another type than the residue before is no variation
    if not varied.any():
        return kept
    bounds = np.append(start, len(names))
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
