"""From a PDB or mmCIF file to the backbone of one domain, or a reason code: whatever the file holds, one of the two."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import numpy as np

from ..errors import StructureError
from ..structure import ATOMS, Backbone
from .ranges import Segment, parse_range

__all__ = ["Structure", "extract_domain", "parse_range", "read_structure"]

AMINO_ACIDS = frozenset("ACDEFGHIKLMNPQRSTVWY")
METHODS = {"X-RAY DIFFRACTION": "X-ray", "SOLUTION NMR": "NMR", "SOLID-STATE NMR": "NMR", "ELECTRON MICROSCOPY": "EM"}
PDB_RECORDS = ("ATOM  ", "HETATM", "HEADER", "MODEL ", "CRYST1", "REMARK", "TITLE ", "COMPND", "EXPDTA", "SEQRES")
COORDINATE_COLUMNS = 54  # an ATOM line of the PDB format holds x, y, z in columns 31-54
SOLE_CHAIN = ("", "0", "_")  # what classifications write for a chain without a name


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


def _read_text(path: Path) -> bytes:
    """The file's text, unpacked where the content says gzip."""
    if not path.is_file():
        raise StructureError("not_found", f"{path}: no file there")
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except EOFError as error:
            raise StructureError("truncated", f"{path.name}: the compressed data end too early") from error
        except (OSError, zlib.error) as error:
            raise StructureError("not_a_structure", f"{path.name}: damaged gzip data ({error})") from error
    if not data.strip():
        raise StructureError("empty_file", f"{path.name}: nothing in it")
    return data


def _format(data: bytes, name: str) -> str:
    """`cif` or `pdb` by the content, whatever the suffix."""
    head = data[:65536]
    if b"\0" in head:
        raise StructureError("not_a_structure", f"{name}: binary data, expected text in PDB or mmCIF format")
    lines = head.decode("latin-1").removeprefix("ï»¿").splitlines()
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    if first[:5].lower() == "data_":
        return "cif"
    if any(line.startswith(PDB_RECORDS) for line in lines):
        return "pdb"
    raise StructureError("not_a_structure", f"{name}: neither PDB nor mmCIF; it begins with {first.strip()[:40]!r}")


def _read_cif(data: bytes, name: str) -> gemmi.Structure:
    try:
        document = gemmi.cif.read_string(data)
    except ValueError as error:
        cut = any(sign in str(error) for sign in ("Wrong number of values", "unterminated", "expected value"))
        raise StructureError("truncated" if cut else "not_a_structure", f"{name}: {error}") from error
    for block in document:
        if block.find_values("_atom_site.Cartn_x"):
            return gemmi.make_structure_from_block(block)
    raise StructureError("not_a_structure", f"{name}: an mmCIF file without _atom_site coordinates")


def _read_pdb(data: bytes, name: str) -> gemmi.Structure:
    last = data[data.rfind(b"\n") + 1 :]
    if last.startswith((b"ATOM", b"HETATM")) and len(last.rstrip()) < COORDINATE_COLUMNS:
        raise StructureError("truncated", f"{name}: the last line ends inside its coordinates")
    return gemmi.read_pdb_string(data)


def read_structure(path: str | Path) -> Structure:
    """The protein part of a `.pdb`, `.ent`, `.cif` or `.mmcif` file, gzip-compressed or not, told by its content.

    Raises `StructureError` with the code not_found, empty_file, truncated, not_a_structure or no_protein.
    """
    path = Path(path)
    data = _read_text(path)
    read = _read_cif if _format(data, path.name) == "cif" else _read_pdb
    try:
        structure = read(data, path.name)
        if not len(structure) or not structure[0].count_atom_sites():
            raise StructureError("not_a_structure", f"{path.name}: no atoms in it")
        flat = gemmi.FlatStructure(structure)
        if (flat.entity_type == int(gemmi.EntityType.Unknown.value)).any():
            structure.setup_entities()
            flat = gemmi.FlatStructure(structure)
        return _residues(structure, flat, path.name)
    except StructureError:
        raise
    except (ValueError, RuntimeError, IndexError, OverflowError) as error:  # what gemmi raises on malformed content
        raise StructureError("not_a_structure", f"{path.name}: {error}") from error


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


def _residues(structure: gemmi.Structure, flat: Any, name: str) -> Structure:
    """Group the atoms of polymer amino acids into residues, one conformer each."""
    polymer = np.flatnonzero(flat.entity_type == int(gemmi.EntityType.Polymer.value))
    names, atoms = _names(flat.residue_names[polymer]), _names(flat.atom_names[polymer])
    letters = _letters(names, atoms)
    protein = np.isin(names, list(letters))
    if not protein.any():
        raise StructureError("no_protein", f"{name}: no amino-acid residue in its {len(structure[0])} chains")
    chosen, names, atoms = polymer[protein], names[protein], atoms[protein]
    columns = (flat.model_num, _names(flat.chain_ids), _names(flat.subchains), flat.resnums, flat.icodes)
    keys = model, chain, subchain, number, insertion = [column[chosen] for column in columns]
    new = np.append(True, np.any([key[1:] != key[:-1] for key in keys], axis=0))
    start = np.flatnonzero(new)
    kept = _one_conformer(np.append(start, len(chosen)), names, flat.altlocs[chosen], flat.occ[chosen])
    residue = np.cumsum(new) - 1
    first_kept = np.flatnonzero(kept)[np.unique(residue[kept], return_index=True)[1]]
    protein_chains = {key.decode() for key in np.unique(chain)}
    return Structure(
        name=name,
        resolution=structure.resolution or float("nan"),
        method=_method(structure),
        model=model[start],
        chain=chain[start],
        subchain=subchain[start],
        number=number[start],
        insertion=np.array([chr(code).strip() for code in insertion[start]], "U1"),
        letter=np.array([letters[key] for key in names[first_kept].tolist()], "U1"),
        coords=_coords(flat.pos[chosen[kept]], atoms[kept], residue[kept], len(start)),
        other_chains=tuple(chain.name for chain in structure[0] if chain.name not in protein_chains),
    )


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


def _chain_mask(structure: Structure, chain: str) -> np.ndarray:
    """Residues (R,) of a chain by its author id, else by its label id."""
    if chain in SOLE_CHAIN and chain not in structure.chains and len(structure.chains) == 1:
        chain = structure.chains[0]
    for ids in (structure.chain, structure.subchain):
        mask = ids == chain.encode()
        if mask.any():
            return mask
    if chain in structure.other_chains:
        raise StructureError("no_protein", f"{structure.name}: chain {chain} has no amino-acid residue")
    raise StructureError(
        "chain_not_found", f"{structure.name}: no chain {chain!r}; it has {', '.join(structure.chains[:20])}"
    )


def _ends(number: np.ndarray, insertion: np.ndarray, segment: Segment) -> np.ndarray:
    """Indices of a segment's residues in a chain (L,).

    Ends that are observed are found by name, whatever the order of the numbers. An end that is not observed can be
    placed only where the author numbers never fall along the chain.
    """
    found = [np.flatnonzero((number == end.number) & (insertion == end.insertion)) for end in segment]
    if len(found[0]) and len(found[1]):
        return np.arange(found[0][0], found[1][-1] + 1)
    if (np.diff(number) < 0).any():
        return np.zeros(0, int)
    (first, first_letter), (last, last_letter) = segment
    after = (number > first) | ((number == first) & (insertion >= first_letter))
    before = (number < last) | ((number == last) & (insertion <= last_letter))
    return np.flatnonzero(after & before)


def _select(structure: Structure, rows: np.ndarray, segments: list[Segment], residue_range: str) -> np.ndarray:
    """Rows of the structure that a range picks of a chain's `rows`, in the order of the range's segments."""
    if not segments:
        return rows
    parts = []
    for segment in segments:
        part = _ends(structure.number[rows], structure.insertion[rows], segment)
        if not len(part):
            (first, letter), (last, last_letter) = segment
            raise StructureError(
                "range_not_found",
                f"{structure.name}: no residues {first}{letter} to {last}{last_letter} among {len(rows)} of the chain",
            )
        parts.append(part)
    picked = np.concatenate(parts)
    if len(np.unique(picked)) < len(picked):
        raise StructureError("bad_range", f"{residue_range!r}: its segments overlap")
    return rows[picked]


def extract_domain(structure: Structure, chain: str, residue_range: str, domain_id: str) -> Backbone:
    """The residues of a range in author numbering, of one chain, as `Backbone` with a conformation a model.

    `chain` is an author chain id, or a label id where no author id fits; an empty range takes the whole chain. A model
    whose residues are not those of the first model is left out: compare `Backbone.models` with `Structure.models`.
    Raises `StructureError` with the code chain_not_found, no_protein, bad_range or range_not_found.
    """
    segments = parse_range(residue_range)
    mask = _chain_mask(structure, chain)
    chosen: list[np.ndarray] = []
    for model in structure.models:
        try:
            rows = _select(structure, np.flatnonzero(mask & (structure.model == model)), segments, residue_range)
        except StructureError:
            if not chosen:
                raise
            continue
        if not chosen or _same_residues(structure, chosen[0], rows):
            chosen.append(rows)
    first = chosen[0]
    if not len(first):
        raise StructureError("chain_not_found", f"{structure.name}: chain {chain!r} is not in the first model")
    ids = tuple(f"{n}{i}" for n, i in zip(structure.number[first], structure.insertion[first], strict=True))
    return Backbone(domain_id, "".join(structure.letter[first]), structure.coords[np.stack(chosen)], ids)


def _same_residues(structure: Structure, first: np.ndarray, other: np.ndarray) -> bool:
    columns = (structure.number, structure.insertion, structure.letter)
    return len(first) == len(other) and all(np.array_equal(column[first], column[other]) for column in columns)
