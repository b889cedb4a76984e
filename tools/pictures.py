"""Draw docs/gallery.png: samples of the package's model, each next to its nearest embedded domain.

    python tools/pictures.py

`make pictures` runs it, and the scripts that draw the other pictures of the documentation from experiments/results.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import cvae_protein as cvae
from cvae_protein.core.structure import CA
from cvae_protein.report.gallery import superpose

ROOT = Path(__file__).parents[1]
SHOWN = {"1": "mainly α", "2": "mainly β", "3": "α and β"}
EACH, LENGTH, SEED = 2, 90, 1
COLOURS = {**dict.fromkeys("HGI", (0.80, 0.25, 0.35)), **dict.fromkeys("EB", (0.16, 0.42, 0.72))}  # helix, strand
COIL = (0.55, 0.57, 0.60)
HALF = 34  # Å from the centre to each side, the same in all pictures
POINTS = 8  # points of the curve per residue


def curve(ca: np.ndarray) -> np.ndarray:
    """Points of a Catmull-Rom spline through the CA trace (L, 3): ((L - 1) * POINTS + 1, 3) in Å."""
    padded = np.concatenate([2 * ca[:1] - ca[1:2], ca, 2 * ca[-1:] - ca[-2:-1]])
    t = (np.arange(POINTS) / POINTS)[:, None, None]
    a, b, c, d = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    made = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.concatenate([made.transpose(1, 0, 2).reshape(-1, 3), ca[-1:]])


def ribbon(structure: cvae.Structure, ca: np.ndarray) -> LineCollection:
    """A chain seen along z as lines, nearest drawn last: wide for helices and strands, paler with distance."""
    points = curve(ca)
    lines = np.stack([points[:-1], points[1:]], axis=1)
    letters = np.repeat(list(structure.secondary_structure), POINTS)[: len(lines)]
    depth = lines[:, :, 2].mean(1)
    near = (depth - depth.min()) / max(np.ptp(depth), 1e-6)
    order, drawn, colours, widths = depth.argsort(), [], [], []
    for row in order:
        colour = np.array(COLOURS.get(letters[row], COIL))
        width = 4.2 if letters[row] in COLOURS else 2.0
        ends = lines[row, :, :2]
        drawn += [ends, ends + 0.25 * (ends - ends.mean(0))]
        colours += [(1.0, 1.0, 1.0), tuple(1 - (1 - colour) * (0.35 + 0.65 * near[row]))]
        widths += [width + 1.6, width]
    return LineCollection(drawn, colors=colours, linewidths=widths, capstyle="butt")


def main() -> None:
    """Draw samples, find their nearest domains, and write the picture."""
    samples = cvae.load("pretrained").sample(list(SHOWN), LENGTH, EACH, seed=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about embedded entries that serve as examples of rejection
        domains = cvae.featurize(ROOT / "data/embedded", ROOT / "data/domains.tsv", min_length=40)
    rows = cvae.score(samples, domains, per_structure=True, bootstrap=20).set_index("id")
    figure = Figure(figsize=(2 * len(samples), 4.6), layout="constrained")
    panels = figure.subplots(2, len(samples))
    for column, sample in zip(panels.T, samples, strict=True):
        nearest = domains[rows.loc[sample.id, "nearest_id"]]
        centred = sample.ca[0] - sample.ca[0].mean(0)
        view = np.linalg.svd(centred, full_matrices=False)[2]
        view[2] *= np.linalg.det(view)  # a rotation, not a reflection
        beside, tm = superpose(nearest, sample)
        seen = [(sample, centred @ view.T), (nearest, (beside[:, CA] - sample.ca[0].mean(0)) @ view.T)]
        for axes, (structure, ca) in zip(column, seen, strict=True):
            kept = np.isfinite(ca).all(1)
            axes.add_collection(ribbon(structure, ca[kept]))
            axes.set(aspect="equal", xlim=(-HALF, HALF), ylim=(-HALF, HALF))
            axes.axis("off")
        column[0].set_title(f"sample, {SHOWN[sample.label]}", fontsize=9)
        column[1].set_title(f"{nearest.id}, TM {tm:.2f}", fontsize=9)
    output = ROOT / "docs/gallery.png"
    figure.savefig(output, dpi=100, metadata={"Software": None})
    print(f"wrote {output.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
