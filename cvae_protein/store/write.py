"""Writes stores from entries or from other stores; complete or absent, even if the disk is full."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..core.errors import UserError
from ..core.files import atomic_path
from ..core.progress import say, track
from ..core.secondary_structure import secondary_structures
from ..core.structure import Backbone
from .layout import (
    BLOCK,
    CENTER,
    CHECKSUM,
    MISSING,
    OFFSET,
    PER_RESIDUE,
    RESIDUE_ID_BYTES,
    RESOLUTION,
    SCHEMA_VERSION,
    Entry,
    attributes_checksum,
    checksums,
    filters,
    open_store,
    positions,
    reading,
    text_dtype,
)


class _Disk(io.FileIO):
    """A file that never raises an error to HDF5: it keeps the first one, and data that cannot be written in memory.

    HDF5 does not survive its own write errors: it cannot close the file, and crashes when it is unloaded or reads what
    it believes it has written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None
        self.unwritten: list[tuple[int, bytes]] = []  # position and content, in order

    def write(self, data: Any) -> int:
        """Write all of `data`, a buffer."""
        place, whole = self.tell(), memoryview(data).cast("B")
        left = whole
        try:
            while len(left) and self.error is None:
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self.error = error
        if self.error is not None:
            self.unwritten.append((place, whole.tobytes()))
            super().seek(place + len(whole))
        return len(whole)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, with zeros where nothing has been written."""
        place, view = self.tell(), memoryview(buffer).cast("B")
        if self.error is None:
            return super().readinto(view) or 0
        count = super().readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        for start, content in self.unwritten:
            first, last = max(start, place), min(start + len(content), place + len(view))
            if first < last:
                view[first - place : last - place] = content[first - start : last - start]
        return len(view)

    def seek(self, place: int, origin: int = io.SEEK_SET) -> int:
        """Go to a position; the end includes data that could not be written."""
        if origin == io.SEEK_END and self.unwritten:
            end = max(super().seek(0, io.SEEK_END), *(start + len(content) for start, content in self.unwritten))
            return super().seek(end + place)
        return super().seek(place, origin)

    def truncate(self, size: int | None = None) -> int:
        """Set the file's size."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def new_file(path: Path, **options: Any) -> Iterator[h5py.File]:
    """A new HDF5 file to be filled; it is at `path` if the block succeeds. `OSError` if it cannot be written.

    options : of `h5py.File`
    """
    with atomic_path(path) as temporary, _Disk(temporary) as disk:
        try:
            with h5py.File(disk, "w", **options) as file:
                file.disk = disk
                yield file
        except Exception:
            if disk.error is None:
                raise
        if disk.error is not None:
            raise OSError(disk.error.errno, disk.error.strerror, str(path)) from disk.error


def check_room(file: h5py.File) -> None:
    """Raise `OSError` if writing a file of `new_file` has failed so far, to stop collecting data in memory."""
    disk = getattr(file, "disk", None)
    if disk is not None and disk.error is not None:
        raise disk.error


ASSIGNED = BLOCK  # residues per assignment of secondary structure
WRITTEN = 16 * BLOCK  # residues, or conformations, per write
FEWEST_SAID = 20  # stores; joining fewer shows no progress


class Columns:
    """Datasets of equal length that grow together; written in blocks of fixed size, whatever the size of the input.

    This way the same values give the same bytes, whether added domain by domain or store by store.
    """

    def __init__(self, file: h5py.File, types: Mapping[str, np.dtype], compression: str) -> None:
        self.file, self.types = file, dict(types)
        self.waiting: dict[str, list[np.ndarray]] = {name: [] for name in types}
        self.sums: dict[str, list[np.ndarray]] = {name: [] for name in types}
        self.count = self.written = 0
        for name, dtype in self.types.items():
            file.create_dataset(
                name,
                (0, *dtype.shape),
                dtype.base,
                chunks=(BLOCK, *dtype.shape),
                maxshape=(None, *dtype.shape),
                fletcher32=True,  # checked by every reader: damage stops a stage instead of affecting results
                **filters(compression),
            )

    def append(self, values: Mapping[str, np.ndarray]) -> None:
        """Add the same number of values to every dataset."""
        for name, dtype in self.types.items():
            self.waiting[name].append(np.asarray(values[name], dtype.base))
        self.count += len(next(iter(values.values())))
        while self.count - self.written >= WRITTEN:
            self._write(WRITTEN)

    def _write(self, count: int) -> None:
        for name, dtype in self.types.items():
            whole = np.concatenate(self.waiting[name]).astype(dtype.base)  # concatenation loses the text encoding
            block, self.waiting[name] = whole[:count], [whole[count:]]
            dataset = self.file[name]
            dataset.resize(self.written + count, axis=0)
            dataset[self.written :] = block
            self.sums[name].append(checksums(block))
        self.written += count
        check_room(self.file)

    def finish(self) -> None:
        """Write pending values and the checksums."""
        if self.count > self.written:
            self._write(self.count - self.written)
        for name, sums in self.sums.items():
            self.file.create_dataset(f"{CHECKSUM}/{name}", data=np.concatenate([np.zeros(0, "<u4"), *sums]))


@contextmanager
def _new_store(path: Path, compression: str, kind: str) -> Iterator[h5py.File]:
    """A store to be filled, with its attributes; it is at `path` if the block succeeds.

    The HDF5 1.10 file format has its own checksums for all metadata except variable-length strings, and HDF5 may hang
    when it reads a damaged one. Therefore all text, including attributes, has a fixed length.
    """
    with new_file(path, track_order=True, libver=("v110", "v110")) as file:
        file.attrs.update(
            schema_version=SCHEMA_VERSION,
            length_unit=np.bytes_("angstrom"),
            resolution=RESOLUTION,
            compression=np.bytes_(compression),
            kind=np.bytes_(kind),
        )
        yield file
        file.require_group(CHECKSUM).attrs["attributes"] = attributes_checksum(file.attrs)


def _encode(coords: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """int16 steps from the centre, and the centre, of one conformation (L, 5, 3) in Å.

    The centre lies on the grid of the steps, so that data read from a store are written back with the same bytes.
    """
    grid = np.rint(np.asarray(coords, np.float64) / RESOLUTION)
    missing = ~np.isfinite(grid)
    present = ~missing.any(axis=-1)
    center = np.rint(grid[present].mean(axis=0)) if present.any() else np.zeros(3)
    steps = grid - center
    if np.abs(steps[~missing]).max(initial=0) >= -MISSING:
        raise ValueError(f"{name}: an atom lies more than {-MISSING * RESOLUTION:.0f} Å from the centre")
    return np.where(missing, MISSING, steps).astype(np.int16), (center * RESOLUTION).astype(np.float32)


def _encoded(entries: Iterable[Entry]) -> Iterator[tuple[Entry, dict[str, np.ndarray], list[np.ndarray]]]:
    """Entries with per-residue arrays, conformation by conformation, and the centres of the conformations.

    Secondary structure is assigned from the coordinates as stored.
    """
    waiting = list[tuple[Entry, list[tuple[np.ndarray, np.ndarray]]]]()

    def ready() -> Iterator[tuple[Entry, dict[str, np.ndarray], list[np.ndarray]]]:
        stored = [np.stack([positions(steps) + center for steps, center in encoded]) for _, encoded in waiting]
        letters = secondary_structures(
            [replace(entry.backbone, coords=coords) for (entry, _), coords in zip(waiting, stored, strict=True)]
        )
        for (entry, encoded), ss in zip(waiting, letters, strict=True):
            steps, centers = zip(*encoded, strict=True)
            yield entry, _residues(entry.backbone, steps, ss), list(centers)
        waiting.clear()

    for entry in entries:
        waiting.append((entry, [_encode(coords, entry.backbone.id) for coords in entry.backbone.coords]))
        if sum(len(one.backbone) * one.backbone.models for one, _ in waiting) >= ASSIGNED:
            yield from ready()
    yield from ready()


def _residues(backbone: Backbone, steps: Sequence[np.ndarray], ss: Sequence[str]) -> dict[str, np.ndarray]:
    residue_id = np.array(backbone.residue_ids, "S")
    if residue_id.dtype.itemsize > RESIDUE_ID_BYTES:
        raise ValueError(f"{backbone.id}: a residue id is longer than {RESIDUE_ID_BYTES} letters")
    return {
        "coords": np.concatenate(steps),
        "ss": np.frombuffer("".join(ss).encode("ascii"), "S1"),
        "sequence": np.tile(np.frombuffer(backbone.sequence.encode("ascii"), "S1"), len(steps)),
        "residue_id": np.tile(residue_id, len(steps)),
    }


def _column(values: Sequence) -> np.ndarray:
    """A table column as integers if all values are integers, else as floats if all are numbers, else as UTF-8."""
    if all(isinstance(value, int | np.integer) for value in values):
        return np.array(values, "<u8" if max(values, default=0) > np.iinfo(np.int64).max else "<i8")
    if all(isinstance(value, int | float | np.number) for value in values):
        return np.array(values, "<f8")
    encoded = [str(value).encode("utf-8", "replace") for value in values]
    return np.array(encoded, text_dtype(max(map(len, encoded))))


def _row_types(types: Mapping[str, np.dtype]) -> dict[str, np.dtype]:
    return {"center": CENTER, **{f"table/{name}": dtype for name, dtype in types.items()}}


CHOSEN = "chosen"  # attribute of a store with only some samples of a draw, whose numbers have gaps


def write_store(
    path: str | Path,
    entries: Iterable[Entry],
    *,
    compression: str = "gzip",
    kind: str = "domains",
    chosen: bool = False,
) -> int:
    """Write `entries` to a new store and return the number of conformations; an empty store is valid.

    `chosen` means that the samples are only some of a draw and keep their numbers. `entries` may be an iterator: only
    some thousand residues and the facts are held in memory. All entries must have the same fact names; `ValueError` if
    they differ or if a structure does not fit. Entries with the same id are conformations of one sequence; `UserError`
    if the sequences differ.
    """
    offset, centers, facts = [0], list[np.ndarray](), dict[str, list]()
    stored: dict[str, tuple[int, int]] = {}  # id -> hash of the sequence, number of conformations
    with _new_store(Path(path), compression, kind) as file:
        file.attrs.update({CHOSEN: 1} if chosen else {})
        residues = Columns(file, PER_RESIDUE, compression)
        for entry, values, new_centers in _encoded(entries):
            names = ["id", "model", *entry.facts]
            if centers and names != list(facts):
                raise ValueError(f"{entry.backbone.id}: expected the facts {list(facts)[2:]}, got {names[2:]}")
            own = hash(entry.backbone.sequence)
            sequence, before = stored.get(entry.backbone.id, (own, 0))
            if sequence != own:
                raise UserError(f"{path}: two structures have the id {entry.backbone.id}; give each its own")
            stored[entry.backbone.id] = own, before + len(new_centers)
            residues.append(values)
            for model, center in enumerate(new_centers, before):
                centers.append(center)
                offset.append(offset[-1] + len(entry.backbone))
                for name, value in {"id": entry.backbone.id, "model": model, **entry.facts}.items():
                    facts.setdefault(name, []).append(value)
        residues.finish()
        table = {name: _column(values) for name, values in facts.items()}
        _write_rows(
            file,
            compression,
            {name: values.dtype for name, values in table.items()},
            [{"center": np.array(centers).reshape(-1, 3), **{f"table/{name}": v for name, v in table.items()}}],
            [np.array(offset[1:], np.int64)],
        )
    return len(centers)


def _write_rows(
    file: h5py.File,
    compression: str,
    types: Mapping[str, np.dtype],
    rows: Iterable[Mapping[str, np.ndarray]],
    ends: Iterable[np.ndarray],
) -> None:
    """Write the data of each conformation: the end of its residues, its centre and its table row."""
    offset = Columns(file, {"offset": OFFSET}, compression)
    offset.append({"offset": np.zeros(1, np.int64)})
    for end in ends:
        offset.append({"offset": end})
    offset.finish()
    file.create_group("table", track_order=True)
    columns = Columns(file, _row_types(types), compression)
    for values in rows:
        columns.append(values)
    columns.finish()


def merge_stores(
    paths: Sequence[str | Path], output: str | Path, *, compression: str = "gzip", whole: bool = False
) -> int:
    """Concatenate stores in the given order and return the number of conformations; empty stores are skipped.

    `whole` means that they should contain complete draws: missing sample numbers are reported. Reads and writes block
    by block, so memory does not grow with the stores, except for 100 bytes per domain id. Raises `UserError` if nothing
    is left, kinds or columns differ, or an id is in two stores.
    """
    parts = Parts([Path(path) for path in paths], whole)
    if not parts.paths:
        raise UserError("no structure is left: every domain was rejected; see rejected.tsv for the reasons")
    with _new_store(Path(output), compression, parts.kind) as file:
        file.attrs.update({CHOSEN: 1} if parts.chosen else {})
        residues = Columns(file, PER_RESIDUE, compression)
        for values in parts.blocks(PER_RESIDUE, "merge"):
            residues.append(values)
        residues.finish()
        names = _row_types(parts.types)
        _write_rows(file, compression, parts.types, parts.blocks(names), parts.ends())
    return parts.rows


def _say_gaps(ids: Iterable[bytes]) -> None:
    """Report missing numbers among the ids of samples, for example because a job's part is missing."""
    found: dict[str, set[int]] = {}
    for name in ids:
        draw, _, number = name.decode().rpartition("-")
        if number.isdecimal():
            found.setdefault(draw, set()).add(int(number))
    for draw, numbers in found.items():
        if missing := sorted(set(range(max(numbers))) - numbers):
            said = f"{len(missing)} of {max(numbers) + 1} samples {draw}-… are in no part, the first {missing[0]:04d}"
            say("merge", f"{said}; is a part missing?")


class Parts:
    """The non-empty stores to be joined, and the types of the joint table."""

    def __init__(self, paths: Sequence[Path], whole: bool) -> None:
        self.paths: list[Path] = []
        self.types: dict[str, np.dtype] = {}
        self.kind = ""
        self.rows = 0
        self.chosen: set[int] = set()  # indices of parts with chosen samples
        owner: dict[bytes, int] = {}
        for path in paths:
            with open_store(path) as file, reading(path):
                if not len(file["center"]):
                    continue
                if file.attrs["schema_version"] != SCHEMA_VERSION:
                    raise UserError(f"{path}: an older program wrote it; featurize again")
                self._add_kind(file, path)
                self._add_types(file, path)
                for name in dict.fromkeys(file["table/id"][:].tolist()):
                    if owner.setdefault(name, len(self.paths)) != len(self.paths):
                        raise UserError(f"{path}: the domain {name.decode()} is in {self.paths[owner[name]]} as well")
                if file.attrs.get(CHOSEN):
                    self.chosen.add(len(self.paths))
                self.rows += len(file["center"])
                self.paths.append(path)
        if whole and self.kind == "samples":
            _say_gaps(name for name, place in owner.items() if place not in self.chosen)

    def _add_kind(self, file: h5py.File, path: Path) -> None:
        kind = bytes(file.attrs.get("kind", b"domains")).decode()
        self.kind = self.kind or kind
        if kind != self.kind:
            raise UserError(f"{path}: expected a store of {self.kind} as those before it, found one of {kind}")

    def _add_types(self, file: h5py.File, path: Path) -> None:
        names = list(file["table"])
        if self.types and names != list(self.types):
            raise UserError(f"{path}: expected the table columns {list(self.types)}, found {names}")
        for name in names:
            dtype = file["table"][name].dtype
            known = self.types.get(name, dtype)
            if (known.kind == "S") != (dtype.kind == "S"):
                raise UserError(
                    f"{path}: column {name} holds text in one store and numbers in another; featurize again"
                )
            if dtype.kind == "S":
                self.types[name] = text_dtype(max(known.itemsize, dtype.itemsize))
            else:
                kinds = {known.kind, dtype.kind}
                self.types[name] = np.dtype("<f8" if "f" in kinds else "<u8" if "u" in kinds else "<i8")

    def blocks(self, names: Iterable[str], stage: str = "") -> Iterator[dict[str, np.ndarray]]:
        """The datasets `names` of all stores, block by block."""
        said = stage and len(self.paths) >= FEWEST_SAID
        for path in track(self.paths, stage, len(self.paths), "stores") if said else self.paths:
            with open_store(path) as file, reading(path):
                data = {name: file[name] for name in names}
                length = len(next(iter(data.values())))
                for start in range(0, length, WRITTEN):
                    yield {name: values[start : start + WRITTEN] for name, values in data.items()}

    def ends(self) -> Iterator[np.ndarray]:
        """End of each conformation's residues in the joint store, block by block."""
        before = 0
        for path in self.paths:
            with open_store(path) as file, reading(path):
                data = file["offset"]
                for start in range(1, len(data), WRITTEN):
                    yield data[start : start + WRITTEN] + before
                before += int(data[-1])
