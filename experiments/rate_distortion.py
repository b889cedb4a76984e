"""Draw docs/rate_distortion.png: held-out RMSD against rate for every variant, from results/latent_size.tsv.

    python experiments/rate_distortion.py

The table was printed by `latent_size.py`; each point is a latent size, and its bar is the 95 % interval of the RMSD.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from cvae_protein.core.files import read_table
from cvae_protein.report.figures import variant_colours

HERE = Path(__file__).parent
COLUMNS = ["latent", "variant", "held-out trace RMSD, Å", "low", "high", "rate, nats"]


def main() -> None:
    """Read the table and draw one line per variant."""
    rows = read_table(HERE / "results/latent_size.tsv", COLUMNS)
    names = list(dict.fromkeys(row["variant"] for row in rows))
    colours = variant_colours(names)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in names:
        own = [row for row in rows if row["variant"] == name]
        rate, error, low, high = ([float(row[column]) for row in own] for column in (COLUMNS[5], *COLUMNS[2:5]))
        bars = [[e - b for e, b in zip(error, low, strict=True)], [t - e for e, t in zip(error, high, strict=True)]]
        axes.errorbar(rate, error, bars, color=colours[name], marker="o", markersize=4, capsize=2, label=name)
        if name == "pca":
            for row, x, y in zip(own, rate, error, strict=True):
                axes.annotate(row["latent"], (x, y), (-4, -4), textcoords="offset points", ha="right", va="top")
    axes.set(xlabel="rate, nats a structure", ylabel="RMSD of the decoded trace, Å", yscale="log")
    axes.set_yticks([1, 1.5, 2, 3, 4, 6], ["1", "1.5", "2", "3", "4", "6"])
    axes.minorticks_off()
    axes.set_title("Held-out superfamilies, latents of 16 to 96 numbers", loc="left")
    axes.legend(frameon=False)
    figure.savefig(HERE.parent / "docs/rate_distortion.png", dpi=110)


if __name__ == "__main__":
    main()
