"""The folder of `rmsf`: a table, the mean structure with B-factors, and a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..core.files import atomic_path, write_table
from ..core.progress import say
from ..score.fluctuations import Fluctuations
from .page import environment, vendored

TABLE, MEAN, PAGE = "rmsf.tsv", "mean.pdb", "page.html"
COLUMNS = ("residue", "rmsf", "b_factor")
WIDTH, HEIGHT = 600.0, 160.0  # of the figure
TICKS = 6  # residues labelled below it, at most
COLOURED = (5, 95)  # percentiles of the B-factors at which the colours end, so that a loose end does not take them all


def line(values: np.ndarray) -> str:
    """Values (L,) along the chain as the points of an SVG line, from 0 to the largest one."""
    x, y = np.linspace(0, WIDTH, len(values)), HEIGHT * (1 - values / max(float(values.max()), 1e-9))
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def ticks(count: int) -> list[int]:
    """Indices of at most `TICKS` evenly spaced residues of a chain, the first and the last among them."""
    return sorted({round(at) for at in np.linspace(0, count - 1, min(TICKS, count))})


def write_fluctuations(samples: Path, output: Path) -> None:
    """Write `rmsf.tsv`, `mean.pdb` and `page.html` into a folder, from the conformations in a store, file or folder."""
    own = Fluctuations.read(samples)
    names, step = own.mean.residue_ids, WIDTH / max(len(own.rmsf) - 1, 1)
    low, high = np.percentile(own.b_factors, COLOURED)
    page = (
        environment()
        .get_template("fluctuations.html")
        .render(
            name=samples.name,
            own=own,
            line=line(own.rmsf),
            ticks=[(round(index * step, 1), names[index]) for index in ticks(len(names))],
            residues=[(round((i - 0.5) * step, 1), *each) for i, each in enumerate(zip(names, own.rmsf, strict=True))],
            step=round(step, 2),
            low=low,
            high=high,
            width=WIDTH,
            height=HEIGHT,
            pdb=json.dumps(own.pdb).replace("<", "\\u003c"),
            viewer=vendored("3Dmol-min.js"),
        )
    )
    rows = zip(own.mean.residue_ids, own.rmsf, own.b_factors, strict=True)
    with atomic_path(output) as folder:
        folder.mkdir()
        cells = ({"residue": name, "rmsf": f"{value:.3f}", "b_factor": f"{b:.2f}"} for name, value, b in rows)
        write_table(folder / TABLE, COLUMNS, cells)
        (folder / MEAN).write_text(own.pdb, encoding="utf-8")
        (folder / PAGE).write_text(page, encoding="utf-8")
    most = own.mean.residue_ids[int(own.rmsf.argmax())]
    said = f"mean RMSF {own.rmsf.mean():.2f} Å, most at residue {most} ({own.rmsf.max():.2f} Å)"
    say("rmsf", f"{own.count} conformations of {len(own.rmsf)} residues: {said}")
