"""TM-score of traces whose residues correspond, one by one or many at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAME_FOLD = 0.5  # TM-score from which two structures share a fold (Xu & Zhang 2010)
STEPS = 12  # of Newton's method
DEGENERATE = 1e-7  # an adjugate below this, of a matrix of about unit size, gives no direction


def rotations(covariance: np.ndarray) -> np.ndarray:
    """Proper rotations R (B, 3, 3) by which mobile @ R lies best on target; `covariance` is mobile.T @ target.

    Where several are equally good, as for points on a line, one of them.
    """
    flat = np.asarray(covariance, np.float64).reshape(-1, 9).T
    size = np.sqrt(3 * np.einsum("kb,kb->b", flat, flat))  # at least the eigenvalue
    rows, determinant = _key(flat / np.where(size > 0, size, 1))
    value = np.ones(len(size))
    constant = _constant(rows)
    for _ in range(STEPS):
        square = value * value
        slope = (4 * square - 4 / 3) * value - 8 * determinant
        above = ((square - 2 / 3) * square - 8 * determinant * value) + constant
        value -= above / np.where(slope > 1e-9, slope, np.inf)
    direction = _eigenvector(rows, value)
    length = np.linalg.norm(direction, axis=1)
    found = _matrix(direction / np.where(length > 0, length, 1)[:, None])
    degenerate = length < DEGENERATE
    if degenerate.any():
        found[degenerate] = _by_decomposition(covariance[degenerate])
    return found


def _key(entries: np.ndarray) -> tuple[tuple[tuple[np.ndarray, ...], ...], np.ndarray]:
    """Rows of the symmetric matrix of Horn, and the determinant of the covariance, of its entries (9, B)."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = entries
    b, c, d = yz - zy, zx - xz, xy - yx
    f, g, i = xy + yx, zx + xz, yz + zy
    rows = (xx + yy + zz, b, c, d), (b, xx - yy - zz, f, g), (c, f, yy - xx - zz, i), (d, g, i, zz - xx - yy)
    return rows, xx * (yy * zz - yz * zy) - xy * (yx * zz - yz * zx) + xz * (yx * zy - yy * zx)


def _minors(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]) -> dict[tuple[int, int], np.ndarray]:
    """The six 2 x 2 minors of two rows, by their columns."""
    return {(p, q): first[p] * second[q] - first[q] * second[p] for p in range(3) for q in range(p + 1, 4)}


def _constant(rows: tuple[tuple[np.ndarray, ...], ...]) -> np.ndarray:
    """Determinant of a 4 x 4 matrix, by the minors of its upper and its lower rows."""
    m, n = _minors(rows[0], rows[1]), _minors(rows[2], rows[3])
    outer = m[0, 1] * n[2, 3] - m[0, 2] * n[1, 3] + m[0, 3] * n[1, 2]
    return outer + m[1, 2] * n[0, 3] - m[1, 3] * n[0, 2] + m[2, 3] * n[0, 1]


def _eigenvector(rows: tuple[tuple[np.ndarray, ...], ...], value: np.ndarray) -> np.ndarray:
    """The longest column (B, 4) of the adjugate of the matrix less its eigenvalue."""
    (a, b, c, d), (_, e, f, g), (_, _, h, i), (_, _, _, j) = rows
    a, e, h, j = a - value, e - value, h - value, j - value
    m, n = _minors((a, b, c, d), (b, e, f, g)), _minors((c, f, h, i), (d, g, i, j))
    adjugate = np.empty((4, 4, len(value)))
    adjugate[0, 0] = e * n[2, 3] - f * n[1, 3] + g * n[1, 2]
    adjugate[0, 1] = adjugate[1, 0] = c * n[1, 3] - b * n[2, 3] - d * n[1, 2]
    adjugate[1, 1] = a * n[2, 3] - c * n[0, 3] + d * n[0, 2]
    adjugate[0, 2] = adjugate[2, 0] = g * m[2, 3] - i * m[1, 3] + j * m[1, 2]
    adjugate[1, 2] = adjugate[2, 1] = i * m[0, 3] - d * m[2, 3] - j * m[0, 2]
    adjugate[2, 2] = d * m[1, 3] - g * m[0, 3] + j * m[0, 1]
    adjugate[0, 3] = adjugate[3, 0] = h * m[1, 3] - f * m[2, 3] - i * m[1, 2]
    adjugate[1, 3] = adjugate[3, 1] = c * m[2, 3] - h * m[0, 3] + i * m[0, 2]
    adjugate[2, 3] = adjugate[3, 2] = f * m[0, 3] - c * m[1, 3] - i * m[0, 1]
    adjugate[3, 3] = c * m[1, 2] - f * m[0, 2] + h * m[0, 1]
    longest = np.abs(adjugate[range(4), range(4)]).argmax(axis=0)
    return adjugate[longest, :, np.arange(len(value))]


def _matrix(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrices (B, 3, 3), to be multiplied from the right, of unit quaternions (B, 4)."""
    w, x, y, z = quaternion.T
    entries = (
        *(w * w + x * x - y * y - z * z, 2 * (x * y + w * z), 2 * (x * z - w * y)),
        *(2 * (x * y - w * z), w * w - x * x + y * y - z * z, 2 * (y * z + w * x)),
        *(2 * (x * z + w * y), 2 * (y * z - w * x), w * w - x * x - y * y + z * z),
    )
    return np.stack(entries, axis=1).reshape(-1, 3, 3)


def _by_decomposition(covariance: np.ndarray) -> np.ndarray:
    """The same by singular value decomposition (Kabsch 1976)."""
    left, _, right = np.linalg.svd(covariance)
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    return left @ right


REFINEMENT = ((64, 6), (16, 8), (4, 10))  # superpositions of each pair that are kept, and rounds they are refined
SHORTEST_FRAGMENT = 4  # residues, as in TM-score
LEAST = 1e-12  # weight of a residue, so that no superposition is without any
BATCH = 16  # pairs of like length that are superposed together
Pair = tuple[np.ndarray, np.ndarray]


def distance_scale(length: int) -> float:
    """d0 in Å for a reference of `length` residues: 1.24 (L - 15)^(1/3) - 1.8, at least 0.5 (Zhang & Skolnick 2004)."""
    return max(0.5, 1.24 * float(np.cbrt(length - 15)) - 1.8) if length > 15 else 0.5


def _fragments(length: int) -> np.ndarray:
    """First residue and end of the segments superposed first: whole, halves, quarters, ... of 4 residues (S, 2)."""
    found: list[tuple[int, int]] = []
    size = length
    while True:
        step = max(1, size // 4) if size < length else length
        found.extend((start, start + size) for start in sorted({*range(0, length - size + 1, step), length - size}))
        if size <= SHORTEST_FRAGMENT:
            return np.array(found)
        size = max(size // 2, SHORTEST_FRAGMENT)


def _starts(lengths: Sequence[int], width: int) -> np.ndarray:
    """Weights (P, S, width) of the first superpositions of each pair; none where a pair has fewer."""
    each = [_fragments(length) for length in lengths]
    bounds = np.zeros((len(each), max(map(len, each)), 2), int)
    for row, own in zip(bounds, each, strict=True):
        row[: len(own)] = own
    at = np.arange(width)
    return ((at >= bounds[..., :1]) & (at < bounds[..., 1:])).astype(np.float32)


class _Superposer:
    """Pairs of like length, padded to one width L, with what any superposition of them needs, computed once.

    Sums and squared distances are linear in the products of coordinates, so that both are one matrix product.
    """

    def __init__(self, pairs: Sequence[Pair], references: Sequence[int], precision: type) -> None:
        width = max(len(mobile) for mobile, _ in pairs)
        self.present = np.zeros((len(pairs), 1, width))
        self.scale = np.array([distance_scale(length) ** 2 for length in references])[:, None, None]
        mobile, target = np.zeros((2, len(pairs), width, 3))
        for row, (first, second) in enumerate(pairs):
            self.present[row, 0, : len(first)] = 1
            mobile[row, : len(first)] = first - first.mean(axis=0)
            target[row, : len(first)] = second - second.mean(axis=0)
        products = (mobile[..., :, None] * target[..., None, :]).reshape(*mobile.shape[:2], 9)
        squares = np.square(mobile).sum(axis=-1) + np.square(target).sum(axis=-1)
        ones = np.ones((*squares.shape, 1))
        points = np.concatenate([products, mobile, target, ones], axis=-1)
        terms = np.concatenate([points, squares[..., None]], axis=-1).transpose(0, 2, 1)
        self.points: np.ndarray = points.astype(precision)  # (P, L, 16)
        self.terms: np.ndarray = terms.astype(precision)  # (P, 17, L)
        self.present, self.scale = self.present.astype(precision), self.scale.astype(precision)

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Residue scores (P, S, L) after superpositions with `weights` (P, S, L), 0 where padded."""
        sums = np.matmul(weights, self.points)
        sums /= sums[..., 15:]
        center, goal = sums[..., 9:12], sums[..., 12:15]
        covariance = sums[..., :9].reshape(*sums.shape[:2], 3, 3) - center[..., :, None] * goal[..., None, :]
        rotation = rotations(covariance.reshape(-1, 3, 3)).reshape(covariance.shape).astype(sums.dtype)
        shift = goal - np.matmul(center[..., None, :], rotation)[..., 0, :]
        turned = np.matmul(rotation, shift[..., None])[..., 0]
        length = np.square(shift).sum(axis=-1, keepdims=True)
        factors = [-2 * rotation.reshape(*sums.shape[:2], 9), 2 * turned, -2 * shift, length, np.ones_like(length)]
        squared = np.matmul(np.concatenate(factors, axis=-1), self.terms)
        squared /= self.scale
        squared += 1
        return np.divide(self.present, squared, out=squared)


def _best(pairs: Sequence[Pair], references: Sequence[int]) -> np.ndarray:
    """Highest summed score of each of a batch of pairs over the superpositions tried (P,).

    In single precision until few superpositions are left; those are finished in double precision.
    """
    rough, exact = (_Superposer(pairs, references, precision) for precision in (np.float32, np.float64))
    starts = _starts([len(mobile) for mobile, _ in pairs], rough.present.shape[-1])
    real = starts.any(axis=-1, keepdims=True)
    score = rough.scores(np.where(real, starts, rough.present)) * real
    for number, (kept, rounds) in enumerate(REFINEMENT, 1):
        order = np.argsort(-score.sum(axis=-1), axis=1)[:, :kept, None]
        score, real = (np.take_along_axis(each, order, axis=1) for each in (score, real))
        superposer = exact if number == len(REFINEMENT) else rough
        for _ in range(rounds):
            score = superposer.scores(np.square(score) + LEAST * superposer.present) * real
    return score.sum(axis=-1).max(axis=1)


def tm_scores(pairs: Sequence[Pair], lengths: Sequence[int] | None = None) -> np.ndarray:
    """TM-score of each CA trace on its target, both (L, 3) in Å, residue i on residue i (P,); NaN below 4 residues.

    The best of the superpositions grown from fragments. Each is refined by weighted superposition with the weights
    (1 + d²/d0²)^-2, the minorisation of the score itself, so that no round lowers it. `lengths` are those of the
    references, by default L. Zhang & Skolnick 2004, doi:10.1002/prot.20264.
    """
    found = np.full(len(pairs), np.nan)
    references = [len(mobile) for mobile, _ in pairs] if lengths is None else lengths
    usable = [index for index, (mobile, _) in enumerate(pairs) if len(mobile) >= SHORTEST_FRAGMENT]
    usable.sort(key=lambda index: len(pairs[index][0]))
    for start in range(0, len(usable), BATCH):
        batch = usable[start : start + BATCH]
        sums = _best([pairs[index] for index in batch], [references[index] for index in batch])
        found[batch] = sums / np.array([references[index] for index in batch])
    return found


def tm_score(mobile: np.ndarray, target: np.ndarray, length: int) -> float:
    """`tm_scores` of one pair."""
    return float(tm_scores([(mobile, target)], [length])[0])
