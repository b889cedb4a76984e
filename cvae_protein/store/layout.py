"""File layout of a store: names, types, blocks and checksums, for reader, writer and verifier."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np

from ..core.errors import UserError
from ..core.files import check_may_read
from ..core.structure import Backbone

hdf5plugin: ModuleType | None
try:
    import hdf5plugin
except ImportError:  # gzip stores can be read without it, for example on a bare GPU node
    hdf5plugin = None
SCHEMA_VERSION = 3
READABLE = (2, 3)  # in 2, DSSP letters of domains took prolines into account, and samples had no letters
RESOLUTION = 0.01  # Å per step of int16
MISSING = np.iinfo(np.int16).min
BLOCK = 1024  # residues, or conformations, per file chunk and per checksum
TEXT = h5py.string_dtype("utf-8")
PER_RESIDUE: dict[str, np.dtype] = {
    "coords": np.dtype(("<i2", (5, 3))),
    "ss": np.dtype("S1"),
    "sequence": np.dtype("S1"),
    "residue_id": np.dtype("S8"),
}
RESIDUE_ID_BYTES = PER_RESIDUE["residue_id"].itemsize
CENTER, OFFSET = np.dtype(("<f4", (3,))), np.dtype("<i8")
CHECKSUM = "checksum"
CACHE_BYTES, CACHE_SLOTS = 32 << 20, 10_007  # maximum cache of unpacked blocks per dataset of an open store
# What h5py raises on a damaged file, depending on where the damage lies.
UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


# Å for every int16, indexed by its bits as uint16; NaN for a missing atom. Faster than arithmetic and a mask.
POSITIONS = (np.arange(1 << 16, dtype=np.uint16).view(np.int16) * np.float64(RESOLUTION)).astype(np.float32)
POSITIONS[np.array([MISSING], np.int16).view(np.uint16)] = np.nan


def positions(steps: np.ndarray) -> np.ndarray:
    """Positions in Å, NaN where missing, from int16 steps of any shape."""
    return POSITIONS.take(steps.view(np.uint16))


@dataclass(frozen=True, eq=False)
class Entry:
    """The content of a store for one domain or sample: structure, facts (one value per column) and DSSP letters.

    `ss`, one string of DSSP letters per model, is set when an entry is read; the writer assigns it itself.
    """

    backbone: Backbone
    facts: Mapping[str, str | float | int] = field(default_factory=dict)
    ss: tuple[str, ...] = ()


def filters(compression: str) -> dict:
    """Options of `create_dataset` for a compression; `UserError` if it is unknown or its package is missing."""
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    if compression == "blosc-lz4":
        if hdf5plugin is None:
            raise UserError("compression blosc-lz4 needs the package hdf5plugin; install it or set compression: gzip")
        return dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE))
    raise UserError(f"compression: expected gzip or blosc-lz4, got {compression!r}")


def text_dtype(width: int) -> np.dtype:
    """Fixed-length UTF-8 of `width` bytes, which HDF5 stores in the dataset itself, unlike variable-length strings."""
    return h5py.string_dtype("utf-8", max(width, 1))


def is_text(dataset: h5py.Dataset) -> bool:
    """Whether a table column contains text."""
    return h5py.check_string_dtype(dataset.dtype) is not None


def checksums(values: np.ndarray) -> np.ndarray:
    """CRC-32 of each block of `values`, as little-endian bytes in C order: uint32 (ceil(len / 1024),)."""
    values = np.ascontiguousarray(values).view(np.ndarray)
    blocks = (values[start : start + BLOCK] for start in range(0, len(values), BLOCK))
    return np.array([zlib.crc32(block.tobytes()) for block in blocks], "<u4")


def attributes_checksum(attributes: Mapping) -> int:
    """CRC-32 of a file's attributes as sorted JSON."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in attributes.items()}
    return zlib.crc32(json.dumps(plain, sort_keys=True, default=str).encode())


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert anything that h5py raises for a damaged or foreign file to a one-line `UserError`."""
    try:
        yield
    except UserError:
        raise
    except UNREADABLE as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a readable store of structures ({why}); `cvae-protein verify {path}` says what is damaged"
        ) from error


def bears(path: Path, name: str, value: str) -> bool:
    """Whether an HDF5 file has a root dataset `name` or, if `value` is given, an attribute with that value."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return file.attrs.get(name) == value.encode() if value else name in file
    except UNREADABLE:
        return False


def open_store(path: Path) -> h5py.File:
    """Open a store for reading without a lock, so that many processes and read-only folders are possible.

    Raises `UserError` if there is none, if it is damaged or has another schema, or if its filter is missing.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected an HDF5 store, found no file there")
    check_may_read(path)
    with reading(path):
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=CACHE_BYTES, rdcc_nslots=CACHE_SLOTS)
        try:
            version, compression = (file.attrs.get(name) for name in ("schema_version", "compression"))
            if version is None:
                raise ValueError("no attribute schema_version")
            if version not in READABLE:
                raise UserError(
                    f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; featurize again"
                )
            if compression in ("blosc-lz4", b"blosc-lz4") and hdf5plugin is None:
                raise UserError(f"{path}: it is compressed by blosc-lz4; install the package hdf5plugin to read it")
        except BaseException:
            file.close()
            raise
    return file
