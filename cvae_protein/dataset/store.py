"""The HDF5 store: ragged arrays of backbones and one column a fact, for real domains and samples alike.

Layout (S conformations, R residues in all)::

    /offset      (S+1,)    int64    residues of conformation s are offset[s]:offset[s+1]
    /coords      (R, 5, 3) int16    0.01 Å from the centre (on the same grid), -32768 = missing; N CA C O CB
    /center      (S, 3)    float32  Å, to be added to get the deposited position
    /torsion     (R, 3)    float32  phi, psi, omega in radians, NaN where undefined
    /ss          (R,)      S1       DSSP letter: H B E G I T S or - (none), ? = not assigned
    /sequence    (R,)      S1       one letter a residue
    /residue_id  (R,)      S8       author number and insertion code
    /table/NAME  (S,)               one column a fact: id, model, label, ...

Conformations of one domain are consecutive rows with the same id. Needs NumPy and h5py; the default compression also
needs hdf5plugin, `gzip` does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np

from ..errors import UserError
from ..files import atomic_path
from ..structure import Backbone

hdf5plugin: ModuleType | None
try:
    import hdf5plugin
except ImportError:  # a bare GPU node reads gzip stores without it
    hdf5plugin = None

SCHEMA_VERSION = 1
RESOLUTION = 0.01  # Å a step of int16
MISSING = np.iinfo(np.int16).min
CHUNK = 1024  # residues
TEXT = h5py.string_dtype("utf-8")
PER_RESIDUE = ("coords", "torsion", "ss", "sequence", "residue_id")


@dataclass(frozen=True, eq=False)
class Entry:
    """What a store holds of one domain or sample: the structure, what was computed of it, and facts about it.

    `torsion` is (model, L, 3) in radians, `ss` one string of DSSP letters a model, `facts` one value a column.
    """

    backbone: Backbone
    torsion: np.ndarray
    ss: tuple[str, ...]
    facts: Mapping[str, str | float | int] = field(default_factory=dict)


def _encode(coords: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """int16 steps from the centre, and the centre, of one conformation (L, 5, 3) in Å.

    The centre lies on the grid of the steps, so that what was read from a store is written with the same bytes again.
    """
    grid = np.rint(np.asarray(coords, np.float64) / RESOLUTION)
    missing = ~np.isfinite(grid)
    present = ~missing.any(axis=-1)
    center = np.rint(grid[present].mean(axis=0)) if present.any() else np.zeros(3)
    steps = grid - center
    if np.abs(steps[~missing]).max(initial=0) >= -MISSING:
        raise ValueError(f"{name}: an atom lies more than {-MISSING * RESOLUTION:.0f} Å from the centre")
    return np.where(missing, MISSING, steps).astype(np.int16), (center * RESOLUTION).astype(np.float32)


def _filters(compression: str) -> dict:
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    if compression == "blosc-lz4":
        if hdf5plugin is None:
            raise UserError("compression blosc-lz4 needs the package hdf5plugin; install it or set compression: gzip")
        return dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE))
    raise UserError(f"compression: expected blosc-lz4 or gzip, got {compression!r}")


def _arrays(entries: Sequence[Entry]) -> tuple[dict[str, np.ndarray], dict[str, list]]:
    """Per-residue and per-conformation arrays of `entries`, and their table columns."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in PER_RESIDUE}
    centers, lengths = [], []
    columns: dict[str, list] = {}
    names = list(entries[0].facts) if entries else []
    for entry in entries:
        backbone = entry.backbone
        if list(entry.facts) != names:
            raise ValueError(f"{backbone.id}: expected the facts {names}, got {list(entry.facts)}")
        for model in range(backbone.models):
            steps, center = _encode(backbone.coords[model], backbone.id)
            parts["coords"].append(steps)
            parts["torsion"].append(np.asarray(entry.torsion[model], np.float32))
            parts["ss"].append(np.array(list(entry.ss[model]), "S1"))
            parts["sequence"].append(np.array(list(backbone.sequence), "S1"))
            parts["residue_id"].append(np.array(backbone.residue_ids, "S8"))
            centers.append(center)
            lengths.append(len(backbone))
            for name, value in {"id": backbone.id, "model": model, **entry.facts}.items():
                columns.setdefault(name, []).append(value)
    empty: dict[str, np.ndarray] = {
        "coords": np.zeros((0, 5, 3), np.int16),
        "torsion": np.zeros((0, 3), np.float32),
        "ss": np.zeros(0, "S1"),
        "sequence": np.zeros(0, "S1"),
        "residue_id": np.zeros(0, "S8"),
    }
    arrays = {name: np.concatenate([empty[name], *part]).astype(empty[name].dtype) for name, part in parts.items()}
    arrays["center"] = np.array(centers, np.float32).reshape(-1, 3)
    arrays["offset"] = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)
    return arrays, columns


def _column(values: Sequence) -> np.ndarray:
    if all(isinstance(value, int | np.integer) for value in values):
        return np.array(values, np.int32)
    if all(isinstance(value, int | float | np.number) for value in values):
        return np.array(values, np.float32)
    return np.array([str(value) for value in values], object)


def _write(path: Path, arrays: Mapping[str, np.ndarray], columns: Mapping[str, Sequence], attributes: Mapping) -> None:
    compression = str(attributes["compression"])
    with atomic_path(path) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        file.attrs.update(
            schema_version=SCHEMA_VERSION,
            length_unit="angstrom",
            angle_unit="radian",
            resolution=RESOLUTION,
            **attributes,
        )
        for name, array in arrays.items():
            if name in PER_RESIDUE:
                chunks = (CHUNK, *array.shape[1:])
                file.create_dataset(
                    name, data=array, chunks=chunks, maxshape=(None, *array.shape[1:]), **_filters(compression)
                )
            else:
                file.create_dataset(name, data=array)
        table = file.create_group("table", track_order=True)
        for name, values in columns.items():
            column = _column(values)
            table.create_dataset(name, data=column, dtype=TEXT if column.dtype == object else column.dtype)


def write_store(
    path: str | Path, entries: Iterable[Entry], *, compression: str = "blosc-lz4", kind: str = "domains"
) -> None:
    """Write `entries` to a new store; all must have the same fact names. An empty store is valid."""
    arrays, columns = _arrays(list(entries))
    _write(Path(path), arrays, columns, {"compression": compression, "kind": kind})


def merge_stores(paths: Sequence[str | Path], output: str | Path, *, compression: str = "blosc-lz4") -> int:
    """Concatenate stores in the order given and return the number of conformations; empty ones are skipped."""
    arrays: dict[str, list[np.ndarray]] = {}
    columns: dict[str, list] = {}
    residues = 0
    offsets = [np.zeros(1, np.int64)]
    for path in paths:
        with Store(path) as store:
            if not len(store):
                continue
            if columns and list(columns) != list(store.columns):
                raise UserError(f"{path}: expected the table columns {list(columns)}, found {list(store.columns)}")
            for name in (*PER_RESIDUE, "center"):
                arrays.setdefault(name, []).append(store.file[name][:])
            for name, values in store.columns.items():
                columns.setdefault(name, []).extend(values.tolist())
            offsets.append(store.offset[1:] + residues)
            residues += int(store.offset[-1])
    if not columns:
        raise UserError("no structure is left: every domain was rejected; see rejected.tsv for the reasons")
    merged = {name: np.concatenate(parts) for name, parts in arrays.items()}
    merged["offset"] = np.concatenate(offsets)
    _write(Path(output), merged, columns, {"compression": compression, "kind": "domains"})
    return len(merged["center"])


class Store:
    """A store opened for reading: `len(store)` conformations, `store.columns[name]` (S,), `store.backbone(id)`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path}: expected an HDF5 store, found no file there")
        try:
            self.file = h5py.File(self.path, "r")
        except OSError as error:
            raise UserError(f"{path}: not a readable store of structures ({error})") from error
        try:
            version = self.file.attrs.get("schema_version")
            self.offset: np.ndarray = self.file["offset"][:]
            self.columns: dict[str, np.ndarray] = {
                name: data.asstr()[:] if h5py.check_string_dtype(data.dtype) else data[:]
                for name, data in self.file["table"].items()
            }
        except (OSError, KeyError) as error:
            self.file.close()
            raise UserError(f"{path}: not a readable store of structures ({error})") from error
        if version != SCHEMA_VERSION:
            self.file.close()
            raise UserError(f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; featurize again")
        self._rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.columns.get("id", ())):
            self._rows.setdefault(str(name), []).append(row)

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
        """Residues of each conformation (S,)."""
        return np.diff(self.offset)

    def rows(self, name: str) -> list[int]:
        """Row numbers of a domain's conformations; `UserError` where the store lacks it."""
        if name not in self._rows:
            raise UserError(f"{self.path}: no domain {name!r} there")
        return self._rows[name]

    def fact(self, name: str, column: str) -> str | float | int:
        """One fact of a domain, from its first conformation."""
        value = self.columns[column][self.rows(name)[0]]
        return value.item() if isinstance(value, np.generic) else value

    def coords(self, row: int) -> np.ndarray:
        """Positions of one conformation in Å, NaN where missing; float32 (L, 5, 3), the centre at the origin."""
        steps = self.file["coords"][self.offset[row] : self.offset[row + 1]]
        return np.where(steps == MISSING, np.float32(np.nan), steps * np.float32(RESOLUTION))

    def text(self, row: int, name: str) -> list[str]:
        """A per-residue text array of one conformation: `ss`, `sequence` or `residue_id`."""
        return [value.decode() for value in self.file[name][self.offset[row] : self.offset[row + 1]]]

    def torsion(self, row: int) -> np.ndarray:
        """phi, psi, omega of one conformation in radians, float32 (L, 3)."""
        return self.file["torsion"][self.offset[row] : self.offset[row + 1]]

    def backbone(self, name: str) -> Backbone:
        """The structure of a domain with all its conformations, at its deposited position."""
        rows = self.rows(name)
        coords = np.stack([self.coords(row) + self.file["center"][row] for row in rows])
        return Backbone(name, "".join(self.text(rows[0], "sequence")), coords, tuple(self.text(rows[0], "residue_id")))

    def entry(self, name: str) -> Entry:
        """Everything the store holds of a domain."""
        rows = self.rows(name)
        facts = {
            key: values[rows[0]].item() if isinstance(values[rows[0]], np.generic) else values[rows[0]]
            for key, values in self.columns.items()
            if key not in ("id", "model")
        }
        ss = tuple("".join(self.text(row, "ss")) for row in rows)
        return Entry(self.backbone(name), np.stack([self.torsion(row) for row in rows]), ss, facts)

    def entries(self, names: Iterable[str] | None = None) -> Iterator[Entry]:
        """`entry` of each of `names` (default: all)."""
        for name in self.ids if names is None else names:
            yield self.entry(name)
