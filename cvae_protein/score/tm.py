"""TM-score of two traces of the same length whose residues correspond, maximised over superpositions."""

from __future__ import annotations

import numpy as np

REFINEMENT = ((128, 6), (32, 10), (8, 10))  # superpositions kept, and rounds of refinement that each of them gets
SHORTEST_FRAGMENT = 4  # residues, as in TM-score


def distance_scale(length: int) -> float:
    """d0 in Å for a reference of `length` residues: 1.24 (L - 15)^(1/3) - 1.8, at least 0.5 (Zhang & Skolnick 2004)."""
    return max(0.5, 1.24 * float(np.cbrt(length - 15)) - 1.8) if length > 15 else 0.5


def _fragments(length: int) -> np.ndarray:
    """Masks of the stretches that are superposed first: whole, halves, quarters, ... of 4 residues (S, L)."""
    masks: list[np.ndarray] = []
    size = length
    positions = np.arange(length)
    while True:
        step = max(1, size // 4) if size < length else length
        starts = sorted({*range(0, length - size + 1, step), length - size})
        masks.extend((positions >= start) & (positions < start + size) for start in starts)
        if size <= SHORTEST_FRAGMENT:
            return np.array(masks, float)
        size = max(size // 2, SHORTEST_FRAGMENT)


def _squared_distances(weights: np.ndarray, mobile: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Squared distances (S, L) in Å² after each of S weighted superpositions of `mobile` on `target`, both (L, 3)."""
    weights = weights / weights.sum(axis=1, keepdims=True)
    products = (mobile[:, :, None] * target[:, None, :]).reshape(len(mobile), 9)
    center, goal = weights @ mobile, weights @ target  # (S, 3)
    covariance = (weights @ products).reshape(-1, 3, 3) - center[:, :, None] * goal[:, None, :]
    left, _, right = np.linalg.svd(covariance)
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    rotation = left @ right  # (S, 3, 3), mobile @ rotation
    moved = mobile @ rotation + (goal - np.einsum("si,sij->sj", center, rotation))[:, None]
    return np.square(moved - target).sum(axis=-1)


def tm_score(mobile: np.ndarray, target: np.ndarray, length: int | None = None) -> float:
    """TM-score of the CA trace `mobile` on `target`, both (L, 3) in Å, residue i on residue i; NaN below 4 residues.

    The best of the superpositions grown from fragments. Each is refined by weighted superposition with the weights
    (1 + d²/d0²)^-2, the minorisation of the score itself, so that no round lowers it. `length` is that of the
    reference, by default L. Zhang & Skolnick 2004, doi:10.1002/prot.20264.
    """
    if len(mobile) < SHORTEST_FRAGMENT:
        return float("nan")
    length = len(mobile) if length is None else length
    scale = distance_scale(length) ** 2
    mobile, target = mobile - mobile.mean(axis=0), target - target.mean(axis=0)
    squared = _squared_distances(_fragments(len(mobile)), mobile, target)
    best = 0.0
    for kept, rounds in REFINEMENT:
        score = (1 / (1 + squared / scale)).sum(axis=1)
        squared = squared[np.argsort(-score)[:kept]]
        for _ in range(rounds):
            squared = _squared_distances(1 / np.square(1 + squared / scale), mobile, target)
        best = max(best, score.max(), (1 / (1 + squared / scale)).sum(axis=1).max())
    return float(best / length)
