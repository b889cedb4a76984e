"""From a user's domain table to the domains that a run uses, each with its fold label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import StructureError, UserError
from ..files import read_table, write_table
from ..progress import say
from ..settings import LabelSettings
from .ranges import parse_range

REQUIRED = ("domain_id", "pdb_id", "chain", "residue_range")
OPTIONAL = ("cath", "scope", "role", "group", "resolution", "method")
COLUMNS = (*REQUIRED, *OPTIONAL, "label")
REJECTED_COLUMNS = ("domain_id", "source", "reason", "detail")
SCHEMES = {
    "cath": re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(\.[0-9]+)?"),  # three levels where the superfamily is not known
    "scope": re.compile(r"[a-z]\.[0-9]+\.[0-9]+\.[0-9]+"),
}
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
ROLES = ("", "unique", "alternative")


def is_safe_id(text: str) -> bool:
    """Whether an id can stand in a file name: letters, digits and `._+-`, beginning with a letter or digit."""
    return SAFE_ID.fullmatch(text) is not None


def rejection(domain_id: str, source: object, error: StructureError) -> dict[str, str]:
    """A row of `rejected.tsv`."""
    return {"domain_id": domain_id, "source": str(source), "reason": error.code, "detail": error.detail}


def write_rejected(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows of `rejection` to a table."""
    write_table(path, REJECTED_COLUMNS, rows)


def fold_class(label: str) -> str:
    """First level of a label, such as `3` of `3.40.50.300`."""
    return label.split(".", 1)[0]


def label_of(row: Mapping[str, str], settings: LabelSettings) -> str:
    """The row's code in the configured classification, empty where the table has none.

    A CATH code may end at the topology, as where it was inferred from SCOPe. Raises `StructureError("unlabelled")` for
    a code that is not of the scheme's form or has fewer levels than `settings.depth`.
    """
    label = row.get(settings.scheme, "").strip()
    if label and not SCHEMES[settings.scheme].fullmatch(label):
        example = "3.40.50.300 or 3.40.50" if settings.scheme == "cath" else "c.37.1.8"
        raise StructureError("unlabelled", f"{settings.scheme} code {label!r} is not of the form {example}")
    if label and label.count(".") + 1 < settings.depth:
        raise StructureError(
            "unlabelled", f"{settings.scheme} code {label} has fewer levels than depth {settings.depth}"
        )
    return label


def domain_row(row: Mapping[str, str], settings: LabelSettings) -> dict[str, str]:
    """A row of the user's table in the columns of `domains.tsv`, checked.

    Raises `StructureError` with the code bad_id, bad_range or unlabelled.
    """
    kept = {name: row.get(name, "").strip() for name in (*REQUIRED, *OPTIONAL)}
    for name in ("domain_id", "pdb_id"):
        if not is_safe_id(kept[name]):
            raise StructureError("bad_id", f"{name} {kept[name]!r}: expected letters, digits and ._+- only")
    if len(kept["pdb_id"]) == 4:  # a PDB code, the same in capitals
        kept["pdb_id"] = kept["pdb_id"].lower()
    parse_range(kept["residue_range"])
    return {**kept, "label": label_of(kept, settings)}


def _check_selected(row: Mapping[str, str], label: str, settings: LabelSettings) -> None:
    """Raise `StructureError` where the settings leave the domain out for its class or its length."""
    if settings.classes and not label:
        raise StructureError("unlabelled", f"no {settings.scheme} code")
    if settings.classes and fold_class(label) not in settings.classes:
        raise StructureError("class_not_selected", f"class {fold_class(label)} of {label}")
    length = row.get("n_residues", "").strip()
    if length.isdecimal() and int(length) < settings.min_length:
        raise StructureError("too_short", f"{length} residues, the minimum is {settings.min_length}")
    if length.isdecimal() and int(length) > settings.max_length:
        raise StructureError("too_long", f"{length} residues, the maximum is {settings.max_length}")


def _drop_rare(
    kept: list[dict[str, str]], minimum: int
) -> tuple[list[dict[str, str]], list[tuple[str, StructureError]]]:
    """Rows of classes with enough members, and the others' ids with the reason; alternative conformers do not count."""
    members = Counter(fold_class(row["label"]) for row in kept if row["role"] != "alternative")
    common, rare = [], []
    for row in kept:
        name = fold_class(row["label"])
        if name and members[name] < minimum:
            error = StructureError("rare_class", f"class {name} has {members[name]} domains, the minimum is {minimum}")
            rare.append((row["domain_id"], error))
        else:
            common.append(row)
    return common, rare


def select_domains(settings: LabelSettings, output: Path, rejected: Path) -> int:
    """Write the domains that the settings select, in the table's order, to `output`, the others to `rejected`.

    Returns the number selected. Raises `UserError` where the table cannot be read or nothing is left of it.
    """
    kept: list[dict[str, str]] = []
    dropped: list[tuple[str, StructureError]] = []
    seen: set[str] = set()
    table = read_table(settings.table, REQUIRED)
    for row in table:
        name = row["domain_id"].strip()
        try:
            checked = domain_row(row, settings)
            if checked["role"] not in ROLES:
                raise UserError(f"{settings.table}: {name}: role {checked['role']!r}, expected unique or alternative")
            if name in seen:
                raise StructureError("duplicate_id", "an earlier row has the same domain_id")
            seen.add(name)
            _check_selected(row, checked["label"], settings)
            kept.append(checked)
        except StructureError as error:
            dropped.append((name, error))
    kept, rare = _drop_rare(kept, settings.min_members)
    dropped += rare
    reasons = Counter(error.code for _, error in dropped)
    summary = ", ".join(f"{count} {code}" for code, count in sorted(reasons.items())) or "none rejected"
    if not kept:
        wanted = ", ".join(settings.classes) or "all"
        raise UserError(f"{settings.table}: no domain of {len(table)} is left ({summary}; labels.classes: {wanted})")
    write_table(output, COLUMNS, kept)
    write_rejected(rejected, (rejection(name, settings.table, error) for name, error in dropped))
    say("labels", f"{len(kept)} of {len(table)} domains kept; {summary}")
    return len(kept)
