"""TM-score of traces with corresponding residues."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .superposition import compiled, superpose

SAME_FOLD = 0.5  # TM-score from which two structures share a fold (Xu & Zhang 2010)
REFINEMENT = ((64, 6), (16, 8), (4, 10))  # superpositions of each pair that are kept, and their rounds of refinement
SHORTEST_FRAGMENT = 4  # residues, as in TM-score
LEAST = 1e-12  # weight of a residue, so that no superposition is without weights
Pair = tuple[np.ndarray, np.ndarray]


def distance_scale(length: int) -> float:
    """d0 in Å for a reference of `length` residues: 1.24 (L - 15)^(1/3) - 1.8, at least 0.5 (Zhang & Skolnick 2004)."""
    return max(0.5, 1.24 * float(np.cbrt(length - 15)) - 1.8) if length > 15 else 0.5


def _fragments(length: int) -> np.ndarray:
    """Start and end (S, 2) of the segments superposed at first: whole, halves, quarters, ... down to 4 residues."""
    found: list[tuple[int, int]] = []
    size = length
    while True:
        step = max(1, size // 4) if size < length else length
        found.extend((start, start + size) for start in sorted({*range(0, length - size + 1, step), length - size}))
        if size <= SHORTEST_FRAGMENT:
            return np.array(found)
        size = max(size // 2, SHORTEST_FRAGMENT)


@compiled
def _round(
    mobile: np.ndarray, target: np.ndarray, weights: np.ndarray, scale: float, rotation: np.ndarray, shift: np.ndarray
) -> float:
    """Summed residue score after superposition with `weights`, which are replaced by those of the next round."""
    length, total = len(weights), 0.0
    superpose(mobile, target, weights, length, rotation, shift)
    for k in range(length):
        x, y, z = mobile[0, k], mobile[1, k], mobile[2, k]
        a = x * rotation[0, 0] + y * rotation[1, 0] + z * rotation[2, 0] + shift[0] - target[0, k]
        b = x * rotation[0, 1] + y * rotation[1, 1] + z * rotation[2, 1] + shift[1] - target[1, k]
        c = x * rotation[0, 2] + y * rotation[1, 2] + z * rotation[2, 2] + shift[2] - target[2, k]
        score = 1 / (1 + (a * a + b * b + c * c) / scale)
        total += score
        weights[k] = score * score + LEAST
    return total


@compiled
def _best(mobile: np.ndarray, target: np.ndarray, fragments: np.ndarray, scale: float) -> float:
    """Highest summed score of two traces (3, L) over the superpositions tried."""
    rotation, shift = np.empty((3, 3)), np.empty(3)
    weights, score = np.zeros((len(fragments), mobile.shape[1])), np.empty(len(fragments))
    for k in range(len(fragments)):
        weights[k, fragments[k, 0] : fragments[k, 1]] = 1
        score[k] = _round(mobile, target, weights[k], scale, rotation, shift)
    for kept, rounds in REFINEMENT:
        order = np.argsort(-score)[:kept]
        score, weights = score[order], weights[order]
        for k in range(len(order)):
            for _ in range(rounds):
                score[k] = _round(mobile, target, weights[k], scale, rotation, shift)
    return score.max()


def tm_scores(pairs: Sequence[Pair], lengths: Sequence[int] | None = None) -> np.ndarray:
    """TM-score of each CA trace on its target, both (L, 3) in Å, residue i on residue i (P,); NaN below 4 residues.

    The best over superpositions that start from fragments. Each is refined by weighted superposition with the weights
    (1 + d²/d0²)^-2, the minorisation of the score itself, so that no round lowers it. `lengths` are those of the
    references, by default L. Zhang & Skolnick 2004, doi:10.1002/prot.20264.
    """
    references = [len(mobile) for mobile, _ in pairs] if lengths is None else lengths
    found = np.full(len(pairs), np.nan)
    for index, ((mobile, target), length) in enumerate(zip(pairs, references, strict=True)):
        if len(mobile) >= SHORTEST_FRAGMENT:
            centred = (np.ascontiguousarray((each - each.mean(axis=0)).T, float) for each in (mobile, target))
            found[index] = _best(*centred, _fragments(len(mobile)), distance_scale(length) ** 2) / length
    return found


def tm_score(mobile: np.ndarray, target: np.ndarray, length: int) -> float:
    """`tm_scores` of one pair."""
    return float(tm_scores([(mobile, target)], [length])[0])
