"""Elastic networks of a CA trace: what a chain's contacts alone say of where it goes.

Every two CA within a cutoff are joined by a spring of unit constant. Fluctuations are in arbitrary units, since an
elastic network says where a chain moves and not how far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import distances, rmsd

GNM_CUTOFF, ANM_CUTOFF, CONTACT_CUTOFF = (
    10.0,
    15.0,
    10.0,
)  # Å, those of ProDy (Bakan et al. 2011) and of contact numbers
RIGID = 6  # motions of a body in space that cost nothing
NOTHING = 1e-9  # of a spring constant; an eigenvalue below it costs nothing either
ROUNDS = 20  # of bisection for the amplitude of an ensemble


@dataclass(frozen=True, eq=False)
class Modes:
    """Normal modes of a trace, softest first: `vectors` (K, L, 3), orthonormal, and `stiffness` (K,) above 0."""

    vectors: np.ndarray
    stiffness: np.ndarray

    @property
    def fluctuations(self) -> np.ndarray:
        """Root mean square fluctuation of each residue (L,) in arbitrary units."""
        return np.sqrt((np.square(self.vectors).sum(axis=-1) / self.stiffness[:, None]).sum(axis=0))


def _close(trace: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Differences of all pairs (L, L, 3) in Å, and the square of the distance of those within the cutoff, else 0."""
    trace = np.asarray(trace, np.float64)
    apart = trace[None] - trace[:, None]
    square = np.square(apart).sum(axis=-1)
    return apart, np.where(square <= cutoff**2, square, 0.0)


def hessian(trace: np.ndarray, cutoff: float = ANM_CUTOFF) -> np.ndarray:
    """Second derivatives of the energy of the anisotropic network model of a CA trace (L, 3) in Å: (3L, 3L).

    Atilgan et al. (2001) Biophys. J. 80, 505: the block of i, j is -(r r^T) / r^2 for each spring r.
    """
    apart, square = _close(trace, cutoff)
    length = len(apart)
    weight = np.divide(1.0, square, out=np.zeros_like(square), where=square > 0)
    blocks = -weight[..., None, None] * apart[..., :, None] * apart[..., None, :]
    blocks[np.arange(length), np.arange(length)] = -blocks.sum(axis=1)
    return blocks.transpose(0, 2, 1, 3).reshape(3 * length, 3 * length)


def anisotropic_modes(trace: np.ndarray, cutoff: float = ANM_CUTOFF) -> Modes:
    """All modes of the anisotropic network model of a CA trace (L, 3) in Å, but for rigid motions.

    Parts of a trace that no spring joins move freely; such modes are left out as well.
    """
    stiffness, vectors = np.linalg.eigh(hessian(trace, cutoff))
    kept = np.arange(len(stiffness)) >= RIGID
    kept &= stiffness > NOTHING
    return Modes(vectors.T[kept].reshape(-1, len(trace), 3), stiffness[kept])


def without_rigid_motion(motions: np.ndarray, trace: np.ndarray) -> np.ndarray:
    """Motions (K, L, 3) of a trace (L, 3), less what they have of shifts and turns of the whole."""
    centred = trace - trace.mean(axis=0)
    shifts = np.broadcast_to(np.eye(3)[:, None], (3, *trace.shape))
    turns = np.cross(np.eye(3)[:, None], centred[None])
    rigid = np.linalg.qr(np.concatenate([shifts, turns]).reshape(RIGID, -1).T)[0]
    flat = motions.reshape(len(motions), -1)
    return (flat - flat @ rigid @ rigid.T).reshape(motions.shape)


def gaussian_fluctuations(trace: np.ndarray, cutoff: float = GNM_CUTOFF) -> np.ndarray:
    """Root mean square fluctuation of each residue (L,) by the Gaussian network model, in arbitrary units.

    Bahar, Atilgan & Erman (1997) Fold. Des. 2, 173: the diagonal of the pseudo-inverse of the contact Laplacian.
    """
    _, square = _close(trace, cutoff)
    return _laplacian_fluctuations(np.where(square > 0, 1.0, 0.0))


def parameter_free_fluctuations(trace: np.ndarray) -> np.ndarray:
    """As `gaussian_fluctuations`, of springs between all CA whose constants are 1 / distance^2, in Å.

    Yang, Song & Jernigan (2009) PNAS 106, 12347 (pfGNM).
    """
    return _laplacian_fluctuations(_inverse_squares(trace))


def _laplacian_fluctuations(springs: np.ndarray) -> np.ndarray:
    """Root mean square fluctuation of each residue (L,) of springs of constants (L, L) along one dimension."""
    stiffness, vectors = np.linalg.eigh(np.diag(springs.sum(axis=1)) - springs)
    kept = stiffness > NOTHING
    return np.sqrt((np.square(vectors[:, kept]) / stiffness[kept]).sum(axis=1))


def _inverse_squares(trace: np.ndarray) -> np.ndarray:
    square = np.square(distances(trace))
    np.fill_diagonal(square, np.inf)
    return 1 / np.maximum(square, NOTHING)


def contact_fluctuations(trace: np.ndarray, cutoff: float = CONTACT_CUTOFF) -> np.ndarray:
    """1 / sqrt of the number of CA within the cutoff of each (L,), the least that a fluctuation can be told from.

    Halle (2002) PNAS 99, 1274. A residue without a contact counts as one with one.
    """
    _, square = _close(trace, cutoff)
    return 1 / np.sqrt(np.maximum((square > 0).sum(axis=1), 1))


def packing_fluctuations(trace: np.ndarray) -> np.ndarray:
    """1 / sqrt of the sum over all other CA of 1 / distance^2, in Å (L,): contacts without a cutoff.

    Lin et al. (2008) Proteins 72, 929 (weighted contact number).
    """
    return 1 / np.sqrt(_inverse_squares(trace).sum(axis=1))


def overlap(vectors: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """How much of a displacement (L, 3) each of some orthonormal vectors (K, L, 3) bears: |cosine|, (K,).

    Marques & Sanejouand (1995) Proteins 23, 557. The root of the sum of squares is that of all of them together. Lay
    the two structures on each other first.
    """
    along = np.einsum("kli,li->k", vectors, motion)
    return np.abs(along) / max(float(np.linalg.norm(motion)), 1e-12)


def scale_to(trace: np.ndarray, steps: np.ndarray, spread: float) -> float:
    """The factor of `steps` (n, L, 3) by which they bring `trace` (L, 3) to a mean RMSD of `spread` Å."""
    low, high = 0.0, 1.0
    while rmsd(trace + high * steps, trace).mean() < spread:
        low, high = high, 2 * high
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if rmsd(trace + middle * steps, trace).mean() < spread else (low, middle)
    return high
