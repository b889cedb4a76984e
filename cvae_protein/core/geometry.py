"""Backbone geometry in NumPy: torsions, superposition, size. Ångström and radians throughout."""

from __future__ import annotations

import numpy as np

from .structure import CA, C, N


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of vectors (..., 3); np.cross without its overhead for few vectors."""
    (ax, ay, az), (bx, by, bz) = ((v[..., 0], v[..., 1], v[..., 2]) for v in (a, b))
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def dihedral(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Signed dihedral angles of the points a-b-c-d, in radians in (-pi, pi], IUPAC sign; points (..., 3) -> (...).

    NaN where a coordinate is NaN. Formula: Blondel & Karplus (1996) J. Comput. Chem. 17, 1132, with atan2.
    """
    a, b, c, d = (np.asarray(point, np.float64) for point in (a, b, c, d))
    first, axis, last = b - a, c - b, d - c
    normal_first, normal_last = _cross(first, axis), _cross(axis, last)
    sine = np.linalg.norm(axis, axis=-1) * (first * normal_last).sum(-1)
    return np.arctan2(sine, (normal_first * normal_last).sum(-1))


def torsions(coords: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    """phi, psi and omega of every residue in radians (..., L, 3), from coordinates (..., L, 5, 3) in Å.

    phi(i) is C(i-1)-N-CA-C, psi(i) is N-CA-C-N(i+1), omega(i) is CA-C-N(i+1)-CA(i+1), as in mdtraj and Biopython. NaN
    at the ends, across a break (`breaks` (L-1,), between residues i and i+1) and where an atom is missing.
    """
    coords = np.asarray(coords, np.float64)
    length = coords.shape[-3]
    angles = np.full((*coords.shape[:-3], length, 3), np.nan)
    if length < 2:
        return angles
    nitrogen, alpha, carbon = (coords[..., atom, :] for atom in (N, CA, C))
    here, following = (..., slice(None, -1), slice(None)), (..., slice(1, None), slice(None))
    joined = ~np.asarray(breaks, bool)
    phi = dihedral(carbon[here], nitrogen[following], alpha[following], carbon[following])
    psi = dihedral(nitrogen[here], alpha[here], carbon[here], nitrogen[following])
    omega = dihedral(alpha[here], carbon[here], nitrogen[following], alpha[following])
    angles[..., 1:, 0] = np.where(joined, phi, np.nan)
    angles[..., :-1, 1] = np.where(joined, psi, np.nan)
    angles[..., :-1, 2] = np.where(joined, omega, np.nan)
    return angles


def superpose(mobile: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (..., 3, 3) and translation (..., 3) in Å that superpose `mobile` (..., P, 3) on `target`, least RMSD.

    Use as `mobile @ rotation.swapaxes(-1, -2) + translation[..., None, :]`; see `move`. The rotation is proper, never a
    reflection. Points with a NaN in either set are ignored. Leading axes broadcast. Algorithm: Kabsch (1976) Acta
    Cryst. A32, 922, with the sign of Umeyama (1991) IEEE PAMI 13, 376.
    """
    mobile, target = np.broadcast_arrays(np.asarray(mobile, np.float64), np.asarray(target, np.float64))
    present = (np.isfinite(mobile) & np.isfinite(target)).all(-1, keepdims=True)
    count = np.maximum(present.sum(-2, keepdims=True), 1)
    mobile, target = np.where(present, mobile, 0.0), np.where(present, target, 0.0)
    mobile_center, target_center = mobile.sum(-2, keepdims=True) / count, target.sum(-2, keepdims=True) / count
    covariance = np.where(present, mobile - mobile_center, 0.0).swapaxes(-1, -2) @ (target - target_center)
    u, _, vt = np.linalg.svd(covariance)
    sign = np.ones(covariance.shape[:-1])
    sign[..., 2] = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    rotation = (u * sign[..., None, :] @ vt).swapaxes(-1, -2)
    translation = target_center - mobile_center @ rotation.swapaxes(-1, -2)
    return rotation, translation[..., 0, :]


def move(points: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """`points` (..., P, 3) in Å rotated by (..., 3, 3), then translated by (..., 3)."""
    return points @ np.swapaxes(rotation, -1, -2) + np.asarray(translation)[..., None, :]


def rmsd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Minimum RMSD in Å after superposition of points (..., P, 3) -> (...); leading axes broadcast.

    Points with a NaN in either set are ignored; NaN if no point is left.
    """
    difference = move(np.asarray(a, np.float64), *superpose(a, b)) - b
    squares = (difference**2).sum(-1)
    count = np.isfinite(squares).sum(-1)
    total = np.nansum(squares, -1)
    return np.sqrt(np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0))


def distances(points: np.ndarray) -> np.ndarray:
    """Distances in Å between all pairs of points (..., P, 3) -> (..., P, P)."""
    points = np.asarray(points, np.float64)
    return np.linalg.norm(points[..., :, None, :] - points[..., None, :, :], axis=-1)


def radius_of_gyration(points: np.ndarray) -> np.ndarray:
    """Root-mean-square distance in Å of points (..., P, 3) of equal mass from their centre -> (...); NaN ignored."""
    points = np.asarray(points, np.float64)
    center = np.nanmean(points, axis=-2, keepdims=True)
    return np.sqrt(np.nanmean(((points - center) ** 2).sum(-1), axis=-1))
