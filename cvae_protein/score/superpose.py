"""Rotations of many least-squares superpositions at once, several times as fast as a singular value decomposition each.

The rotation is the eigenvector of the largest eigenvalue of a symmetric 4 x 4 matrix made of the covariance (Horn 1987,
doi:10.1364/JOSAA.4.000629). That eigenvalue is the largest root of a quartic, found by Newton's method from above, and
the eigenvector a column of the adjugate (Theobald 2005, doi:10.1107/S0108767305015266).
"""

from __future__ import annotations

import numpy as np

STEPS = 12  # of Newton's method
DEGENERATE = 1e-7  # an adjugate below this, of a matrix of about unit size, tells no direction
Row = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


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


def _key(entries: np.ndarray) -> tuple[tuple[Row, Row, Row, Row], np.ndarray]:
    """Rows of the symmetric matrix of Horn, and the determinant of the covariance, of its entries (9, B)."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = entries
    b, c, d = yz - zy, zx - xz, xy - yx
    f, g, i = xy + yx, zx + xz, yz + zy
    rows = (xx + yy + zz, b, c, d), (b, xx - yy - zz, f, g), (c, f, yy - xx - zz, i), (d, g, i, zz - xx - yy)
    return rows, xx * (yy * zz - yz * zy) - xy * (yx * zz - yz * zx) + xz * (yx * zy - yy * zx)


def _minors(first: Row, second: Row) -> dict[tuple[int, int], np.ndarray]:
    """The six 2 x 2 minors of two rows, by their columns."""
    return {(p, q): first[p] * second[q] - first[q] * second[p] for p in range(3) for q in range(p + 1, 4)}


def _constant(rows: tuple[Row, Row, Row, Row]) -> np.ndarray:
    """Determinant of a 4 x 4 matrix, by the minors of its upper and its lower rows."""
    m, n = _minors(rows[0], rows[1]), _minors(rows[2], rows[3])
    outer = m[0, 1] * n[2, 3] - m[0, 2] * n[1, 3] + m[0, 3] * n[1, 2]
    return outer + m[1, 2] * n[0, 3] - m[1, 3] * n[0, 2] + m[2, 3] * n[0, 1]


def _eigenvector(rows: tuple[Row, Row, Row, Row], value: np.ndarray) -> np.ndarray:
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
