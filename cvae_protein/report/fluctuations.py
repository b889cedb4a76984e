"""Which residues move in conformations of one chain: a table, the mean structure with B-factors, and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..core.files import atomic_path, write_table
from ..core.geometry import move, superpose
from ..core.progress import say
from ..core.structure import CA, Backbone
from ..io.write import pdb_text
from ..score.ensemble import on_mean, rmsf
from ..score.inputs import read_samples
from .page import environment, vendored

TABLE, MEAN, PAGE = "rmsf.tsv", "mean.pdb", "page.html"
COLUMNS = ("residue", "rmsf", "b_factor")
LARGEST_B = 999.0  # that the six columns of a PDB file hold
WIDTH, HEIGHT = 600.0, 160.0  # of the figure


@dataclass(frozen=True, eq=False)
class Fluctuations:
    """The mean of conformations, superposed on it by their CA, and each residue's RMSF (L,) in Å about it."""

    mean: Backbone
    rmsf: np.ndarray

    @staticmethod
    def of(conformations: Sequence[Backbone]) -> Fluctuations:
        """Of two conformations or more of one number of residues, each with every CA; else `UserError`."""
        lengths = sorted({len(one) for one in conformations})
        if len(conformations) < 2 or len(lengths) > 1:
            said = f"{len(conformations)} of {' and '.join(map(str, lengths[:5])) or 'no'} residues"
            raise UserError(f"rmsf: expected two conformations or more of one length, got {said}")
        coords = np.stack([one.coords[0] for one in conformations]).astype(np.float64)
        if not np.isfinite(coords[:, :, CA]).all():
            raise UserError("rmsf: expected every CA in every conformation, some are missing")
        laid = on_mean(coords[:, :, CA])
        rotation, translation = superpose(coords[:, :, CA], laid.mean(axis=0))
        whole = move(coords.reshape(len(coords), -1, 3), rotation, translation).reshape(coords.shape)
        first = conformations[0]
        mean = Backbone("mean", first.sequence, whole.mean(axis=0, keepdims=True), first.residue_ids)
        return Fluctuations(mean, rmsf(laid))

    @property
    def b_factors(self) -> np.ndarray:
        """8 pi^2 / 3 of the squared RMSF (L,) in Å², at most 999."""
        return np.minimum(8 * np.pi**2 / 3 * self.rmsf**2, LARGEST_B)

    @property
    def line(self) -> str:
        """The RMSF along the chain as the points of an SVG line, from 0 to its largest value."""
        x = np.linspace(0, WIDTH, len(self.rmsf))
        y = HEIGHT * (1 - self.rmsf / max(float(self.rmsf.max()), 1e-9))
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def write_fluctuations(samples: Path, output: Path) -> None:
    """Write `rmsf.tsv`, `mean.pdb` and `page.html` of the conformations of a store, file or folder into a folder."""
    found = read_samples(samples)
    own = Fluctuations.of([one.backbone for one in found.samples])
    rows = zip(own.mean.residue_ids, own.rmsf, own.b_factors, strict=True)
    text = pdb_text([own.mean], "mean", own.b_factors)
    page = (
        environment()
        .get_template("fluctuations.html")
        .render(
            count=len(found.samples),
            name=samples.name,
            own=own,
            width=WIDTH,
            height=HEIGHT,
            pdb=json.dumps(text).replace("<", "\\u003c"),
            viewer=vendored("3Dmol-min.js"),
        )
    )
    with atomic_path(output) as folder:
        folder.mkdir()
        cells = ({"residue": name, "rmsf": f"{value:.3f}", "b_factor": f"{b:.2f}"} for name, value, b in rows)
        write_table(folder / TABLE, COLUMNS, cells)
        (folder / MEAN).write_text(text, encoding="utf-8")
        (folder / PAGE).write_text(page, encoding="utf-8")
    most = own.mean.residue_ids[int(own.rmsf.argmax())]
    said = f"mean RMSF {own.rmsf.mean():.2f} Å, most at residue {most} ({own.rmsf.max():.2f} Å)"
    say("rmsf", f"{len(found.samples)} conformations of {len(own.rmsf)} residues: {said}")
