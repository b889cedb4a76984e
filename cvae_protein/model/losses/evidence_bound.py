"""Terms of the objective, in nats per structure, and their weights as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...config.settings import Schedule, TrainSettings
from ..batch import Batch
from ..cvae import Output

Term = Callable[[Batch, Output], Tensor]
Weight = Callable[[int], float]


@dataclass(frozen=True)
class WeightedTerm:
    """One summand of the objective; if its weight is a `TargetRate`, it observes the term's value after every step."""

    name: str
    term: Term
    weight: Weight


def squared_error(batch: Batch, output: Output) -> Tensor:
    """Squared error of the CA trace, summed over residues, Å² (B,)."""
    return (output.target - output.reconstruction).square().sum((1, 2))


def reconstruction(batch: Batch, output: Output) -> Tensor:
    """Negative log density of the CA positions in Å under the decoder's Gaussian, whose single sigma is learnt.

    Rybkin et al. 2021, "Simple and Effective VAE Training with Calibrated Decoders".
    """
    scaled = 0.5 * squared_error(batch, output) * torch.exp(-2 * output.log_sigma)
    return (scaled + 3 * batch.lengths * (output.log_sigma + 0.5 * math.log(2 * math.pi))).mean()


def kl(batch: Batch, output: Output) -> Tensor:
    """Divergence of the posterior from the prior, summed over dimensions, mean over the batch."""
    return output.posterior.kl(output.prior).sum(-1).mean()


def kl_free_bits(free: float) -> Term:
    """`kl` with each dimension's batch mean counted as at least `free` nats. Kingma et al. 2016, equation 15."""

    def term(batch: Batch, output: Output) -> Tensor:
        return output.posterior.kl(output.prior).mean(0).clamp(min=free).sum()

    return term


def constant(weight: float) -> Weight:
    """The same weight at every step."""
    return lambda step: weight


def ramp(weight: float, steps: int) -> Weight:
    """Linear from 0 to `weight` over `steps`, then constant. Bowman et al. 2016."""
    return lambda step: weight * min(1.0, (step + 1) / steps)


def cosine(weight: float, steps: int) -> Weight:
    """From 0 to `weight` over `steps` along half a cosine wave, slow at both ends, then constant."""
    return lambda step: weight * 0.5 * (1 - math.cos(math.pi * min(1.0, (step + 1) / steps)))


def cycle(weight: float, steps: int, ratio: float) -> Weight:
    """Every `steps` anew: linear from 0 to `weight` over the first `ratio` of them, then constant. Fu et al. 2019."""
    return lambda step: weight * min(1.0, (step % steps + 1) / (steps * ratio))


class TargetRate:
    """A weight that integral control adjusts until the observed rate equals the target. Shao et al. 2020."""

    def __init__(self, weight: float, rate: float, steps: int) -> None:
        self.log_weight, self.rate, self.gain = math.log(max(weight, 1e-6)), rate, 1.0 / steps

    def __call__(self, step: int) -> float:
        """The weight now; the step itself does not matter."""
        return math.exp(self.log_weight)

    def observe(self, rate: float) -> None:
        """Raise the weight where the rate is too high, lower it where it is too low."""
        error = max(-1.0, min(1.0, (rate - self.rate) / self.rate))
        self.log_weight = max(-12.0, min(12.0, self.log_weight + self.gain * error))


def schedule(settings: Schedule) -> Weight:
    """The weight that a `Schedule` describes."""
    weight, steps = settings.weight, settings.steps
    kinds: dict[str, Weight] = {
        "constant": constant(weight),
        "ramp": ramp(weight, steps),
        "cosine": cosine(weight, steps),
        "cycle": cycle(weight, steps, settings.ratio),
        "target_rate": TargetRate(weight, settings.rate, steps),
    }
    return kinds[settings.kind]


def evidence_terms(settings: TrainSettings) -> list[WeightedTerm]:
    """The negative evidence lower bound: reconstruction and weighted divergence; at weight 1 it is the bound itself."""
    divergence = kl_free_bits(settings.free_bits) if settings.free_bits else kl
    return [
        WeightedTerm("reconstruction", reconstruction, constant(1.0)),
        WeightedTerm("kl", divergence, schedule(settings.kl)),
    ]
