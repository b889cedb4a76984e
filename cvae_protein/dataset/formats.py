"""The table of formats that `labels` reads, how they are recognised, and the readers of lists and names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ..config.settings import LabelSettings
from ..core.errors import StructureError, UnusableDomain, UserError
from ..core.files import cells_of, check_columns, lines_of, safe_id, unsafe
from ..core.progress import say
from .classifications import cath, ecod, scope, ted
from .classifications.domain import ClassifiedDomain

REQUIRED = ("domain_id", "pdb_id", "chain", "residue_range")
LOOKED_AT = 50  # lines used to recognise a format


class Format(NamedTuple):
    """A format's reader, its description, and how to recognise it: by a line, or by header columns."""

    read: Callable[[Path], Iterator[ClassifiedDomain | UnusableDomain]]
    what: str
    line: re.Pattern[str] | None = None
    header: tuple[str, ...] = ()


def read_table(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows of a user's own table: the required columns, and any other fields of `ClassifiedDomain` that it has."""
    lines = lines_of(path)
    header = cells_of(next(lines, (0, ""))[1])
    check_columns(path, header, REQUIRED)
    places = [(header.index(name) if name in header else None) for name in ClassifiedDomain._fields]
    for number, line in lines:
        cells = cells_of(line)
        if len(cells) != len(header):
            raise UserError(f"{path}, line {number}: expected {len(header)} columns, found {len(cells)}")
        yield ClassifiedDomain(*("" if place is None else cells[place].strip() for place in places))


def _files(folder: Path) -> tuple[list[tuple[Path, str]], int]:
    """Path and name without suffix of each structure file in a folder and its subfolders, except hidden ones.

    Also the number of other files there.
    """
    from ..io.read import structure_files  # imports gemmi, which no other format needs

    there = sorted(structure_files(folder, 1), key=lambda found: (len(found[0].parts), found[0]))
    hidden = (path.parent != folder and path.parent.name.startswith(".") for path, _ in there)
    found = [each for each, passed_over in zip(there, hidden, strict=True) if each[1] and not passed_over]
    return found, len(there) - len(found)


def read_folder(path: Path) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """A row for each protein chain of each structure file of a folder, or the problem with the file.

    The label is the name of the file's folder below `path`, except in the divided layout. Names that cannot be ids are
    changed, with a message; names that occur in several folders are prefixed with the folder's.
    """
    from ..io.read import ids_of_files, read_structure

    files, others = _files(path)
    if others:
        said = "their ending is no structure's, or their folder is hidden"
        say("select", f"{others} files of {path} are passed over: {said}")
    if renamed := [name for _, name in files if unsafe(name)]:
        said = f"{renamed[0]!r} is {safe_id(renamed[0])}"
        say("select", f"{len(renamed)} names of files in {path} cannot be ids and are changed: {said}")
    for (file, name), entry in zip(files, ids_of_files(path, files), strict=True):
        above = file.parent
        label = "" if above == path or above.name.lower() == name[1:3].lower() else above.name
        try:
            chains = read_structure(file).chains
        except StructureError as error:
            yield UnusableDomain(entry, error.code, error.detail)
            continue
        for chain in chains:
            domain = safe_id(f"{entry}_{chain}") if chain.strip() else entry
            yield ClassifiedDomain(domain, entry, chain, "", label=label, role="unique")
    if not files:
        raise UserError(f"{path}: no file there ends in .pdb, .ent, .cif, .mmcif or .bcif, with or without .gz")


FORMATS: dict[str, Format] = {
    "table": Format(
        read_table,
        f"tab-separated table with the columns {' '.join(REQUIRED)}, and cath, scope or label",
        None,
        REQUIRED[:1],
    ),
    "cath-domain-list": Format(
        cath.read_domain_list, "CATH's cath-domain-list", re.compile(r"\S+(\s+\d+){10}\s+[\d.]+\s*")
    ),
    "cath-domain-boundaries": Format(
        cath.read_boundaries, "CATH's cath-domain-boundaries", re.compile(r"\S{5,}\s+D\d+\s+F\d+\s+\d.*")
    ),
    "cath-seqres-boundaries": Format(
        cath.read_seqres_boundaries,
        "CATH's cath-domain-boundaries-seqreschopping",
        re.compile(r"\w{7,}\s+\d+-\d+(,\d+-\d+)*\s*"),
    ),
    "cath-daily": Format(
        cath.read_daily, "CATH's daily cath-b lists", re.compile(r"\S+\s+\S+\s+\d+(\.\d+){3,4}\s+\S+:\S+\s*")
    ),
    "cath-segments": Format(
        cath.read_segments,
        "table with the columns domain pdb chain segments cath",
        None,
        cath.SEGMENT_COLUMNS,
    ),
    "scope-cla": Format(scope.read_cla, "SCOPe's dir.cla", re.compile(r"\S+\t\S+\t\S+\t[a-z](\.\d+){3}\t\d+\t.*")),
    "scope-segments": Format(
        scope.read_segments, "table with the columns sid pdb chain start end sccs", None, scope.SEGMENT_COLUMNS
    ),
    "astral": Format(scope.read_astral, "ASTRAL FASTA headers", re.compile(r">\S+\s+[a-z](\.\d+){3}\s+\([^)]*\).*")),
    "ecod": Format(ecod.read_domains, "ECOD's table of domains", ecod.LINE, ("ecod_domain_id", "pdb_range")),
    "ted-domains": Format(
        ted.read_summary,
        "TED's domain_summary or domain_boundaries",
        re.compile(f"{ted.SUMMARY.pattern}|{ted.BOUNDARIES.pattern}"),
    ),
    "ted-chains": Format(
        ted.read_chains,
        "TED's consensus or the choppings of a program, a chain a line",
        re.compile(f"{ted.CHAIN.pattern}|{ted.CONSENSUS.pattern}"),
    ),
    "folder": Format(read_folder, "folder of structure files, or of folders of them, each chain a domain"),
}
"""Formats of `labels.table`, by the names that `labels.format` takes."""


def detect(path: Path) -> str:
    """The format of a classification, by content; `UserError` with the known formats if it matches none."""
    if path.is_dir():
        return "folder"
    lines = [line for _, line in islice(lines_of(path), LOOKED_AT)]
    if not lines:
        raise UserError(f"{path}: expected a header line or a classification, the file is empty")
    for name, form in FORMATS.items():
        if form.header and set(form.header) <= set(cells_of(lines[0])):
            return name
        if form.line and any(form.line.fullmatch(line) for line in lines):
            return name
    known = "\n".join(f"  {name}: {form.what}" for name, form in FORMATS.items())
    listed = "; a list of ids alone goes into labels.include" if len(lines[0].split()) == 1 else ""
    raise UserError(
        f"{path}: the format is none that is known; its first line is {lines[0][:100]!r}{listed}. Known are\n{known}"
    )


def _format_of(settings: LabelSettings) -> str:
    """The format of `settings.table`: as set, or else recognised by content."""
    table = Path(settings.table)
    return detect(table) if settings.format == "auto" or not table.exists() else settings.format


def read_classification(settings: LabelSettings) -> Iterator[ClassifiedDomain | UnusableDomain]:
    """Rows of `settings.table`, with the ranges of `settings.boundaries` if the table is a `cath-domain-list`.

    Raises `UserError` if a file cannot be read or has no known format.
    """
    table, name = Path(settings.table), _format_of(settings)
    if (name == "folder") != table.is_dir():
        raise UserError(f"{table}: expected {FORMATS[name].what}, found a {'folder' if table.is_dir() else 'file'}")
    rows = FORMATS[name].read(table)
    if name == "cath-domain-list":
        return cath.with_ranges(rows, read_ranges(settings.boundaries), settings.boundaries)
    if settings.boundaries:
        raise UserError(f"labels.boundaries: {table} ({name}) tells the residues itself; leave the setting empty")
    return rows


def read_ranges(boundaries: str) -> dict[str, str | UnusableDomain] | None:
    """Range of each domain, by id, from a file of any format that has ranges; None if no file is named."""
    if not boundaries:
        return None
    name = detect(Path(boundaries))
    if name in ("cath-domain-list", "folder"):
        raise UserError(f"{boundaries}: expected a file with residue ranges, found {FORMATS[name].what}")
    return {
        row.domain_id: row if isinstance(row, UnusableDomain) else row.residue_range or ""
        for row in FORMATS[name].read(Path(boundaries))
    }


def count_rows(settings: LabelSettings) -> int:
    """Approximate number of domains before filters: lines or files of the table, or ids of the list to include.

    For planning: ignores that a chain of cath-domain-boundaries, or a file in a folder, may contain several domains.
    """
    table = Path(settings.table)
    if table.is_dir():
        return len(_files(table)[0])
    name = _format_of(settings)
    lines = (line for _, line in lines_of(table))
    count = sum(line.startswith(">") for line in lines) if name == "astral" else sum(1 for _ in lines)
    count -= bool(FORMATS[name].header)
    return min(count, len(read_ids(settings.include))) if settings.include else count


def read_ids(path: str) -> set[str]:
    """Domain ids from a list (the first word of each line) or from the headers of a FASTA file.

    In a header such as `>cath|4_3_0|12asA00/4-330`, the id is the text between the last `|` and the `/`.
    """
    lines = [line for _, line in lines_of(Path(path))]
    if any(line.startswith(">") for line in lines[:1]):
        lines = [line[1:] for line in lines if line.startswith(">")]
    words = (line.split(maxsplit=1) for line in lines)
    return {word[0].rpartition("|")[2].partition("/")[0] for word in words if word}


def read_names(path: str, table: str) -> dict[str, str]:
    """Names of folds by code, from a CathNames, `dir.des`, `sunid parent name` or `code name` file."""
    source = Path(path)
    lines = [line for _, line in islice(lines_of(source), LOOKED_AT)]
    columns = [len(line.split("\t")) for line in lines]
    if lines and cells_of(lines[0]) == ["code", "name"]:
        cells = (cells_of(line) for _, line in lines_of(source))
        return {row[0]: row[1].strip() for row in cells if len(row) == 2 and row != ["code", "name"]}
    if any(cath.NAME.fullmatch(line) for line in lines):
        return cath.read_names(source)
    if columns and set(columns) == {5}:
        return scope.read_names(source)
    if columns and set(columns) == {3} and detect(Path(table)) == "scope-segments":
        return scope.read_tree_names(source, Path(table))
    first = lines[0][:100] if lines else ""
    raise UserError(
        f"{path}: expected cath-names, SCOPe's dir.des, or a table with the columns code and name; its first line is "
        f"{first!r}"
    )
