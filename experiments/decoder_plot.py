"""Draw how a label is followed against how much of a code is kept, as `decoder.py` printed it.

    python experiments/decoder_plot.py experiments/results/decoder_labels.tsv [--level NAME] [-o FIGURE.png]

Above, the share of held-out domains that are made of the class and of the architecture asked for, under their own label
and under another class's, against the numbers of the code that are kept; dashed, of a code from which the own label was
removed (`--free`). Below, what can be read of the class from the code and from the noise of the second level
(`--probe`), and the distance in Å of CA that the code leaves. Bars are 95 % intervals.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"own": "#4878a8", "another": "#c8553d", "freed": "#5a9367", "distance": "#6a6a6a"}
FREED = "another, label removed, guidance 2"  # as drawn samples are guided
Row = Mapping[str, str]


def read_tables(path: Path) -> list[Row]:
    """Rows of all tables of a file, each under the header that came before it."""
    rows: list[Row] = []
    header: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = line.split("\t")
        if cells[0] == "level":
            header = cells
        elif header and len(cells) == len(header):
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def estimate(text: str) -> tuple[float, float, float]:
    """Value and interval of a cell such as `0.61 (0.44-0.75)`; ends may be negative."""
    found = re.fullmatch(r"(\S+) \((-?[\d.]+)-(-?[\d.]+)\)", text)
    if found is None:
        raise SystemExit(f"expected a value with its interval, got {text!r}")
    value, low, high = map(float, found.groups())
    return value, low, high


def line(place: Axes, rows: list[Row], column: str, name: str, colour: str, style: str = "-") -> None:
    """One measure against the numbers kept."""
    rows = sorted(rows, key=lambda row: int(row["numbers"]))
    at = [int(row["numbers"]) for row in rows]
    values = [estimate(row[column]) for row in rows]
    bars = [[v - low for v, low, _ in values], [high - v for v, _, high in values]]
    place.errorbar(at, [v for v, _, _ in values], bars, fmt="o" + style, ms=3, lw=1.2, color=colour, label=name)


def draw(rows: list[Row], output: Path) -> None:
    """Both panels."""
    swaps = [row for row in rows if "class asked" in row and row["numbers"]]
    probes = [row for row in rows if "of the noise" in row]
    figure = Figure(figsize=(8.8, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for label in ("own", "another"):
        chosen = [row for row in swaps if row["label"] == label]
        line(upper, chosen, "class asked", f"class, {label} label", COLOURS[label])
        line(upper, chosen, "architecture asked", f"architecture, {label} label", COLOURS[label], ":")
    if freed := [row for row in swaps if row["label"] == FREED]:
        line(upper, freed, "class asked", "class, another label, own label removed", COLOURS["freed"], "--")
    upper.set(ylabel="share made as asked", ylim=(-0.03, 1.03))
    line(lower, probes, "class skill of the code", "class read from the code", COLOURS["own"])
    line(lower, probes, "of the noise", "class read from the decoder's noise", COLOURS["another"])
    lower.set(ylabel="skill of a fresh probe", xlabel="dimensions of the code that are kept", ylim=(-0.25, 1.03))
    beside = lower.twinx()
    line(beside, probes, "CA RMSD of the code, Å", "distance of the coarse trace", COLOURS["distance"], "--")
    beside.set(ylabel="CA RMSD, Å", ylim=(0, None))
    ticks = sorted({int(row["numbers"]) for row in [*swaps, *probes]})
    lower.set_xscale("log", base=2)
    lower.set_xticks(ticks, [str(tick) for tick in ticks])
    upper.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.12, 1.0))
    lines = [*lower.get_legend_handles_labels()[0], *beside.get_legend_handles_labels()[0]]
    names = [*lower.get_legend_handles_labels()[1], *beside.get_legend_handles_labels()[1]]
    lower.legend(lines, names, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.12, 1.0))
    for place in (upper, lower, beside):
        place.spines["top"].set_visible(False)
    figure.savefig(output, dpi=150)


def main() -> None:
    """Read, choose a level, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--level", default="decoder")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "docs/decoder_labels.png")
    given = parser.parse_args()
    rows = [row for row in read_tables(given.table) if row["level"] == given.level]
    if not rows:
        raise SystemExit(f"{given.table}: expected rows of the level {given.level!r}, found none")
    draw(rows, given.output)


if __name__ == "__main__":
    main()
