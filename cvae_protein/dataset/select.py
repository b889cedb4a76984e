"""Selects the domains of a run: checks, thins and caps the rows of a classification, with reasons for omissions."""

from __future__ import annotations

import contextlib
import json
import math
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np

from ..config.settings import LabelSettings
from ..core.errors import StructureError, UnusableDomain, UserError, printable, rejection
from ..core.files import lines_of, read_table, unsafe, write_rejected, write_table
from ..core.labels import ANY, SCHEMES, depth_of, first_level, lineage, own_code, superfamily, topology
from ..core.progress import say
from ..io.read import is_code, parse_range
from .classifications.domain import ClassifiedDomain, resolution_of
from .formats import read_classification, read_ids, read_names

BLOCK = 1024  # rows packed together


class Rows:
    """Rows of a classification, packed in blocks: some 20 bytes each, instead of 450 for a tuple of strings."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._open: list[ClassifiedDomain] = []

    def append(self, row: ClassifiedDomain) -> None:
        """Append a row."""
        self._open.append(row)
        if len(self._open) == BLOCK:
            columns = list(zip(*self._open, strict=True))
            self._packed.append(zlib.compress(json.dumps(columns).encode("ascii"), level=1))
            self._open = []

    def __len__(self) -> int:
        return BLOCK * len(self._packed) + len(self._open)

    def __iter__(self) -> Iterator[ClassifiedDomain]:
        for block in self._packed:
            yield from map(ClassifiedDomain._make, zip(*json.loads(zlib.decompress(block)), strict=True))
        yield from self._open

    def drop(self, problem_of: Callable[[int, ClassifiedDomain], UnusableDomain | None]) -> Iterator[UnusableDomain]:
        """Remove the rows for which `problem_of` (index, row) returns a problem; yields the problems."""
        left = Rows()
        for place, row in enumerate(self):
            if problem := problem_of(place, row):
                yield problem
            else:
                left.append(row)
        self._packed, self._open = left._packed, left._open

    def change(self, changed: Callable[[int, ClassifiedDomain], ClassifiedDomain]) -> None:
        """Replace each row by `changed` (index, row)."""
        new = Rows()
        for place, row in enumerate(self):
            new.append(changed(place, row))
        self._packed, self._open = new._packed, new._open


def _without(rows: Rows, lost: dict[str, UnusableDomain]) -> Iterator[UnusableDomain]:
    """Drop the rows in `lost`; an alternative conformer is dropped with the last unique domain of its group."""
    if not lost:
        return
    gone: dict[str, UnusableDomain] = {}
    staying: set[str] = set()
    for row in rows:
        if row.group and row.role != "alternative":
            if problem := lost.get(row.domain_id):
                gone[row.group] = problem
            else:
                staying.add(row.group)

    def problem_of(_: int, row: ClassifiedDomain) -> UnusableDomain | None:
        if row.role == "alternative" and row.group not in staying and (cause := gone.get(row.group)):
            detail = f"alternative of {cause.domain_id}, which is left out"
            return UnusableDomain(row.domain_id, cause.code, detail)
        return lost.get(row.domain_id)

    yield from rows.drop(problem_of)


def _ranked(rows: Rows, kind: Callable[[ClassifiedDomain], str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rank of each row among the unique domains of its kind, best resolution first, then in table order.

    Also the index of each row's kind, and the names of the kinds; alternatives and rows of no kind (empty) have rank
    -1.
    """
    numbers: dict[str, int] = {}
    codes, resolutions = array("q"), array("d")
    for row in rows:
        name = "" if row.role == "alternative" else kind(row)
        codes.append(numbers.setdefault(name, len(numbers)) if name else -1)
        resolutions.append(resolution_of(row.resolution))
    of = np.frombuffer(codes, np.int64) if codes else np.zeros(0, np.int64)
    order = np.lexsort((np.array(resolutions), of))  # stable
    first = np.searchsorted(of[order], of[order])
    places = np.empty(len(of), np.int64)
    places[order] = np.arange(len(of)) - first
    places[of < 0] = -1
    return places, of, list(numbers)


def drop_redundant(rows: Rows, settings: LabelSettings) -> Iterator[UnusableDomain]:
    """Keep the best resolved domain of each sequence cluster; domains without a cluster in the table stay.

    Raises `UserError` if the table has no clusters at all.
    """
    level = settings.redundancy
    if level == "none":
        return
    places, clusters, names = _ranked(rows, lambda row: str(getattr(row, level)))
    if not names and len(rows):
        raise UserError(
            f"labels.redundancy: {settings.table} has no {level} clusters, as a cath-domain-list or a column {level} "
            "has; else leave it at none and cluster the sequences themselves (labels.max_per_cluster)"
        )
    best = {int(clusters[place]): row.domain_id for place, row in enumerate(rows) if places[place] == 0}
    lost = {}
    for place, row in enumerate(rows):
        if places[place] > 0:
            detail = f"{best[int(clusters[place])]} is of the same {level} cluster"
            lost[row.domain_id] = UnusableDomain(row.domain_id, "redundant", detail)
    yield from _without(rows, lost)


def _superfamily(row: ClassifiedDomain) -> str:
    """The row's own superfamily, else that of its label or codes.

    A CATH code that ends at the topology counts as one superfamily here, so that it is capped as well;
    `homology.superfamily_of`, which is about relatives, treats its superfamily as unknown.
    """
    codes = (superfamily(code) or topology(code) for code in (row.label, row.cath, row.scope))
    return next(filter(None, (row.superfamily, *codes)), "")


def cap_superfamilies(rows: Rows, settings: LabelSettings) -> Iterator[UnusableDomain]:
    """Keep the best resolved domains of each superfamily, at most `max_per_superfamily` with distinct sequences."""
    most = settings.max_per_superfamily
    if not most:
        return
    places, families, names = _ranked(rows, _superfamily)
    members = np.bincount(families[families >= 0], minlength=len(names))
    lost = {}
    for place, row in enumerate(rows):
        if places[place] >= most:
            family = families[place]
            detail = f"{members[family]} domains of {names[family]}, {most} stay"
            lost[row.domain_id] = UnusableDomain(row.domain_id, "superfamily_full", detail)
    yield from _without(rows, lost)


def drop_rare(rows: Rows, settings: LabelSettings) -> Iterator[UnusableDomain]:
    """Keep classes with enough members, not counting alternative conformers; unlabelled domains stay."""
    least = settings.min_members
    members = Counter[str]()
    for row in rows:
        members[first_level(row.label)] += row.role != "alternative"
    if all(count >= least for name, count in members.items() if name):
        return

    def problem_of(_: int, row: ClassifiedDomain) -> UnusableDomain | None:
        name = first_level(row.label)
        if not name or members[name] >= least:
            return None
        detail = f"class {name} has {members[name]} domains, the minimum is {least}"
        return UnusableDomain(row.domain_id, "rare_class", detail)

    yield from rows.drop(problem_of)


COLUMNS = ClassifiedDomain._fields[: ClassifiedDomain._fields.index("label") + 1]
NAME_COLUMNS = ("code", "name")
EXAMPLES = {"cath": "3.40.50.300 or 3.40.50", "scope": "c.37.1.8"}
ROLES = ("", "unique", "alternative")
METHODS = {
    "x-ray diffraction": "x-ray", "xray": "x-ray", "solution nmr": "nmr", "solid-state nmr": "nmr",
    "electron microscopy": "em", "cryo-em": "em",
}  # fmt: skip
LONGEST_NAME = 80
UNTOLD = {"cluster": "", "none": ANY}  # label of every domain in schemes that use no column


def label_of(row: ClassifiedDomain, settings: LabelSettings) -> str:
    """The row's code in the configured classification; empty if the table has none, or for the scheme `cluster`.

    A CATH code may end at the topology, for example if it was inferred from SCOPe; the code of a user's own label is
    `own_code`. Raises `StructureError("unlabelled")` if a code does not have the scheme's form or has fewer levels than
    `settings.depth`.
    """
    if settings.scheme in UNTOLD:
        return UNTOLD[settings.scheme]
    label = str(getattr(row, {"own": "label"}.get(settings.scheme, settings.scheme)))
    if label and settings.scheme == "own":
        try:
            label = own_code(label)
        except ValueError as error:
            raise StructureError("unlabelled", f"label: {error}") from error
    elif label and not SCHEMES[settings.scheme].fullmatch(label):
        example = EXAMPLES[settings.scheme]
        raise StructureError("unlabelled", f"{settings.scheme} code {label!r} is not of the form {example}")
    if label and depth_of(label) < settings.depth:
        raise StructureError(
            "unlabelled", f"{settings.scheme} code {label} has fewer levels than depth {settings.depth}"
        )
    return label


def _checked(row: ClassifiedDomain, settings: LabelSettings, entry_case: bool = False) -> ClassifiedDomain:
    """The row with its label; `StructureError` with the code bad_id, bad_range or unlabelled.

    A PDB code is converted to lower case, unless `entry_case` says that it is a file name.
    """
    for name, value in (("domain_id", row.domain_id), ("pdb_id", row.pdb_id)):
        if reason := unsafe(value):
            raise StructureError("bad_id", f"{name} {value!r}: {reason}")
    if row.residue_range or row.numbering:
        parse_range(row.residue_range or "", row.numbering or "author")
    entry = row.pdb_id.lower() if is_code(row.pdb_id) and not entry_case else row.pdb_id
    return row._replace(pdb_id=entry, label=label_of(row, settings))


def domain_row(row: Mapping[str, str], settings: LabelSettings) -> dict[str, str]:
    """A row of the user's table, checked and converted to the columns of `domains.tsv`.

    Raises `StructureError` with the code bad_id, bad_range or unlabelled.
    """
    known = {name: row[name].strip() for name in ClassifiedDomain._fields if name in row}
    checked = _checked(ClassifiedDomain(**known), settings)
    return {name: getattr(checked, name) for name in COLUMNS}


def method_of(text: str) -> str:
    """An experimental method in standard spelling: `x-ray`, `nmr`, `em`; others in lower case."""
    small = " ".join(text.lower().split())
    return METHODS.get(small, small)


def _check_selected(row: ClassifiedDomain, settings: LabelSettings, classes: set[str], methods: set[str]) -> None:
    """Raise `StructureError` if the settings exclude the domain's class, length, resolution or method."""
    if not row.label and (settings.classes or settings.scheme == "own") and settings.scheme not in UNTOLD:
        raise StructureError("unlabelled", "no label" if settings.scheme == "own" else f"no {settings.scheme} code")
    if classes and settings.scheme not in UNTOLD and first_level(row.label) not in classes:
        raise StructureError("class_not_selected", f"class {first_level(row.label)} of {row.label}")
    if row.n_residues.isdecimal():
        if int(row.n_residues) < settings.min_length:
            raise StructureError("too_short", f"{row.n_residues} residues, the minimum is {settings.min_length}")
        if int(row.n_residues) > settings.max_length:
            raise StructureError("too_long", f"{row.n_residues} residues, the maximum is {settings.max_length}")
    if settings.max_resolution and not (resolution := resolution_of(row.resolution)) <= settings.max_resolution:
        said = f"{row.resolution} Å" if math.isfinite(resolution) else "no resolution"
        raise StructureError("low_resolution", f"{said}, the limit is {settings.max_resolution} Å")
    if methods and method_of(row.method) not in methods:
        raise StructureError("other_method", f"method {row.method or 'not told'}")


def _select_rows(
    rows: Iterable[ClassifiedDomain | UnusableDomain], settings: LabelSettings, kept: Rows
) -> Iterator[UnusableDomain]:
    """Add rows that pass the single-row checks to `kept`; yields the problems of the others."""
    included = read_ids(settings.include) if settings.include else None
    methods = {method_of(name) for name in settings.methods}
    classes = {own_code(name) if settings.scheme == "own" else name for name in settings.classes}
    files = Path(settings.table).is_dir()
    seen: set[str] = set()
    for row in rows:
        if isinstance(row, UnusableDomain):
            yield row
            continue
        try:
            if included is not None and row.domain_id not in included:
                raise StructureError("not_included", "not in labels.include")
            checked = _checked(row, settings, entry_case=files)
            if checked.role not in ROLES:
                raise UserError(f"{settings.table}: {row.domain_id}: role {row.role!r}, expected unique or alternative")
            if row.domain_id in seen:
                raise StructureError("duplicate_id", "an earlier row has the same domain_id")
            _check_selected(checked, settings, classes, methods)
            seen.add(row.domain_id)
            kept.append(checked)
        except StructureError as error:
            yield UnusableDomain(row.domain_id, error.code, error.detail)
    if included is not None and (absent := len(included - seen)):
        say("select", f"{absent} of {len(included)} ids of {settings.include} are not among the usable rows")
    if settings.superfamilies:
        add_superfamilies(kept, settings.superfamilies)


IN_CLUSTERS = re.compile(r"\.(?:pdb|ent|cif|mmcif|bcif)(?:\.gz)?(?=_|$)|_MODEL_\d+(?=_|$)", re.IGNORECASE)


def add_superfamilies(rows: Rows, path: str) -> None:
    """Set the rows' superfamilies to the clusters, named by representatives, in a Foldseek or MMseqs2 table.

    A member denotes a domain by its id, by `ENTRY_CHAIN`, or by the entry if it has only one row; file suffixes and
    model numbers are ignored. Raises `UserError` if a line does not have two cells, or if no row is a member.
    """
    entries = Counter(row.pdb_id for row in rows)
    wanted: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        names = {row.domain_id, f"{row.pdb_id}_{row.chain}", row.pdb_id if entries[row.pdb_id] == 1 else row.domain_id}
        for name in names:
            wanted.setdefault(name, []).append(index)
    found: dict[int, str] = {}
    for number, line in lines_of(Path(path)):
        cells = line.split("\t")
        if len(cells) != 2:
            raise UserError(
                f"{path}, line {number}: expected representative and member of a cluster, got {line[:80]!r}"
            )
        for index in wanted.get(IN_CLUSTERS.sub("", cells[1]), ()):
            if found.setdefault(index, cells[0]) != cells[0]:
                raise UserError(
                    f"{path}, line {number}: {cells[1]} is in two clusters, of {found[index]} and {cells[0]}"
                )
    if len(rows) and not found:
        example = next(iter(rows)).domain_id
        raise UserError(f"{path}: expected members such as {example}, found none of {len(rows)} domains")
    say("select", f"{len(found)} of {len(rows)} domains are in a cluster of {path}")
    rows.change(lambda place, row: row._replace(superfamily=found.get(place, row.superfamily)))


def sift(settings: LabelSettings, kept: Rows, reasons: Counter[str]) -> Iterator[UnusableDomain]:
    """Add the domains that the settings select to `kept`, in table order, and count the reasons for the others.

    Yields the others as they are found, so that a table of any length needs only the memory of `kept`. Raises
    `UserError` if a file cannot be read or no domain is left.
    """
    first: UnusableDomain | None = None
    for problem in chain(
        _select_rows(read_classification(settings), settings, kept),
        *(thin(kept, settings) for thin in (drop_redundant, cap_superfamilies, drop_rare)),
    ):
        first = first or problem
        reasons[problem.code] += 1
        yield problem
    if not len(kept):
        raise UserError(_nothing_left(settings, reasons, first))


def _summary(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in sorted(reasons.items())) or "none rejected"


def select_domains(settings: LabelSettings, output: Path, rejected: Path) -> int:
    """Write the selected domains to `output` and the others to `rejected`; returns the number selected.

    Raises `UserError` like `sift`.
    """
    kept, reasons = Rows(), Counter[str]()
    problems = sift(settings, kept, reasons)
    write_rejected(rejected, (rejection(problem.domain_id, settings.table, problem) for problem in problems))
    write_table(output, COLUMNS, map(ClassifiedDomain._asdict, kept))
    say("select", f"{len(kept)} of {len(kept) + reasons.total()} domains kept; {_summary(reasons)}")
    return len(kept)


WAYS_OUT = {
    "unlabelled": "; where there are no such codes, set labels.scheme to own (a column label), none (one class) or "
    "cluster (classes by structure)",
    "class_not_selected": "; list classes that the table has, or set labels.classes to [] to keep all",
    "rare_class": "; lower labels.min_members",
    "too_short": "; lower labels.min_length",
    "too_long": "; raise labels.max_length",
}


def _nothing_left(settings: LabelSettings, reasons: Counter[str], first: UnusableDomain | None) -> str:
    """The message if no domain is selected: counts by reason, the first problem, and a suggestion."""
    wanted = ", ".join(settings.classes) or "all"
    said = f"; the first: {first.domain_id or 'no id'}: {first.detail}" if first else ""
    hint = "".join(WAYS_OUT.get(reason, "") for reason, _ in reasons.most_common(1))
    total, summary = reasons.total(), _summary(reasons)
    return f"{settings.table}: no domain of {total} is left ({summary}; labels.classes: {wanted}{said}){hint}"


def _own_names(settings: LabelSettings) -> dict[str, str]:
    """Text, by code, of each level of the table's own labels for which they differ."""
    names = {}
    for row in read_classification(settings):
        if isinstance(row, UnusableDomain):
            continue
        for text in lineage(row.label):
            with contextlib.suppress(ValueError):
                if (code := own_code(text)) != text:
                    names[code] = text
    return names


def name_folds(domains: Path, settings: LabelSettings, output: Path) -> int:
    """Write `code name` for all levels of the labels in a `domains.tsv` that have a name.

    Names come from `settings.names`, and from own labels whose code differs from their text.

    Separate from `select_domains`, so that a change of names does not repeat the selection. Returns the number of
    names. Raises `UserError` if the file has no known format.
    """
    known = read_names(settings.names, settings.table) if settings.names else {}
    if settings.scheme == "own":
        known = _own_names(settings) | {own_code(code): name for code, name in known.items()}
    labels = {row["label"] for row in read_table(domains, ["label"])} - {""}
    codes = {fold for label in labels for fold in lineage(label)}
    rows = [{"code": code, "name": printable(known[code])[:LONGEST_NAME]} for code in sorted(codes & known.keys())]
    write_table(output, NAME_COLUMNS, rows)
    return len(rows)
