"""Principal components class by class: codes in which all classes have the same mean and covariance.

Scores s of the shared components tell the class by their mean and, far more, by their covariance. With s = m_y + A_y z
both are the decoder's affair, and of the class z keeps what is left beyond second moments. The map is that of
probabilistic PCA fitted to each label within the shared components (Tipping and Bishop 1999), so that the numbers of a
code stay independent in the posterior as far as the decoder is linear.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .spec import Spec

MEMBERS = 8.0  # domains for which a label's own mean counts half, its parent's the other half
SMALLEST_VARIANCE = 1e-6


class ClassComponents(nn.Module):
    """Scores (B, Z) of the shared components <-> codes (B, Z), given labels; where the class is unknown, the identity.

    Each label of each level has a mean and a covariance, drawn to its parent's the more the fewer members it has.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        latent = spec.model.latent
        for level, names in enumerate(spec.vocabulary):
            self.register_buffer(f"mean{level}", torch.zeros(len(names) + 1, latent))
            self.register_buffer(f"spread{level}", torch.eye(latent).repeat(len(names) + 1, 1, 1))

    def to_codes(self, scores: Tensor, labels: Tensor) -> Tensor:
        """A_y^-1 (s - m_y) of scores (B, Z) and label ids (B, levels)."""
        return torch.linalg.solve(self._finest("spread", labels), scores - self._finest("mean", labels))

    def to_scores(self, codes: Tensor, labels: Tensor) -> Tensor:
        """m_y + A_y z of codes (B, Z) and label ids (B, levels)."""
        return self._finest("mean", labels) + (self.spread(labels) @ codes[..., None])[..., 0]

    def spread(self, labels: Tensor) -> Tensor:
        """A_y (B, Z, Z) of label ids (B, levels): scores a unit of code."""
        return self._finest("spread", labels)

    def _finest(self, name: str, labels: Tensor) -> Tensor:
        """What the finest known level of each label has."""
        found = self.get_buffer(f"{name}0")[labels[:, 0]]
        for level in range(1, labels.shape[1]):
            own = self.get_buffer(f"{name}{level}")[labels[:, level]]
            known = (labels[:, level] > 0).view(-1, *(1,) * (own.dim() - 1))
            found = torch.where(known, own, found)
        return found

    @torch.no_grad()
    def fit(self, scores: Tensor, labels: Tensor, weights: Tensor, variance: Tensor) -> None:
        """Set the maps from training scores (D, Z), label ids (D, levels) and weights (D,).

        `variance` (Z,) are the variances of the shared components in Å², which the scores were divided by. Of n members
        a mean is drawn to its parent's by MEMBERS / (MEMBERS + n), a covariance by Z / (Z + n); the class's parent is
        all classes together, with mean 0 and the covariance within classes.
        """
        known = labels[:, 0] > 0
        scores, labels, weights = scores[known].double(), labels[known], weights[known].double()
        unit = variance.double().sqrt()  # Å a unit of score
        means = torch.zeros_like(scores)  # of each domain's label at the level above
        covariances = {(): _covariance(scores - _means(scores, labels[:, 0], weights), weights)}
        for level in range(labels.shape[1]):
            for path in [tuple(row) for row in labels[:, : level + 1].unique(dim=0).tolist() if row[-1]]:
                members = (labels[:, : level + 1] == torch.tensor(path)).all(1)
                own, count = weights[members], float(weights[members].sum())
                mean = means[members][0] + (own[:, None] * (scores - means)[members]).sum(0) / (count + MEMBERS)
                drawn = len(unit) / (len(unit) + count)
                covariance = (1 - drawn) * _covariance(scores[members] - mean, own) + drawn * covariances[path[:-1]]
                means[members], covariances[path] = mean, covariance
                self.get_buffer(f"mean{level}")[path[-1]] = mean.float()
                self.get_buffer(f"spread{level}")[path[-1]] = _components(covariance, unit).float()


def _means(rows: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The mean of all rows (D, Z) of each row's label (D,)."""
    weighted = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1) * weights[:, None]
    sums = weighted.new_zeros(int(labels.max()) + 1, weighted.shape[1]).index_add_(0, labels, weighted)
    return (sums[:, :-1] / sums[:, -1:])[labels]


def _covariance(rows: Tensor, weights: Tensor) -> Tensor:
    """Second moments about 0 of rows (D, Z) by weights (D,): (Z, Z)."""
    return rows.T @ (rows * weights[:, None]) / weights.sum()


def _components(covariance: Tensor, unit: Tensor) -> Tensor:
    """Principal axes in Å of scores with that covariance (Z, Z), in scores a standard deviation, largest first."""
    power, axes = torch.linalg.eigh(unit[:, None] * covariance * unit)
    power, axes = power.flip(0).clamp(min=SMALLEST_VARIANCE), axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return axes * largest.sign() * power.sqrt() / unit[:, None]  # an axis has no direction of its own: one is chosen
