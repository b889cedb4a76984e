"""From a PDB or mmCIF file to the backbone of one domain, or a reason code: whatever the file holds, one of the two."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import gemmi
import numpy as np

from ..errors import StructureError
from ..structure import Backbone
from .atoms import Atoms, atoms_of
from .columns import read_columns
from .pdb_text import read_pdb
from .ranges import Segment, parse_range
from .residues import Structure, residues_of

__all__ = ["Structure", "extract_domain", "parse_range", "read_structure"]

PDB_RECORDS = ("ATOM  ", "HETATM", "HEADER", "MODEL ", "CRYST1", "REMARK", "TITLE ", "COMPND", "EXPDTA", "SEQRES")
SOLE_CHAIN = ("", "0", "_")  # what classifications write for a chain without a name


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


def _read_cif(data: bytes, name: str) -> Atoms:
    return read_columns(data) or _atoms_of(_read_whole_cif(data, name), name)


def _atoms_of(structure: gemmi.Structure, name: str) -> Atoms:
    if not len(structure) or not structure[0].count_atom_sites():
        raise StructureError("not_a_structure", f"{name}: no atoms in it")
    return atoms_of(structure)


def _read_whole_cif(data: bytes, name: str) -> gemmi.Structure:
    try:
        document = gemmi.cif.read_string(data)
    except ValueError as error:
        cut = any(sign in str(error) for sign in ("Wrong number of values", "unterminated", "expected value"))
        raise StructureError("truncated" if cut else "not_a_structure", f"{name}: {error}") from error
    for block in document:
        if block.find_values("_atom_site.Cartn_x"):
            return gemmi.make_structure_from_block(block)
    raise StructureError("not_a_structure", f"{name}: an mmCIF file without _atom_site coordinates")


def _read_pdb(data: bytes, name: str) -> Atoms:
    return _atoms_of(read_pdb(data, name), name)


def read_structure(path: str | Path) -> Structure:
    """The protein part of a `.pdb`, `.ent`, `.cif` or `.mmcif` file, gzip-compressed or not, told by its content.

    Raises `StructureError` with the code not_found, empty_file, truncated, not_a_structure or no_protein.
    """
    path = Path(path)
    data = _read_text(path)
    read = _read_cif if _format(data, path.name) == "cif" else _read_pdb
    try:
        return residues_of(read(data, path.name), path.name)
    except StructureError:
        raise
    except (ValueError, RuntimeError, IndexError, OverflowError) as error:  # what gemmi raises on malformed content
        raise StructureError("not_a_structure", f"{path.name}: {error}") from error


def _chain_mask(structure: Structure, chain: str) -> np.ndarray:
    """Residues (R,) of a chain by its author id, else by its label id."""
    if chain in SOLE_CHAIN and chain not in structure.chains and len(structure.chains) == 1:
        chain = structure.chains[0]
    for ids in (structure.chain, structure.subchain) if chain else (structure.chain,):  # PDB files have no label
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
    for end, places in zip(segment, found, strict=True):
        if len(places) > 1:
            text = f"residue {end.number}{end.insertion} stands {len(places)} times in the chain, as in two molecules"
            raise StructureError("bad_range", f"{text} of one name")
    if len(found[0]) and len(found[1]):
        return np.arange(found[0][0], found[1][0] + 1)
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
