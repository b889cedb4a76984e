"""The HDF5 store: ragged arrays of backbones and one column per fact, for both real domains and samples.

Layout (S conformations, R residues in all)::

    /offset          (S+1,)    int64    residues of conformation s are offset[s]:offset[s+1]
    /coords          (R, 5, 3) int16    0.01 Å from the centre (on the same grid), -32768 = missing; N CA C O CB
    /center          (S, 3)    float32  Å, to be added to get the deposited position
    /ss              (R,)      S1       DSSP letter: H B E G I T S or - (none), ? = an atom is missing
    /sequence        (R,)      S1       one letter per residue
    /residue_id      (R,)      S8       author number and insertion code
    /table/NAME      (S,)               one column per fact: id, model, label, ...; (u)int64, float64 or fixed UTF-8
    /checksum/PATH   (B,)      uint32   CRC-32 of each 1,024 residues, or conformations, of the dataset PATH

Conformations of one domain are consecutive rows with the same id. Requires NumPy and h5py, and hdf5plugin if
compressed with blosc-lz4. `layout` defines the file, `write` writes it, and `verify` checks its checksums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..core.labels import is_within
from ..core.secondary_structure import secondary_structure
from ..core.structure import Backbone
from .layout import BLOCK, PER_RESIDUE, SCHEMA_VERSION, Entry, is_text, open_store, positions, reading

NEAR, READ_AHEAD = 4 * BLOCK, 64 * BLOCK  # residues; a step forward of at most NEAR triggers reading READ_AHEAD at once


class Store:
    """A store opened for reading: `len(store)` conformations, `store.columns[name]` (S,), `store.backbone(id)`.

    Reading rows in order reads ahead in large pieces. `UserError` if the file is damaged or not a store.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.file = open_store(self.path)
        try:
            with reading(self.path):
                self.offset: np.ndarray = self.file["offset"][:]
                self._center: np.ndarray = self.file["center"][:]
                self._data = {name: self.file[name] for name in PER_RESIDUE}
                self.columns: dict[str, np.ndarray] = {
                    name: data.asstr()[:] if is_text(data) else data[:] for name, data in self.file["table"].items()
                }
                self._check_lengths()
                self._rows: dict[str, list[int]] = {}
                for row, name in enumerate(self.columns.get("id", ())):
                    self._rows.setdefault(name, []).append(row)
        except UserError:
            self.file.close()
            raise
        self._held: dict[str, tuple[int, np.ndarray]] = {}  # dataset -> first residue held in memory, and the data
        self._read_to: dict[str, int] = {}  # dataset -> end of the last read

    def _check_lengths(self) -> None:
        rows = {len(self), len(self._center), *map(len, self.columns.values())}
        in_order = self.offset[:1] == 0 and (np.diff(self.offset) >= 0).all()
        if len(rows) != 1 or not in_order or {len(data) for data in self._data.values()} != {self.offset[-1]}:
            raise ValueError("its offsets, columns and arrays do not fit together")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __len__(self) -> int:
        return len(self.offset) - 1

    @property
    def ids(self) -> list[str]:
        """Domain ids in order, each once."""
        return list(self._rows)

    @property
    def lengths(self) -> np.ndarray:
        """Number of residues of each conformation (S,)."""
        return np.diff(self.offset)

    def rows(self, name: str) -> list[int]:
        """Row numbers of a domain's conformations; `UserError` if it is not in the store."""
        if name not in self._rows:
            raise UserError(f"{self.path}: no domain {name!r} there")
        return self._rows[name]

    def fact(self, name: str, column: str, absent: str | None = None) -> str | float | int:
        """One fact of a domain, from its first conformation; without such a column, `absent` if given."""
        if absent is not None and column not in self.columns:
            return absent
        value = self.columns[column][self.rows(name)[0]]
        return value.item() if isinstance(value, np.generic) else value

    def _read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Residues `start:stop` of a dataset, from memory if possible; must not be modified.

        Reads ahead if `start` is at, or shortly after, the end of the last read.
        """
        first, held = self._held.get(name, (0, None))
        if held is not None and first <= start and stop <= first + len(held):
            return held[start - first : stop - first]
        ahead = 0 <= start - self._read_to.get(name, start + 1) <= NEAR
        self._read_to[name] = stop
        with reading(self.path):
            if not ahead:
                return self._data[name][start:stop]
            held = self._data[name][start : max(stop, (start // BLOCK) * BLOCK + READ_AHEAD)]
        self._held[name] = (start, held)
        return held[: stop - start]

    def coords(self, row: int) -> np.ndarray:
        """Positions of one conformation in Å, NaN where missing; float32 (L, 5, 3), centred at the origin."""
        return positions(self._read("coords", *self._span(row)))

    def _span(self, row: int) -> tuple[int, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"{self.path}: row {row} of {len(self)}")
        return int(self.offset[row]), int(self.offset[row + 1])

    def text(self, row: int, name: str) -> list[str]:
        """A per-residue text array of one conformation: `ss`, `sequence` or `residue_id`."""
        with reading(self.path):
            return self._read(name, *self._span(row)).astype(str).tolist()

    def sequence(self, name: str) -> str:
        """One letter per residue of a domain, `X` where unknown."""
        return "".join(self.text(self.rows(name)[0], "sequence"))

    def ss(self, name: str) -> tuple[str, ...]:
        """DSSP letters of each conformation of a domain; recomputed if an older version wrote the store."""
        if self.file.attrs["schema_version"] < SCHEMA_VERSION:
            return secondary_structure(self.backbone(name))
        return tuple("".join(self.text(row, "ss")) for row in self.rows(name))

    def backbone(self, name: str) -> Backbone:
        """The structure of a domain with all its conformations, at its deposited position."""
        rows = self.rows(name)
        coords = np.stack([self.coords(row) + self._center[row] for row in rows])
        return Backbone(name, self.sequence(name), coords, tuple(self.text(rows[0], "residue_id")))

    def entry(self, name: str) -> Entry:
        """The whole entry of a domain."""
        facts = {key: self.fact(name, key) for key in self.columns if key not in ("id", "model")}
        return Entry(self.backbone(name), facts, self.ss(name))

    def entries(self, names: Iterable[str] | None = None) -> Iterator[Entry]:
        """`entry` for each of `names` (default: all)."""
        for name in self.ids if names is None else names:
            yield self.entry(name)


def each_with_facts(
    store: Path, fold: str = "", length: int | None = None
) -> Iterator[tuple[Backbone, dict[str, object]]]:
    """The structures that `read_backbones` returns, one at a time, each with its row of the table."""
    with Store(store) as stored:
        columns = [name for name in stored.columns if name not in ("id", "model")]
        for name in _chosen(stored, fold):
            backbone = stored.backbone(name)
            if length in (None, len(backbone)):
                yield backbone, {column: stored.fact(name, column) for column in columns}


def read_backbones(store: Path, fold: str = "", length: int | None = None) -> list[Backbone]:
    """Structures of a store, optionally only of one fold class (`3` includes `3.40`) and number of residues."""
    with Store(store) as stored:
        found = [stored.backbone(name) for name in _chosen(stored, fold)]
    return [backbone for backbone in found if length in (None, len(backbone))]


def _chosen(store: Store, fold: str) -> list[str]:
    return [name for name in store.ids if not fold or is_within(str(store.fact(name, "label")), fold)]
