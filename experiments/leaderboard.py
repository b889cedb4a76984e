"""Print the leaderboard of a finished run as the tables quoted in the findings.

    python experiments/leaderboard.py results [--write NAME]

Every figure is a row of scores.tsv: a mean over structures (and seeds) with its interval. `--write NAME` saves the rows
in experiments/results/NAME.tsv with machine and date.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
from pathlib import Path

from cvae_protein.core.files import read_table, write_table

ROWS = {
    "Held-out reconstruction": [
        ("trace_rmsd", "decoded trace, Å", "< pca"),
        ("ca_rmsd", "CA RMSD, Å", "≤ 1.5"),
        ("backbone_rmsd", "backbone RMSD, Å", "≤ 1.5"),
        ("tm_score", "TM-score", "≥ 0.90"),
        ("lddt", "lDDT", ""),
        ("ss_q3", "secondary structure kept", ""),
        ("rate", "rate, nats", ""),
    ],
    "Samples": [
        ("physically_valid", "physically valid", "≥ 0.98"),
        ("physically_valid_raw", "the same before relaxation", "≥ 0.90"),
        ("ramachandran_favoured", "Ramachandran favoured", ""),
        ("helix", "helix share", "real"),
        ("strand", "strand share", "real"),
        ("wasserstein_helix", "Wasserstein of helix share", "real"),
        ("wasserstein_strand", "Wasserstein of strand share", "real"),
        ("wasserstein_rg", "Wasserstein of relative Rg", "real"),
        ("nearest_tm", "nearest held-out, TM", "real - 0.03"),
        ("nearest_same_class", "nearest is of the target class", ""),
        ("fidelity", "class fidelity by the fold classifier, over real", "≥ 0.90"),
        ("coverage", "coverage of held-out domains", "≥ 0.7 real"),
        ("training_tm", "nearest in training, TM", ""),
        ("memorisation_ratio", "memorisation ratio", "real"),
        ("mean_pairwise_tm", "TM between samples", "real"),
        ("fpsd", "Fréchet distance of classifier features", ""),
    ],
    "Codes": [
        ("active_share", "active units, share", "≥ 0.5"),
        ("mutual_information", "I(x; z), nats, lower bound", ""),
        ("class_leakage", "class leakage, class", "≤ 0.05"),
        ("class_leakage_level2", "class leakage, architecture", "≤ 0.05"),
        ("class_leakage_level3", "class leakage, topology", "≤ 0.05"),
        ("permuted_code_ratio", "RMSD with another's code / own", "> 1"),
        ("swapped_label_ratio", "RMSD with another label / own", "> 1"),
        ("swap_followed", "another label gives its class, by the fold classifier", "> chance"),
    ],
}


def table(rows: list[dict[str, str]], variants: list[str]) -> str:
    """The leaderboard in Markdown; several seeds of a variant give their mean and the span of their intervals."""
    lines = ["| | goal | " + " | ".join(variants) + " |", "|---" * (len(variants) + 2) + "|"]
    for heading, metrics in ROWS.items():
        lines.append(f"| **{heading}** | |" + " |" * len(variants))
        for metric, name, goal in metrics:
            cells = [cell([r for r in rows if r["variant"] == v and r["metric"] == metric]) for v in variants]
            if any(cells):
                lines.append(f"| {name} | {goal} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(rows: list[dict[str, str]]) -> str:
    """`value (low-high)` of one variant and metric; for several seeds, the mean and the span of the intervals."""
    values = [value for r in rows if math.isfinite(value := float(r["value"]))]
    if not values:
        return ""
    ends = [end for r in rows for end in (float(r["low"]), float(r["high"])) if math.isfinite(end)]
    interval = f" ({min(ends):.2f}-{max(ends):.2f})" if ends else ""
    return f"{sum(values) / len(values):.2f}{interval}"


def main() -> None:
    """Read scores.tsv of a results folder and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", metavar="NAME")
    given = parser.parse_args()
    rows = [r for r in read_table(given.results / "scores.tsv", ["variant", "metric", "value"]) if r["fold"] == "all"]
    found = list(dict.fromkeys(r["variant"] for r in rows))
    first = [v for v in ("real", "real_shuffled", "pca") if v in found]
    variants = first + [v for v in found if v not in first]
    splits = [r["split"] for r in read_table(given.results / "splits.tsv", ["split"])]
    sizes = ", ".join(
        f"{splits.count(split)} {split}" for split in ("train", "crops", "validation", "test", "excluded")
    )
    machine, date = f"{platform.machine()}, {os.cpu_count()} cores", datetime.date.today().isoformat()
    print(f"{sizes} domains; {machine}; {date}\n\n{table(rows, variants)}")
    if given.write:
        wanted = {metric for metrics in ROWS.values() for metric, _, _ in metrics}
        kept = [r | {"machine": machine, "date": date} for r in rows if r["metric"] in wanted]
        columns = ["variant", "seed", "metric", "value", "low", "high", "n", "unit", "better", "machine", "date"]
        write_table(Path(__file__).parent / "results" / f"{given.write}.tsv", columns, kept)


if __name__ == "__main__":
    main()
