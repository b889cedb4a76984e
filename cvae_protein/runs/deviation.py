"""How far a file of a run is from the same file of another run."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..core.geometry import rmsd
from ..core.structure import CA
from .tolerance import IDS, PARTS, RELATIVE, RMSD, TIMES

HASHES = {"weights"}  # columns with hashes of other files of the run
METRIC = {"metric", "value", "low", "high"}  # columns of a table whose rows are quantities of their own
NAMES = ("variant", "seed", "split", "fold", "metric", "unit")  # columns that say which quantity


class IncomparableError(ValueError):
    """Two files have different rows, names or shapes, so that no number says how far they are apart."""


def deviation(measure: str, recorded: Path, found: Path) -> float:
    """How far a file is from the recorded one by a measure of `KINDS`; `IncomparableError` if that is undefined."""
    if measure == PARTS:
        return 0.0
    if measure == IDS:
        return _ids(recorded, found)
    if measure == RMSD:
        return _median_rmsd(recorded, found)
    if measure == RELATIVE:
        read = _READERS[found.suffix]
        return mean_relative_difference(read(recorded), read(found))
    raise UserError(
        f"the manifest names a measure that is unknown here, {measure!r}; compare with the program that wrote it"
    )


def mean_relative_difference(recorded: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> float:
    """Mean over arrays of |found - recorded| / |recorded|, at most 1 each; of text, the share that differs.

    Norms are Euclidean. Values that are missing must be missing in both.
    """
    if recorded.keys() != found.keys():
        odd = sorted(recorded.keys() ^ found.keys())
        raise IncomparableError(f"{odd[0]} is in one of them alone")
    if not recorded:
        return 0.0
    return float(np.mean([_relative(name, values, found[name]) for name, values in recorded.items()]))


def _relative(name: str, recorded: np.ndarray, found: np.ndarray) -> float:
    if recorded.shape != found.shape:
        raise IncomparableError(f"{name} has the shape {found.shape}, recorded was {recorded.shape}")
    if not recorded.size:
        return 0.0
    if recorded.dtype.kind not in "biuf" or found.dtype.kind not in "biuf":
        return float((recorded.astype(str) != found.astype(str)).mean())
    one, other = recorded.astype(np.float64), found.astype(np.float64)
    if (np.isfinite(one) != np.isfinite(other)).any():
        return 1.0
    one, other = np.nan_to_num(one), np.nan_to_num(other)
    apart, size = float(np.linalg.norm(other - one)), float(np.linalg.norm(one))
    return min(1.0, apart / size) if apart and size else float(apart > 0)


def _ids(recorded: Path, found: Path) -> float:
    """0 if both tables have the same structures of the same kind, label and length in the same order."""
    sides = [[row[:4] for row in _rows(path)] for path in (recorded, found)]
    if sides[0] != sides[1]:
        raise IncomparableError("it is of other structures")
    return 0.0


def _median_rmsd(recorded: Path, found: Path) -> float:
    """Median over the structures of two stores of the CA RMSD in Å; 0 if they are empty."""
    from ..store.read import Store

    with Store(recorded) as one, Store(found) as other:
        if one.ids != other.ids:
            raise IncomparableError("it is of other structures")
        apart = []
        for name in one.ids:
            first, second = one.backbone(name).coords[0, :, CA], other.backbone(name).coords[0, :, CA]
            if first.shape != second.shape:
                raise IncomparableError(f"{name} has {len(second)} residues, recorded were {len(first)}")
            apart.append(float(rmsd(first, second)))
    return float(np.median(apart)) if apart else 0.0


def _rows(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))


def _table(path: Path) -> dict[str, np.ndarray]:
    """Columns of a table; for a table of metrics, where each row has its own unit, the numbers of each row."""
    header, *rows = _rows(path)
    if set(header) >= METRIC:
        named = [place for place, name in enumerate(header) if name in NAMES]
        numbers = [header.index(name) for name in ("value", "low", "high")]
        return {" ".join(row[place] for place in named): _numbers([row[place] for place in numbers]) for row in rows}
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    kept = {name: cells for name, cells in zip(header, columns, strict=True) if name not in TIMES}
    return {name: _numbers(list(cells)) for name, cells in kept.items()}


def _numbers(cells: list[str]) -> np.ndarray:
    """Cells as numbers, empty ones as NaN; unchanged if any is text."""
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Datasets of an HDF5 file by their paths."""
    import h5py

    found: dict[str, np.ndarray] = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and name.rsplit("/", 1)[-1] not in HASHES:
            text = h5py.check_string_dtype(item.dtype) is not None
            found[name] = np.asarray(item.asstr()[...] if text else item[...])

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


def _tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".tsv": _table,
    ".h5": _arrays,
    ".safetensors": _tensors,
}
