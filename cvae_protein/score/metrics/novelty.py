"""How the structures of a class cover its held-out domains, and how near the two come: COV and MAT with d = 1 - TM.

Xu et al. 2021, arXiv:2102.10240, with TM-align in place of RMSD, since a sample and a domain seldom have one length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...config.settings import ScoreSettings
from ...core.labels import levels_match
from ...similarity.nearest_structures import Hit, Library, Placed, Search
from ..inputs import Domains
from ..rows import Row, evaluate, structure_rows
from .metric import Judged, Metric

SAME_FOLD = 0.5  # TM-score above which two structures share a fold (Xu & Zhang 2010)


def covered(hit: Hit) -> float:
    """1 where the nearest structure of the other set has a TM-score above 0.5, else 0."""
    return float(hit.tm > SAME_FOLD)


def distance(hit: Hit) -> float:
    """1 - TM-score to the nearest structure of the other set; NaN where none is of like length."""
    return 1 - hit.tm


METRICS = (Metric("cov_p", "share", "high", covered), Metric("mat_p", "distance", "low", distance))
"""Of the `Hit` of each structure among the held-out domains of its class: precision."""
RECALL = (Metric("cov_r", "share", "high", covered), Metric("mat_r", "distance", "low", distance))
"""Of the `Hit` of each held-out domain among the structures asked for as its class: recall."""


def nearest_in_class(
    structures: Sequence[Judged], placed: Sequence[Placed], domains: Domains, search: Search, real: bool
) -> dict[str, np.ndarray]:
    """`METRICS` of each structure (n,); NaN where no class was asked for or nothing of it is held out."""
    libraries: dict[str, Library] = {}
    values = {metric.name: np.full(len(structures), np.nan) for metric in METRICS}
    for row, (structure, place) in enumerate(zip(structures, placed, strict=True)):
        asked = structure.label
        if asked not in libraries:
            members = [each for each in domains.held_out if asked and levels_match(asked, each.label)]
            libraries[asked] = Library(members)
        if not len(libraries[asked]):
            continue
        hit = place.held_out
        if not levels_match(asked, hit.label):
            hit = search.nearest(structure, libraries[asked], domains.strangers(structure) if real else None)
        for metric in METRICS:
            values[metric.name][row] = metric(hit)
    return values


def recall_rows(
    structures: Sequence[Judged], domains: Domains, search: Search, settings: ScoreSettings, real: bool
) -> list[Row]:
    """Rows of `RECALL` of each class asked for; the interval speaks of the held-out domains, the structures given."""
    folds: list[str] = []
    hits: list[Hit] = []
    for fold in sorted({structure.label for structure in structures} - {""}):
        library = Library([structure for structure in structures if structure.label == fold])
        queries = [domain for domain in domains.held_out if levels_match(fold, domain.label)]
        folds += [fold] * len(queries)
        unrelated = domains.unrelated if real else None
        hits += search.all(queries, library, f"nearest of {len(library)} structures of {fold}", unrelated)
    return structure_rows(RECALL, evaluate(hits, RECALL), np.array(folds, object), settings)
