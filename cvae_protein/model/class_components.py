"""Principal components class by class: codes in which all classes have the same mean and covariance.

Scores s of the shared components tell the class by their mean and, far more, by their covariance. With s = m_y + A_y z
both are the decoder's affair, and of the class z keeps what is left beyond second moments. The map is that of
probabilistic PCA fitted to each class within the shared components (Tipping and Bishop 1999, section 5, without the
mixture, since classes are known), so that posteriors of independent numbers stay exact for the linear part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .spec import Spec

MEMBERS = 8.0  # domains for which a label's mean counts half, its parent's the other half
SMALLEST_VARIANCE = 1e-6


class ClassComponents(nn.Module):
    """Scores (B, Z) of the shared components <-> codes (B, Z), given labels; where the class is unknown, the identity.

    m_y is a sum over the label's levels, A_y that of the first level.
    """

    spread: Tensor
    inverse: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        latent = spec.model.latent
        for level, names in enumerate(spec.vocabulary):
            self.register_buffer(f"shift{level}", torch.zeros(len(names) + 1, latent))
        classes = len(spec.vocabulary[0]) + 1
        self.register_buffer("spread", torch.eye(latent).repeat(classes, 1, 1))
        self.register_buffer("inverse", torch.eye(latent).repeat(classes, 1, 1))

    def to_codes(self, scores: Tensor, labels: Tensor) -> Tensor:
        """A_y^-1 (s - m_y) of scores (B, Z) and label ids (B, levels)."""
        return (self.inverse[labels[:, 0]] @ (scores - self._mean(labels))[..., None])[..., 0]

    def to_scores(self, codes: Tensor, labels: Tensor) -> Tensor:
        """m_y + A_y z of codes (B, Z) and label ids (B, levels)."""
        return self._mean(labels) + (self.spread[labels[:, 0]] @ codes[..., None])[..., 0]

    def _mean(self, labels: Tensor) -> Tensor:
        return sum(self._shift(level)[labels[:, level]] for level in range(labels.shape[1]))  # type: ignore[return-value]

    def _shift(self, level: int) -> Tensor:
        return self.get_buffer(f"shift{level}")

    @torch.no_grad()
    def fit(self, scores: Tensor, labels: Tensor, weights: Tensor, variance: Tensor) -> None:
        """Set the maps from training scores (D, Z), label ids (D, levels) and weights (D,).

        `variance` (Z,) are the variances of the shared components in Å², which the scores were divided by. A class's
        covariance is drawn to that of all by Z / (Z + n) for n members, as in `AggregatePosterior`.
        """
        known = labels[:, 0] > 0
        left, labels, weights = scores[known].double(), labels[known], weights[known].double()
        for level in range(labels.shape[1]):
            for label in labels[:, level].unique().tolist():
                if label:
                    members = labels[:, level] == label
                    own = weights[members, None]
                    shift = (own * left[members]).sum(0) / (own.sum() + MEMBERS)
                    self._shift(level)[label] = shift.float()
                    left[members] -= shift
        pooled = _covariance(left, weights)
        unit = variance.double().sqrt()  # Å a unit of score
        for label in labels[:, 0].unique().tolist():
            members = labels[:, 0] == label
            drawn = left.shape[1] / (left.shape[1] + float(weights[members].sum()))
            covariance = (1 - drawn) * _covariance(left[members], weights[members]) + drawn * pooled
            power, axes = torch.linalg.eigh(unit[:, None] * covariance * unit)
            power, axes = power.flip(0).clamp(min=SMALLEST_VARIANCE), axes.flip(1)
            largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
            axes = axes * largest.sign()  # an axis has no direction of its own
            self.spread[label] = (axes * power.sqrt() / unit[:, None]).float()
            self.inverse[label] = ((axes / power.sqrt()).T * unit).float()


def _covariance(rows: Tensor, weights: Tensor) -> Tensor:
    """Second moments about 0 of rows (D, Z) by weights (D,): (Z, Z)."""
    return rows.T @ (rows * weights[:, None]) / weights.sum()
