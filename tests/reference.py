"""What the pages of the reference say of metrics and files, as tests compare it with the code and with a run."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

from cvae_protein.score.metrics.metric import Metric

ROOT = Path(__file__).parents[1]
NAMES = re.compile(r"`([^`]+)`")


def rows_of(page, *columns):
    """Cells of each row of the tables of a page whose first columns are these."""
    inside = False
    for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not line.startswith("|"):
            inside = False
        elif tuple(cells[: len(columns)]) == columns:
            inside = True
        elif inside and set(line) - set("|- :"):
            yield cells


def documented_metrics():
    """Unit and better direction of each metric in docs/metrics.md; `_level2` behind a name is one of its levels,
    `_knn` behind one in `_linear` the same by that probe."""
    found = {}
    for first in ("metric", "row"):
        for names, units, better, *_ in rows_of("metrics.md", first, "unit", "better"):
            listed = NAMES.findall(names)
            whole = any("_level" in name for name in listed[1:]) and "_level" not in listed[0]
            stem = listed[0] if whole else listed[0].rpartition("_")[0]
            listed = [stem + name if name.startswith("_") else name for name in listed]
            units = units.split(", ") if ", " in units else [units] * len(listed)
            for name, unit in zip(listed, units, strict=True):
                assert name not in found, f"docs/metrics.md has {name} twice"
                found[name] = (unit, better)
    return found


def metrics_of(module):
    """The metrics that a module defines, by themselves or in tables."""
    left = [value for name, value in vars(module).items() if not name.startswith("__")]
    while left:
        value = left.pop()
        if isinstance(value, Metric):
            yield value
        elif isinstance(value, tuple | list):
            left += value
        elif isinstance(value, dict):
            left += value.values()


def compare_files(results):
    """What a results folder has and docs/reference/files.md has not, and the page's patterns that fit no file there.

    Of the former there are paths of files, and columns behind the path of their table.
    """
    page = (ROOT / "docs/reference/files.md").read_text(encoding="utf-8")
    cells = [names for names, *_ in rows_of("reference/files.md", "file", "columns or content")]
    known = {re.sub(r"\{[^}]*\}|NAME|…", "*", name.rstrip("/")) for cell in cells for name in NAMES.findall(cell)}
    columns = set(re.findall(r"\w+", " ".join(NAMES.findall(page)))) | documented_metrics().keys()
    absent, used = [], set()
    for path in sorted(Path(results).rglob("*")):
        parts = path.relative_to(results).parts
        if not path.is_file() or any(part.startswith(".") for part in parts):
            continue
        ends = ["/".join(parts[start:stop]) for stop in range(1, len(parts) + 1) for start in range(stop)]
        fitting = {name for name in known if any(fnmatchcase(end, name) for end in ends)}
        used |= fitting
        if not fitting:
            absent.append("/".join(parts))
        if path.suffix == ".tsv":
            names = path.read_text(encoding="utf-8").split("\n", 1)[0].split("\t")
            absent += [f"{'/'.join(parts)}: {name}" for name in names if name.removesuffix("_raw") not in columns]
    return absent, known - used
