"""Combine the tables that `second_levels.py` wrote for several seeds: the mean of each cell over seeds.

    python experiments/seeds.py columns0 columns1 columns2

Each folder is the `--columns` of one seed, with the same levels. Three tables are printed: of all classes together, of
each class, and of each rung of held-out domains (reconstructions and coverage). In brackets are the span of the seeds'
95 % intervals, from the lowest bound to the highest, and n of a seed (of each seed where they differ).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
from second_levels import REAL

from cvae_protein.core.labels import RUNGS

CELL = re.compile(r"(?P<value>[\d.]+)(?: \((?P<low>-?[\d.]+|nan)-(?P<high>[\d.]+|nan)(?:, (?P<n>\d+))?\))?")
NAMES = {
    "physically_valid": "physically valid",
    "valid before relaxation": "physically valid before relaxation",
    "moved by relaxation, Å (median)": "CA moved by relaxation, Å (median)",
    "ramachandran_favoured": "Ramachandran favoured",
    "helix": "helix share",
    "strand": "strand share",
    "strand before relaxation": "strand share before relaxation",
    "wasserstein_helix": "Wasserstein distance of helix share",
    "wasserstein_strand": "Wasserstein distance of strand share",
    "nearest_tm": "TM-score to the nearest held-out domain",
    "nearest_same_class": "that domain is of the class asked for",
    "memorisation_ratio": "memorisation ratio",
    "tm_coverage": "coverage by TM-score",
    "mean_pairwise_tm": "TM-score between samples",
    "rebuilt: backbone RMSD, Å": "held-out domains rebuilt, backbone, Å",
    "rebuilt: TM-score": "held-out domains rebuilt, TM-score",
    "rebuilt: Q3": "held-out domains rebuilt, secondary structure kept",
}
Cells = dict[tuple[str, str], dict[str, list[str]]]  # by label and metric: by level, the cell of each seed


def together(cells: list[str]) -> str:
    """Mean and span of cells such as `0.453 (0.431-0.473, 300)`, to two decimals."""
    found = [match for cell in cells if (match := CELL.fullmatch(cell))]
    if len(found) < len(cells):
        raise SystemExit(f"expected cells such as 0.453 (0.431-0.473, 300), found {cells}")
    said = f"{np.mean([float(match['value']) for match in found]):.2f}"
    if any(match["low"] is None for match in found):
        return said
    low, high = min(float(match["low"]) for match in found), max(float(match["high"]) for match in found)
    counts = "/".join(dict.fromkeys(match["n"] for match in found if match["n"]))
    return f"{said} ({low:.2f}-{high:.2f}{', ' + counts if counts else ''})"


def read_columns(folders: list[Path]) -> tuple[list[str], Cells]:
    """The levels, real domains first, and the cells of all seeds."""
    columns = [{path.stem.rpartition("-")[0]: path for path in sorted(folder.glob("*.json"))} for folder in folders]
    if not columns or any(set(each) != set(columns[0]) or not each for each in columns):
        raise SystemExit(f"expected folders that --columns wrote, each with the same levels, found {folders}")
    levels = sorted(columns[0], key=lambda name: (list(REAL).index(name) if name in REAL else len(REAL), name))
    cells: Cells = {}
    for of_seed in columns:
        for level in levels:
            for label, metric, value in json.loads(of_seed[level].read_text(encoding="utf-8")):
                cells.setdefault((label, metric), {}).setdefault(level, []).append(value)
    return levels, cells


def print_table(levels: list[str], cells: Cells, labels: list[str]) -> None:
    """Print a row per metric and label, a column per level."""
    print("| | " + " | ".join(levels) + " |\n|---|" + "---|" * len(levels))
    for metric, name in NAMES.items():
        for label in labels:
            if row := cells.get((label, metric)):
                part = label.replace("_", " ") if label in RUNGS else f"class {label}"
                first = name if label == "all" else f"{name}, {part}"
                print(f"| {first} | " + " | ".join(together(row[x]) if x in row else "" for x in levels) + " |")
    print()


def main() -> None:
    """Print the three tables."""
    levels, cells = read_columns([Path(name) for name in sys.argv[1:]])
    classes = sorted({label for label, _ in cells} - {"all", "worst_decile", *RUNGS})
    for labels in (["all"], classes, list(RUNGS)):
        print_table(levels, cells, labels)


if __name__ == "__main__":
    main()
