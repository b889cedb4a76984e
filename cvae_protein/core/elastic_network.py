"""Elastic network models of a CA trace: the motions that a chain's contacts alone predict.

Springs of unit constant join all pairs of CA within a cutoff. Fluctuations are in arbitrary units, because an elastic
network predicts the direction of motions but not their size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import distances, rmsd

GNM_CUTOFF, ANM_CUTOFF, CONTACT_CUTOFF = (
    10.0,
    15.0,
    10.0,
)  # Å; the first two as in ProDy (Bakan et al. 2011), the last as usual for contact numbers
RIGID = 6  # rigid-body motions, which cost no energy
NOTHING = 1e-9  # spring constants; smaller eigenvalues count as zero
ROUNDS = 20  # bisection steps for the amplitude of an ensemble


@dataclass(frozen=True, eq=False)
class Modes:
    """Normal modes of a trace, softest first: orthonormal `vectors` (K, L, 3) and positive `stiffness` (K,)."""

    vectors: np.ndarray
    stiffness: np.ndarray

    @property
    def fluctuations(self) -> np.ndarray:
        """Root mean square fluctuation of each residue (L,) in arbitrary units."""
        return np.sqrt((np.square(self.vectors).sum(axis=-1) / self.stiffness[:, None]).sum(axis=0))


def _close(trace: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Difference vectors of all pairs (L, L, 3) in Å, and squared distances within the cutoff (0 beyond it)."""
    trace = np.asarray(trace, np.float64)
    apart = trace[None] - trace[:, None]
    square = np.square(apart).sum(axis=-1)
    return apart, np.where(square <= cutoff**2, square, 0.0)


def hessian(trace: np.ndarray, cutoff: float = ANM_CUTOFF) -> np.ndarray:
    """Hessian (3L, 3L) of the anisotropic network model of a CA trace (L, 3) in Å.

    Atilgan et al. (2001) Biophys. J. 80, 505: the block of i, j is -(r r^T) / r^2 for each spring r.
    """
    apart, square = _close(trace, cutoff)
    length = len(apart)
    weight = np.divide(1.0, square, out=np.zeros_like(square), where=square > 0)
    blocks = -weight[..., None, None] * apart[..., :, None] * apart[..., None, :]
    blocks[np.arange(length), np.arange(length)] = -blocks.sum(axis=1)
    return blocks.transpose(0, 2, 1, 3).reshape(3 * length, 3 * length)


def anisotropic_modes(trace: np.ndarray, cutoff: float = ANM_CUTOFF) -> Modes:
    """All modes of the anisotropic network model of a CA trace (L, 3) in Å except rigid-body motions.

    Modes in which parts of the trace that no spring joins move freely are left out as well.
    """
    stiffness, vectors = np.linalg.eigh(hessian(trace, cutoff))
    kept = np.arange(len(stiffness)) >= RIGID
    kept &= stiffness > NOTHING
    return Modes(vectors.T[kept].reshape(-1, len(trace), 3), stiffness[kept])


def without_rigid_motion(motions: np.ndarray, trace: np.ndarray) -> np.ndarray:
    """Motions (K, L, 3) of a trace (L, 3) with their rigid-body translations and rotations projected out."""
    centred = trace - trace.mean(axis=0)
    shifts = np.broadcast_to(np.eye(3)[:, None], (3, *trace.shape))
    turns = np.cross(np.eye(3)[:, None], centred[None])
    rigid = np.linalg.qr(np.concatenate([shifts, turns]).reshape(RIGID, -1).T)[0]
    flat = motions.reshape(len(motions), -1)
    return (flat - flat @ rigid @ rigid.T).reshape(motions.shape)


def gaussian_fluctuations(trace: np.ndarray, cutoff: float = GNM_CUTOFF) -> np.ndarray:
    """Root mean square fluctuation of each residue (L,) in the Gaussian network model, in arbitrary units.

    Bahar, Atilgan & Erman (1997) Fold. Des. 2, 173: the diagonal of the pseudo-inverse of the contact Laplacian.
    """
    _, square = _close(trace, cutoff)
    return _laplacian_fluctuations(np.where(square > 0, 1.0, 0.0))


def parameter_free_fluctuations(trace: np.ndarray) -> np.ndarray:
    """As `gaussian_fluctuations`, but with springs between all CA, of constant 1 / distance^2 (Å).

    Yang, Song & Jernigan (2009) PNAS 106, 12347 (pfGNM).
    """
    return _laplacian_fluctuations(_inverse_squares(trace))


def _laplacian_fluctuations(springs: np.ndarray) -> np.ndarray:
    """Root mean square fluctuation of each residue (L,) in one dimension, given the spring constants (L, L)."""
    stiffness, vectors = np.linalg.eigh(np.diag(springs.sum(axis=1)) - springs)
    kept = stiffness > NOTHING
    return np.sqrt((np.square(vectors[:, kept]) / stiffness[kept]).sum(axis=1))


def _inverse_squares(trace: np.ndarray) -> np.ndarray:
    square = np.square(distances(trace))
    np.fill_diagonal(square, np.inf)
    return 1 / np.maximum(square, NOTHING)


def contact_fluctuations(trace: np.ndarray, cutoff: float = CONTACT_CUTOFF) -> np.ndarray:
    """1 / sqrt of the number of CA within the cutoff of each CA (L,), the simplest predictor of fluctuations.

    Halle (2002) PNAS 99, 1274. A residue without contacts counts as having one.
    """
    _, square = _close(trace, cutoff)
    return 1 / np.sqrt(np.maximum((square > 0).sum(axis=1), 1))


def packing_fluctuations(trace: np.ndarray) -> np.ndarray:
    """1 / sqrt of the sum of 1 / distance^2 over all other CA, in Å (L,): contacts without a cutoff.

    Lin et al. (2008) Proteins 72, 929 (weighted contact number).
    """
    return 1 / np.sqrt(_inverse_squares(trace).sum(axis=1))


def overlap(vectors: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Overlap |cosine| (K,) of each of the orthonormal vectors (K, L, 3) with a displacement (L, 3).

    Marques & Sanejouand (1995) Proteins 23, 557. The square root of the sum of squares is the overlap of all vectors
    together. Superpose the two structures first.
    """
    along = np.einsum("kli,li->k", vectors, motion)
    return np.abs(along) / max(float(np.linalg.norm(motion)), 1e-12)


def scale_to(trace: np.ndarray, steps: np.ndarray, spread: float) -> float:
    """The factor by which `steps` (n, L, 3), added to `trace` (L, 3), give a mean RMSD of `spread` Å from it."""
    low, high = 0.0, 1.0
    while rmsd(trace + high * steps, trace).mean() < spread:
        low, high = high, 2 * high
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if rmsd(trace + middle * steps, trace).mean() < spread else (low, middle)
    return high
