"""Relaxation: descent on a small energy of backbone geometry, so that a modelled chain closes and its atoms part.

Variables are the CA positions and the turn of each peptide; bonds and peptide angles are ideal by construction
(`backbone`). Nothing here knows the fold asked for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.energy import Chains, Pairs, slope

SEARCH_EVERY = 20  # steps after which near pairs are looked for again
FREE, HELD = 0.01, 1.0  # weight that holds a CA of a sample, and of a reconstruction
LARGEST_STEP, SMALLEST_STEP = 0.2, 0.003  # Å, of a coordinate, at first and at last


@torch.no_grad()
def relax(
    ca: Tensor, carbonyl: Tensor, mask: Tensor, steps: int, hold: float = FREE, goal: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """CA positions in Å and carbonyl directions, (B, L, 3) each, after `steps` of descent; 0 steps change nothing.

    `hold` is the weight of the squared distance in Å² of a CA from its `goal` (B, L, 3), by default where it was. For a
    structure that a decoder made, the goal is what it decoded: the mean of its Gaussian, and so the likeliest place.
    """
    if not steps:
        return ca, carbonyl
    chains = Chains.of(ca, carbonyl, mask, hold, goal)
    descent = Descent(torch.cat([chains.ca, chains.carbonyl]))
    x, u = descent.place[:3], descent.place[3:]  # views, which move with it
    for step in range(steps):
        done = step / steps
        if step % SEARCH_EVERY == 0:
            pairs = Pairs.of(x, u, chains)
        descent.step(slope(x, u, chains, pairs, done), LARGEST_STEP * math.sqrt(1 - done) + SMALLEST_STEP)
    return chains.padded(x), chains.padded(F.normalize(u, dim=0))


class Descent:
    """Adam on one tensor (Kingma and Ba 2015); torch's own takes seconds to import and longer a step."""

    def __init__(self, place: Tensor) -> None:
        self.place = place
        self.mean, self.square, self.steps = torch.zeros_like(place), torch.zeros_like(place), 0

    def step(self, slope: Tensor, rate: float) -> None:
        """Go down along `slope`, of the shape of `place`."""
        self.steps += 1
        self.mean.lerp_(slope, 0.1)
        self.square.mul_(0.999).addcmul_(slope, slope, value=0.001)
        spread = self.square.sqrt().div_(math.sqrt(1 - 0.999**self.steps)).add_(1e-8)
        self.place.addcdiv_(self.mean, spread, value=-rate / (1 - 0.9**self.steps))
