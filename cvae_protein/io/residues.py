"""Builds residues, chains and conformers from the atoms of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np

from ..core.errors import StructureError
from ..core.structure import ATOMS, CA, LONGEST_PEPTIDE_BOND, Backbone, C, N


class UnusualError(Exception):
    """The rows do not have the common form; a reader for all forms has to read them."""


def require(usual: object) -> None:
    """Raise `UnusualError` if a condition of the common form is not met."""
    if not usual:
        raise UnusualError


def changes(*columns: np.ndarray) -> np.ndarray:
    """Where any column (A,) differs from the row before; true for the first row."""
    new = np.ones(len(columns[0]), bool)
    for index, column in enumerate(columns):
        differ = column[1:] != column[:-1]
        new[1:] = differ if index == 0 else new[1:] | differ
    return new


METHODS = {"X-RAY DIFFRACTION": "X-ray", "SOLUTION NMR": "NMR", "SOLID-STATE NMR": "NMR", "ELECTRON MICROSCOPY": "EM"}
UNKNOWN_ENTITY, POLYMER = int(gemmi.EntityType.Unknown.value), int(gemmi.EntityType.Polymer.value)
HASH = np.uint64(0x9E3779B97F4A7C15)  # odd multiplier for Fibonacci hashing


@dataclass(frozen=True, eq=False)
class AtomTable:
    """All atoms of a file named N, CA, C, O or CB, in the file's order (A).

    `model` `number` `label_number` (`auth_seq_id`, `label_seq_id`; the latter is the position in SEQRES, 0 if the file
    does not give it) are int32, `chain` `subchain` (author and label chain id) and `residue` are S8 or longer,
    `insertion` `altloc` (zero if none) uint8, `atom` the index in `structure.ATOMS`, `entity` the number of a
    `gemmi.EntityType`, `hetero` bool, `occupancy` float32, `position` float64 (A, 3) in Å. `chains` are the names of
    all chains of the first model, even without such atoms; `resolution` in Å is NaN if unknown. `shared_names` means
    that several molecules may have the same chain name, as in the PDB format, which has only one or two letters for it.
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
    shared_names: bool = False


def codes(names: np.ndarray) -> np.ndarray:
    """Names S (A,) as uint64 (A,), equal if the names are: numbers compare and sort faster than text."""
    if names.dtype.itemsize != 8:
        return np.unique(names, return_inverse=True)[1].astype("<u8")
    return np.ascontiguousarray(names).view("<u8")


def name_code(name: str) -> int:
    """The `codes` value of one name of up to 8 letters."""
    return int.from_bytes(name.encode().ljust(8, b"\0"), "little")


ATOM_CODES = [name_code(name) for name in ATOMS]


def atom_index(names: np.ndarray) -> np.ndarray:
    """Index in `structure.ATOMS` of atom names given as `codes`; -1 for other names; int8 (A,)."""
    index = np.full(len(names), -1, np.int8)
    for place, code in enumerate(ATOM_CODES):
        index[names == code] = place
    return index


def entry_facts(structure: gemmi.Structure) -> tuple[float, str]:
    """Resolution in Å (NaN if unknown) and experimental method of a file read by gemmi."""
    text = dict(structure.info).get("_exptl.method", "").strip()
    return structure.resolution or float("nan"), METHODS.get(text.upper(), text)


AMINO_ACIDS = frozenset("ACDEFGHIKLMNPQRSTVWY")


@dataclass(frozen=True, eq=False)
class ParsedStructure:
    """Backbone and CB atoms of all amino-acid residues in a file's polymers, one conformer each; R residues in all.

    Residues without any of these atoms are left out.

    `model` `number` `label_number` are int (R,), `chain` `subchain` (author and label chain id) S (R,), `insertion`
    `letter` U1 (R,), `coords` float64 (R, 5, 3) in Å with NaN where missing, `resolution` in Å (NaN if unknown),
    `other_chains` the names of chains without protein. Of the CA that are not in `coords`, `alternates` counts those of
    other conformers, duplicates and those without a position, and `ligands` those of amino acids outside every chain or
    in entities that the file does not call polymers.
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
    alternates: int
    ligands: int

    @property
    def chains(self) -> list[str]:
        """Author names of the chains that contain protein, in file order."""
        return [name.decode() for name in dict.fromkeys(self.chain.tolist())]

    @property
    def models(self) -> list[int]:
        """Model numbers in file order."""
        return list(dict.fromkeys(self.model.tolist()))

    @property
    def left_out(self) -> StructureError | None:
        """The error to report for amino acids that belong to no chain; None if there are none."""
        said = f"{self.ligands} amino acids belong to no chain and are left out"
        return StructureError("ligand", said) if self.ligands else None

    def backbone(self, rows: np.ndarray, name: str) -> Backbone:
        """The residues `rows`, int (model, L), as a structure; residue types and ids come from the first model."""
        first = rows[0]
        ids = tuple(f"{n}{i}" for n, i in zip(self.number[first], self.insertion[first], strict=True))
        return Backbone(name, "".join(self.letter[first]), self.coords[rows], ids)


PROTONATED = {
    "ASH": "ASP", "CYM": "CYS", "CYX": "CYS", "GLH": "GLU", "HID": "HIS", "HIE": "HIS", "HIP": "HIS", "HSD": "HIS",
    "HSE": "HIS", "HSP": "HIS", "LYN": "LYS",
}  # fmt: skip
"""Force-field residue names for protonation and bonding states of an amino acid."""
STANDARD = tuple(gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) for letter in sorted(AMINO_ACIDS))
STATES = {
    "ARG": "N", "ASP": "HP", "CYS": "H12", "GLU": "HP", "HIS": "ABDEHP12", "LYS": "HN",
}  # fmt: skip
MODIFIED = ("HYP", "MSE", "NLE", "PTR", "SEP", "TPO")
FOUR_LETTERS = {
    **{end + name: name for end in "NC" for name in (*STANDARD, *PROTONATED, *MODIFIED)},
    **{name + state: name for name, states in STATES.items() for state in states},
}
"""Four-letter residue names -> three: AMBER's for chain ends, GROMACS's and CHARMM's for residue states."""


def _tabulated(name: str) -> str:
    """One-letter code for a residue name; `X` if the amino acid has none; empty if gemmi does not know it as one."""
    known = FOUR_LETTERS.get(name, name)
    info = gemmi.find_tabulated_residue(PROTONATED.get(known, known))
    if not info.is_amino_acid():
        return ""
    letter = info.one_letter_code.upper()
    return letter if letter in AMINO_ACIDS else "X"


def _letters(atoms: AtomTable, names: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One-letter code of each atom's residue type, U1 (A,); empty if it is not an amino acid.

    `names` are the `codes` of the types. A type that gemmi does not tabulate counts as an amino acid if its atoms in
    `rows` include N, CA and C.
    """
    new = changes(names)
    kinds, first, kind = np.unique(names[new], return_index=True, return_inverse=True)  # per residue, to have fewer
    first, kind = np.flatnonzero(new)[first], kind[np.cumsum(new) - 1]
    letters = np.zeros(len(kinds), "U1")
    for index, name in enumerate(atoms.residue[rows[first]].tolist()):
        letters[index] = _tabulated(name.decode("latin-1"))
        if not letters[index] and {N, CA, C} <= set(atoms.atom[rows[kind == index]].tolist()):
            letters[index] = "X"
    return letters[kind]


def group_residues(atoms: AtomTable, name: str) -> ParsedStructure:
    """Group the atoms of polymer amino acids into residues with one conformer each; `name` is used in messages.

    Raises `StructureError` with the code no_protein if there is no such residue, or not_a_structure if several residues
    have the same name.
    """
    of_polymer = (atoms.entity == POLYMER) | (atoms.entity == UNKNOWN_ENTITY)
    polymer = np.flatnonzero(of_polymer)
    names = codes(atoms.residue)[polymer]
    letters = _letters(atoms, names, polymer)
    protein = letters != ""
    if not protein.any():
        raise StructureError("no_protein", f"{name}: no amino acid with a backbone atom in {len(atoms.chains)} chains")
    chosen, names, letters = polymer[protein], names[protein], letters[protein]
    chains = codes(atoms.chain)
    keys = [key[chosen] for key in (atoms.model, chains, codes(atoms.subchain), atoms.number, atoms.insertion)]
    new = changes(*keys)
    if _scattered(*(key[new] for key in keys)):
        order, new = _gathered(atoms, chosen, keys, name)
        chosen, names, letters = chosen[order], names[order], letters[order]
    start, residue = np.flatnonzero(new), np.cumsum(new) - 1
    kind = atoms.atom[chosen]
    unordered = ~new[1:] & (kind[1:] <= kind[:-1])
    if unordered.any():
        _check_repeats(atoms, chosen, residue, np.unique(residue[1:][unordered]), name)
    kept = _one_conformer(start, names, atoms.altloc[chosen], atoms.occupancy[chosen])
    coords = _coords(atoms.position[chosen[kept]], kind[kept], residue[kept], len(start))
    first = np.flatnonzero(kept)[np.searchsorted(residue[kept], np.arange(len(start)))]
    heads = chosen[start]
    foreign = (atoms.entity[heads] == UNKNOWN_ENTITY) & atoms.hetero[heads]
    rows = np.arange(len(heads))
    if foreign.any():
        rows = np.flatnonzero(~foreign | _within_chain(foreign, atoms.model[heads], chains[heads], coords))
    if not len(rows):
        raise StructureError("no_protein", f"{name}: {len(start)} amino acids as ligands, none in a chain")
    alpha = residue[kind == CA]
    within = len(alpha) if len(rows) == len(heads) else int(np.isin(alpha, rows).sum())
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
        coords=(own := coords[rows]),
        other_chains=tuple(other for other in dict.fromkeys(atoms.chains) if other.encode() not in present),
        alternates=within - int(np.isfinite(own[:, CA, 0]).sum()),
        ligands=len(alpha) - within + _free(atoms, np.flatnonzero(~of_polymer)),
    )


def _free(atoms: AtomTable, rows: np.ndarray) -> int:
    """How many of the atoms `rows` (A,) are CA of amino acids."""
    alpha = rows[atoms.atom[rows] == CA]
    return (
        int((_letters(atoms, codes(atoms.residue)[rows], rows)[atoms.atom[rows] == CA] != "").sum())
        if len(alpha)
        else 0
    )


def _scattered(model: np.ndarray, chain: np.ndarray, *others: np.ndarray) -> bool:
    """Whether a residue or chain is split up in the file; each key has one value per residue (R,)."""
    key = model.astype("<u8") * HASH + chain
    parts = key[changes(key)].tolist()
    for other in others:
        key = key * HASH + other.astype("<u8")  # equal for equal residues, hardly ever for others
    key.sort()
    return bool((key[1:] == key[:-1]).any()) or len(set(parts)) < len(parts)


def _gathered(
    atoms: AtomTable, chosen: np.ndarray, keys: Sequence[np.ndarray], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Order of the atoms `chosen` (A,) that keeps models, chains and residues together, and where residues begin.

    Atoms that come after their chain complete their residue if it lacks them (such as another conformer). If it already
    has them, they belong to another molecule, which continues the chain if `shared_names` allows it.
    """
    order = np.lexsort([_rank(key) for key in keys[1::-1]])  # stable
    sorted_keys = [key[order] for key in keys]
    new = changes(np.cumsum(changes(*keys))[order])  # what is separate in the file stays separate
    bounds = np.append(np.flatnonzero(new), len(order))
    own = list(zip(atoms.atom[chosen[order]].tolist(), atoms.altloc[chosen[order]].tolist(), strict=True))
    residue_of, count = np.zeros(len(bounds) - 1, int), 0
    here: tuple[int, ...] = ()
    seen: dict[tuple[int, ...], tuple[int, set[tuple[int, int]]]] = {}
    for run, head in enumerate(zip(*(key[new].tolist() for key in sorted_keys), strict=True)):
        part = set(own[bounds[run] : bounds[run + 1]])
        if head[:2] != here:
            here, seen = head[:2], {}
        known = seen.get(head)
        if known and not known[1] & part:
            known[1].update(part)
            residue_of[run] = known[0]
            continue
        if known and not atoms.shared_names:
            raise _repeated(atoms, int(chosen[order[bounds[run]]]), 2, name)
        seen = {} if known else seen
        seen[head] = count, part
        residue_of[run], count = count, count + 1
    residue = residue_of[np.cumsum(new) - 1]
    again = np.argsort(residue, kind="stable")
    return order[again], changes(residue[again])


def _rank(key: np.ndarray) -> np.ndarray:
    """For each value, the rank of its first appearance among the distinct values (A,)."""
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which]


def _repeated(atoms: AtomTable, row: int, times: int, name: str) -> StructureError:
    """The error for a residue (that of the atom `row`) whose atoms are all in the file `times` times."""
    number = f"{atoms.number[row]}{chr(atoms.insertion[row] or 32).strip()}"
    where = f"model {atoms.model[row]}, chain {atoms.chain[row].decode() or 'without a name'}, residue {number}"
    said = f"its atom {ATOMS[atoms.atom[row]]} stands {times} times or more; number residues, chains or models apart"
    return StructureError("not_a_structure", f"{name}: {where}: {said}")


FULL = 1.01  # maximum sum of the occupancies of alternates, allowing for rounding


def _check_repeats(atoms: AtomTable, chosen: np.ndarray, residue: np.ndarray, suspects: np.ndarray, name: str) -> None:
    """Raise `StructureError` if one of the residues `suspects` has its N, CA and C atoms several times.

    residue : residue index of each atom in `chosen` (A,)

    True alternates have letters, or occupancies that add up to at most 1. A single repeated atom is ignored.
    """
    some = np.flatnonzero(np.isin(residue, suspects))
    key = (residue[some] * len(ATOMS) + atoms.atom[chosen[some]]) * 256 + atoms.altloc[chosen[some]]
    values, counts = np.unique(key, return_counts=True)
    for index in np.unique(values[counts > 1] // 256 // len(ATOMS)).tolist():
        rows = chosen[np.searchsorted(residue, index) : np.searchsorted(residue, index, side="right")]
        times = Counter(zip(atoms.atom[rows].tolist(), atoms.altloc[rows].tolist(), strict=True))
        own = {atom for atom, _ in times if atom in (N, CA, C)}
        for letter in sorted({letter for _, letter in times}):
            often = {atom: times[atom, letter] for atom in own}
            atom = max(often, key=often.__getitem__, default=N)
            same = rows[(atoms.atom[rows] == atom) & (atoms.altloc[rows] == letter)]
            share = atoms.occupancy[same]
            repeated = min(often.values(), default=0) > 1
            if repeated and not ((share > 0).all() and share.sum() <= FULL):
                raise _repeated(atoms, int(same[0]), len(same), name)


def _within_chain(hetero: np.ndarray, model: np.ndarray, chain: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """Which residues (R,) come before the last ATOM residue of their chain or have a peptide bond to a neighbour.

    Distinguishes modified residues of a chain from free amino acids in files that list both as HETATM and do not say
    which is which.
    """
    index = np.arange(len(hetero))
    joined = (model[1:] == model[:-1]) & (chain[1:] == chain[:-1])
    run = np.append(0, np.cumsum(~joined))
    last = np.full(run[-1] + 1, -1)
    np.maximum.at(last, run[~hetero], index[~hetero])
    bonded = joined & (np.linalg.norm(coords[1:, N] - coords[:-1, C], axis=-1) < LONGEST_PEPTIDE_BOND)
    return (index < last[run]) | np.append(bonded, False) | np.append(False, bonded)


def _coords(positions: np.ndarray, atoms: np.ndarray, residue: np.ndarray, length: int) -> np.ndarray:
    """Scatter atom positions (A, 3) into (length, 5, 3), NaN where missing; of duplicates the first is kept."""
    coords = np.full((length, len(ATOMS), 3), np.nan)
    coords[residue[::-1], atoms[::-1]] = positions[::-1]  # for equal indices the last write wins
    return coords


def _one_conformer(start: np.ndarray, names: np.ndarray, altlocs: np.ndarray, occupancy: np.ndarray) -> np.ndarray:
    """Which atoms belong to the chosen conformer of their residue (A,); a residue begins at each atom of `start`.

    If there are several residue types, the one with the highest mean occupancy is chosen; then, of several alternative
    locations, the one with the highest summed occupancy, both over the backbone and CB. Ties go to the first type in
    the file and the first letter. Atoms without a letter belong to every conformer.
    """
    kept = np.ones(len(names), bool)
    varied = altlocs != 0
    varied[1:] |= names[1:] != names[:-1]
    varied[start] = altlocs[start] != 0  # differing from the previous residue does not count
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
