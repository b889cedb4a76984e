"""Gaussians over codes and the priors from which codes are drawn: standard, learnt, aggregate, flow, training codes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import CONDITION, Condition, ConditionedMLP, time_features
from .spec import Spec


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Independent normal distributions: `mean` and `logvar` of equal shape (B, Z)."""

    mean: Tensor
    logvar: Tensor

    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw per row, differentiable in mean and logvar."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self, other: Gaussian) -> Tensor:
        """Kullback-Leibler divergence to `other` in nats, per dimension (B, Z)."""
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


TIME = 32  # features of the flow time
DEPTH = 4  # hidden layers
STEPS = 25  # of the integration, two evaluations each


class LatentFlow(nn.Module):
    """Velocity of a rectified flow from a standard normal to codes, given labels and length. Liu et al. 2023."""

    center: Tensor
    spread: Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        latent, m = spec.model.latent, spec.model
        self.register_buffer("center", torch.zeros(latent))
        self.register_buffer("spread", torch.ones(latent))
        self.condition = Condition(spec)
        self.velocity = ConditionedMLP(latent, CONDITION + TIME, latent, m.width, DEPTH, m.dropout)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """`x` (B, Z) whitened codes at `time` (B,), `labels` (B, levels), `lengths` (B,) -> velocity (B, Z)."""
        return self.velocity(x, torch.cat([self.condition(labels, lengths), time_features(time, TIME)], dim=-1))

    @torch.no_grad()
    def whiten(self, posterior: Gaussian) -> None:
        """Take mean and spread of the codes from the training posteriors (D, Z)."""
        self.center.copy_(posterior.mean.mean(0))
        variance = posterior.mean.var(0, correction=0) + torch.exp(posterior.logvar).mean(0)
        self.spread.copy_(variance.clamp(min=1e-6).sqrt())

    def loss(self, z: Tensor, labels: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity on the way from noise to codes `z` (B, Z), summed over dimensions."""
        target = (z - self.center) / self.spread
        noise = torch.randn(target.shape, generator=generator).to(z.device)
        time = torch.sigmoid(torch.randn(len(z), generator=generator)).to(z.device)
        state = torch.lerp(noise, target, time[:, None])
        return (self(state, time, labels, lengths) - (target - noise)).square().sum(-1).mean()

    @torch.no_grad()
    def to_codes(self, noise: Tensor, labels: Tensor, lengths: Tensor, guidance: float = 1.0) -> Tensor:
        """Codes (B, Z) that the flow makes of normal deviates (B, Z), each for its labels and length."""
        return self.center + self.spread * self._integrate(noise, 0.0, 1.0, labels, lengths, guidance)

    @torch.no_grad()
    def to_noise(self, codes: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """The normal deviates (B, Z) of which the flow makes `codes` (B, Z)."""
        return self._integrate((codes - self.center) / self.spread, 1.0, 0.0, labels, lengths, 1.0)

    def _integrate(
        self, x: Tensor, start: float, stop: float, labels: Tensor, lengths: Tensor, guidance: float
    ) -> Tensor:
        """The state at time `stop` of what is `x` at `start`, by the midpoint rule."""

        def velocity(x: Tensor, time: float) -> Tensor:
            at = torch.full((len(x),), time, device=x.device)
            if guidance == 1.0:
                return self(x, at, labels, lengths)
            both = torch.cat([torch.zeros_like(labels), labels])
            unconditional, conditional = self(x.repeat(2, 1), at.repeat(2), both, lengths.repeat(2)).chunk(2)
            return torch.lerp(unconditional, conditional, guidance)

        step = (stop - start) / STEPS
        for index in range(STEPS):
            time = start + index * step
            x = x + step * velocity(x + 0.5 * step * velocity(x, time), time + 0.5 * step)
        return x

    @torch.no_grad()
    def sample(
        self, labels: Tensor, lengths: Tensor, temperature: float, guidance: float, generator: torch.Generator
    ) -> Tensor:
        """Codes (B, Z); the start noise is `temperature` times a standard normal.

        `guidance` 1 follows the label; more exaggerates what sets it apart from no label (Ho and Salimans 2022).
        """
        noise = torch.randn(len(labels), len(self.center), generator=generator).to(self.center.device)
        return self.to_codes(temperature * noise, labels, lengths, guidance)


ALIKE = 8  # members of a label, the nearest in length, of which one is drawn


@dataclass(frozen=True, eq=False)
class TrainingCodes:
    """Posteriors of the training domains: `mean` and `logvar` (D, Z), `labels` (D, levels), `lengths` (D,)."""

    mean: Tensor
    logvar: Tensor
    labels: Tensor
    lengths: Tensor

    def sample(self, labels: Tensor, lengths: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Codes (B, Z), each of a training domain of the target label and of like length.

        A code is jittered by `temperature` times the spread of its posterior. A label without members gives way to the
        level above it.
        """
        rows = torch.tensor([self._choose(*target, generator) for target in zip(labels, lengths, strict=True)])
        posterior = Gaussian(self.mean[rows], self.logvar[rows])
        return posterior.mean + temperature * (posterior.sample(generator) - posterior.mean)

    def _choose(self, label: Tensor, length: Tensor, generator: torch.Generator) -> int:
        members = torch.arange(len(self.lengths))
        for level in range(int((label > 0).sum()), 0, -1):
            found = torch.nonzero((self.labels[:, :level] == label[:level]).all(1))[:, 0]
            if len(found):
                members = found
                break
        near = members[(self.lengths[members] - length).abs().argsort(stable=True)[:ALIKE]]
        return int(near[torch.randint(len(near), (), generator=generator)])
