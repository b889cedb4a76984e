"""Checks a store against its checksums, and names the domains affected by damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ..core.progress import Progress
from .layout import BLOCK, CHECKSUM, PER_RESIDUE, UNREADABLE, attributes_checksum, checksums, open_store, reading

AT_ONCE = 64  # blocks read together


@dataclass(frozen=True)
class StoreCheck:
    """The result of a check: one line in `damages` for each damaged piece."""

    conformations: int
    blocks: int
    damages: tuple[str, ...]


def verify_store(path: str | Path) -> StoreCheck:
    """Read a whole store and compare every block with its checksum.

    Raises `UserError` if the file cannot be opened as a store at all, for example because its end is missing.
    """
    path = Path(path)
    with open_store(path) as file, reading(path):
        rows = len(file["offset"]) - 1
        names = ["offset", "center", *PER_RESIDUE, *(f"table/{name}" for name in file["table"])]
        lengths = {name: len(file[name]) for name in names}
        blocks = sum(-(-length // BLOCK) for length in lengths.values())
        progress = Progress("verify", blocks, "blocks")
        damages = _wrong_attributes(file)
        residues = lengths["coords"]
        for name, length in lengths.items():
            if length != rows + (name == "offset") and (name not in PER_RESIDUE or length != residues):
                damages.append(f"{name}: {length} values do not fit {rows} conformations of {residues} residues")
            hit = _damaged_blocks(file, name, progress)
            damages += [_described(file, name, block * BLOCK, min((block + 1) * BLOCK, length)) for block in hit]
    return StoreCheck(rows, blocks, tuple(damages))


def _wrong_attributes(file: h5py.File) -> list[str]:
    try:
        right = int(file[CHECKSUM].attrs["attributes"]) == attributes_checksum(file.attrs)
    except UNREADABLE:
        right = False
    return [] if right else ["attributes: the units, the resolution or another attribute of the file are damaged"]


def _damaged_blocks(file: h5py.File, name: str, progress: Progress) -> Iterator[int]:
    """Numbers of the blocks of a dataset that are unreadable or differ from their checksums."""
    count = -(-len(file[name]) // BLOCK)
    expected = _expected(file, f"{CHECKSUM}/{name}", count)
    for first in range(0, count, AT_ONCE):
        some = range(first, min(first + AT_ONCE, count))
        found = _sums(file[name], some)
        if found is None:  # part of it cannot be read: find out which
            found = [None if one is None else one[0] for one in (_sums(file[name], [block]) for block in some)]
        for block, value in zip(some, found, strict=True):
            if value is None or value != expected[block]:
                yield block
        progress.advance(len(some))


def _expected(file: h5py.File, name: str, count: int) -> list[int | None]:
    """Recorded checksums of a dataset; if they are unreadable, every block counts as damaged."""
    try:
        values = file[name][:].tolist()
    except UNREADABLE:
        values = []
    return values if len(values) == count else [None] * count


def _sums(dataset: h5py.Dataset, blocks: range | list[int]) -> list | None:
    """Checksums of consecutive blocks; None if the blocks cannot be read."""
    try:
        values = dataset[blocks[0] * BLOCK : (blocks[-1] + 1) * BLOCK]
    except UNREADABLE:
        return None
    return checksums(values).tolist()


def _described(file: h5py.File, name: str, start: int, stop: int) -> str:
    """A sentence about damage in `start:stop` of a dataset, naming the affected domains if ids are intact."""
    unit, first, last = "conformations", start, stop
    try:
        if name in PER_RESIDUE:
            unit, offset = "residues", file["offset"][:]
            first, last = np.searchsorted(offset, [start, stop - 1], "right") - [1, 0]
        hit = list(dict.fromkeys(file["table/id"].asstr()[max(int(first), 0) : int(last)]))
    except UNREADABLE:
        hit = []
    return f"{name}, {unit} {start} to {stop - 1}: {', '.join(hit) or 'their domains cannot be read'}"
