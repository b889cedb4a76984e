"""Metrics against real domains: nearest held-out and training domain, coverage of the held-out set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ...config.settings import ScoreSettings
from ...core.labels import first_level, is_within
from ...similarity.nearest_structures import Hit, Library, Search, Trace
from ...similarity.tm_score import SAME_FOLD
from .metric import Judged, Metric, Row, evaluate, generator, structure_rows


@dataclass(frozen=True)
class Placed:
    """Where a structure asked for as class `label` lies: nearest held-out, nearest training, nearest of few training.

    The last is sought among as many training domains of each class as are held out.
    """

    label: str
    held_out: Hit
    training: Hit
    training_equal: Hit


def nearest_tm(placed: Placed) -> float:
    """TM-score to the nearest held-out domain of like length, normalised by the structure judged (TM-align)."""
    return placed.held_out.tm


def nearest_same_class(placed: Placed) -> float:
    """1 where the nearest held-out domain is of the class asked for, else 0."""
    return float(is_within(placed.held_out.label, placed.label)) if placed.held_out.id else float("nan")


def training_tm(placed: Placed) -> float:
    """TM-score to the nearest training domain of like length, normalised by the structure judged; near 1 = a copy."""
    return placed.training.tm


def training_equal_tm(placed: Placed) -> float:
    """TM-score to the nearest among as many training domains as are held out, class by class."""
    return placed.training_equal.tm


NEAREST = (
    Metric("nearest_tm", "score", "high", nearest_tm),
    Metric("nearest_same_class", "share", "high", nearest_same_class),
    Metric("training_tm", "score", "none", training_tm),
    Metric("training_equal_tm", "score", "none", training_equal_tm),
)
"""Metrics of a `Placed`."""


@dataclass(frozen=True, eq=False)
class Domains:
    """The real domains by split, with the relatives of each."""

    held_out: list[Judged]
    training: list[Judged]
    superfamily: Mapping[str, str]
    group: Mapping[str, str]
    sequence_cluster: Mapping[str, str]
    validation: list[Judged] = field(default_factory=list)

    def related(self, first: str, second: str) -> bool:
        """Whether two domains are the same, of one sequence group or cluster or of one superfamily."""
        return first == second or any(
            table.get(first, "") and table.get(first) == table.get(second)
            for table in (self.superfamily, self.group, self.sequence_cluster)
        )

    def unrelated(self, first: Trace, second: Trace) -> bool:
        """Whether neither is a relative of the other."""
        return not self.related(first.id, second.id)


def covered(hit: Hit) -> float:
    """1 where the nearest structure of the other set has a TM-score above 0.5, else 0."""
    return float(hit.tm > SAME_FOLD)


def distance(hit: Hit) -> float:
    """1 - TM-score to the nearest structure of the other set; NaN where none is of like length."""
    return 1 - hit.tm


COVERAGE = (Metric("cov_p", "share", "high", covered), Metric("mat_p", "distance", "low", distance))
"""Of the `Hit` of each structure among the held-out domains of its class: precision."""
RECALL = (Metric("cov_r", "share", "high", covered), Metric("mat_r", "distance", "low", distance))
"""Of the `Hit` of each held-out domain among the structures asked for as its class: recall."""


def nearest_in_class(
    structures: Sequence[Judged], placed: Sequence[Placed], domains: Domains, search: Search, real: bool
) -> dict[str, np.ndarray]:
    """`COVERAGE` of each structure (n,); NaN where no class was asked for or nothing of it is held out."""
    libraries: dict[str, Library] = {}
    values = {metric.name: np.full(len(structures), np.nan) for metric in COVERAGE}
    for row, (structure, place) in enumerate(zip(structures, placed, strict=True)):
        asked = structure.label
        if asked not in libraries:
            members = [each for each in domains.held_out if asked and is_within(each.label, asked)]
            libraries[asked] = Library(members)
        if not len(libraries[asked]):
            continue
        hit = place.held_out
        if not is_within(hit.label, asked):
            hit = search.nearest(structure, libraries[asked], partial(domains.unrelated, structure) if real else None)
        for metric in COVERAGE:
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
        queries = [domain for domain in domains.held_out if is_within(domain.label, fold)]
        folds += [fold] * len(queries)
        unrelated = domains.unrelated if real else None
        hits += search.all(queries, library, f"nearest of {len(library)} structures of {fold}", unrelated)
    return structure_rows(RECALL, evaluate(hits, RECALL), np.array(folds, object), settings)


NOT_SEEN = "no features of an oracle were given"
PAIRED_PER_CLASS = 12  # structures of a class that are aligned each with each


def place(
    structures: Sequence[Judged], domains: Domains, search: Search, settings: ScoreSettings, real: bool
) -> list[Placed]:
    """Nearest domains of every structure; relatives of a real one do not count."""
    training = Library(domains.training)
    equal = _equal_training(domains, training, settings)
    unrelated = domains.unrelated if real else None
    found = [
        search.all(structures, library, f"nearest of {len(library)} {name} domains", unrelated)
        for name, library in (("held-out", Library(domains.held_out)), ("training", training), ("even training", equal))
    ]
    return [Placed(structure.label, *hits) for structure, *hits in zip(structures, *found, strict=True)]


def _equal_training(domains: Domains, library: Library, settings: ScoreSettings) -> Library:
    """As many training domains of each first-level class as are held out, drawn at random."""
    random = generator(settings, "equal_training")
    held_out = [first_level(domain.label) for domain in domains.held_out]
    labels = np.array([first_level(domain.label) for domain in library.structures])
    keep: list[int] = []
    for fold in sorted(set(held_out)):
        members = random.permutation(np.flatnonzero(labels == fold))
        keep.extend(sorted(members[: held_out.count(fold)].tolist()))
    return library.subset(keep)
