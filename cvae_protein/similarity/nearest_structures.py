"""Nearest structures of a library by TM-score: a filter by length and shape, an estimate, TM-align of the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from tmtools import tm_align

from ..core.progress import track
from ..core.structure import CA
from .screen import GLANCE, LOOK_CLOSER, Shape, estimates

POINTS = 24  # places along the chain where the filter looks
SMOOTHING = 5  # residues averaged at each of them
CAP = 30.0  # Å; longer distances add no information
LENGTH_WINDOW, LENGTH_SHARE = 25, 0.25  # library structures within either of the query's length are compared
ESTIMATED = 640  # structures whose TM-score is estimated; if there are more, a glance at each selects them
ESTIMATED_CLOSELY = 48  # of them, those whose TM-score is estimated from far more starts
ALIGNED = 12  # of them, the most that are aligned exactly, best estimate first
FEWEST = 5  # CA that an alignment needs
LONGEST_STEP = 50.0  # Å between neighbouring CA in what TM-align is given
RECALL = (
    "Nearest domains are searched for: beside TM-align with all of 400 domains, the nearest was found for "
    "151 of 152 samples (0.964 to 0.999) and 150 of 152 real domains (0.953 to 0.996), "
    "and missed by at most 0.004 in TM-score."
)
"""Note on the page beside figures that rest on the search: `benchmarks/results/nearest.tsv`, 95 % intervals."""


class Trace(Protocol):
    """Input of a search: an id, a label, and the CA positions in Å (≤L, 3) without the residues that lack CA."""

    @property
    def id(self) -> str:
        """The id, unique among all structures."""

    @property
    def label(self) -> str:
        """The fold label, empty if there is none."""

    @property
    def ca(self) -> np.ndarray:
        """CA positions in Å (≤L, 3)."""


@dataclass(frozen=True, eq=False)
class DomainTrace:
    """The CA trace of a domain of `residues` residues, some of which may lack their CA."""

    id: str
    label: str
    residues: int
    ca: np.ndarray

    @classmethod
    def of(cls, id: str, label: str, coords: np.ndarray) -> DomainTrace:
        """The trace of the atoms `coords` (L, 5, 3) in Å."""
        trace = coords[:, CA].astype(np.float64)
        return cls(id, label, len(coords), trace[np.isfinite(trace).all(axis=1)])

    def __len__(self) -> int:
        return self.residues


@dataclass(frozen=True)
class Hit:
    """A library structure found for a query; `tm` is normalised by the query's length."""

    id: str
    label: str
    tm: float


NO_HIT = Hit("", "", float("nan"))
Ranking = list[tuple[int, float]]
"""Indices of structures of a library with their estimated TM-scores, best first."""


def descriptor(trace: np.ndarray) -> np.ndarray:
    """Square roots of distances, at most 30 Å, between 24 smoothed points of a CA trace (L, 3), a rigid invariant."""
    window = np.ones(min(SMOOTHING, len(trace)))
    count = np.convolve(np.ones(len(trace)), window, "same")
    smooth = np.stack([np.convolve(trace[:, k], window, "same") / count for k in range(3)], axis=1)
    at = np.linspace(0, len(trace) - 1, POINTS)
    points = np.stack([np.interp(at, np.arange(len(trace)), smooth[:, k]) for k in range(3)], axis=1)
    i, j = np.triu_indices(POINTS, 2)
    return np.sqrt(np.minimum(np.linalg.norm(points[i] - points[j], axis=1), CAP)).astype(np.float32)


def gathered(trace: np.ndarray) -> np.ndarray:
    """A CA trace (L, 3) with every step above 50 Å shortened to 50 Å, contiguous; any other trace as it is.

    TM-align widens its cutoffs by half an Å at a time: a chain with a gap of 900 Å takes it a second, and the time
    grows with the cube of the gap. Of parts so far apart, only one can fit a domain, so the score stays the same.
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
    """Structures to be searched, with their shapes and filter descriptors."""

    most_screened = 2500  # structures that pass the filter, at most
    margin = 0.05  # by which TM-align's score may exceed the estimate

    def __init__(self, structures: Sequence[Trace]) -> None:
        self.structures = [structure for structure in structures if len(structure.ca) >= FEWEST]
        self.lengths = np.array([len(structure.ca) for structure in self.structures], int)
        self.shapes = [Shape.of(structure.ca) for structure in self.structures]
        self.descriptors = np.array([descriptor(structure.ca) for structure in self.structures], np.float32).reshape(
            len(self.structures), POINTS * (POINTS - 1) // 2 - (POINTS - 1)
        )

    def __len__(self) -> int:
        return len(self.structures)

    def subset(self, keep: Sequence[int]) -> Library:
        """The library of the structures with the indices `keep`."""
        part = Library([])
        part.structures = [self.structures[index] for index in keep]
        part.shapes = [self.shapes[index] for index in keep]
        part.lengths, part.descriptors = self.lengths[list(keep)], self.descriptors[list(keep)]
        return part

    def candidates(self, query: Trace, allowed: Callable[[Trace], bool] | None = None) -> list[int]:
        """Indices of structures of similar length, at most 2,500: those with the most similar coarse distance map."""
        length = len(query.ca)
        indices = np.flatnonzero(np.abs(self.lengths - length) <= max(LENGTH_WINDOW, LENGTH_SHARE * length))
        if allowed is not None:
            indices = np.array([index for index in indices.tolist() if allowed(self.structures[index])], int)
        if len(indices) > self.most_screened:
            difference = np.abs(self.descriptors[indices] - descriptor(query.ca)).sum(axis=1)
            indices = indices[np.argsort(difference, kind="stable")[: self.most_screened]]
        return indices.tolist()


def ranked(query: Shape, library: Library, candidates: Sequence[int], relative: np.ndarray | float = 1.0) -> Ranking:
    """The 48 best `candidates` of a library by estimated TM-score, best first.

    relative : factor for the estimate of each candidate, if the score is normalised by another length
    """
    factor = np.broadcast_to(np.asarray(relative, float), len(candidates))
    shapes, left = [library.shapes[index] for index in candidates], np.arange(len(candidates))
    if len(left) > ESTIMATED:
        left = np.argsort(-estimates(query, shapes, GLANCE) * factor, kind="stable")[:ESTIMATED]
    found = estimates(query, [shapes[index] for index in left.tolist()])
    order = np.argsort(-found * factor[left], kind="stable")[:ESTIMATED_CLOSELY]
    left = left[order]
    closer = estimates(query, [shapes[index] for index in left.tolist()], LOOK_CLOSER)
    found = np.maximum(found[order], closer) * factor[left]
    order = np.argsort(-found, kind="stable")
    return [(candidates[left[index]], float(found[index])) for index in order.tolist()]


class Search:
    """Finds nearest structures with at most `neighbours` alignments per query; remembers the scores of pairs."""

    def __init__(self, neighbours: int) -> None:
        self.neighbours = neighbours
        self.estimated: dict[tuple[str, str], float] = {}
        self.exact: dict[tuple[str, str], tuple[float, float]] = {}

    def estimates(self, query: Trace, targets: Sequence[Trace]) -> np.ndarray:
        """Approximate TM-score with each target (T,)."""
        fresh = [target for target in targets if (query.id, target.id) not in self.estimated]
        found = estimates(Shape.of(query.ca), [Shape.of(target.ca) for target in fresh])
        self.estimated.update(((query.id, target.id), float(value)) for target, value in zip(fresh, found, strict=True))
        return np.array([self.estimated[query.id, target.id] for target in targets])

    def aligned(self, first: Trace, second: Trace) -> tuple[float, float]:
        """TM-scores of two structures, normalised by the first and by the second (TM-align, which is symmetric)."""
        if (turned := self.exact.get((second.id, first.id))) is not None:
            return turned[1], turned[0]
        key = (first.id, second.id)
        if key not in self.exact:
            self.exact[key] = tm_align_score(first.ca, second.ca)
        return self.exact[key]

    def nearest(self, query: Trace, library: Library, allowed: Callable[[Trace], bool] | None = None) -> Hit:
        """The structure of `library` with the highest TM-score among the best ranked; `NO_HIT` if there is none."""
        if len(query.ca) < FEWEST or not len(library):
            return NO_HIT
        best = NO_HIT
        ranking = ranked(Shape.of(query.ca), library, library.candidates(query, allowed))
        for index, estimate in ranking[: self.neighbours]:
            if best.id and estimate + library.margin <= best.tm:
                break
            target = library.structures[index]
            score = self.aligned(query, target)[0]
            if not best.id or score > best.tm:
                best = Hit(target.id, target.label, score)
        return best

    def all(
        self,
        queries: Sequence[Trace],
        library: Library,
        stage: str,
        allowed: Callable[[Trace, Trace], bool] | None = None,
    ) -> list[Hit]:
        """`nearest` of every query; `allowed(query, target)` may forbid pairs, such as relatives."""
        return [
            self.nearest(query, library, None if allowed is None else partial(allowed, query))
            for query in track(queries, stage, len(queries), "structures")
        ]


SHORTEST, LONGEST = 0.5, 1.4  # times the query's length: range of the structures compared as a whole
GROWTH = 1.25  # factor from one window length to the next
FIRST = 32  # residues of the shortest windows
STEP = 0.25  # of a window's length, from one window to the next


class SubstructureLibrary(Library):
    """Structures with the descriptors of their windows of about 32, 40, 50, 62, ... residues.

    TM-score normalised by the query cannot exceed the ratio of target to query length, so targets shorter than half
    the query are skipped.
    """

    most_screened = 1024
    margin = 0.1  # a short chain fits a long one at many more places

    def __init__(self, structures: Sequence[Trace]) -> None:
        super().__init__(structures)
        longest = int(self.lengths.max(initial=0))
        count = int(np.log(max(longest / FIRST, 1)) / np.log(GROWTH)) + 1
        self.sizes = np.round(FIRST * GROWTH ** np.arange(count)).astype(int)
        self.windows = [self._windows_of(int(size)) for size in self.sizes]

    def _windows_of(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Owner and descriptor of each window of `size` residues, in structures at least a quarter longer than that."""
        owners, found = [], [np.zeros((0, self.descriptors.shape[1]), np.float32)]
        for index, structure in enumerate(self.structures):
            last = len(structure.ca) - size
            if len(structure.ca) < GROWTH * size:
                continue
            for start in sorted({*range(0, last, max(1, round(STEP * size))), last}):
                owners.append(index)
                found.append(descriptor(structure.ca[start : start + size])[None])
        return np.array(owners, int), np.concatenate(found)

    def candidates(self, query: Trace, allowed: Callable[[Trace], bool] | None = None) -> list[int]:
        """Indices of at most 1,024 structures: those that, whole or in a window, have the most similar distance map."""
        length, own = len(query.ca), descriptor(query.ca)
        difference = np.full(len(self), np.inf)
        whole = np.flatnonzero((self.lengths >= SHORTEST * length) & (self.lengths <= LONGEST * length))
        difference[whole] = np.abs(self.descriptors[whole] - own).sum(axis=1)
        owners, windows = self.windows[int(np.abs(np.log(self.sizes / length)).argmin())]
        np.minimum.at(difference, owners, np.abs(windows - own).sum(axis=1))
        order = [index for index in np.argsort(difference, kind="stable").tolist() if np.isfinite(difference[index])]
        if allowed is not None:
            order = [index for index in order if allowed(self.structures[index])]
        return order[: self.most_screened]
