"""The two tables of a scoring: `scores.tsv`, a row a metric and class, and `structures.tsv`, a row a structure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..core.files import atomic_path, write_table
from ..similarity import nearest_structures
from ..similarity.nearest_structures import Placed
from . import composition
from .metrics import novelty, physical_validity, reconstruction
from .metrics.metric import Judged
from .rows import SCORE_COLUMNS, Row

RAW = "_raw"  # suffix of the metrics of a sample before relaxation
STRUCTURE_COLUMNS = (
    *("id", "kind", "label", "length"),
    *(
        metric.name
        for table in (physical_validity, composition, nearest_structures, novelty, reconstruction)
        for metric in table.METRICS
    ),
    *(metric.name + RAW for metric in physical_validity.METRICS),
    *("nearest_id", "nearest_label", "training_id", "oracle_label", "oracle_probability"),
)


def structure_table(
    structures: Sequence[Judged],
    kind: str,
    values: Mapping[str, np.ndarray],
    placed: Sequence[Placed] = (),
    told: Sequence[Mapping[str, str]] = (),
) -> Iterable[dict[str, object]]:
    """Rows of `structures.tsv`: `values` one array (n) a metric, `told` what the oracle says of each structure.

    Columns that do not apply stay empty.
    """
    for index, structure in enumerate(structures):
        row: dict[str, object] = dict.fromkeys(STRUCTURE_COLUMNS)
        row.update(id=structure.id, kind=kind, label=structure.label, length=len(structure))
        row.update({name: f"{column[index]:.6g}" for name, column in values.items()})
        if placed:
            hits = placed[index]
            row.update(nearest_id=hits.held_out.id, nearest_label=hits.held_out.label, training_id=hits.training.id)
        if told:
            row.update(told[index])
        yield row


def write_scores(
    output: Path, scores: Mapping[str, Iterable[Row]], seed: str, structures: Iterable[Mapping[str, object]]
) -> None:
    """Write both tables into the folder `output`, whole or not at all; `scores` are rows by variant."""
    with atomic_path(output) as folder:
        folder.mkdir()
        cells = (row.cells(variant, seed) for variant, rows in scores.items() for row in rows)
        write_table(folder / "scores.tsv", SCORE_COLUMNS, cells)
        write_table(folder / "structures.tsv", STRUCTURE_COLUMNS, structures)
