"""ECOD domain tables; columns are found by the header of the release, whose layout has changed five times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from sys import intern

from ...core.errors import UnusableDomain
from ...core.files import bad_row, cells_of, comments_of, lines_of
from ...core.labels import truncate
from .domain import ClassifiedDomain

COLUMNS = ("uid", "ecod_domain_id", "manual_rep", "f_id", "pdb", "chain", "pdb_range", "seqid_range")
"""The first columns of tables without a header."""
LINE = re.compile(r"\d+\t\S+\t\S+\t\d+(\.\d+){2,3}\t.*|\S+\t\S+\t(PDB|AFDB)\t\d+(\.\d+)*\t\d+(\.\d+)*\t\d+\t.*")
NAMES = {
    "id": ("ecod_domain_id", "domain_id"),
    "code": ("f_id", "t_id"),
    "pdb": ("pdb", "source_id"),
    "range": ("seqid_range", "range", "pdb_range"),
    "architecture": ("architecture_name", "arch_name"),
}
"""What is taken -> the columns that have it in some release, the best one first."""
SEGMENT = re.compile(r"(?:([^:,]*):)?([^:,]+)")
MODEL = re.compile(r"([A-Z0-9]{6,10})_F(\d+)")  # AlphaFold database model, as named by ECOD


def read_domains(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows of a domain table; ranges are SEQRES positions, or residue numbers if the table has only these.

    The label is `architecture.X.H.T.F`, or only the code if the table does not name the architecture; the superfamily
    is the H-group `X.H`, whose members are homologous.
    """
    columns: Sequence[str] = COLUMNS
    for line in comments_of(path):
        if set(names := line.lstrip("#").split("\t")) & set(NAMES["id"]):
            columns = names
    lines = lines_of(path)
    first = next(lines, (0, ""))
    if "ecod_domain_id" in (cells := cells_of(first[1])):
        columns = cells
    else:
        lines = chain([first], lines)
    found = {name: next((n for n in names if n in columns), "") for name, names in NAMES.items()}
    places = {name: columns.index(column) for name, column in found.items() if column}
    for number, line in lines:
        cells = cells_of(line)
        if len(cells) <= max(places.values()):
            yield bad_row(number, f"{max(places.values()) + 1} columns of ECOD", line)
        else:
            yield _row({name: cells[place].strip() for name, place in places.items()}, found["range"] == "pdb_range")


def _row(cells: Mapping[str, str], author: bool) -> ClassifiedDomain | UnusableDomain:
    name = cells["id"]
    segments = [SEGMENT.fullmatch(part) for part in cells["range"].split(",")]
    if not all(segments):
        return UnusableDomain(name, "bad_range", f"expected segments such as A:5-100, got {cells['range']!r}")
    chains = list(dict.fromkeys(match[1] or "" for match in segments if match))
    if len(chains) > 1:
        return UnusableDomain(name, "several_chains", f"{cells['range']} is of the chains {', '.join(chains)}")
    entry = cells["pdb"] or name.rpartition("_")[0]
    if model := MODEL.fullmatch(entry):
        entry = f"AF-{model[1]}-F{model[2]}"
        name = name if model[0] in name else f"{model[0]}_{name}"
    code = cells["code"]
    architecture = cells.get("architecture", "").replace(".", " ").strip()
    return ClassifiedDomain(
        name,
        entry,
        chains[0] or ("A" if model else ""),
        ",".join(match[2] for match in segments if match),
        numbering="author" if author else "label",
        superfamily=intern(truncate(code, 2)),
        label=intern(f"{architecture}.{code}" if architecture else code),
    )
