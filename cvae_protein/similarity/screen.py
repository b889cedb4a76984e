"""Estimated TM-score of one structure with many: gapless starts and local geometry, then alignment in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .tm_score import distance_scale, rotations

KEPT = 4  # gapless starts of a target that are aligned with gaps
SUPERPOSITIONS = 3  # reweighted superpositions per round
FLOOR = 0.15  # residue score below which two residues are better left unaligned
CELLS = 1_000_000  # of the score matrices of one batch of targets, for each start
LOCAL_WIDTH = 3.0  # Å, of the likeness of two local chain geometries
FAR = 1e3  # Å, where the padding of shorter targets is put, so that nothing aligns to it
Likeness = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Effort:
    """How closely a screen looks.

    every : every how many residues of the query are looked at, all residues of the targets being so
    offset : residues between the gapless starts
    alignments : starts of a target that enter each round of alignment and superposition
    """

    every: int
    offset: int
    alignments: tuple[int, ...]


LOOK = Effort(3, 8, (2, 1))
CLOSE = Effort(1, 4, (5, 2, 1))


@dataclass(frozen=True, eq=False)
class Shape:
    """What a screen sees of a structure: its CA around their centre in Å (L, 3), and its local geometry (L, 4)."""

    points: np.ndarray
    turns: np.ndarray

    @classmethod
    def of(cls, trace: np.ndarray) -> Shape:
        """The shape of a CA trace (L, 3)."""
        points = (trace - trace.mean(axis=0)).astype(np.float32)
        return cls(points, _local_geometry(points))

    def every(self, step: int) -> Shape:
        """Every `step`-th residue."""
        return Shape(self.points[step // 2 :: step], self.turns[step // 2 :: step])

    def __len__(self) -> int:
        return len(self.points)


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

    `ours` is (m, C, B) or (m, C, 1), `theirs` (C, n, B); gaps are free (Needleman & Wunsch 1970). The table is filled
    row by row, all targets at once: [i, j] is the best of the first i and j residues.
    """
    rows, columns, batch = len(ours), *theirs.shape[1:]
    total = np.zeros((rows + 1, columns + 1, batch), np.float32)
    for row in range(rows):
        cell = likeness(ours[row], theirs)
        cell += total[row, :-1]
        np.maximum(cell, total[row, 1:], out=cell)
        total[row + 1, 1:] = _running_maximum(cell)
    partner, column, each = np.full((batch, rows), -1), np.full(batch, columns), np.arange(batch)
    for row in range(rows, 0, -1):
        value = total[row, column, each]
        paired = value > total[row - 1, column, each]
        first = (total[row] < value).sum(axis=0)  # the column that brought the value
        partner[paired, row - 1] = first[paired] - 1
        column = np.where(paired, first - 1, column)
    return partner


def _running_maximum(table: np.ndarray) -> np.ndarray:
    """Maximum of each row and those before it (n, B), by doubling: a third of the time of `np.maximum.accumulate`."""
    other, shift = np.empty_like(table), 1
    while shift < len(table):
        np.maximum(table[shift:], table[:-shift], out=other[shift:])
        other[:shift] = table[:shift]
        table, other, shift = other, table, 2 * shift
    return table


def _near(ours: np.ndarray, theirs: np.ndarray, scale: float) -> np.ndarray:
    """Residue scores above `FLOOR` of a query residue (3, B) and target residues (3, n, B), as (n, B)."""
    squared = np.square(ours[0] - theirs[0])
    for axis in (1, 2):
        apart = ours[axis] - theirs[axis]
        squared += np.multiply(apart, apart, out=apart)
    squared *= np.float32(1 / scale)
    squared += 1
    score = np.reciprocal(squared, out=squared)
    score -= np.float32(FLOOR)
    return np.maximum(score, 0, out=score)


def _alike(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Likeness above `FLOOR` of a query residue's local geometry (4, 1) and those of target residues (4, n, B)."""
    apart = np.abs(ours[0] - theirs[0])
    for column in range(1, len(ours)):
        apart += np.abs(ours[column] - theirs[column])
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
    query: np.ndarray, targets: np.ndarray, present: np.ndarray, scale: float, effort: Effort
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Best superpositions without gaps: target index, rotation, shift, score sum of each."""
    rows, reach = len(query), len(query) * effort.every
    margin = ((0, 0), (reach, reach))
    wide, there = np.pad(targets, (*margin, (0, 0))), np.pad(present, margin)
    starts = [reach + offset for offset in range(-(reach // 2), targets.shape[1] - reach // 2 + 1, effort.offset)]
    windows = np.concatenate([wide[:, start : start + reach : effort.every] for start in starts])
    counted = np.concatenate([there[:, start : start + reach : effort.every] for start in starts])
    own = np.tile(np.arange(len(targets)), len(starts))
    enough = counted.sum(axis=1) >= min(rows, max(4, 20 // effort.every))
    windows, counted, own = windows[enough], counted[enough], own[enough]
    rotation, shift, score = _refined(counted, np.broadcast_to(query, windows.shape), windows, scale)
    keep = _best(own, score, KEPT)
    return own[keep], rotation[keep], shift[keep], score[keep]


def _by_local_geometry(
    query: Shape, shapes: Sequence[Shape], targets: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One superposition per target, from the alignment of local chain geometry."""
    theirs = np.ascontiguousarray(_padded([shape.turns for shape in shapes], fill=FAR).transpose(2, 1, 0))
    partner = _alignment(query.turns[..., None], theirs, _alike)
    return _superposed_partners(query.points, targets, partner, scale)


def _superposed_partners(
    query: np.ndarray, targets: np.ndarray, partner: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = np.take_along_axis(targets, np.maximum(partner, 0)[..., None], axis=1)
    return _refined((partner >= 0).astype(np.float32), np.broadcast_to(query, points.shape), points, scale)


def screen(query: Shape, targets: Sequence[Shape], effort: Effort = CLOSE) -> np.ndarray:
    """Estimated TM-score of `query` with each of `targets`, normalised by the query's length (T,)."""
    if not len(targets):
        return np.zeros(0)
    scale, seen = distance_scale(len(query)) ** 2, query.every(effort.every)
    batch = max(1, CELLS // (len(seen) * max(map(len, targets))))
    parts = (targets[start : start + batch] for start in range(0, len(targets), batch))
    return np.concatenate([_screen(seen, part, scale, effort) for part in parts])


def _screen(query: Shape, shapes: Sequence[Shape], scale: float, effort: Effort) -> np.ndarray:
    """`screen` of one batch of targets, with the residues of the query that are looked at."""
    targets = _padded([shape.points for shape in shapes])
    present = (np.arange(targets.shape[1]) < np.array([len(shape) for shape in shapes])[:, None]).astype(np.float32)
    own, *moves, score = _gapless(query.points, targets, present, scale, effort)
    *local, local_score = _by_local_geometry(query, shapes, targets, scale)
    own = np.concatenate([own, np.arange(len(shapes))])
    rotation, shift = (np.concatenate(pair) for pair in zip(moves, local, strict=True))
    score = np.concatenate([score, local_score])
    found = np.zeros(len(shapes))
    np.maximum.at(found, own, score)
    for entering in effort.alignments:
        keep = _best(own, score, entering)
        own, rotation, shift, points = own[keep], rotation[keep], shift[keep], targets[own[keep]]
        moved = np.matmul(query.points, rotation) + shift[:, None]
        padded = np.where(present[own][..., None] > 0, points, np.float32(FAR))
        ours, theirs = moved.transpose(1, 2, 0), np.ascontiguousarray(padded.transpose(2, 1, 0))
        partner = _alignment(ours, theirs, partial(_near, scale=scale))
        rotation, shift, score = _superposed_partners(query.points, points, partner, scale)
        np.maximum.at(found, own, score)
    return found / len(query)
