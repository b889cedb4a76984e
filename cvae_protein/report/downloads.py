"""The tables that a reader can take from the page: text inside the page's links, safe to open in a spreadsheet."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from .results import Row

MOST_BYTES = 1_500_000  # of an embedded table
Column = Sequence[Any] | np.ndarray
FORMULA = ("=", "+", "-", "@")  # with which a spreadsheet takes a cell for a command


@dataclass(frozen=True)
class Plot:
    """A figure and the table that it shows: `name` of the file and its base64 text."""

    figure: Markup
    name: str
    table: str


def plot(figure: Markup, name: str, columns: Mapping[str, Column]) -> Plot:
    """A figure with the table behind it, given as its columns, all of one length."""
    cells = zip(*columns.values(), strict=True)
    rows = [dict(zip(columns, map(_shown, row), strict=True)) for row in cells]
    return Plot(figure, f"{re.sub(r'[^A-Za-z0-9.]+', '_', name).strip('_')}.tsv", as_tsv(rows, columns)[0])


def _shown(value: object) -> str:
    """A number with five digits, text as it is."""
    return f"{value:.5g}" if isinstance(value, float | np.floating) else str(value)


def safe(cell: str) -> str:
    """Text that no spreadsheet runs: a quote before what begins as a formula and is no number; one line, no tab."""
    cell = " ".join(cell.split())
    if not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def as_tsv(rows: Sequence[Row], columns: Iterable[str] = ()) -> tuple[str, bool]:
    """Rows as base64 tab-separated text for a data URI, and whether it was cut to the page's limit."""
    header = list(columns or (rows[0] if rows else ()))
    if not header:
        return "", False
    lines = ["\t".join(map(safe, header))]
    size = 0
    for row in rows:
        line = "\t".join(safe(row[name]) for name in header)
        size += len(line.encode()) + 1
        if size > MOST_BYTES:
            break
        lines.append(line)
    text = "\n".join(lines) + "\n"
    return base64.b64encode(text.encode()).decode(), len(lines) <= len(rows)
