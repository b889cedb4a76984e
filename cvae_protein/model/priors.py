"""Gaussians over codes and the priors from which codes are drawn: standard, learnt, aggregate, flow, training codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

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

    Given a class and a length, codes are drawn from the conditional Gaussian. The covariance of a class is shrunk
    towards the pooled one by d / (d + n) for n members and d dimensions, so that a small class stays well-conditioned.
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
        centred = joint - joint.mean(0)
        self.joint_mean[0] = joint.mean(0).float()
        self.joint_covariance[0] = (centred.T @ centred / len(joint) + torch.diag(spread)).float()

    def given(self, classes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, Z) and Cholesky factor of the covariance (B, Z, Z) of codes of first-level ids and lengths (B,)."""
        mean, covariance = self.joint_mean, self.joint_covariance
        gain = covariance[:, :-1, -1] / covariance[:, -1:, -1].clamp(min=1e-6)
        conditional = covariance[:, :-1, :-1] - gain[:, :, None] * covariance[:, -1:, :-1]
        factor = torch.linalg.cholesky(conditional + 1e-5 * torch.eye(conditional.shape[-1], device=mean.device))
        shift = torch.log(lengths.float()) - mean[classes, -1]
        return mean[classes, :-1] + gain[classes] * shift[:, None], factor[classes]

    @torch.no_grad()
    def sample(self, classes: Tensor, lengths: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Codes (B, Z) for first-level ids (B,) and lengths (B,)."""
        mean, factor = self.given(classes, lengths)
        noise = torch.randn(mean.shape, generator=generator)
        return mean + temperature * (factor @ noise[..., None])[..., 0]

    @torch.no_grad()
    def log_density(self, z: Tensor, classes: Tensor, lengths: Tensor) -> Tensor:
        """Log density in nats (B,) of codes (B, Z) of first-level ids (B,), 0 = all classes, and lengths (B,)."""
        mean, factor = self.given(classes, lengths)
        return MultivariateNormal(mean, scale_tril=factor).log_prob(z)


TIME = 32  # features of the flow time
DEPTH = 4  # hidden layers
STEPS = 25  # of the integration, two evaluations each
LIKELIHOOD_STEPS = 12  # of a log density: within 0.1 nat of a hundred steps
WIDER = (1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3)
DIRECTIONS = (
    8  # random directions that estimate the trace of the flow's Jacobian; with fewer dimensions it is computed exactly
)


def _velocity_of_normal(x: Tensor, time: Tensor) -> Tensor:
    """Mean velocity (B, Z) at `x` (B, Z) and `time` (B,) of straight paths from one standard normal to another."""
    return ((2 * time - 1) / ((1 - time).square() + time.square()))[:, None] * x


def _log_density_of_normal(x: Tensor) -> Tensor:
    """Log density (B,) of `x` (B, Z) under a standard normal distribution, nats."""
    return Gaussian(torch.zeros_like(x), torch.zeros_like(x)).log_density(x)


def _change(velocity: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> Tensor:
    """The directional derivative of a velocity at `x` (B, Z) along `direction` (B, Z)."""
    change: Tensor = torch.func.jvp(velocity, (x,), (direction,))[1]
    return change


class LatentFlow(nn.Module):
    """Velocity of a rectified flow from a standard normal to codes, given labels and length. Liu et al. 2023.

    Codes are whitened by one Gaussian for all classes, given the length, and the network adds a correction, initially
    zero, to that Gaussian's velocity: an untrained flow is the Gaussian with the full covariance of the codes.
    """

    center: Tensor
    factor: Tensor
    gaussian: Tensor

    def __init__(self, spec: Spec, dropout: float = 0.0) -> None:
        super().__init__()
        latent, m = spec.model.latent, spec.model
        self.register_buffer("center", torch.zeros(2, latent))  # at log length 0, and the change per unit of it
        self.register_buffer("factor", torch.eye(latent))
        self.register_buffer("gaussian", torch.ones(()))  # 0 in older flows, whose network gives the whole velocity
        self.condition = Condition(spec)
        self.velocity = ConditionedMLP(latent, CONDITION + TIME, latent, m.width, DEPTH, dropout)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """`x` (B, Z) whitened codes at `time` (B,), `labels` (B, levels), `lengths` (B,) -> velocity (B, Z)."""
        condition = torch.cat([self.condition(labels, lengths), time_features(time, TIME)], dim=-1)
        return self.gaussian * _velocity_of_normal(x, time) + self.velocity(x, condition)

    @torch.no_grad()
    def whiten(self, aggregate: AggregatePosterior) -> None:
        """Set the whitening to the Gaussian of all classes."""
        classes = torch.zeros(2, dtype=torch.long)
        mean, factor = aggregate.given(classes, torch.tensor([1.0, math.e]))
        self.center.copy_(torch.stack([mean[0], mean[1] - mean[0]]))
        self.factor.copy_(factor[0])

    def _middle(self, lengths: Tensor) -> Tensor:
        """The Gaussian's mean (B, Z) for lengths (B,)."""
        return self.center[0] + self.center[1] * torch.log(lengths.float())[:, None]

    def _whitened(self, codes: Tensor, lengths: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.factor, (codes - self._middle(lengths)).T, upper=False).T

    def losses(self, z: Tensor, labels: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Squared error of the velocity on the path from noise to each code, summed over dimensions (B,).

        Also that of the Gaussian's velocity, for the same noise at the same time.
        """
        target = self._whitened(z, lengths)
        noise = torch.randn(target.shape, generator=generator).to(z.device)
        time = torch.sigmoid(torch.randn(len(z), generator=generator)).to(z.device)
        state = torch.lerp(noise, target, time[:, None])
        velocities = self(state, time, labels, lengths), _velocity_of_normal(state, time)
        own, gaussian = ((velocity - (target - noise)).square().sum(-1) for velocity in velocities)
        return own, gaussian

    @torch.no_grad()
    def to_codes(self, noise: Tensor, labels: Tensor, lengths: Tensor, guidance: float = 1.0) -> Tensor:
        """Codes (B, Z) to which the flow maps normal deviates (B, Z), given labels and lengths."""
        return self._middle(lengths) + self._integrate(noise, 0.0, 1.0, labels, lengths, guidance) @ self.factor.T

    @torch.no_grad()
    def to_noise(self, codes: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """The normal deviates (B, Z) that the flow maps to `codes` (B, Z)."""
        return self._integrate(self._whitened(codes, lengths), 1.0, 0.0, labels, lengths, 1.0)

    @torch.no_grad()
    def log_density(
        self, codes: Tensor, labels: Tensor, lengths: Tensor, steps: int = LIKELIHOOD_STEPS
    ) -> tuple[Tensor, Tensor]:
        """Log density in nats (B,) of codes (B, Z), and the normal deviates (B, Z) that the flow maps to them.

        Change of variables along the flow (Chen et al. 2018, arXiv:1806.07366). The trace of the Jacobian is estimated
        without bias by 8 random sign vectors per code (Hutchinson's estimate; Grathwohl et al. 2019,
        arXiv:1810.01367), or exact for up to 8 dimensions.
        """
        x, step = self._whitened(codes, lengths), -1.0 / steps
        count, latent = x.shape
        signs = torch.randint(2, (DIRECTIONS, count, latent), generator=torch.Generator().manual_seed(0))
        directions = (2.0 * signs - 1) / math.sqrt(DIRECTIONS)
        if latent <= DIRECTIONS:
            directions = torch.eye(latent)[:, None].expand(-1, count, -1)
        directions = directions.to(x.device)
        volume = torch.zeros_like(x[:, 0])
        for index in range(steps):
            time = torch.full_like(volume, 1 + index * step)
            middle = x + 0.5 * step * self(x, time, labels, lengths)
            halfway = partial(self, time=time + 0.5 * step, labels=labels, lengths=lengths)
            moved = torch.func.vmap(partial(_change, halfway, middle))(directions)
            x, volume = x + step * halfway(middle), volume + step * (directions * moved).sum((0, 2))
        return _log_density_of_normal(x) + volume - self.factor.diagonal().log().sum(), x

    @torch.no_grad()
    def widen(self, codes: Tensor, labels: Tensor, lengths: Tensor) -> float:
        """Widen the flow by the factor under which `codes` (B, Z), none of which it was fitted to, are likeliest.

        New codes are spread wider than those that an encoder was trained on, whatever the prior. The factor, one of
        `WIDER`, is 1 if nothing is gained.
        """
        factor, best, most = self.factor.clone(), 1.0, -math.inf
        for wider in WIDER:
            self.factor.copy_(wider * factor)
            likelihood = self.log_density(codes, labels, lengths)[0].mean().item()
            if not likelihood > most:
                break
            best, most = wider, likelihood
        self.factor.copy_(best * factor)
        return best

    def _integrate(
        self, x: Tensor, start: float, stop: float, labels: Tensor, lengths: Tensor, guidance: float
    ) -> Tensor:
        """The state at time `stop` of a flow that is at `x` at time `start`, by the midpoint rule."""

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

        `guidance` 1 follows the label; more exaggerates its difference from no label (Ho and Salimans 2022).
        """
        noise = torch.randn(len(labels), len(self.factor), generator=generator).to(self.factor.device)
        return self.to_codes(temperature * noise, labels, lengths, guidance)


ALIKE = 8  # members of a label nearest in length, from which one is drawn


@dataclass(frozen=True, eq=False)
class TrainingCodes:
    """Posteriors of the training domains: `mean` and `logvar` (D, Z), `labels` (D, levels), `lengths` (D,)."""

    mean: Tensor
    logvar: Tensor
    labels: Tensor
    lengths: Tensor

    def sample(self, labels: Tensor, lengths: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Codes (B, Z), each of a training domain of the target label and of similar length.

        A code is jittered by `temperature` times the spread of its posterior. A label without members is replaced by
        the level above it.
        """
        alike = [self._alike(*target) for target in zip(labels, lengths, strict=True)]
        rows = torch.stack([near[torch.randint(len(near), (), generator=generator)] for near in alike])
        posterior = Gaussian(self.mean[rows], self.logvar[rows])
        return posterior.mean + temperature * (posterior.sample(generator) - posterior.mean)

    def log_density(self, z: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Log density in nats (B,) of codes (B, Z) under the distribution of `sample` at temperature 1."""
        found = []
        for code, *target in zip(z, labels, lengths, strict=True):
            near = self._alike(*target)
            each = Gaussian(self.mean[near], self.logvar[near]).log_density(code)
            found.append(torch.logsumexp(each, 0) - math.log(len(near)))
        return torch.stack(found)

    def _alike(self, label: Tensor, length: Tensor) -> Tensor:
        """Rows of the members of a label that are nearest in length."""
        members = torch.arange(len(self.lengths))
        for level in range(int((label > 0).sum()), 0, -1):
            found = torch.nonzero((self.labels[:, :level] == label[:level]).all(1))[:, 0]
            if len(found):
                members = found
                break
        return members[(self.lengths[members] - length).abs().argsort(stable=True)[:ALIKE]]
