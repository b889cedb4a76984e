"""Estimated TM-score of one structure with many: starts from like windows, then alignment in turn, in three screens.

From the superposition at which TM-align ends, one alignment here has its score to 0.003: what an estimate lacks is a
start near that one. Few starts tell most structures apart; the third screen tries many, for the few that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .tm_score import distance_scale, rotations

SUPERPOSITIONS = 3  # reweighted superpositions per round
FLOOR = 0.15  # residue score below which two residues are better left unaligned
CELLS = 1_000_000  # of the score matrices of one batch of targets, for each start
LOCAL_WIDTH = 3.0  # Å, of the likeness of two local chain geometries
FAR = 1e3  # Å, where the padding of shorter targets is put, so that nothing aligns to it
WINDOWS = (24, 48)  # residues of the windows whose likeness gives starts
STEP = 4  # residues from one window to the next
PLACES = 8  # averaged points along a window
PAIRS = np.triu_indices(PLACES, 1)
CORNERS = np.array([(0, 2, 5, 7), (0, 1, 3, 4), (3, 4, 6, 7), (0, 3, 4, 7), (1, 2, 5, 6)])  # whose turn has a hand
ALIKE = 16  # pairs of like windows of a target that give starts
OFFSET = 8  # residues between the starts without gaps
PROMISING = 3  # starts that the first screen aligns, beside the one of local geometry
LOOKED_AT = 3  # every how many residues of the query the first screen aligns
COMPARED = (4, 2)  # every how many residues of query and targets are compared to tell which starts promise most
TURN = 5.0  # Å that chains are apart which lie on each other at right angles, over √2
CLOSER = (4, 2, 1)  # superpositions of a target that enter each round of a closer look
WIDE_WINDOWS, WIDE_STEP = (16, 32), 2  # windows of the third screen
WIDE_ALIKE = 50  # pairs of like windows of each size and target that give it starts
WIDE_PROMISING = 16  # starts that it aligns
APART = 5.0  # Å between four residues of the query at two of them
WIDER = (3, 1)  # superpositions of a target that enter each round on all residues
Likeness = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of `size` residues of a chain: averaged points in Å (W, 8, 3), and what no motion changes (W, 33)."""

    size: int
    points: np.ndarray
    features: np.ndarray

    @classmethod
    def of(cls, trace: np.ndarray, size: int, step: int = STEP) -> Windows:
        """The windows of `size` residues of a CA trace (L, 3), each `step` after the last; none where it is shorter."""
        starts = np.arange(0, len(trace) - size + 1, step)
        edges = starts[:, None] + size // PLACES * np.arange(PLACES + 1)
        sums = np.pad(np.cumsum(trace, axis=0, dtype=np.float64), ((1, 0), (0, 0)))
        points = (np.diff(sums[edges], axis=1) / (size // PLACES)).astype(np.float32)
        distances = np.linalg.norm(points[:, PAIRS[0]] - points[:, PAIRS[1]], axis=2)
        first, second, third = np.moveaxis(np.diff(points[:, CORNERS], axis=2), 2, 0)
        hands = np.cbrt(np.einsum("wci,wci->wc", first, np.cross(second, third)))
        return cls(size, points, np.concatenate([distances, hands], axis=1))


@dataclass(frozen=True, eq=False)
class Shape:
    """What a screen sees of a structure of L residues.

    points : its CA around their centre in Å (L, 3)
    turns : its local geometry (L, 4)
    directions : unit vectors along the chain, over four residues (L, 3)
    windows : its windows of each of the sizes `WINDOWS`
    """

    points: np.ndarray
    turns: np.ndarray
    directions: np.ndarray
    windows: tuple[Windows, ...]

    @classmethod
    def of(cls, trace: np.ndarray) -> Shape:
        """The shape of a CA trace (L, 3)."""
        points = (trace - trace.mean(axis=0)).astype(np.float32)
        padded = np.pad(points, ((2, 2), (0, 0)), mode="edge")
        along = padded[4:] - padded[:-4]
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
        return cls(points, _local_geometry(points), along, tuple(Windows.of(points, size) for size in WINDOWS))

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class Superpositions:
    """Superpositions of a query on each of T targets, k of each, with their summed residue scores (T, k).

    rotation, shift : (T, k, 3, 3) and (T, k, 3) in Å
    """

    rotation: np.ndarray
    shift: np.ndarray
    score: np.ndarray

    def __getitem__(self, targets: np.ndarray | slice) -> Superpositions:
        """Those of some targets."""
        return Superpositions(self.rotation[targets], self.shift[targets], self.score[targets])

    def best(self, count: int) -> Superpositions:
        """The `count` with the highest scores of each target."""
        rows, order = np.arange(len(self.score))[:, None], np.argsort(-self.score, axis=1)[:, :count]
        return Superpositions(self.rotation[rows, order], self.shift[rows, order], self.score[rows, order])

    @staticmethod
    def joined(parts: Sequence[Superpositions], axis: int) -> Superpositions:
        """Those of several sets of targets (axis 0), or several of the same targets (axis 1)."""
        names = ("rotation", "shift", "score")
        return Superpositions(*(np.concatenate([getattr(part, name) for part in parts], axis) for name in names))


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

    Residues whose likeness is negative are never paired.

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
    """Residue scores less `FLOOR` of a query residue (3, B) and target residues (3, n, B), as (n, B)."""
    squared = np.square(ours[0] - theirs[0])
    for axis in (1, 2):
        apart = ours[axis] - theirs[axis]
        squared += np.multiply(apart, apart, out=apart)
    squared *= np.float32(1 / scale)
    squared += 1
    score = np.reciprocal(squared, out=squared)
    score -= np.float32(FLOOR)
    return score


def _alike(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Likeness less `FLOOR` of a query residue's local geometry (4, 1) and those of target residues (4, n, B)."""
    apart = np.abs(ours[0] - theirs[0])
    for column in range(1, len(ours)):
        apart += np.abs(ours[column] - theirs[column])
    apart *= np.float32(-1 / LOCAL_WIDTH)
    score = np.exp(apart, out=apart)
    score -= np.float32(FLOOR)
    return score


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


def _gapless(query: np.ndarray, targets: np.ndarray, present: np.ndarray) -> Superpositions:
    """Every `LOOKED_AT`-th residue of a query at many offsets of the targets, unscored; -1 where few are on one."""
    rows, reach = len(query), len(query) * LOOKED_AT
    margin = ((0, 0), (reach, reach))
    wide, there = np.pad(targets, (*margin, (0, 0))), np.pad(present, margin)
    starts = [reach + offset for offset in range(-(reach // 2), targets.shape[1] - reach // 2 + 1, OFFSET)]
    windows = np.stack([wide[:, start : start + reach : LOOKED_AT] for start in starts], axis=1)
    counted = np.stack([there[:, start : start + reach : LOOKED_AT] for start in starts], axis=1)
    enough = counted.sum(axis=2) >= min(rows, 20 // LOOKED_AT)
    weights = (counted + np.float32(1e-9)).reshape(-1, rows)
    flat = windows.reshape(-1, rows, 3)
    rotation, shift = _superposed(weights, np.broadcast_to(query, flat.shape), flat)
    return Superpositions(
        rotation.reshape(*enough.shape, 3, 3), shift.reshape(*enough.shape, 3), np.where(enough, 0.0, -1.0)
    )


def _by_windows(
    ours: Sequence[Windows], theirs: Sequence[Sequence[Windows]], scale: float, alike: int
) -> list[Superpositions]:
    """Superpositions of the `alike` most like windows of query and targets, of each size, unscored; -1 for none.

    ours : windows of the query, of each size
    theirs : windows of each target, likewise
    """
    found = []
    for own, others in zip(ours, zip(*theirs, strict=True), strict=True):
        counts = np.array([len(each.points) for each in others])
        if not len(own.points) or not counts.any():
            continue
        points, features = (np.concatenate([getattr(each, name) for each in others]) for name in ("points", "features"))
        squared = np.square(own.features).sum(axis=1)[:, None] + np.square(features).sum(axis=1)
        squared -= 2 * (own.features @ features.T)
        likeness = own.size / (1 + np.maximum(squared, 0) / (len(PAIRS[0]) * scale))
        column = np.arange(counts.max())
        there = column < counts[:, None]
        index = np.where(there, (np.cumsum(counts) - counts)[:, None] + column, 0)
        table = np.where(there, likeness[:, index], -1).transpose(1, 0, 2).reshape(len(counts), -1)
        kept = min(alike, table.shape[1])
        chosen = np.argpartition(-table, kept - 1, axis=1)[:, :kept]
        mobile = own.points[chosen // len(column)].reshape(-1, PLACES, 3)
        target = points[np.take_along_axis(index, chosen % len(column), axis=1)].reshape(-1, PLACES, 3)
        rotation, shift = _superposed(np.ones((len(mobile), PLACES), np.float32), mobile, target)
        score = np.take_along_axis(table, chosen, axis=1)
        found.append(Superpositions(rotation.reshape(*score.shape, 3, 3), shift.reshape(*score.shape, 3), score))
    return found


def _promise(
    query: Shape,
    shapes: Sequence[Shape],
    targets: np.ndarray,
    present: np.ndarray,
    starts: Superpositions,
    scale: float,
) -> Superpositions:
    """Starts scored by query residues with whichever target residue is nearest in place and direction; -1 stays."""
    ours, theirs = COMPARED
    mobile, along = query.points[ours // 2 :: ours], query.directions[ours // 2 :: ours]
    moved = np.matmul(mobile, starts.rotation) + starts.shift[:, :, None]
    turned = TURN * np.matmul(along, starts.rotation)
    left = np.concatenate([moved, turned, np.ones_like(moved[..., :1])], axis=-1)
    length = np.square(left[..., :6]).sum(axis=-1)
    left = np.ascontiguousarray(left.reshape(len(shapes), -1, 7).transpose(0, 2, 1))
    directions = TURN * _padded([shape.directions for shape in shapes])
    right = np.concatenate([targets, directions], axis=-1)[:, ::theirs]
    reach = np.where(present[:, ::theirs] > 0, np.square(right).sum(axis=-1), np.float32(FAR**2))
    right = np.concatenate([-2 * right, reach[..., None]], axis=-1)
    # One target after the other, so that what is compared stays in the cache.
    nearest = np.stack([np.matmul(each, other).min(axis=0) for each, other in zip(right, left, strict=True)])
    score = (1 / (1 + np.maximum(nearest.reshape(length.shape) + length, 0) / scale)).sum(axis=-1)
    return Superpositions(starts.rotation, starts.shift, np.where(starts.score < 0, -1, score))


def _by_local_geometry(query: Shape, shapes: Sequence[Shape], targets: np.ndarray, scale: float) -> Superpositions:
    """One superposition per target of every `LOOKED_AT`-th residue, from the alignment of local chain geometry."""
    theirs = np.ascontiguousarray(_padded([shape.turns for shape in shapes], fill=FAR).transpose(2, 1, 0))
    seen = slice(LOOKED_AT // 2, None, LOOKED_AT)
    partner = _alignment(query.turns[seen, :, None], theirs, _alike)
    moves = _superposed_partners(query.points[seen], targets, partner, scale)
    return Superpositions(*(each[:, None] for each in moves))


def _superposed_partners(
    query: np.ndarray, targets: np.ndarray, partner: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = np.take_along_axis(targets, np.maximum(partner, 0)[..., None], axis=1)
    return _refined((partner >= 0).astype(np.float32), np.broadcast_to(query, points.shape), points, scale)


def _aligned(
    query: np.ndarray, targets: np.ndarray, present: np.ndarray, starts: Superpositions, scale: float
) -> Superpositions:
    """Each start after one alignment and the superposition of what it pairs."""
    count, each = starts.score.shape
    moved = np.matmul(query, starts.rotation) + starts.shift[:, :, None]
    apart = np.where(present[..., None] > 0, targets, np.float32(FAR))
    ours, theirs = (
        moved.reshape(-1, len(query), 3).transpose(1, 2, 0),
        np.repeat(apart.transpose(2, 1, 0), each, axis=2),
    )
    partner = _alignment(ours, theirs, partial(_near, scale=scale))
    rotation, shift, score = _superposed_partners(query, np.repeat(targets, each, axis=0), partner, scale)
    return Superpositions(
        rotation.reshape(count, each, 3, 3), shift.reshape(count, each, 3), score.reshape(count, each)
    )


def _in_batches(targets: Sequence[Shape], residues: int) -> list[slice]:
    """Slices of the targets whose score matrices with so many query residues are small enough to be held."""
    size = max(1, CELLS // (max(1, residues) * max(map(len, targets))))
    return [slice(start, start + size) for start in range(0, len(targets), size)]


def _padded_points(shapes: Sequence[Shape]) -> tuple[np.ndarray, np.ndarray]:
    """CA of the targets, padded to the longest (T, n, 3), and 1 where there are some (T, n)."""
    targets = _padded([shape.points for shape in shapes])
    lengths = np.array([len(shape) for shape in shapes])
    return targets, (np.arange(targets.shape[1]) < lengths[:, None]).astype(np.float32)


def look(query: Shape, targets: Sequence[Shape]) -> tuple[np.ndarray, Superpositions]:
    """The first screen: a quick estimate of the TM-score with each target (T,), and where to look closer.

    TM-scores are normalised by the query's length.
    """
    scale, seen = distance_scale(len(query)) ** 2, query.points[LOOKED_AT // 2 :: LOOKED_AT]
    found = [_looked(query, seen, targets[part], scale) for part in _in_batches(targets, len(seen))]
    ends = Superpositions.joined(found, 0)
    return ends.score.max(axis=1) / len(seen), ends


def _looked(query: Shape, seen: np.ndarray, shapes: Sequence[Shape], scale: float) -> Superpositions:
    """`look` at one batch of targets."""
    targets, present = _padded_points(shapes)
    alike = _by_windows(query.windows, [shape.windows for shape in shapes], scale, ALIKE)
    starts = [_gapless(seen, targets, present), *([Superpositions.joined(alike, 1).best(ALIKE)] if alike else [])]
    chosen = _promise(query, shapes, targets, present, Superpositions.joined(starts, 1), scale).best(PROMISING)
    local = _by_local_geometry(query, shapes, targets, scale)
    return _aligned(seen, targets, present, Superpositions.joined([local, chosen], 1), scale)


def look_closer(
    query: Shape, targets: Sequence[Shape], starts: Superpositions, rounds: Sequence[int] = CLOSER
) -> np.ndarray:
    """Estimated TM-score of `query` with each of `targets` from where the first screen ended (T,).

    rounds : how many superpositions of a target enter each round of alignment
    """
    scale = distance_scale(len(query)) ** 2
    found = []
    for part in _in_batches(targets, len(query)):
        points, present = _padded_points(targets[part])
        found.append(_closer(query, points, present, starts[part], scale, rounds))
    return np.concatenate(found)


def _closer(
    query: Shape, points: np.ndarray, present: np.ndarray, ends: Superpositions, scale: float, rounds: Sequence[int]
) -> np.ndarray:
    best = np.zeros(len(points))
    for entering in rounds:
        ends = _aligned(query.points, points, present, ends.best(entering), scale)
        best = np.maximum(best, ends.score.max(axis=1))
    return best / len(query)


def look_wider(query: Shape, targets: Sequence[Shape], starts: Superpositions) -> np.ndarray:
    """The third screen: estimated TM-score of `query` with each of `targets` from many more starts (T,).

    starts : where the first screen ended
    """
    scale, seen = distance_scale(len(query)) ** 2, query.points[LOOKED_AT // 2 :: LOOKED_AT]
    ours = _wide_windows(query)
    found = []
    for part in _in_batches(targets, len(query)):
        shapes, (points, present) = targets[part], _padded_points(targets[part])
        ends = [starts[part]]
        alike = _by_windows(ours, [_wide_windows(shape) for shape in shapes], scale, WIDE_ALIKE)
        if alike:
            more = _promise(query, shapes, points, present, Superpositions.joined(alike, 1), scale)
            ends.append(_aligned(seen, points, present, _distinct(query, more, WIDE_PROMISING), scale))
        found.append(_closer(query, points, present, Superpositions.joined(ends, 1), scale, WIDER))
    return np.concatenate(found)


def _wide_windows(shape: Shape) -> list[Windows]:
    return [Windows.of(shape.points, size, WIDE_STEP) for size in WIDE_WINDOWS]


def _distinct(query: Shape, starts: Superpositions, count: int) -> Superpositions:
    """The `count` starts of each target with the highest scores that place the query unlike each other."""
    corners = query.points[len(query) * np.array([1, 3, 5, 7]) // 8]
    placed = np.matmul(corners, starts.rotation) + starts.shift[:, :, None]
    score, rows, chosen = starts.score.copy(), np.arange(len(starts.score)), []
    for _ in range(min(count, score.shape[1])):
        best = score.argmax(axis=1)
        chosen.append(best)
        apart = np.square(placed - placed[rows, best][:, None]).sum(axis=-1).mean(axis=-1)
        score[apart < APART**2] -= len(query)  # below any other, in the same order
        score[rows, best] = -np.inf
    order, each = np.stack(chosen, axis=1), rows[:, None]
    return Superpositions(starts.rotation[each, order], starts.shift[each, order], starts.score[each, order])


def screen(query: Shape, targets: Sequence[Shape]) -> np.ndarray:
    """Estimated TM-score of `query` with each of `targets` by a closer look, normalised by the query's length (T,)."""
    return look_closer(query, targets, look(query, targets)[1]) if len(targets) else np.zeros(0)
