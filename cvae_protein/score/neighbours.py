"""The nearest structures of a library by TM-score.

Structures of like length are ranked by a batched approximate alignment (`screen`), and the first of them are aligned
by TM-align. Where more than `SCREENED` are of like length, a filter on coarse distance maps picks those to be ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from tmtools import tm_align

from ..core.labels import levels_match
from ..core.progress import Progress
from ..similarity.nearest_structures import screen
from .metric import Judged, Metric

POINTS = 24  # places along the chain where the filter looks
SMOOTHING = 5  # residues averaged at each of them
CAP = 30.0  # Å; longer distances say no more
LENGTH_WINDOW, LENGTH_SHARE = 25, 0.25  # library structures within either of the query's length are compared
SCREENED = 256  # structures that the filter leaves to the approximate alignment
MARGIN = 0.15  # what an exact score may exceed the approximate one by; 99 % of pairs stay below 0.13
FEWEST = 5  # CA that an alignment needs
LONGEST_STEP = 50.0  # Å between neighbouring CA, as TM-align gets to see them


@dataclass(frozen=True)
class Hit:
    """A library structure beside a query: `tm` is normalised by the query's length."""

    id: str
    label: str
    tm: float


NO_HIT = Hit("", "", float("nan"))


def descriptor(trace: np.ndarray) -> np.ndarray:
    """Distances between 24 smoothed points of a CA trace (L, 3), up to 30 Å, root-scaled; the same after any motion."""
    window = np.ones(min(SMOOTHING, len(trace)))
    count = np.convolve(np.ones(len(trace)), window, "same")
    smooth = np.stack([np.convolve(trace[:, k], window, "same") / count for k in range(3)], axis=1)
    at = np.linspace(0, len(trace) - 1, POINTS)
    points = np.stack([np.interp(at, np.arange(len(trace)), smooth[:, k]) for k in range(3)], axis=1)
    i, j = np.triu_indices(POINTS, 2)
    return np.sqrt(np.minimum(np.linalg.norm(points[i] - points[j], axis=1), CAP)).astype(np.float32)


def gathered(trace: np.ndarray) -> np.ndarray:
    """A CA trace (L, 3) with every step above 50 Å shortened to 50 Å, contiguous; any other trace as it is.

    TM-align widens its cutoffs by half an Å at a time: a chain torn by 900 Å takes it a second, and the time grows with
    the cube of the gap. Of parts that lie so far apart one alone fits a domain, and the score is the same.
    """
    trace = np.ascontiguousarray(trace, float)
    steps = np.diff(trace, axis=0)
    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    if not (lengths > LONGEST_STEP).any():
        return trace
    return trace[0] + np.append(
        np.zeros((1, 3)), np.cumsum(steps * np.minimum(1, LONGEST_STEP / np.maximum(lengths, 1)), axis=0), 0
    )


def tm_align_score(query: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """TM-score of the best alignment of two CA traces, normalised by the first and by the second (TM-align)."""
    result = tm_align(gathered(query), gathered(target), "A" * len(query), "A" * len(target))
    return float(result.tm_norm_chain1), float(result.tm_norm_chain2)


class Library:
    """Structures to be searched, with their filter descriptors."""

    def __init__(self, structures: Sequence[Judged]) -> None:
        self.structures = [structure for structure in structures if len(structure.ca) >= FEWEST]
        self.lengths = np.array([len(structure.ca) for structure in self.structures], int)
        self.descriptors = np.array([descriptor(structure.ca) for structure in self.structures], np.float32).reshape(
            len(self.structures), POINTS * (POINTS - 1) // 2 - (POINTS - 1)
        )

    def __len__(self) -> int:
        return len(self.structures)

    def subset(self, keep: Sequence[int]) -> Library:
        """The library of the structures with the indices `keep`."""
        part = Library([])
        part.structures = [self.structures[index] for index in keep]
        part.lengths, part.descriptors = self.lengths[list(keep)], self.descriptors[list(keep)]
        return part

    def like(self, query: Judged, allowed: Callable[[Judged], bool] | None = None) -> list[int]:
        """Indices of the structures of like length, at most 256: those with the likest coarse distance map."""
        length = len(query.ca)
        indices = np.flatnonzero(np.abs(self.lengths - length) <= max(LENGTH_WINDOW, LENGTH_SHARE * length))
        if allowed is not None:
            indices = np.array([index for index in indices.tolist() if allowed(self.structures[index])], int)
        if len(indices) > SCREENED:
            difference = np.abs(self.descriptors[indices] - descriptor(query.ca)).sum(axis=1)
            indices = indices[np.argsort(difference, kind="stable")[:SCREENED]]
        return indices.tolist()


class Search:
    """Finds nearest structures, aligns at most `neighbours` a query, and remembers every pair it has looked at."""

    def __init__(self, neighbours: int) -> None:
        self.neighbours = neighbours
        self.estimated: dict[tuple[str, str], float] = {}
        self.exact: dict[tuple[str, str], float] = {}

    def _estimates(self, query: Judged, targets: Sequence[Judged]) -> np.ndarray:
        """Approximate TM-score with each target (T,)."""
        fresh = [target for target in targets if (query.id, target.id) not in self.estimated]
        found = screen(query.ca, [target.ca for target in fresh])
        self.estimated.update(((query.id, target.id), float(value)) for target, value in zip(fresh, found, strict=True))
        return np.array([self.estimated[query.id, target.id] for target in targets])

    def _tm(self, query: Judged, target: Judged) -> float:
        key = (query.id, target.id)
        if key not in self.exact:
            self.exact[key] = tm_align_score(query.ca, target.ca)[0]
        return self.exact[key]

    def nearest(self, query: Judged, library: Library, allowed: Callable[[Judged], bool] | None = None) -> Hit:
        """The structure of `library` with the highest TM-score among the best ranked; `NO_HIT` where there is none."""
        if len(query.ca) < FEWEST or not len(library):
            return NO_HIT
        best = NO_HIT
        targets = [library.structures[index] for index in library.like(query, allowed)]
        estimates = self._estimates(query, targets)
        for index in np.argsort(-estimates, kind="stable")[: self.neighbours].tolist():
            if best.id and estimates[index] + MARGIN <= best.tm:
                break
            score = self._tm(query, targets[index])
            if not best.id or score > best.tm:
                best = Hit(targets[index].id, targets[index].label, score)
        return best

    def all(
        self,
        queries: Sequence[Judged],
        library: Library,
        stage: str,
        allowed: Callable[[Judged, Judged], bool] | None = None,
    ) -> list[Hit]:
        """`nearest` of every query; `allowed(query, target)` may forbid pairs, such as relatives."""
        progress = Progress(stage, len(queries), "structures")
        hits = []
        for query in queries:
            hits.append(self.nearest(query, library, None if allowed is None else partial(allowed, query)))
            progress.advance()
        return hits


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
    return float(levels_match(placed.label, placed.held_out.label)) if placed.held_out.id else float("nan")


def training_tm(placed: Placed) -> float:
    """TM-score to the nearest training domain of like length, normalised by the structure judged; near 1 = a copy."""
    return placed.training.tm


def training_equal_tm(placed: Placed) -> float:
    """TM-score to the nearest among as many training domains as are held out, class by class."""
    return placed.training_equal.tm


METRICS = (
    Metric("nearest_tm", "score", "high", nearest_tm),
    Metric("nearest_same_class", "share", "high", nearest_same_class),
    Metric("training_tm", "score", "none", training_tm),
    Metric("training_equal_tm", "score", "none", training_equal_tm),
)
"""Metrics of a `Placed`."""
