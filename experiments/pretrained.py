"""Print the quality of samples of the package's model, compared with the embedded real domains.

    python experiments/pretrained.py [--number 24] [--seed 0]

Draws `--number` samples of each first-level class and scores them against the labelled embedded domains of classes 1 to
3; every sixth of these is used for the column `real`. The model was trained on some of them, so the nearest one is no
measure of novelty. Intervals are 95 %.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cvae_protein as cvae

ROOT = Path(__file__).parents[1]
SHOWN = ("physically_valid", "ramachandran_favoured", "helix", "strand", "nearest_tm")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    samples = cvae.load("pretrained").sample(n=asked.number, seed=asked.seed)
    domains = cvae.featurize(ROOT / "data/embedded", ROOT / "data/domains.tsv")
    real = cvae.Structures(domain for domain in domains if domain.label[:1] in ("1", "2", "3"))
    with tempfile.TemporaryDirectory() as scratch:
        (store,) = real.to(Path(scratch) / "real.h5")
        rows = cvae.score(samples, store).set_index(["fold", "metric"])
        alike = cvae.score(real[::6], store).set_index(["fold", "metric"])
    print("| | class 1 | class 2 | class 3 | real |\n|---|---|---|---|---|")
    for metric in SHOWN:
        cells = [said(rows.loc[(fold, metric)]) for fold in ("1", "2", "3")]
        cells.append(said(alike.loc[("all", metric)]) if metric != "nearest_tm" else "")
        print(f"| {metric} | {' | '.join(cells)} |")


def said(row) -> str:
    """A value with its interval and n."""
    return f"{row['value']:.2f} ({row['low']:.2f}-{row['high']:.2f}, n = {row['n']})"


if __name__ == "__main__":
    main()
