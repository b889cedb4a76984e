"""What the tests of the score judge: real backbones, ideal chains of wandering torsions, and their motions."""

from functools import cache

import numpy as np
from synthetic import BONDS, DATA, place

from cvae_protein.core.structure import Backbone
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.score.metrics.metric import PreparedStructure


def backbone(coords, name="x"):
    """A `Backbone` of coordinates (L, 5, 3)."""
    return Backbone(name, "A" * len(coords), np.array(coords)[None], tuple(map(str, range(1, len(coords) + 1))))


def prepared(coords, label="1", ss=None, name="x"):
    """A `PreparedStructure` of coordinates (L, 5, 3) with a given secondary structure, by default none known."""
    made = backbone(coords, name)
    return PreparedStructure(name, label, np.array(coords, float), made.breaks, ss or "?" * len(made))


@cache
def _ubiquitin():
    return extract_domain(read_structure(DATA / "1ubi.cif.gz"), "A", "1-76", "1ubiA00").coords[0].astype(float)


def ubiquitin():
    """Ubiquitin (76, 5, 3) in Å."""
    return _ubiquitin().copy()


def chain(length, seed=0):
    """An ideal chain of segments of helix and strand with turns between them (L, 5, 3)."""
    random = np.random.default_rng(seed)
    segment = np.arange(length) // 9
    kinds = random.integers(2, size=segment[-1] + 1)[segment]
    angles = np.array([(-63.0, -43.0), (-120.0, 130.0)])[kinds] + random.normal(0, 6, (length, 2))
    turns = np.arange(length) % 9 == 0
    angles[turns] = random.uniform((-150, -60), (-50, 170), (int(turns.sum()), 2))
    points = [np.array([0.0, 0, 0]), np.array([1.458, 0, 0]), np.array([2.0, 1.42, 0])]
    for index in range(length):
        for name, torsion in (("N", angles[index - 1, 1]), ("CA", 180.0), ("C", angles[index, 0])):
            points.append(place(*points[-3:], *BONDS[name], torsion))
    trace = np.array(points[3:]).reshape(length, 3, 3)
    oxygen = [place(*trace[k], 1.231, 120.1, angles[k, 1] + 180) for k in range(length)]
    beta = [place(trace[k, 2], trace[k, 0], trace[k, 1], 1.53, 110.4, -122.6) for k in range(length)]
    return np.concatenate([trace, np.array(oxygen)[:, None], np.array(beta)[:, None]], axis=1)


def moved(coords, seed=0):
    """The coordinates after a rigid motion."""
    random = np.random.default_rng(seed)
    matrix = np.linalg.qr(random.normal(size=(3, 3)))[0]
    return coords @ (matrix * np.linalg.det(matrix)) + random.normal(0, 20, 3)


def deformed(coords, amount, seed=0):
    """The coordinates with smooth noise along the chain, of about `amount` Å."""
    noise = np.random.default_rng(seed).normal(size=(len(coords), 3))
    smooth = np.stack([np.convolve(noise[:, k], np.ones(12) / 12**0.5, "same") for k in range(3)], axis=1)
    return coords + amount * smooth[:, None]
