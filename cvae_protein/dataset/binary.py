"""BinaryCIF files: their columns, decoded by biotite, as the mmCIF categories that gemmi makes a structure of."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import gemmi
import numpy as np

from ..core.errors import StructureError
from ..core.structure import ATOMS
from ..io.mmcif import KEYS, NAMES, NEEDED, OPTIONAL

ATOM_TAGS = {*NEEDED, *NAMES, *OPTIONAL.values(), *(tag for tags in KEYS.values() for tag in tags)}
TAGS: dict[str, tuple[str, ...]] = {
    "atom_site": tuple(sorted(ATOM_TAGS)),
    "entity": ("id", "type"),
    "struct_asym": ("id", "entity_id"),
    "exptl": ("method",),
    "refine": ("pdbx_refine_id", "ls_d_res_high"),
}
MOST_ROWS = 10_000_000
MOST_LETTERS = 2**30  # of a column, all cells as long as its longest


def read_binary_cif(data: bytes, name: str) -> gemmi.Structure:
    """The residues with their backbone atoms of a BinaryCIF file, as gemmi reads them from the same mmCIF file.

    Raises `StructureError` with the code truncated, not_a_structure or too_large.
    """
    from biotite.structure.io.pdbx import BinaryCIFFile  # slow to load, and few files need it

    try:
        file = BinaryCIFFile.read(io.BytesIO(data))
        for content in file.serialize()["dataBlocks"]:
            categories = {category["name"].lstrip("_"): category for category in content["categories"]}
            if any(column["name"] == "Cartn_x" for column in categories.get("atom_site", {"columns": ()})["columns"]):
                _check_sizes({key: categories[key] for key in TAGS if key in categories}, name)
                return gemmi.make_structure_from_block(_as_text(file[content["header"]]))
    except (StructureError, MemoryError):
        raise
    except Exception as error:  # whatever a library raises on bytes of a stranger
        cut = "incomplete input" in str(error)
        detail = f"{name}: not readable as BinaryCIF ({type(error).__name__}: {error})"
        raise StructureError("truncated" if cut else "not_a_structure", detail) from error
    raise StructureError("not_a_structure", f"{name}: a BinaryCIF file without atom_site coordinates")


def _check_sizes(content: Any, name: str, rows: int = 1) -> None:
    """Raise `StructureError("too_large")` where an encoding, which may be a few bytes, says that it holds too much."""
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ()
    if isinstance(content, Mapping):
        rows = content.get("rowCount", rows)
        sizes = [size for key in ("rowCount", "srcSize") if (size := content.get(key)) is not None]
        if content.get("kind") == "RunLength" and "srcSize" not in content:
            raise StructureError("not_a_structure", f"{name}: a run-length encoding without srcSize")
        if max(sizes, default=0) > MOST_ROWS or rows * len(content.get("stringData", "")) > MOST_LETTERS:
            raise StructureError("too_large", f"{name}: a column of more than {MOST_ROWS} rows, or of too long texts")
    for part in parts:
        _check_sizes(part, name, rows)


def _as_text(block: Any) -> gemmi.cif.Block:
    """The categories `TAGS` of a block; of the atoms the backbone, and the first of every residue."""
    made = gemmi.cif.Block("binary")
    for category, tags in TAGS.items():
        if category not in block:
            continue
        columns = {tag: block[category][tag].as_array(str) for tag in tags if tag in block[category]}
        if category == "atom_site":
            kept = _first_or_backbone(columns)
            columns = {tag: column[kept] for tag, column in columns.items()}
        if columns:
            loop = made.init_mmcif_loop(f"_{category}.", list(columns))
            loop.set_all_values([_quoted(column) for column in columns.values()])
    return made


def _first_or_backbone(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    keys = [columns[tag] for tags in KEYS.values() for tag in tags if tag in columns]
    first = np.append(True, np.any([key[1:] != key[:-1] for key in keys], axis=0))
    return first | np.isin(next(columns[tag] for tag in NAMES if tag in columns), ATOMS)


def _quoted(column: np.ndarray) -> list[str]:
    """Cells as they stand in a CIF file."""
    values, which = np.unique(column, return_inverse=True)
    texts = [value if value in (".", "?") else gemmi.cif.quote(value) for value in values.tolist()]
    return [texts[index] for index in which.tolist()]
