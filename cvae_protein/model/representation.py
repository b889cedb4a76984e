"""CA traces as cosine coefficients, and these as principal-component scores, overall or class by class."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from .spec import Spec

SMALLEST = 1e-6  # Å, shorter vectors have no direction; Å², smaller variances are replaced by it


@lru_cache(maxsize=8)
def _bases(longest: int, count: int, device: torch.device) -> Tensor:
    """The basis of every length 0 ... `longest` (longest + 1, count, longest); cached, since cosines are slow."""
    length = torch.arange(longest + 1, device=device)[:, None, None]
    n = torch.arange(longest, device=device)
    k = torch.arange(count, device=device)[:, None]
    basis = torch.cos(math.pi * (n + 0.5) * k / length.clamp(min=1)) * torch.sqrt(2 / length.clamp(min=1))
    basis[:, 0] /= math.sqrt(2)
    return basis * ((n < length) & (k < length))


def cosine_basis(lengths: Tensor, size: int, count: int) -> Tensor:
    """Orthonormal DCT-II basis of each chain (B, count, size), zero beyond its length and for coefficients it lacks.

    `lengths` (B,) residues, `size` padded residues. Functions k = 0 ... count-1 over positions n = 0 ... L-1.
    """
    longest = -(-size // 64) * 64  # rounded up, for few different tables
    return _bases(longest, count, lengths.device)[lengths, :, :size]


def center(ca: Tensor, mask: Tensor) -> Tensor:
    """CA positions with their mean at the origin and zeros in the padding (B, L, 3)."""
    weight = mask[..., None].to(ca.dtype)
    return (ca - (ca * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)) * weight


def chain_frame(coefficients: Tensor) -> Tensor:
    """Rotation (B, 3, 3) whose columns are the axes given by the coefficients 1 and 2 (B, K, 3) of a centred trace.

    Where a vector vanishes or the two are parallel (a closed or straight chain), any fixed direction takes its place.
    """
    first, second = coefficients[:, 1], coefficients[:, 2]
    fallback = torch.eye(3, dtype=first.dtype, device=first.device).expand(len(first), 3, 3)
    first = torch.where(first.norm(dim=-1, keepdim=True) > SMALLEST, first, fallback[:, 0])
    one = first / first.norm(dim=-1, keepdim=True)
    second = second - (second * one).sum(-1, keepdim=True) * one
    least = torch.nn.functional.one_hot(one.abs().argmin(-1), 3).to(one.dtype)
    other = least - (least * one).sum(-1, keepdim=True) * one
    second = torch.where(second.norm(dim=-1, keepdim=True) > SMALLEST, second, other)
    two = second / second.norm(dim=-1, keepdim=True)
    return torch.stack([one, two, torch.linalg.cross(one, two)], dim=-1)


def encode_trace(ca: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Coefficients 1 ... count of the CA trace in its chain frame, divided by the root of its length; and that frame.

    `ca` (B, L, 3) Å, `mask` (B, L) -> (B, count, 3) Å and (B, 3, 3); `ca - mean = trace @ frame.T`.
    """
    lengths = mask.sum(1)
    series = cosine_basis(lengths, ca.shape[1], count + 1) @ center(ca, mask)
    frame = chain_frame(series)
    return (series[:, 1:] @ frame) / lengths[:, None, None].sqrt(), frame


def decode_trace(coefficients: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Smooth CA trace (B, size, 3) in Å, in the chain frame, of coefficients (B, K, 3) as `encode_trace` gives them."""
    basis = cosine_basis(lengths, size, coefficients.shape[1] + 1)[:, 1:]
    return basis.transpose(1, 2) @ (coefficients * lengths[:, None, None].sqrt())


MEMBERS = 8.0  # members at which a label's own mean and its parent's have equal weight


class ClassWhitening(nn.Module):
    """Scores (B, Z) of the shared components <-> codes (B, Z), given labels; where the class is unknown, the identity.

    Each label of each level has a mean and a covariance, shrunk towards its parent's: the fewer members, the more.
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
        """A_y (B, Z, Z) of label ids (B, levels): scores per unit of code."""
        return self._finest("spread", labels)

    def _finest(self, name: str, labels: Tensor) -> Tensor:
        """The buffer `name` at the finest known level of each label."""
        found = self.get_buffer(f"{name}0")[labels[:, 0]]
        for level in range(1, labels.shape[1]):
            own = self.get_buffer(f"{name}{level}")[labels[:, level]]
            known = (labels[:, level] > 0).view(-1, *(1,) * (own.dim() - 1))
            found = torch.where(known, own, found)
        return found

    @torch.no_grad()
    def fit(self, scores: Tensor, labels: Tensor, weights: Tensor, variance: Tensor) -> None:
        """Set the maps from training scores (D, Z), label ids (D, levels) and weights (D,).

        `variance` (Z,) are the variances of the shared components in Å², which the scores were divided by. With n
        members a mean is shrunk towards its parent's by MEMBERS / (MEMBERS + n), a covariance by Z / (Z + n); a class's
        parent is all classes together, with mean 0 and the covariance within classes.
        """
        known = labels[:, 0] > 0
        scores, labels, weights = scores[known].double(), labels[known], weights[known].double()
        unit = variance.double().sqrt()  # Å per unit of score
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
    """For each row, the mean of all rows (D, Z) with the same label (D,)."""
    weighted = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1) * weights[:, None]
    sums = weighted.new_zeros(int(labels.max()) + 1, weighted.shape[1]).index_add_(0, labels, weighted)
    return (sums[:, :-1] / sums[:, -1:])[labels]


def _covariance(rows: Tensor, weights: Tensor) -> Tensor:
    """Second moments about 0 of rows (D, Z) by weights (D,): (Z, Z)."""
    return rows.T @ (rows * weights[:, None]) / weights.sum()


def _components(covariance: Tensor, unit: Tensor) -> Tensor:
    """Principal axes in Å of scores with that covariance (Z, Z), in scores per standard deviation, largest first."""
    power, axes = torch.linalg.eigh(unit[:, None] * covariance * unit)
    power, axes = power.flip(0).clamp(min=SMALLEST), axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return axes * largest.sign() * power.sqrt() / unit[:, None]  # the sign of an axis is arbitrary: one is chosen


class PrincipalComponents(nn.Module):
    """The principal components of the training coefficients: flat coefficients <-> whitened scores."""

    center: Tensor

    def __init__(self, inputs: int, latent: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(inputs))
        self.encode = nn.Linear(inputs, latent, bias=False)
        self.decode = nn.Linear(latent, inputs, bias=False)

    @property
    def power(self) -> Tensor:
        """The mean square in Å² by which a score of unit variance moves a residue (Z,)."""
        return self.decode.weight.detach().square().sum(0)

    @torch.no_grad()
    def fit(self, flat: Tensor, weights: Tensor) -> Tensor:
        """Set the maps from coefficients (D, inputs); return the variances kept (Z,)."""
        weights = weights / weights.sum()
        self.center.copy_((weights[:, None] * flat).sum(0))
        centred = (flat - self.center).double()
        covariance = centred.T @ (centred * weights[:, None])
        variance, axes = torch.linalg.eigh(covariance)
        variance, axes = variance.flip(0).clamp(min=SMALLEST), axes.flip(1)
        latent = self.encode.out_features
        kept = torch.full((latent,), SMALLEST, dtype=torch.double)
        kept[: min(latent, len(variance))] = variance[:latent]
        basis = torch.zeros(len(variance), latent, dtype=torch.double)
        basis[:, : min(latent, len(variance))] = axes[:, :latent]
        self.encode.weight.copy_((basis / kept.sqrt()).T)
        self.decode.weight.copy_(basis * kept.sqrt())
        return kept.float()
