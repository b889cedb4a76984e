"""Which of the selected domains stay where there are too many of a kind, or too few."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable

from ..config.settings import LabelSettings
from ..core.errors import Problem, UserError
from ..core.labels import fold_class
from .classification import Row

Thinned = tuple[list[Row], list[Problem]]


def resolution_of(row: Row) -> float:
    """Resolution in Å, infinite where it is not known."""
    try:
        value = float(row.resolution)
    except ValueError:
        return math.inf
    return value if value > 0 else math.inf


def _without(rows: Iterable[Row], lost: dict[str, Problem]) -> Thinned:
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
            problem = Problem(row.domain_id, cause.code, f"alternative of {cause.domain_id}, which is left out")
        problems.append(problem) if problem else kept.append(row)
    return kept, problems


def _ranked(rows: Iterable[Row], kind: Callable[[Row], str]) -> dict[str, list[Row]]:
    """Unique domains by their kind, best resolved first and then in the table's order; of no kind (empty) are none."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.role != "alternative" and (key := kind(row)):
            found.setdefault(key, []).append(row)
    return {key: sorted(members, key=resolution_of) for key, members in found.items()}


def drop_redundant(rows: list[Row], settings: LabelSettings) -> Thinned:
    """Keep the best resolved domain of each sequence cluster; domains of which the table tells no cluster stay.

    Raises `UserError` where the table tells no cluster at all.
    """
    level = settings.redundancy
    if level == "none":
        return rows, []
    clusters = _ranked(rows, lambda row: str(getattr(row, level)))
    if not clusters and rows:
        raise UserError(
            f"labels.redundancy: {settings.table} has no {level} clusters, as a cath-domain-list or a column {level} "
            "has; else leave it at none and cluster the sequences themselves (split.redundancy)"
        )
    lost = {
        row.domain_id: Problem(row.domain_id, "redundant", f"{members[0].domain_id} is of the same {level} cluster")
        for members in clusters.values()
        for row in members[1:]
    }
    return _without(rows, lost)


def _superfamily(row: Row) -> str:
    """Superfamily of the label, else of the table's codes: a whole CATH code, three levels of a SCOPe code."""
    code = row.label or row.cath or row.scope
    return ".".join(code.split(".")[:3]) if code[:1].isalpha() else code


def cap_superfamilies(rows: list[Row], settings: LabelSettings) -> Thinned:
    """Keep the best resolved domains of each superfamily, at most `max_per_superfamily` of distinct sequence."""
    most = settings.max_per_superfamily
    if not most:
        return rows, []
    lost = {
        row.domain_id: Problem(row.domain_id, "superfamily_full", f"{len(members)} domains of {name}, {most} stay")
        for name, members in _ranked(rows, _superfamily).items()
        for row in members[most:]
    }
    return _without(rows, lost)


def drop_rare(rows: list[Row], settings: LabelSettings) -> Thinned:
    """Keep the classes with enough members; alternative conformers do not count, and domains without a label stay."""
    least = settings.min_members
    members = Counter(fold_class(row.label) for row in rows if row.role != "alternative")
    kept, problems = [], []
    for row in rows:
        name = fold_class(row.label)
        if name and members[name] < least:
            detail = f"class {name} has {members[name]} domains, the minimum is {least}"
            problems.append(Problem(row.domain_id, "rare_class", detail))
        else:
            kept.append(row)
    return kept, problems
