"""SCOPe files: `dir.cla`, `dir.des`, ASTRAL sequence headers, and reduced tables derived from them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from sys import intern

from ...core.errors import UnusableDomain
from ...core.files import bad_row, columns_of, lines_of
from ...core.labels import lineage
from .domain import ClassifiedDomain

ASTRAL = re.compile(r">(\S+)\s+(\S+)\s+\(([^)]*)\).*")
SEGMENT_COLUMNS = ("sid", "pdb", "chain", "start", "end", "sccs")
SUNID_COLUMN = "sunid_of_species_or_domain"
LEVELS = ("cl", "cf", "sf", "fa")


def _row(sid: str, pdb_id: str, code: str, region: str) -> ClassifiedDomain | UnusableDomain:
    """The row for a region such as `A:`, `A:1-50,A:60-90`, `1-50` or `-` (the whole entry)."""
    parts = [part.rpartition(":") for part in region.split(",")] if region != "-" else [("", "", "")]
    chains = list(dict.fromkeys(chain for chain, _, _ in parts))
    if len(chains) > 1:
        return UnusableDomain(sid, "several_chains", f"the region {region} is of the chains {', '.join(chains)}")
    ranges = [text for _, _, text in parts]
    if len(ranges) > 1 and not all(ranges):
        return UnusableDomain(sid, "bad_range", f"the region {region} has a segment without residues")
    return ClassifiedDomain(sid, pdb_id, chains[0], ",".join(ranges), scope=intern(code))


def read_cla(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows of a `dir.cla` file: sid, entry, region, code, sunid, sunids of the higher levels."""
    for number, line in lines_of(path):
        cells = line.split("\t")
        if len(cells) != 6:
            yield bad_row(number, "the 6 columns of dir.cla", line)
        else:
            yield _row(cells[0], cells[1], cells[3], cells[2])


def read_astral(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows from the headers of an ASTRAL FASTA file, such as `>d1ux8a_ a.1.1.1 (A:) Protozoan hemoglobin {...}`."""
    for number, line in lines_of(path):
        if not line.startswith(">"):
            continue
        match = ASTRAL.fullmatch(line)
        if match is None:
            yield bad_row(number, "an ASTRAL header", line)
        else:
            yield _row(match[1], match[1][1:5], match[2], match[3])


def read_segments(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows of a table with the columns `sid pdb chain start end sccs`; lines with one sid are segments of a domain."""
    regions: dict[str, list[str]] = {}
    facts: dict[str, tuple[str, str]] = {}
    for line in columns_of(path, SEGMENT_COLUMNS):
        if isinstance(line, UnusableDomain):
            yield line
            continue
        sid, pdb_id, chain, start, end, code = line[1]
        regions.setdefault(sid, []).append(f"{chain}:{start}-{end}" if start or end else f"{chain}:")
        facts[sid] = (pdb_id, intern(code))
    for sid, (pdb_id, code) in facts.items():
        yield _row(sid, pdb_id, code, ",".join(regions[sid]))


def read_names(path: Path) -> dict[str, str]:
    """Names of the codes of classes, folds, superfamilies and families in a `dir.des` file."""
    cells = (line.split("\t") for _, line in lines_of(path))
    return {row[2]: row[4].strip() for row in cells if len(row) == 5 and row[1] in LEVELS}


def read_tree_names(path: Path, table: Path) -> dict[str, str]:
    """Names of codes from a file of `sunid parent name`, matched by the codes and sunids of a reduced table.

    A domain's node is below its family, so the path from the root to it gives the names of all levels of its code.
    """
    nodes = {row[0]: (row[1], row[2]) for _, line in lines_of(path) if len(row := line.split("\t")) == 3}
    lines = columns_of(table, ("sccs", SUNID_COLUMN))
    pairs = {(line[1][0], line[1][1]) for line in lines if not isinstance(line, UnusableDomain)}
    names: dict[str, str] = {}
    for text, node in pairs:
        above: list[str] = []
        while node in nodes and nodes[node][0] in nodes and len(above) < 10:
            node, name = nodes[node]
            above.append(name)
        names |= dict(zip(lineage(text), above[::-1], strict=False))
    return names
