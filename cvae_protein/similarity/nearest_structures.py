"""A fast estimate of the TM-score of one query against many traces at once, to choose which to align exactly.

Lower than TM-align's value by a few hundredths, never by design above the score of a real alignment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..score.superpose import rotations
from .tm_score import distance_scale

OFFSET_STEP = 4  # residues between the gapless starts
KEPT = 4  # gapless starts of a target that are aligned with gaps
ALIGNMENTS = (5, 2, 1)  # starts of a target that enter each round of alignment and superposition
SUPERPOSITIONS = 3  # reweighted superpositions a round
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
    """One superposition a target, from the alignment of local chain geometry."""
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
