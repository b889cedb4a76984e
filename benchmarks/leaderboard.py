"""Print the leaderboard of a finished run as the tables that the README and the findings quote.

    python benchmarks/leaderboard.py results [--write NAME]

Every figure is a row of scores.tsv: mean over structures (and seeds) with its interval. `--write NAME` keeps rows in
benchmarks/results/NAME.tsv with machine and date.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from pathlib import Path

from cvae_protein.files import read_table, write_table

ROWS = {
    "Held-out reconstruction": [
        ("trace_rmsd", "smooth trace, Å"),
        ("backbone_rmsd", "backbone RMSD, Å"),
        ("tm", "TM-score"),
        ("lddt", "lDDT"),
        ("rate", "rate, nats"),
    ],
    "Samples": [
        ("physical_yield", "physical yield"),
        ("physical_yield_raw", "the same before relaxation"),
        ("ramachandran_favoured", "Ramachandran favoured"),
        ("helix", "helix share"),
        ("strand", "strand share"),
        ("nearest_tm", "nearest held-out, TM"),
        ("nearest_same_class", "nearest has the class asked for"),
        ("training_tm", "nearest in training, TM"),
        ("memorisation_ratio", "memorisation ratio"),
        ("mean_pairwise_tm", "TM between samples"),
    ],
    "Codes": [
        ("active_units", "active units"),
        ("leak_skill", "leak skill, class"),
        ("permuted_ratio", "RMSD with another's code / own"),
        ("swapped_ratio", "RMSD with another label / own"),
    ],
}


def table(rows: list[dict[str, str]], variants: list[str]) -> str:
    """The leaderboard as Markdown; several seeds of a variant stand as their mean and the span of their intervals."""
    lines = ["| | " + " | ".join(variants) + " |", "|---" * (len(variants) + 1) + "|"]
    for heading, metrics in ROWS.items():
        lines.append(f"| **{heading}** |" + " |" * len(variants))
        for metric, name in metrics:
            cells = [cell([r for r in rows if r["variant"] == v and r["metric"] == metric]) for v in variants]
            if any(cells):
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(rows: list[dict[str, str]]) -> str:
    """`value (low-high)` of one variant and metric."""
    values = [float(r["value"]) for r in rows]
    if not values:
        return ""
    low, high = min(float(r["low"]) for r in rows), max(float(r["high"]) for r in rows)
    return f"{sum(values) / len(values):.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    """Read scores.tsv of a results folder and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", metavar="NAME")
    given = parser.parse_args()
    rows = [r for r in read_table(given.results / "scores.tsv", ["variant", "metric", "value"]) if r["fold"] == "all"]
    found = list(dict.fromkeys(r["variant"] for r in rows))
    variants = [v for v in ("real", "pca") if v in found] + [v for v in found if v not in ("real", "pca")]
    splits = [r["split"] for r in read_table(given.results / "splits.tsv", ["split"])]
    sizes = ", ".join(f"{splits.count(split)} {split}" for split in ("train", "validation", "test", "excluded"))
    machine, date = f"{platform.machine()}, {os.cpu_count()} cores", datetime.date.today().isoformat()
    print(f"{sizes} domains; {machine}; {date}\n\n{table(rows, variants)}")
    if given.write:
        wanted = {metric for metrics in ROWS.values() for metric, _ in metrics}
        kept = [r | {"machine": machine, "date": date} for r in rows if r["metric"] in wanted]
        columns = ["variant", "seed", "metric", "value", "low", "high", "n", "unit", "better", "machine", "date"]
        write_table(Path(__file__).parent / "results" / f"{given.write}.tsv", columns, kept)


if __name__ == "__main__":
    main()
