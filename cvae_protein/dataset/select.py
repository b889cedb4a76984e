"""The domains of a run: rows of a classification checked, thinned and capped; what is left out has its reason."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from sys import intern

from ..config.settings import LabelSettings
from ..core.errors import StructureError, UnusableDomain, UserError, printable, rejection
from ..core.files import lines_of, read_table, unsafe, write_rejected, write_table
from ..core.labels import ANY, SCHEMES, depth_of, first_level, lineage, own_code, superfamily, topology
from ..core.progress import say
from ..io.read import is_code, parse_range
from .classifications.domain import ClassifiedDomain, resolution_of
from .formats import read_classification, read_ids, read_names

Thinned = tuple[list[ClassifiedDomain], list[UnusableDomain]]


def _without(rows: Iterable[ClassifiedDomain], lost: dict[str, UnusableDomain]) -> Thinned:
    """Rows less those in `lost`; an alternative conformer goes with the last unique domain of its group."""
    rows = list(rows)
    uniques = [row for row in rows if row.role != "alternative"]
    gone = {row.group: lost[row.domain_id] for row in uniques if row.group and row.domain_id in lost}
    for row in uniques:
        if row.domain_id not in lost:
            gone.pop(row.group, None)
    kept, problems = [], []
    for row in rows:
        problem = lost.get(row.domain_id)
        if row.role == "alternative" and row.group in gone:
            cause = gone[row.group]
            problem = UnusableDomain(row.domain_id, cause.code, f"alternative of {cause.domain_id}, which is left out")
        problems.append(problem) if problem else kept.append(row)
    return kept, problems


def _ranked(
    rows: Iterable[ClassifiedDomain], kind: Callable[[ClassifiedDomain], str]
) -> dict[str, list[ClassifiedDomain]]:
    """Unique domains by their kind, best resolved first and then in the table's order; of no kind (empty) are none."""
    found: dict[str, list[ClassifiedDomain]] = {}
    for row in rows:
        if row.role != "alternative" and (key := kind(row)):
            found.setdefault(key, []).append(row)
    return {key: sorted(members, key=lambda row: resolution_of(row.resolution)) for key, members in found.items()}


def drop_redundant(rows: list[ClassifiedDomain], settings: LabelSettings) -> Thinned:
    """Keep the best resolved domain of each sequence cluster; domains of which the table gives no cluster stay.

    Raises `UserError` where the table gives no cluster at all.
    """
    level = settings.redundancy
    if level == "none":
        return rows, []
    clusters = _ranked(rows, lambda row: str(getattr(row, level)))
    if not clusters and rows:
        raise UserError(
            f"labels.redundancy: {settings.table} has no {level} clusters, as a cath-domain-list or a column {level} "
            "has; else leave it at none and cluster the sequences themselves (labels.max_per_cluster)"
        )
    lost = {
        row.domain_id: UnusableDomain(
            row.domain_id, "redundant", f"{members[0].domain_id} is of the same {level} cluster"
        )
        for members in clusters.values()
        for row in members[1:]
    }
    return _without(rows, lost)


def _superfamily(row: ClassifiedDomain) -> str:
    """Its own superfamily, else that of the label or the codes.

    A CATH code that ends at the topology counts as one superfamily here, so that it is capped as well;
    `homology.superfamily_of`, which is about relatives, says of it that the superfamily is not known.
    """
    codes = (superfamily(code) or topology(code) for code in (row.label, row.cath, row.scope))
    return next(filter(None, (row.superfamily, *codes)), "")


def cap_superfamilies(rows: list[ClassifiedDomain], settings: LabelSettings) -> Thinned:
    """Keep the best resolved domains of each superfamily, at most `max_per_superfamily` of distinct sequence."""
    most = settings.max_per_superfamily
    if not most:
        return rows, []
    lost = {
        row.domain_id: UnusableDomain(
            row.domain_id, "superfamily_full", f"{len(members)} domains of {name}, {most} stay"
        )
        for name, members in _ranked(rows, _superfamily).items()
        for row in members[most:]
    }
    return _without(rows, lost)


def drop_rare(rows: list[ClassifiedDomain], settings: LabelSettings) -> Thinned:
    """Keep the classes with enough members; alternative conformers do not count, and domains without a label stay."""
    least = settings.min_members
    members = Counter(first_level(row.label) for row in rows if row.role != "alternative")
    kept, problems = [], []
    for row in rows:
        name = first_level(row.label)
        if name and members[name] < least:
            detail = f"class {name} has {members[name]} domains, the minimum is {least}"
            problems.append(UnusableDomain(row.domain_id, "rare_class", detail))
        else:
            kept.append(row)
    return kept, problems


COLUMNS = ClassifiedDomain._fields[: ClassifiedDomain._fields.index("label") + 1]
NAME_COLUMNS = ("code", "name")
EXAMPLES = {"cath": "3.40.50.300 or 3.40.50", "scope": "c.37.1.8"}
ROLES = ("", "unique", "alternative")
METHODS = {
    "x-ray diffraction": "x-ray", "xray": "x-ray", "solution nmr": "nmr", "solid-state nmr": "nmr",
    "electron microscopy": "em", "cryo-em": "em",
}  # fmt: skip
LONGEST_NAME = 80
FEW_VALUES = ("cath", "scope", "role", "resolution", "method", "superfamily", "n_residues")  # a text each in memory
UNTOLD = {"cluster": "", "none": ANY}  # label of every domain under schemes that look at no column


def label_of(row: ClassifiedDomain, settings: LabelSettings) -> str:
    """The row's code in the configured classification, empty where the table has none and for the scheme `cluster`.

    A CATH code may end at the topology, as where it was inferred from SCOPe; the code of a user's own label is
    `own_code`. Raises `StructureError("unlabelled")` for a code that is not of the scheme's form or has fewer levels
    than `settings.depth`.
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

    A PDB code is the same in capitals and gets small letters, unless `entry_case` says that it is a file's name.
    """
    for name, value in (("domain_id", row.domain_id), ("pdb_id", row.pdb_id)):
        if reason := unsafe(value):
            raise StructureError("bad_id", f"{name} {value!r}: {reason}")
    if row.residue_range or row.numbering:
        parse_range(row.residue_range or "", row.numbering or "author")
    entry = row.pdb_id.lower() if is_code(row.pdb_id) and not entry_case else row.pdb_id
    few = {name: intern(getattr(row, name)) for name in FEW_VALUES}
    return row._replace(pdb_id=entry, label=intern(label_of(row, settings)), **few)


def domain_row(row: Mapping[str, str], settings: LabelSettings) -> dict[str, str]:
    """A row of the user's table in the columns of `domains.tsv`, checked.

    Raises `StructureError` with the code bad_id, bad_range or unlabelled.
    """
    known = {name: row[name].strip() for name in ClassifiedDomain._fields if name in row}
    checked = _checked(ClassifiedDomain(**known), settings)
    return {name: getattr(checked, name) for name in COLUMNS}


def method_of(text: str) -> str:
    """An experimental method in one spelling: `x-ray`, `nmr`, `em`, else as it is in small letters."""
    small = " ".join(text.lower().split())
    return METHODS.get(small, small)


def _check_selected(row: ClassifiedDomain, settings: LabelSettings, classes: set[str], methods: set[str]) -> None:
    """Raise `StructureError` where the settings leave the domain out for its class, length, resolution or method."""
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
    rows: Iterable[ClassifiedDomain | UnusableDomain], settings: LabelSettings, kept: list[ClassifiedDomain]
) -> Iterator[UnusableDomain]:
    """Put rows that pass the checks that look at one row alone into `kept`; yields the problems of the others."""
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
        kept[:] = with_superfamilies(kept, settings.superfamilies)


IN_CLUSTERS = re.compile(r"\.(?:pdb|ent|cif|mmcif|bcif)(?:\.gz)?(?=_|$)|_MODEL_\d+(?=_|$)", re.IGNORECASE)


def with_superfamilies(rows: list[ClassifiedDomain], path: str) -> list[ClassifiedDomain]:
    """The rows with the clusters of a table by Foldseek or MMseqs2 as their superfamilies, named by representatives.

    A member is a domain by its id, `ENTRY_CHAIN`, or the entry where one of the rows alone is of it; endings of files
    and numbers of models are passed over. Raises `UserError` where a line has not two cells, or no row is a member.
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
    if rows and not found:
        raise UserError(f"{path}: expected members such as {rows[0].domain_id}, found none of {len(rows)} domains")
    say("select", f"{len(found)} of {len(rows)} domains are in a cluster of {path}")
    return [row._replace(superfamily=found.get(index, row.superfamily)) for index, row in enumerate(rows)]


def sift(settings: LabelSettings, kept: list[ClassifiedDomain], reasons: Counter[str]) -> Iterator[UnusableDomain]:
    """Put the domains that the settings select into `kept`, in the table's order, and count what ails the others.

    Yields these as they are met, so that a table of any length is read in the memory that `kept` takes. Raises
    `UserError` where a file cannot be read or nothing is left of the table.
    """
    first: UnusableDomain | None = None
    for problem in chain(
        _select_rows(read_classification(settings), settings, kept),
        *(_thinned(thin, settings, kept) for thin in (drop_redundant, cap_superfamilies, drop_rare)),
    ):
        first = first or problem
        reasons[problem.code] += 1
        yield problem
    if not kept:
        raise UserError(_nothing_left(settings, reasons, first))


def _thinned(
    thin: Callable[[list[ClassifiedDomain], LabelSettings], Thinned],
    settings: LabelSettings,
    kept: list[ClassifiedDomain],
) -> Iterator[UnusableDomain]:
    kept[:], problems = thin(kept, settings)
    yield from problems


def _summary(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in sorted(reasons.items())) or "none rejected"


def select_domains(settings: LabelSettings, output: Path, rejected: Path) -> int:
    """Write the domains that the settings select to `output`, the others to `rejected`; the number selected.

    Raises `UserError` as `sift`.
    """
    kept: list[ClassifiedDomain] = []
    reasons: Counter[str] = Counter()
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
    """What to say where no domain is selected: how many fell for which reason, the first of them, and a way out."""
    wanted = ", ".join(settings.classes) or "all"
    said = f"; the first: {first.domain_id or 'no id'}: {first.detail}" if first else ""
    hint = "".join(WAYS_OUT.get(reason, "") for reason, _ in reasons.most_common(1))
    total, summary = reasons.total(), _summary(reasons)
    return f"{settings.table}: no domain of {total} is left ({summary}; labels.classes: {wanted}{said}){hint}"


def _own_names(settings: LabelSettings) -> dict[str, str]:
    """Text of each level of the table's own labels whose code is another."""
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
    """Write `code name` of all levels of the labels in a `domains.tsv` that have a name.

    Names are those of `settings.names`, and the text of own labels whose code is another.

    Apart from `select_domains`, so that other names select nothing anew. Returns the number of names, 0 where no file
    is configured. Raises `UserError` where the file is of no known format.
    """
    known = read_names(settings.names, settings.table) if settings.names else {}
    if settings.scheme == "own":
        known = _own_names(settings) | {own_code(code): name for code, name in known.items()}
    labels = {row["label"] for row in read_table(domains, ["label"])} - {""}
    codes = {fold for label in labels for fold in lineage(label)}
    rows = [{"code": code, "name": printable(known[code])[:LONGEST_NAME]} for code in sorted(codes & known.keys())]
    write_table(output, NAME_COLUMNS, rows)
    return len(rows)
