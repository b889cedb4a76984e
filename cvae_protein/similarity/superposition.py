"""Superposition of corresponding points, compiled on the first call ever and then cached beside the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core import event

from ..core.progress import say

STEPS = 30  # of Newton's method, at most
DEGENERATE = 1e-7  # an adjugate below this, of a matrix of about unit size, gives no direction
PREFERRED = 1e-3  # added to the covariance, unevenly, where several rotations are equally good
Row = tuple[float, ...]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled by numba for the types it is first called with; cached on disk if possible."""
    try:
        return njit(cache=True, fastmath=True, error_model="numpy")(function)
    except RuntimeError:  # no folder is writable
        return njit(fastmath=True, error_model="numpy")(function)


class _Announcement(event.Listener):
    """Says once per process that functions of the package are being compiled, but not that they are loaded again."""

    said = False

    def on_start(self, begun: event.Event) -> None:
        """Called by numba when it begins to compile a function, of whatever package."""
        module: str = begun.data["dispatcher"].py_func.__module__
        if not self.said and module.startswith(__package__):
            say("superposition", "compiles its functions (some 20 s), and keeps them for later runs where it may write")
            self.said = True

    def on_end(self, ended: event.Event) -> None:
        """Called by numba when a function is compiled."""


event.register("numba:compile", _Announcement())


@compiled
def superpose(
    mobile: np.ndarray, target: np.ndarray, weights: np.ndarray, count: int, rotation: np.ndarray, shift: np.ndarray
) -> None:
    """Write the rotation (3, 3) and shift (3,) for which mobile @ rotation + shift best fits target, by weights.

    mobile, target : points (3, >=count), of which the first `count` are used; weights (>=count,)
    """
    total = weights[0] * 0  # of the same precision
    mx = my = mz = tx = ty = tz = total
    xx = xy = xz = yx = yy = yz = zx = zy = zz = total
    for k in range(count):
        weight = weights[k]
        x, y, z = weight * mobile[0, k], weight * mobile[1, k], weight * mobile[2, k]
        u, v, w = target[0, k], target[1, k], target[2, k]
        total += weight
        mx, my, mz = mx + x, my + y, mz + z
        tx, ty, tz = tx + weight * u, ty + weight * v, tz + weight * w
        xx, xy, xz = xx + x * u, xy + x * v, xz + x * w
        yx, yy, yz = yx + y * u, yy + y * v, yz + y * w
        zx, zy, zz = zx + z * u, zy + z * v, zz + z * w
    cx, cy, cz = mx / total, my / total, mz / total
    first = xx - cx * tx, xy - cx * ty, xz - cx * tz
    second = yx - cy * tx, yy - cy * ty, yz - cy * tz
    third = zx - cz * tx, zy - cz * ty, zz - cz * tz
    rotate(first, second, third, rotation)
    shift[0] = tx / total - (cx * rotation[0, 0] + cy * rotation[1, 0] + cz * rotation[2, 0])
    shift[1] = ty / total - (cx * rotation[0, 1] + cy * rotation[1, 1] + cz * rotation[2, 1])
    shift[2] = tz / total - (cx * rotation[0, 2] + cy * rotation[1, 2] + cz * rotation[2, 2])


@compiled
def rotate(first: Row, second: Row, third: Row, rotation: np.ndarray) -> None:
    """Write the proper rotation (3, 3) for which mobile @ rotation best fits target (Horn 1987, Theobald 2005).

    The rows are those of the covariance mobile.T @ target. If several rotations are equally good, as for points on a
    line, one of them is written.
    """
    size = 0.0
    for row in (first, second, third):
        size += row[0] * row[0] + row[1] * row[1] + row[2] * row[2]
    size = np.sqrt(3 * size)
    scale = 1 / size if size > 0 else 1.0
    for preferred in (0.0, PREFERRED):
        length = _rotate(
            (scale * first[0] + 3 * preferred, scale * first[1], scale * first[2]),
            (scale * second[0], scale * second[1] + 2 * preferred, scale * second[2]),
            (scale * third[0], scale * third[1], scale * third[2] + preferred),
            rotation,
        )
        if length > DEGENERATE:
            break


@compiled
def _minors(first: Row, second: Row) -> Row:
    """The 2 x 2 minors of two rows of four, of the columns 01, 02, 03, 12, 13, 23."""
    a, b, c, d = first
    e, f, g, h = second
    return a * f - b * e, a * g - c * e, a * h - d * e, b * g - c * f, b * h - d * f, c * h - d * g


@compiled
def _rotate(first: Row, second: Row, third: Row, rotation: np.ndarray) -> float:
    """`rotate` for a covariance of about unit size; returns how certain it is: the length of the adjugate's column.

    The quaternion is the longest column of the adjugate of Horn's symmetric matrix minus its highest eigenvalue.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = first, second, third
    a, b, c, d = xx + yy + zz, yz - zy, zx - xz, xy - yx
    e, f, g = xx - yy - zz, xy + yx, zx + xz
    h, i, j = yy - xx - zz, yz + zy, zz - xx - yy
    determinant = xx * (yy * zz - yz * zy) - xy * (yx * zz - yz * zx) + xz * (yx * zy - yy * zx)
    square = 2 * (xx * xx + xy * xy + xz * xz + yx * yx + yy * yy + yz * yz + zx * zx + zy * zy + zz * zz)
    m01, m02, m03, m12, m13, m23 = _minors((a, b, c, d), (b, e, f, g))
    n01, n02, n03, n12, n13, n23 = _minors((c, f, h, i), (d, g, i, j))
    constant = m01 * n23 - m02 * n13 + m03 * n12 + m12 * n03 - m13 * n02 + m23 * n01
    value = np.sqrt(1.5 * square)  # at least the eigenvalue
    for _ in range(STEPS):
        slope = (4 * value * value - 2 * square) * value - 8 * determinant
        above = ((value * value - square) * value - 8 * determinant) * value + constant
        if slope < 1e-9 or above < 1e-10 * slope:
            break
        value -= above / slope
    a, e, h, j = a - value, e - value, h - value, j - value
    m01, m02, m03, m12, m13, m23 = _minors((a, b, c, d), (b, e, f, g))
    n01, n02, n03, n12, n13, n23 = _minors((c, f, h, i), (d, g, i, j))
    ww, wx, wy, wz = (
        *(e * n23 - f * n13 + g * n12, c * n13 - b * n23 - d * n12),
        *(g * m23 - i * m13 + j * m12, h * m13 - f * m23 - i * m12),
    )
    xx, xy, xz = a * n23 - c * n03 + d * n02, i * m03 - d * m23 - j * m02, c * m23 - h * m03 + i * m02
    yy, yz, zz = d * m13 - g * m03 + j * m01, f * m03 - c * m13 - i * m01, c * m12 - f * m02 + h * m01
    longest = max(abs(ww), abs(xx), abs(yy), abs(zz))
    if longest == abs(ww):
        w, x, y, z = ww, wx, wy, wz
    elif longest == abs(xx):
        w, x, y, z = wx, xx, xy, xz
    elif longest == abs(yy):
        w, x, y, z = wy, xy, yy, yz
    else:
        w, x, y, z = wz, xz, yz, zz
    length = np.sqrt(w * w + x * x + y * y + z * z)
    if length > 0:
        w, x, y, z = w / length, x / length, y / length, z / length
    rotation[0, 0] = w * w + x * x - y * y - z * z
    rotation[1, 1] = w * w - x * x + y * y - z * z
    rotation[2, 2] = w * w - x * x - y * y + z * z
    rotation[0, 1], rotation[1, 0] = 2 * (x * y + w * z), 2 * (x * y - w * z)
    rotation[2, 0], rotation[0, 2] = 2 * (x * z + w * y), 2 * (x * z - w * y)
    rotation[1, 2], rotation[2, 1] = 2 * (y * z + w * x), 2 * (y * z - w * x)
    return length
