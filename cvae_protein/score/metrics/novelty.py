"""Metrics against real domains: nearest held-out and training domain, coverage of the held-out set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ...config.settings import ScoreSettings
from ...core.labels import first_level, is_within
from ...core.progress import track
from ...similarity.nearest_structures import FEWEST, Hit, Library, Search, Trace
from ...similarity.tm_score import SAME_FOLD
from .metric import ALL, Metric, PreparedStructure, ScoreRow, evaluate, generator, structure_rows


@dataclass(frozen=True)
class NearestDomains:
    """Nearest held-out and training domains of a structure with the target class `label`.

    `training_matched` is searched among as many training domains of each class as are held out.
    """

    label: str
    held_out: Hit
    training: Hit
    training_matched: Hit


def nearest_tm(nearest: NearestDomains) -> float:
    """TM-score to the nearest held-out domain of similar length, normalised by the structure itself (TM-align)."""
    return nearest.held_out.tm


def nearest_same_class(nearest: NearestDomains) -> float:
    """1 where the nearest held-out domain is of the target class, else 0."""
    return float(is_within(nearest.held_out.label, nearest.label)) if nearest.held_out.id else float("nan")


def training_tm(nearest: NearestDomains) -> float:
    """TM-score to the nearest training domain of similar length, normalised by the structure; near 1 = a copy."""
    return nearest.training.tm


def training_tm_matched(nearest: NearestDomains) -> float:
    """TM-score to the nearest training domain among as many of each class as are held out."""
    return nearest.training_matched.tm


NEAREST = (
    Metric("nearest_tm", "score", "high", nearest_tm),
    Metric("nearest_same_class", "share", "high", nearest_same_class),
    Metric("training_tm", "score", "none", training_tm),
    Metric("training_tm_matched", "score", "none", training_tm_matched),
)
"""Metrics of a `NearestDomains`."""


@dataclass(frozen=True, eq=False)
class RealDomains:
    """The real domains by split, with the relatives of each."""

    held_out: list[PreparedStructure]
    training: list[PreparedStructure]
    superfamily: Mapping[str, str]
    group: Mapping[str, str]
    sequence_cluster: Mapping[str, str]
    validation: list[PreparedStructure] = field(default_factory=list)
    rung: Mapping[str, str] = field(default_factory=dict)  # how new a held-out domain is to training

    def related(self, first: str, second: str) -> bool:
        """Whether two domains are the same, or share a sequence group, a sequence cluster or a superfamily."""
        return first == second or any(
            table.get(first, "") and table.get(first) == table.get(second)
            for table in (self.superfamily, self.group, self.sequence_cluster)
        )

    def unrelated(self, first: Trace, second: Trace) -> bool:
        """Whether two domains are not related."""
        return not self.related(first.id, second.id)

    def of_other_sequence(self, first: Trace, second: Trace) -> bool:
        """Whether two domains differ and share no sequence group or cluster; they may share a superfamily."""
        return first.id != second.id and not any(
            table.get(first.id, "") and table.get(first.id) == table.get(second.id)
            for table in (self.group, self.sequence_cluster)
        )


Allowed = Callable[[Trace, Trace], bool] | None
"""Whether a real domain may be a neighbour of an evaluated structure; None: all may."""


def is_covered(hit: Hit) -> float:
    """1 where the nearest structure of the other set has a TM-score above 0.5, else 0."""
    return float(hit.tm > SAME_FOLD)


def distance(hit: Hit) -> float:
    """1 - TM-score to the nearest structure of the other set; NaN if none has a similar length."""
    return 1 - hit.tm


COVERAGE = (Metric("cov_p", "share", "high", is_covered), Metric("mat_p", "distance", "low", distance))
"""Metrics of the `Hit` of each structure among the held-out domains of its class: precision."""
RECALL = (Metric("cov_r", "share", "high", is_covered), Metric("mat_r", "distance", "low", distance))
"""Metrics of the `Hit` of each held-out domain among the structures whose target is its class: recall."""


def class_coverage(
    structures: Sequence[PreparedStructure],
    nearest: Sequence[NearestDomains],
    domains: RealDomains,
    search: Search,
    allowed: Allowed,
) -> dict[str, np.ndarray]:
    """`COVERAGE` of each structure (n,); NaN without a target class or if no domain of it is held out."""
    libraries: dict[str, Library] = {}
    values = {metric.name: np.full(len(structures), np.nan) for metric in COVERAGE}
    for row, (structure, hits) in enumerate(zip(structures, nearest, strict=True)):
        target = structure.label
        if target not in libraries:
            members = [each for each in domains.held_out if target and is_within(each.label, target)]
            libraries[target] = Library(members)
        if not len(libraries[target]):
            continue
        hit = hits.held_out
        if not is_within(hit.label, target):
            hit = search.nearest(structure, libraries[target], partial(allowed, structure) if allowed else None)
        for metric in COVERAGE:
            values[metric.name][row] = metric(hit)
    return values


def recall_rows(
    structures: Sequence[PreparedStructure],
    domains: RealDomains,
    search: Search,
    settings: ScoreSettings,
    allowed: Allowed,
) -> list[ScoreRow]:
    """Rows of `RECALL` of each target class; held-out domains are resampled for the interval, structures are not."""
    folds: list[str] = []
    hits: list[Hit] = []
    for fold in sorted({structure.label for structure in structures} - {""}):
        library = Library([structure for structure in structures if structure.label == fold])
        queries = [domain for domain in domains.held_out if is_within(domain.label, fold)]
        folds += [fold] * len(queries)
        hits += search.all(queries, library, f"nearest of {len(library)} structures of {fold}", allowed)
    return structure_rows(RECALL, evaluate(hits, RECALL), np.array(folds, object), settings)


LIKE_LENGTH = 25  # residues by which the lengths of structures compared for `tm_coverage` may differ
NEIGHBOUR_SHARE = 0.05  # k, as a share of the references of similar length
MOST_REFERENCES = 200  # of similar length that are compared with one domain, to bound the time
ASKED_PER_CLASS = 32  # held-out domains of a first-level class that are evaluated


@dataclass(frozen=True)
class Reach:
    """TM-scores of a held-out domain to the nearest structure of similar length and to its own k-th neighbour."""

    nearest: float
    neighbour: float


def is_reached(reach: Reach) -> float:
    """1 if the nearest structure is nearer than the k-th held-out neighbour, else 0; NaN if either is missing.

    The coverage of TopoDiff (Zhang et al. 2025, Nature Machine Intelligence), where k is 100, scaled to small sets: k
    is a twentieth of the references of similar length.
    """
    known = np.isfinite(reach.nearest) and np.isfinite(reach.neighbour)
    return float(reach.nearest > reach.neighbour) if known else float("nan")


REACHED = Metric("tm_coverage", "share", "high", is_reached)


def neighbours_counted(references: int) -> int:
    """k of the k-th neighbour, given the number of references of similar length."""
    return max(1, round(NEIGHBOUR_SHARE * references))


def tm_coverage_rows(
    structures: Sequence[PreparedStructure],
    domains: RealDomains,
    search: Search,
    settings: ScoreSettings,
    allowed: Allowed,
) -> list[ScoreRow]:
    """Rows of `tm_coverage`: over all, for each target class with a held-out domain, and for each rung.

    Up to 32 held-out domains of each first-level class are each compared with up to 200 others of similar length, all
    drawn at random; structures of every target count for each. Both TM-scores are from the search's approximate
    alignment. The note gives the k that was used.
    """
    targets = {structure.label for structure in structures} - {""}
    asked: list[PreparedStructure] = []
    labels = np.array([first_level(domain.label) for domain in domains.held_out])
    for fold in sorted(set(labels.tolist())):
        members = generator(settings, REACHED.name, fold).permutation(np.flatnonzero(labels == fold))
        asked += [domains.held_out[index] for index in sorted(members[:ASKED_PER_CLASS].tolist())]
    order = generator(settings, REACHED.name).permutation(len(domains.held_out))
    shuffled = [domains.held_out[index] for index in order.tolist()]
    reaches, counted = [], []
    for domain in track(asked, "coverage by TM-score", len(asked), "held-out domains"):
        drawn = [each for each in _of_like_length(domain, structures) if allowed is None or allowed(domain, each)]
        others = [each for each in _of_like_length(domain, shuffled) if each.id != domain.id][:MOST_REFERENCES]
        if not drawn or not others:
            reaches.append(Reach(float("nan"), float("nan")))
            continue
        counted.append(neighbours_counted(len(others)))
        scores = np.sort(search.estimates(domain, others))
        reaches.append(Reach(float(search.estimates(domain, drawn).max()), float(scores[-counted[-1]])))
    values = evaluate(reaches, (REACHED,))
    folds, rungs = (
        np.array([name(domain) for domain in asked], object)
        for name in (
            lambda domain: max((f for f in targets if is_within(domain.label, f)), key=len, default=ALL),
            lambda domain: domains.rung.get(domain.id, "") or ALL,
        )
    )
    rows = structure_rows((REACHED,), values, folds, settings)
    rows += [row for row in structure_rows((REACHED,), values, rungs, settings) if row.fold != ALL]
    note = f"nearer than neighbour {min(counted)} to {max(counted)} of the held-out domains" if counted else ""
    return [replace(row, note=note) if np.isfinite(row.estimate.value) else row for row in rows]


def _of_like_length(domain: PreparedStructure, others: Sequence[PreparedStructure]) -> list[PreparedStructure]:
    length = len(domain.ca)
    return [each for each in others if len(each.ca) >= FEWEST and abs(len(each.ca) - length) <= LIKE_LENGTH]


NOT_SEEN = "no features of a fold classifier were given"
PAIRED_PER_CLASS = 12  # structures of a class that are aligned pairwise


def find_nearest(
    structures: Sequence[PreparedStructure],
    domains: RealDomains,
    search: Search,
    settings: ScoreSettings,
    allowed: Allowed,
) -> list[NearestDomains]:
    """Nearest domains of every structure, among those that are `allowed`."""
    training = Library(domains.training)
    equal = _matched_training(domains, training, settings)
    found = [
        search.all(structures, library, f"nearest of {len(library)} {name} domains", allowed)
        for name, library in (("held-out", Library(domains.held_out)), ("training", training), ("even training", equal))
    ]
    return [NearestDomains(structure.label, *hits) for structure, *hits in zip(structures, *found, strict=True)]


def _matched_training(domains: RealDomains, library: Library, settings: ScoreSettings) -> Library:
    """As many training domains of each first-level class as are held out, drawn at random."""
    random = generator(settings, "equal_training")
    held_out = [first_level(domain.label) for domain in domains.held_out]
    labels = np.array([first_level(domain.label) for domain in library.structures])
    keep: list[int] = []
    for fold in sorted(set(held_out)):
        members = random.permutation(np.flatnonzero(labels == fold))
        keep.extend(sorted(members[: held_out.count(fold)].tolist()))
    return library.subset(keep)
