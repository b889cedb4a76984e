"""PDB files as text: whether atom lines keep to the format's columns, and gemmi's reading of those that do."""

from __future__ import annotations

import re

import gemmi
import numpy as np

from ..core.errors import StructureError

ATOM_NAME, ALPHA = 12, np.frombuffer(b" CA ", "<u4")[0]  # column of an atom line, and what stands there
RESIDUE = slice(16, 27)  # alternative location, residue name, chain, number and insertion code
COORDINATES = slice(30, 54)  # x, y, z of eight characters each
RECORDS = np.frombuffer(b"ATOMHETAMODE", "<u4")
DIGIT, LEADING, POINT = 1, 2, 4  # what a character may be in a coordinate; before the point a digit may stand too
KINDS = np.zeros(256, np.uint8)
KINDS[list(b" +-")], KINDS[list(b"0123456789")], KINDS[ord(".")] = LEADING, LEADING | DIGIT, POINT
USUAL = np.array([LEADING] * 4 + [POINT] + [DIGIT] * 3, np.uint8)  # F8.3
NUMBER = re.compile(rb" *[-+]?([0-9]+\.?[0-9]*(e[-+]?[0-9]+)?|\.[0-9]+|nan|inf) *", re.IGNORECASE)
# Before 1996 columns 73 to 80 held the entry and the number of the line; now element and charge.
NOT_NEEDED = re.compile(rb"^((?:ATOM|HETA).{68}).*|^(?:ANISOU|SIGATM|SIGUIJ).*\n?", re.MULTILINE)


def read_pdb(data: bytes, name: str) -> gemmi.Structure:
    """gemmi's structure of a PDB file.

    Raises `StructureError` with the code truncated, or not_a_structure where an atom line is not in its columns;
    whatever gemmi raises on other malformed content.
    """
    last = data[data.rfind(b"\n") + 1 :]
    if last.startswith((b"ATOM", b"HETATM")) and len(last.rstrip()) < COORDINATES.stop:
        raise StructureError("truncated", f"{name}: the last line ends inside its coordinates")
    start, models = _atom_lines(data)
    _check_columns(data, start, name)
    parted = _part_molecules(data, start, models)
    apart = len(parted) > len(data)
    try:
        return gemmi.read_pdb_string(parted, split_chain_on_ter=apart)
    except (ValueError, RuntimeError):  # for what is not needed: charges, displacements of atoms that are not there
        return gemmi.read_pdb_string(NOT_NEEDED.sub(rb"\1", parted), split_chain_on_ter=apart)


def _atom_lines(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Place of the first byte of each atom line that is long enough for coordinates, and of each MODEL line."""
    start = np.append(0, np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1)
    start = start[start + len(b"ATOM") <= len(data)]
    record = _words(data)[start]
    long = start + COORDINATES.stop <= len(data)
    return start[long & ((record == RECORDS[0]) | (record == RECORDS[1]))], start[record == RECORDS[2]]


def _words(data: bytes) -> np.ndarray:
    """The four bytes at each place as one number."""
    return np.ndarray(max(len(data) - 3, 0), "<u4", data, 0, (1,))


def _check_columns(data: bytes, start: np.ndarray, name: str) -> None:
    """Raise `StructureError` where an atom line has something else than three numbers in columns 31 to 54.

    gemmi takes what digits stand there, and stars for zero, so that lines without columns would give wrong atoms.
    """
    cells = _columns(data, start, COORDINATES).reshape(-1, 3, 8)
    usual = (KINDS[cells] & USUAL).all(axis=(1, 2))
    for begin in start[~usual]:
        found = data[begin : begin + COORDINATES.stop].split(b"\n")[0][COORDINATES]
        if not all(NUMBER.fullmatch(found[place : place + 8]) for place in (0, 8, 16)):
            number, text = data.count(b"\n", 0, begin) + 1, found.decode("latin-1")
            raise StructureError(
                "not_a_structure", f"{name}, line {number}: expected x, y, z in columns 31-54, found {text!r}"
            )


def _columns(data: bytes, start: np.ndarray, columns: slice) -> np.ndarray:
    """Bytes of the lines that begin at `start` (A,) in some columns (A, columns)."""
    return np.frombuffer(data, np.uint8)[start[:, None] + np.arange(columns.start, columns.stop)]


def _part_molecules(data: bytes, start: np.ndarray, models: np.ndarray) -> bytes:
    """The file with TER before a residue that its chain has had already, as where two molecules have one chain name.

    gemmi puts atoms of one chain name, residue number and residue name together, wherever they stand between two TER.
    """
    of_alpha = np.flatnonzero(_words(data)[start + ATOM_NAME] == ALPHA)
    model = np.searchsorted(models, start[of_alpha])
    names = _columns(data, start[of_alpha], RESIDUE).reshape(-1).view(f"S{RESIDUE.stop - RESIDUE.start}")
    atoms = list(zip(model.tolist(), names.tolist(), strict=True))
    if len(set(atoms)) == len(atoms):
        return data
    residue = _columns(data, start, RESIDUE)[:, 1:]  # without the alternative location
    run = np.append(0, np.cumsum((residue[1:] != residue[:-1]).any(axis=1)))
    first_line = start[np.searchsorted(run, run[of_alpha])]
    pieces, done = [], 0
    seen: dict[tuple[int, bytes], int] = {}
    for atom, line in zip(atoms, first_line.tolist(), strict=True):
        if seen.setdefault(atom, line) != line:
            pieces.append(data[done:line])
            done, seen = line, {atom: line}
    return b"TER\n".join([*pieces, data[done:]])
