"""Kinds of files that may differ from those of the same run elsewhere, how these are compared, and the limit."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import NamedTuple

TIMES = {"seconds", "date"}  # columns of tables that differ from run to run


class Kind(NamedTuple):
    """Files whose last digits depend on the processor: `patterns` of their paths, what is measured, and its limit."""

    name: str
    patterns: tuple[str, ...]
    measure: str
    limit: float
    unit: str
    why: str


STORES = ("samples", "raw", "reconstructions", "swapped")
TABLES = ("history", "scores", "classifier", "confusion", "verdicts")
RELATIVE, RMSD, IDS, PARTS = "mean relative difference", "median RMSD", "equal ids", "equal parts"
ROUNDED = (
    "Networks are trained and used in float32, whose sums other instruction sets and numbers of threads round otherwise"
)
KINDS = (
    Kind("pages", ("report.html", "samples/*.pdb"), PARTS, 0, "", "Made of tables and stores that are compared"),
    Kind("figures of structures", ("*structures.tsv",), IDS, 0, "", "Follow from structures that are compared"),
    Kind("structures", tuple(f"samples/*/{name}.h5" for name in STORES), RMSD, 0.1, "Å", ROUNDED),
    Kind("arrays", ("*.safetensors", "samples/*/latents.h5", "features/*.h5"), RELATIVE, 0.05, "", ROUNDED),
    Kind("tables", tuple(f"*{name}.tsv" for name in TABLES), RELATIVE, 0.1, "", ROUNDED),
)
"""The first kind that matches a path applies; files of no kind, from stages without a network, must be equal."""


def kind_of(name: str) -> Kind | None:
    """The kind of a file by its path in the results folder."""
    return next((kind for kind in KINDS if any(fnmatch(name, pattern) for pattern in kind.patterns)), None)
