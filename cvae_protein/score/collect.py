"""Join the score tables of several models, or of the points of a sweep, into one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..core.errors import UserError
from ..core.files import read_table, write_table
from .metrics.metric import SCORE_COLUMNS


def collect(tables: list[Path], output: Path) -> None:
    """Write the rows of several `scores.tsv` as one table, in the order given."""
    write_table(output, SCORE_COLUMNS, (row for table in tables for row in read_table(table, SCORE_COLUMNS)))


def collect_points(tables: Mapping[Path, Mapping[str, str]], output: Path) -> None:
    """Write the rows of several `scores.tsv`, each preceded by the settings of its sweep point, key -> value.

    Raises `UserError` if a point has other keys than the first one.
    """
    keys = list(next(iter(tables.values())))
    rows = []
    for table, values in tables.items():
        if list(values) != keys:
            raise UserError(f"{table}: expected a point of {', '.join(keys)}, found {', '.join(values)}")
        rows += [{**values, **row} for row in read_table(table, SCORE_COLUMNS)]
    write_table(output, [*keys, *SCORE_COLUMNS], rows)
