"""PDB files by column: every atom line is read, whatever the header or the line ends contain."""

from __future__ import annotations

import re
from collections.abc import Callable

import gemmi
import numpy as np

from ..core.errors import StructureError
from ..core.structure import ATOMS
from .residues import FOUR_LETTERS, UNKNOWN_ENTITY, AtomTable, changes, entry_facts

NAME = slice(12, 16)  # atom name
ALTLOC, FOURTH, CHAIN, INSERTION = 16, 20, 21, 26
RESIDUE = slice(17, 27)  # name, chain, number and insertion code
NUMBER = slice(22, 26)
COORDINATES = slice(30, 54)  # x, y, z of eight characters each
OCCUPANCY = slice(54, 60)
LINE = 80  # columns
ATOM, HETATM = np.frombuffer(b"ATOMHETA", "<u4")
PARTING = np.frombuffer(b"MODEENDMEND END\nHEADTITLCRYS", "<u4")  # records after which a new model begins
SIGN, DIGIT = 1, 2
RANK = np.full(256, 9, np.uint8)  # order of characters in a number; the point ranks with the digits
RANK[list(b" ")], RANK[list(b"+-")], RANK[list(b"0123456789.")] = 0, SIGN, DIGIT
PLACES = np.array([[0 if j == point else 10.0 ** (7 - j - (j < point)) for j in range(8)] for point in range(8)])
DECIMAL = re.compile(rb" *[-+]?([0-9]+\.?[0-9]*(e[-+]?[0-9]+)?|\.[0-9]+|nan|inf) *", re.IGNORECASE)
FIRST_NUMBER = re.compile(rb"MODEL\s+(\d{1,9})\b")


def read_pdb(data: bytes, name: str) -> AtomTable:
    """The backbone atoms of a PDB file with `\\n` line ends.

    Atoms after ENDMDL, END or another HEADER, TITLE or CRYST1 belong to a further model, as in frames without MODEL
    records. Models are numbered by their MODEL lines, or counted if one has no line or repeats another's number. Raises
    `StructureError` with the code truncated, or not_a_structure if an atom line has wrong columns or there is none.
    """
    last = data[data.rfind(b"\n") + 1 :]
    if last.startswith((b"ATOM", b"HETATM")) and len(last.rstrip()) < COORDINATES.stop:
        raise StructureError("truncated", f"{name}: the last line ends inside its coordinates")
    padded = data + b"\n" * LINE
    lines = np.append(0, np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1)
    record = np.ndarray(len(data) + 1, "<u4", padded, 0, (1,))[lines]
    atom = (record == ATOM) | (record == HETATM)
    start = lines[atom]
    if not len(start):
        raise StructureError("not_a_structure", f"{name}: no atoms in it")
    coordinates = _columns(padded, start, COORDINATES).reshape(-1, 3, 8)
    usual = _check_columns(data, start, coordinates, name)
    kind = _atom_index(_columns(padded, start, NAME))
    found = np.flatnonzero(kind >= 0)
    model = _models(data, lines, record, atom)
    chains = _columns(padded, start[model == model[0]], slice(FOURTH, CHAIN + 1))
    rows = start[found]
    residue = _columns(padded, rows, RESIDUE)
    new = changes(model[found], *residue.T)
    of_head = np.cumsum(new) - 1
    heads = residue[new]
    types, names = _names(heads)
    numbers = heads[:, NUMBER.start - RESIDUE.start : NUMBER.stop - RESIDUE.start]
    occupancy = _columns(padded, rows, OCCUPANCY)
    level = changes(*occupancy.T)  # occupancy rarely changes between rows
    altloc = _columns(padded, rows, slice(ALTLOC, ALTLOC + 1))[:, 0]
    insertion = heads[:, INSERTION - RESIDUE.start]
    resolution, method = _header(data[: start[0]])
    return AtomTable(
        model=model[found],
        chain=names[of_head],
        subchain=np.zeros(len(found), "S8"),
        number=_each(numbers, _number, name).astype(np.int32)[of_head],
        label_number=np.zeros(len(found), np.int32),
        insertion=np.where(insertion == ord(" "), 0, insertion)[of_head],
        residue=types[of_head],
        atom=kind[found],
        altloc=np.where(altloc == ord(" "), 0, altloc),
        entity=np.full(len(found), UNKNOWN_ENTITY),
        hetero=(record[atom] == HETATM)[found],
        occupancy=_each(occupancy[level], _share, name).astype(np.float32)[np.cumsum(level) - 1],
        position=_positions(coordinates[found], usual[found]),
        chains=tuple(dict.fromkeys(text.decode("latin-1").strip() for text in _texts(chains[changes(*chains.T)]))),
        resolution=resolution,
        method=method,
        shared_names=True,
    )


def _columns(data: bytes, start: np.ndarray, columns: slice) -> np.ndarray:
    """Bytes (A, columns) in certain columns of the lines that begin at `start` (A,)."""
    return np.frombuffer(data, np.uint8)[start[:, None] + np.arange(columns.start, columns.stop)]


def _texts(cells: np.ndarray) -> list[bytes]:
    """Rows of bytes (A, width) as text of that width, without trailing NUL bytes."""
    return np.ascontiguousarray(cells).view(f"S{cells.shape[1]}")[:, 0].tolist()


def _each(cells: np.ndarray, value_of: Callable[[bytes], float], name: str) -> np.ndarray:
    """`value_of` each row of bytes (A, width), called once per distinct row; a `ValueError` is raised for the file."""
    texts, which = np.unique(np.ascontiguousarray(cells).view(f"S{cells.shape[1]}")[:, 0], return_inverse=True)
    try:
        return np.array([value_of(text) for text in texts.tolist()])[which]
    except ValueError as error:
        raise StructureError("not_a_structure", f"{name}: {error}") from error


def _check_columns(data: bytes, start: np.ndarray, cells: np.ndarray, name: str) -> np.ndarray:
    """Which atom lines have plain decimals in columns 31 to 54 (A,); `StructureError` if one has no numbers.

    cells : bytes of these columns (A, 3, 8)
    """
    rank = RANK[cells]
    in_order = (rank[:, :, 1:] >= rank[:, :, :-1]).all(axis=2) & (rank[:, :, -1] == DIGIT)
    one_point = np.count_nonzero(cells == ord("."), axis=2) == 1
    one_sign = (np.count_nonzero(rank == SIGN, axis=2) <= 1) & (np.count_nonzero(rank == DIGIT, axis=2) > 1)
    usual = (in_order & one_point & one_sign).all(axis=1)
    for begin in start[~usual]:
        found = data[begin : begin + COORDINATES.stop].split(b"\n")[0][COORDINATES]
        if not all(DECIMAL.fullmatch(found[place : place + 8]) for place in (0, 8, 16)):
            number, text = data.count(b"\n", 0, begin) + 1, found.decode("latin-1")
            raise StructureError(
                "not_a_structure", f"{name}, line {number}: expected x, y, z in columns 31-54, found {text!r}"
            )
    return usual


def _positions(cells: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Coordinates (A, 3) in Å from bytes (A, 3, 8); an integer over a power of ten is exact to the last bit."""
    point = (cells == ord(".")).argmax(axis=2)
    digits = np.where((cells >= ord("0")) & (cells <= ord("9")), cells - np.uint8(ord("0")), 0)
    sign = np.where((cells == ord("-")).any(axis=2), -1.0, 1.0)
    position = sign * np.einsum("aij,aij->ai", digits, PLACES[point]) / 10.0 ** (7 - point)
    position[~usual] = [[float(bytes(cell)) for cell in row] for row in cells[~usual]] or np.zeros((0, 3))
    return position


def _atom_index(names: np.ndarray) -> np.ndarray:
    """Index in `structure.ATOMS` of each name of four bytes (A, 4), blanks ignored; -1 for others."""
    words = np.ascontiguousarray(names).view("<u4")[:, 0]
    index = np.full(len(words), -1, np.int8)
    for place, name in enumerate(ATOMS):
        for before in range(5 - len(name)):
            index[words == int.from_bytes((b" " * before + name.encode()).ljust(4), "little")] = place
    return index


def _models(data: bytes, lines: np.ndarray, record: np.ndarray, atom: np.ndarray) -> np.ndarray:
    """Model number of each atom line (A,), int32; `record` has the first four bytes of each of `lines`."""
    parting = np.isin(record, PARTING)
    part = np.cumsum(parting)[atom]  # how many such lines come before
    parts, of_atom = np.unique(part, return_inverse=True)
    before = [data[place : place + LINE] for place in lines[parting].tolist()]
    named = [FIRST_NUMBER.match(before[count - 1]) if count else None for count in parts.tolist()]
    numbers = [int(match[1]) for match in named if match]
    if len(set(numbers)) < len(parts):
        numbers = list(range(1, len(parts) + 1))
    return np.array(numbers, np.int32)[of_atom]


def _names(heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residue and chain names S8 (R,) from the columns `RESIDUE` (R, 10).

    Column 21 is the first letter of a two-letter chain name, unless it and the three columns before form a known
    four-letter residue name in every residue with this letter and chain.
    """
    texts = _texts(heads)
    chain = [text[3:5] for text in texts]
    others = {text[3:5] for text in texts if text[:4].decode("latin-1") not in FOUR_LETTERS}
    longer = [name[:1] != b" " and name not in others for name in chain]
    types = [text[: 4 if four else 3].strip() for text, four in zip(texts, longer, strict=True)]
    names = [name[1:] if four else name for name, four in zip(chain, longer, strict=True)]
    names = [name.strip().decode("latin-1").encode() for name in names]
    return np.array(types, "S8"), np.array(names, "S8")


def _number(text: bytes) -> int:
    """Residue number, decimal or, if too large for that, hybrid-36 (`A000` is 10000); 0 for blanks."""
    word = text.strip().decode("latin-1")
    if word[:1].isalpha() and len(word) == 4 and word.isalnum() and word.isascii():
        beyond = 10000 - 10 * 36**3 + (26 * 36**3 if word.islower() else 0)
        return int(word, 36) + beyond
    try:
        return int(word or "0")
    except ValueError as error:
        raise ValueError(f"expected a residue number in columns 23-26, found {word!r}") from error


def _share(text: bytes) -> float:
    """Occupancy; 1 if the line is too short or has no number there."""
    cell = text.split(b"\n")[0]
    return float(cell) if DECIMAL.fullmatch(cell) else 1.0


def _header(data: bytes) -> tuple[float, str]:
    """Resolution in Å (NaN if unknown) and method from the lines before the first atom; the rest is ignored."""
    try:
        return entry_facts(gemmi.read_pdb_string(data.decode("latin-1").encode("ascii", "replace")))
    except (ValueError, RuntimeError):
        return float("nan"), ""
