"""Gaussians over codes: posteriors, priors, and the aggregate posterior of a class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Independent normal distributions: `mean` and `logvar` of equal shape (B, Z)."""

    mean: Tensor
    logvar: Tensor

    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw a row, differentiable in mean and logvar."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self, other: Gaussian) -> Tensor:
        """Kullback-Leibler divergence to `other` in nats, a dimension at a time (B, Z)."""
        ratio = torch.exp(self.logvar - other.logvar)
        shift = (self.mean - other.mean).square() * torch.exp(-other.logvar)
        return 0.5 * (ratio + shift - 1 + other.logvar - self.logvar)

    def log_density(self, z: Tensor) -> Tensor:
        """Log density of `z` in nats, summed over dimensions (B,)."""
        square = (z - self.mean).square() * torch.exp(-self.logvar)
        return -0.5 * (square + self.logvar + math.log(2 * math.pi)).sum(-1)


class StandardPrior(nn.Module):
    """p(z) = N(0, 1), whatever the condition."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def forward(self, condition: Tensor) -> Gaussian:
        """`condition` (B, C) -> prior of each row."""
        zeros = condition.new_zeros(len(condition), self.latent)
        return Gaussian(zeros, zeros)


class FoldPrior(nn.Module):
    """p(z) = N(0, 1) for the shape block, and N(m(y), s(y)) learnt from the condition for the fold block behind it."""

    def __init__(self, shape: int, fold: int, condition: int) -> None:
        super().__init__()
        self.shape = shape
        self.fold = nn.Linear(condition, 2 * fold)
        nn.init.zeros_(self.fold.weight)
        nn.init.zeros_(self.fold.bias)

    def forward(self, condition: Tensor) -> Gaussian:
        """`condition` (B, C) -> prior of each row."""
        mean, logvar = self.fold(condition).chunk(2, dim=-1)
        zeros = condition.new_zeros(len(condition), self.shape)
        return Gaussian(torch.cat([zeros, mean], -1), torch.cat([zeros, logvar.clamp(-6, 2)], -1))


class AggregatePosterior(nn.Module):
    """A Gaussian with full covariance for each first-level class, fitted to training codes together with log length.

    Given a class and a length, codes are drawn from the conditional Gaussian. The covariance of a class is drawn to the
    pooled one by d / (d + n) for n members and d dimensions, so that a small class stays well-conditioned.
    """

    joint_mean: Tensor
    joint_covariance: Tensor

    def __init__(self, latent: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("joint_mean", torch.zeros(classes + 1, latent + 1))
        self.register_buffer("joint_covariance", torch.eye(latent + 1).repeat(classes + 1, 1, 1))

    @torch.no_grad()
    def fit(self, mean: Tensor, logvar: Tensor, classes: Tensor, lengths: Tensor) -> None:
        """Set mean and covariance from posteriors (D, Z), first-level ids (D,) and lengths (D,); id 0 = all classes."""
        joint = torch.cat([mean, torch.log(lengths.float())[:, None]], dim=1).double()
        spread = torch.zeros(joint.shape[1], dtype=torch.double)
        spread[:-1] = torch.exp(logvar.double()).mean(0)
        pooled = torch.zeros(joint.shape[1], joint.shape[1], dtype=torch.double)
        moments = {}
        for label in classes.unique().tolist():
            members = joint[classes == label]
            centred = members - members.mean(0)
            pooled += centred.T @ centred / len(joint)
            moments[label] = (members.mean(0), centred.T @ centred / len(members), len(members))
        for label, (center, covariance, count) in moments.items():
            shrink = joint.shape[1] / (joint.shape[1] + count)
            blended = (1 - shrink) * covariance + shrink * pooled + torch.diag(spread)
            self.joint_mean[label], self.joint_covariance[label] = center.float(), blended.float()
        if 0 not in moments:
            centred = joint - joint.mean(0)
            self.joint_mean[0] = joint.mean(0).float()
            self.joint_covariance[0] = (centred.T @ centred / len(joint) + torch.diag(spread)).float()

    @torch.no_grad()
    def sample(self, classes: Tensor, lengths: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Codes (B, Z) for first-level ids (B,) and lengths (B,)."""
        mean, covariance = self.joint_mean[classes], self.joint_covariance[classes]
        gain = covariance[:, :-1, -1] / covariance[:, -1:, -1].clamp(min=1e-6)
        shift = torch.log(lengths.float()) - mean[:, -1]
        conditional = covariance[:, :-1, :-1] - gain[:, :, None] * covariance[:, -1:, :-1]
        jitter = 1e-5 * torch.eye(conditional.shape[-1])
        factor = torch.linalg.cholesky(conditional + jitter)
        noise = torch.randn(len(classes), conditional.shape[-1], generator=generator)
        return mean[:, :-1] + gain * shift[:, None] + temperature * (factor @ noise[..., None])[..., 0]
