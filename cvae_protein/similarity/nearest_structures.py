"""Nearest structures of a library by TM-score: a filter by length and shape, an approximate screen, TM-align."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from tmtools import tm_align

from ..core.progress import track
from ..core.structure import CA
from .tm_score import distance_scale, rotations

OFFSET_STEP = 4  # residues between the gapless starts
KEPT = 4  # gapless starts of a target that are aligned with gaps
ALIGNMENTS = (5, 2, 1)  # starts of a target that enter each round of alignment and superposition
SUPERPOSITIONS = 3  # reweighted superpositions per round
FLOOR = 0.15  # residue score below which two residues are better left unaligned
CELLS = 3_000_000  # of the score matrices of one batch of targets, for each start
LOCAL_WIDTH = 3.0  # Å, of the likeness of two local chain geometries
FAR = 1e3  # Å, where the padding of shorter targets is put, so that nothing aligns to it
Likeness = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _superposed(weights: np.ndarray, mobile: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (B, 3, 3) and shift (B, 3) of weighted superposition; weights (B, L), points (B, L, 3)."""
    weights = weights / weights.sum(axis=1, keepdims=True)
    center = np.matmul(weights[:, None], mobile)[:, 0]
    goal = np.matmul(weights[:, None], target)[:, 0]
    covariance = (
        np.matmul((mobile * weights[..., None]).transpose(0, 2, 1), target) - center[:, :, None] * goal[:, None]
    )
    rotation = rotations(covariance).astype(np.float32)
    return rotation, goal - np.matmul(center[:, None], rotation)[:, 0]


def _refined(
    counted: np.ndarray, mobile: np.ndarray, target: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation, shift and summed residue score (B,) of residues that correspond where `counted` (B, L) is 1."""
    weights = np.where(counted.sum(axis=1, keepdims=True) < 3, 1.0, counted).astype(np.float32)
    for _ in range(SUPERPOSITIONS):
        rotation, shift = _superposed(weights, mobile, target)
        apart = np.matmul(mobile, rotation) + shift[:, None] - target
        squared = np.einsum("bli,bli->bl", apart, apart)
        score = 1 / (1 + squared / scale)
        weights = counted * score * score + np.float32(1e-9)
    return rotation, shift, (counted * score).sum(axis=1)


def _alignment(ours: np.ndarray, theirs: np.ndarray, likeness: Likeness) -> np.ndarray:
    """Partner of each of m query residues among n target ones, -1 for none: best summed likeness in order (B, m).

    `ours` is (m, C, B) or (m, C, 1), `theirs` (n, C, B); gaps are free (Needleman & Wunsch 1970). The table is filled
    by antidiagonals, all targets at once: cell (i, j) lies at [i + j, i].
    """
    rows, columns, batch = len(ours), len(theirs), theirs.shape[-1]
    backward = np.ascontiguousarray(theirs[::-1])
    total = np.zeros((rows + columns + 1, rows + 1, batch), np.float32)
    for k in range(2, rows + columns + 1):
        low, high = max(1, k - columns), min(rows, k - 1) + 1
        cell = likeness(ours[low - 1 : high - 1], backward[columns - k + low : columns - k + high])
        cell += total[k - 2, low - 1 : high - 1]
        np.maximum(cell, total[k - 1, low - 1 : high - 1], out=cell)
        np.maximum(cell, total[k - 1, low:high], out=total[k, low:high])
    return _partners(total, rows, columns)


def _partners(total: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Walk back through the table of `_alignment`."""
    batch = total.shape[-1]
    each, i, j = np.arange(batch), np.full(batch, rows), np.full(batch, columns)
    partner = np.full((batch, rows), -1)
    for _ in range(rows + columns):
        inside = (i > 0) & (j > 0)
        if not inside.any():
            break
        here = total[i + j, i, each]
        up = inside & (here == total[i + j - 1, i - 1, each])
        left = inside & ~up & (here == total[i + j - 1, i, each])
        paired = inside & ~up & ~left
        partner[each[paired], i[paired] - 1] = j[paired] - 1
        i, j = i - (up | paired), j - (left | paired)
    return partner


def _near(ours: np.ndarray, theirs: np.ndarray, scale: float) -> np.ndarray:
    """Residue scores above `FLOOR` of points (k, 3, B) and (k, 3, B)."""
    squared = np.square(ours[:, 0] - theirs[:, 0])
    for axis in (1, 2):
        apart = ours[:, axis] - theirs[:, axis]
        squared += np.multiply(apart, apart, out=apart)
    squared *= np.float32(1 / scale)
    squared += 1
    score = np.reciprocal(squared, out=squared)
    score -= np.float32(FLOOR)
    return np.maximum(score, 0, out=score)


def _alike(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Likeness above `FLOOR` of local geometries (k, 4, 1) and (k, 4, B)."""
    apart = np.abs(ours[:, 0] - theirs[:, 0])
    for column in range(1, ours.shape[1]):
        apart += np.abs(ours[:, column] - theirs[:, column])
    apart *= np.float32(-1 / LOCAL_WIDTH)
    score = np.exp(apart, out=apart)
    score -= np.float32(FLOOR)
    return np.maximum(score, 0, out=score)


def _local_geometry(trace: np.ndarray) -> np.ndarray:
    """Distances to the CA two, three and four residues on, and the hand of the turn, of each residue (L, 4)."""
    padded = np.pad(trace, ((2, 4), (0, 0)), mode="edge")
    length = len(trace)
    points = [padded[k : k + length] for k in range(7)]
    hand = np.einsum("li,li->l", points[2] - points[1], np.cross(points[3] - points[2], points[4] - points[3]))
    reach = [np.linalg.norm(points[4] - points[k], axis=1) for k in (1, 0)]
    return np.stack([*reach, np.linalg.norm(points[5] - points[2], axis=1), hand / 12], axis=1).astype(np.float32)


def _padded(arrays: Sequence[np.ndarray], fill: float = 0.0) -> np.ndarray:
    size = max(len(array) for array in arrays)
    table = np.full((len(arrays), size, arrays[0].shape[1]), fill, np.float32)
    for row, array in zip(table, arrays, strict=True):
        row[: len(array)] = array
    return table


def _best(own: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` highest scores of each target, sorted by target."""
    order = np.lexsort((-score, own))
    rank = np.arange(len(order)) - np.searchsorted(own[order], own[order])
    return order[rank < count]


def _gapless(
    query: np.ndarray, targets: np.ndarray, present: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Best superpositions without gaps: target index, rotation, shift, score sum of each."""
    rows, columns = len(query), targets.shape[1]
    margin = ((0, 0), (rows, rows))
    wide, there = np.pad(targets, (*margin, (0, 0))), np.pad(present, margin)
    starts = [rows + offset for offset in range(-(rows // 2), columns - rows // 2 + 1, OFFSET_STEP)]
    windows = np.concatenate([wide[:, start : start + rows] for start in starts])
    counted = np.concatenate([there[:, start : start + rows] for start in starts])
    own = np.tile(np.arange(len(targets)), len(starts))
    enough = counted.sum(axis=1) >= min(rows, 20)
    windows, counted, own = windows[enough], counted[enough], own[enough]
    rotation, shift, score = _refined(counted, np.broadcast_to(query, windows.shape), windows, scale)
    keep = _best(own, score, KEPT)
    return own[keep], rotation[keep], shift[keep], score[keep]


def _by_local_geometry(
    query: np.ndarray, targets: np.ndarray, traces: Sequence[np.ndarray], scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One superposition per target, from the alignment of local chain geometry."""
    theirs = _padded([_local_geometry(trace) for trace in traces], fill=FAR)
    partner = _alignment(_local_geometry(query)[..., None], theirs.transpose(1, 2, 0), _alike)
    return _superposed_partners(query, targets, partner, scale)


def _superposed_partners(
    query: np.ndarray, targets: np.ndarray, partner: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = np.take_along_axis(targets, np.maximum(partner, 0)[..., None], axis=1)
    return _refined((partner >= 0).astype(np.float32), np.broadcast_to(query, points.shape), points, scale)


def screen(query: np.ndarray, traces: Sequence[np.ndarray]) -> np.ndarray:
    """Estimated TM-score of the CA trace `query` (L, 3) with each of `traces`, normalised by L (T,)."""
    if not len(traces):
        return np.zeros(0)
    batch = max(1, CELLS // (len(query) * max(len(trace) for trace in traces)))
    centred = (query - query.mean(axis=0)).astype(np.float32)
    return np.concatenate([_screen(centred, traces[start : start + batch]) for start in range(0, len(traces), batch)])


def _screen(query: np.ndarray, traces: Sequence[np.ndarray]) -> np.ndarray:
    """`screen` of one batch of targets, the query centred."""
    scale = distance_scale(len(query)) ** 2
    traces = [(trace - trace.mean(axis=0)).astype(np.float32) for trace in traces]
    targets = _padded(traces)
    present = (np.arange(targets.shape[1]) < np.array([len(trace) for trace in traces])[:, None]).astype(np.float32)
    own, *moves, score = _gapless(query, targets, present, scale)
    *local, local_score = _by_local_geometry(query, targets, traces, scale)
    own = np.concatenate([own, np.arange(len(traces))])
    rotation, shift = (np.concatenate(pair) for pair in zip(moves, local, strict=True))
    score = np.concatenate([score, local_score])
    found = np.zeros(len(traces))
    np.maximum.at(found, own, score)
    for entering in ALIGNMENTS:
        keep = _best(own, score, entering)
        own, rotation, shift, points = own[keep], rotation[keep], shift[keep], targets[own[keep]]
        moved = np.matmul(query, rotation) + shift[:, None]
        padded = np.where(present[own][..., None] > 0, points, np.float32(FAR))
        ours, theirs = (np.ascontiguousarray(each.transpose(1, 2, 0)) for each in (moved, padded))
        partner = _alignment(ours, theirs, partial(_near, scale=scale))
        rotation, shift, score = _superposed_partners(query, points, partner, scale)
        np.maximum.at(found, own, score)
    return found / len(query)


POINTS = 24  # places along the chain where the filter looks
SMOOTHING = 5  # residues averaged at each of them
CAP = 30.0  # Å; longer distances say no more
LENGTH_WINDOW, LENGTH_SHARE = 25, 0.25  # library structures within either of the query's length are compared
MARGIN = 0.15  # what an exact score may exceed the approximate one by; 99 % of pairs stay below 0.13
FEWEST = 5  # CA that an alignment needs
LONGEST_STEP = 50.0  # Å between neighbouring CA, as TM-align gets to see them


class Trace(Protocol):
    """What a search looks at: an id, a label, and the CA positions in Å (≤L, 3) without the residues that lack it."""

    @property
    def id(self) -> str:
        """The id, unlike that of any other structure."""

    @property
    def label(self) -> str:
        """The fold label, empty where there is none."""

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

    most_screened = 256  # structures that the filter leaves to the approximate alignment

    def __init__(self, structures: Sequence[Trace]) -> None:
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

    def candidates(self, query: Trace, allowed: Callable[[Trace], bool] | None = None) -> list[int]:
        """Indices of the structures of like length, at most 256: those with the most similar coarse distance map."""
        length = len(query.ca)
        indices = np.flatnonzero(np.abs(self.lengths - length) <= max(LENGTH_WINDOW, LENGTH_SHARE * length))
        if allowed is not None:
            indices = np.array([index for index in indices.tolist() if allowed(self.structures[index])], int)
        if len(indices) > self.most_screened:
            difference = np.abs(self.descriptors[indices] - descriptor(query.ca)).sum(axis=1)
            indices = indices[np.argsort(difference, kind="stable")[: self.most_screened]]
        return indices.tolist()


class Search:
    """Finds nearest structures, aligns at most `neighbours` per query, and remembers every pair it has looked at."""

    def __init__(self, neighbours: int) -> None:
        self.neighbours = neighbours
        self.estimated: dict[tuple[str, str], float] = {}
        self.exact: dict[tuple[str, str], float] = {}

    def estimates(self, query: Trace, targets: Sequence[Trace]) -> np.ndarray:
        """Approximate TM-score with each target (T,)."""
        fresh = [target for target in targets if (query.id, target.id) not in self.estimated]
        found = screen(query.ca, [target.ca for target in fresh])
        self.estimated.update(((query.id, target.id), float(value)) for target, value in zip(fresh, found, strict=True))
        return np.array([self.estimated[query.id, target.id] for target in targets])

    def _tm(self, query: Trace, target: Trace) -> float:
        key = (query.id, target.id)
        if key not in self.exact:
            self.exact[key] = tm_align_score(query.ca, target.ca)[0]
        return self.exact[key]

    def nearest(self, query: Trace, library: Library, allowed: Callable[[Trace], bool] | None = None) -> Hit:
        """The structure of `library` with the highest TM-score among the best ranked; `NO_HIT` where there is none."""
        if len(query.ca) < FEWEST or not len(library):
            return NO_HIT
        best = NO_HIT
        targets = [library.structures[index] for index in library.candidates(query, allowed)]
        estimates = self.estimates(query, targets)
        for index in np.argsort(-estimates, kind="stable")[: self.neighbours].tolist():
            if best.id and estimates[index] + MARGIN <= best.tm:
                break
            score = self._tm(query, targets[index])
            if not best.id or score > best.tm:
                best = Hit(targets[index].id, targets[index].label, score)
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


SHORTEST, LONGEST = 0.5, 1.4  # whole structures of so many times the query's length are compared with it
GROWTH = 1.25  # from one length of windows to the next
FIRST = 32  # residues of the shortest windows
STEP = 0.25  # of a window's length, from one window to the next


class SubstructureLibrary(Library):
    """Structures with the descriptors of their windows of about 32, 40, 50, 62, ... residues.

    TM-score normalised by the query cannot exceed the target's share of its length, so that targets of less than half
    of it are passed over.
    """

    most_screened = 192

    def __init__(self, structures: Sequence[Trace]) -> None:
        super().__init__(structures)
        longest = int(self.lengths.max(initial=0))
        count = int(np.log(max(longest / FIRST, 1)) / np.log(GROWTH)) + 1
        self.sizes = np.round(FIRST * GROWTH ** np.arange(count)).astype(int)
        self.windows = [self._windows_of(int(size)) for size in self.sizes]

    def _windows_of(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Owner and descriptor of every window of `size` residues of the structures that are longer by a quarter."""
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
        """Indices of at most 192 structures, those of which the whole or a window has the most similar distance map."""
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
