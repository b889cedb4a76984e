"""Combine the tables that `second_levels.py` wrote for several seeds: the mean of each cell over seeds.

    python experiments/seeds.py columns0 columns1 columns2

Each folder is the `--columns` of one seed, with the same levels. In brackets are the span of the seeds' 95 % intervals,
from the lowest bound to the highest, and n of a seed (of each seed where they differ).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np

CELL = re.compile(r"(?P<value>[\d.]+)(?: \((?P<low>-?[\d.]+|nan)-(?P<high>[\d.]+|nan)(?:, (?P<n>\d+))?\))?")


def together(cells: list[str]) -> str:
    """Mean and span of cells such as `0.45 (0.43-0.47, 300)`."""
    found = [match for cell in cells if (match := CELL.fullmatch(cell))]
    if len(found) < len(cells):
        raise SystemExit(f"expected cells such as 0.45 (0.43-0.47, 300), found {cells}")
    digits = max(len(match["value"].partition(".")[2]) for match in found)
    said = f"{np.mean([float(match['value']) for match in found]):.{digits}f}"
    if any(match["low"] is None for match in found):
        return said
    low, high = min(float(match["low"]) for match in found), max(float(match["high"]) for match in found)
    counts = "/".join(dict.fromkeys(match["n"] for match in found if match["n"]))
    return f"{said} ({low:.{digits}f}-{high:.{digits}f}{', ' + counts if counts else ''})"


def main() -> None:
    """Print a row per class and metric, a column per level."""
    folders = [Path(name) for name in sys.argv[1:]]
    columns = [{path.stem.rpartition("-")[0]: path for path in sorted(folder.glob("*.json"))} for folder in folders]
    if not columns or any(set(each) != set(columns[0]) or not each for each in columns):
        raise SystemExit(f"expected folders that --columns wrote, each with the same levels, found {folders}")
    levels = sorted(columns[0], key=lambda name: name not in ("real", "new_member"))
    cells: dict[tuple[str, str], dict[str, list[str]]] = {}
    for of_seed in columns:
        for level in levels:
            for label, metric, value in json.loads(of_seed[level].read_text(encoding="utf-8")):
                cells.setdefault((label, metric), {}).setdefault(level, []).append(value)
    print("| class | | " + " | ".join(levels) + " |\n|---|---|" + "---|" * len(levels))
    for (label, metric), row in sorted(cells.items(), key=lambda each: each[0][0]):
        cells_of = (together(row[name]) if name in row else "" for name in levels)
        print(f"| {label} | {metric} | " + " | ".join(cells_of) + " |")


if __name__ == "__main__":
    main()
