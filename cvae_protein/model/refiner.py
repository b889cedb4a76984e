"""The refiner: from a smooth trace to CA positions and carbonyl directions, as a flow that samples.

A smooth trace leaves the phase of a helix and the pleat of a strand open; a regression would average over them. The
refiner is a rectified flow (Liu et al. 2023) on what the trace leaves out, so that a draw has one definite phase. Its
noise is the model's second, per-residue level of latents. It is trained once, on real domains, and shared by all
variants.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.settings import RefineSettings
from .layers import NEIGHBOURS, ChainBlock, chain_positions, chain_steps, mixed_precision, nearness, time_features

SCALE = 2.0  # Å; in this unit the residual CA - trace has about unit variance
TEACHER_STEPS = 4  # of the flow that a distilled refiner learns from
FARTHEST = 32  # residues, largest separation that is distinguished
RADII = (4.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0)  # Å, centres of the distance features


class Refiner(nn.Module):
    """Velocity of (residual, carbonyl direction) given the trace, in Å and in the trace's frame.

    Not equivariant by construction: training rotates every structure at random.
    """

    def __init__(self, settings: RefineSettings) -> None:
        super().__init__()
        self.settings = settings
        width, heads, depth = settings.width, settings.heads, settings.depth
        features = 3 * (2 + 1 + 2 * len(NEIGHBOURS))
        self.into = nn.Linear(features, width)
        self.time = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.pair = nn.Linear(2 * len(RADII), heads * depth)
        self.separation = nn.Embedding(2 * FARTHEST + 1, heads * depth)
        self.blocks = nn.ModuleList(ChainBlock(width, heads) for _ in range(depth))
        self.out = nn.Linear(width, 6)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, state: Tensor, time: Tensor, trace: Tensor, mask: Tensor, trace_bias: Tensor | None = None
    ) -> Tensor:
        """`state` (B, L, 6), `time` (B,) in [0, 1], `trace` (B, L, 3) Å, `mask` (B, L) -> velocity (B, L, 6).

        `trace_bias` is `trace_bias(trace, mask)`, computed once for repeated calls.
        """
        ca = trace + SCALE * state[..., :3]
        features = _local_features(trace, ca, state[..., 3:], mask)
        biases = self._pair_bias(self.trace_bias(trace, mask) if trace_bias is None else trace_bias, ca)
        with mixed_precision(trace.device, self.training):
            h = self.into(features)
            h = h + 0.1 * chain_positions(h.shape[1], h.shape[2], h.device)
            moment = self.time(time_features(time, 32))
            for block, bias in zip(self.blocks, biases, strict=True):
                h = block(h, bias.to(h.dtype), mask, moment)
            return self.out(F.layer_norm(h, h.shape[-1:])).float() * mask[..., None]

    def trace_bias(self, trace: Tensor, mask: Tensor) -> Tensor:
        """The constant part of the attention biases while CA move: (B, depth * heads, L * L), -inf at padded keys."""
        place = torch.arange(mask.shape[1], device=mask.device)
        apart = (place[:, None] - place).clamp(-FARTHEST, FARTHEST) + FARTHEST
        fixed = self.pair.bias[:, None] + self.separation.weight[apart.flatten()].T
        weight = self.pair.weight[:, : len(RADII)].expand(len(trace), -1, -1)
        bias = torch.baddbmm(fixed, weight, _nearness(trace))
        hidden = ~mask[:, None, None, :].expand(-1, -1, mask.shape[1], -1)
        return bias.masked_fill(hidden.flatten(2), float("-inf"))

    def _pair_bias(self, trace_bias: Tensor, ca: Tensor) -> Iterable[Tensor]:
        """Attention biases (B, heads, L, L) of each block, from `trace_bias` and CA positions (B, L, 3) in Å."""
        batch, length, _ = ca.shape
        weight = self.pair.weight[:, len(RADII) :].expand(batch, -1, -1)
        bias = torch.baddbmm(trace_bias, weight, _nearness(ca))
        return bias.view(batch, len(self.blocks), -1, length, length).unbind(1)

    def loss(self, ca: Tensor, carbonyl: Tensor, trace: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity, summed over the six numbers of a residue.

        `ca`, `trace` (B, L, 3) Å in one frame, `carbonyl` (B, L, 3) unit vectors.
        """
        target = torch.cat([(ca - trace) / SCALE, carbonyl], dim=-1)
        noise = torch.randn(target.shape, generator=generator).to(target.device)
        time = torch.rand(len(target), generator=generator).to(target.device)
        state = torch.lerp(noise, target, time[:, None, None])
        error = (self(state, time, trace, mask) - (target - noise)).square().sum(-1)
        return (error * mask).sum() / mask.sum()

    def distillation_loss(self, teacher: Refiner, trace: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Squared difference between one step and many steps of `teacher` from the same noise, of random amount.

        Summed over the six numbers of a residue, mean over residues; `trace` (B, L, 3) Å. Progressive distillation
        (Salimans and Ho 2022, arXiv:2202.00512) with all halvings at once.
        """
        amount = torch.rand(len(trace), 1, 1, generator=generator)
        noise = (amount * torch.randn((*trace.shape[:2], 6), generator=generator)).to(trace.device)
        with torch.no_grad():
            goal = teacher.flow(noise, trace, mask, TEACHER_STEPS)
        error = (self.flow(noise, trace, mask, 1) - goal).square().sum(-1)
        return (error * mask).sum() / mask.sum()

    @torch.no_grad()
    def sample(
        self, trace: Tensor, mask: Tensor, noise: float, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """CA (B, L, 3) in Å and carbonyl unit vectors (B, L, 3), by `steps` of the midpoint rule.

        The start noise is `noise` times a standard normal.
        """
        start = noise * torch.randn((*trace.shape[:2], 6), generator=generator).to(trace.device)
        return self.integrate(start, trace, mask, steps)

    @torch.no_grad()
    def integrate(self, state: Tensor, trace: Tensor, mask: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """CA (B, L, 3) in Å and carbonyl unit vectors (B, L, 3) to which the flow maps start noise (B, L, 6)."""
        state = self.flow(state, trace, mask, steps)
        ca = (trace + SCALE * state[..., :3]) * mask[..., None]
        return ca, F.normalize(state[..., 3:], dim=-1)

    def flow(self, state: Tensor, trace: Tensor, mask: Tensor, steps: int) -> Tensor:
        """The state at time 1 of a flow from start noise (B, L, 6), by `steps` of the midpoint rule."""
        bias = self.trace_bias(trace, mask)
        for step in range(steps):
            time = torch.full((len(trace),), step / steps, device=trace.device)
            middle = state + self(state, time, trace, mask, bias) / (2 * steps)
            state = state + self(middle, time + 0.5 / steps, trace, mask, bias) / steps
        return state


def _nearness(x: Tensor) -> Tensor:
    """How near each pair distance is to each of `RADII`, for positions (B, L, 3) in Å: (B, F, L * L)."""
    return nearness(torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist"), RADII, 3.0)


def _local_features(trace: Tensor, ca: Tensor, carbonyl: Tensor, mask: Tensor) -> Tensor:
    """Positions, carbonyl direction and steps to chain neighbours (B, L, F)."""
    here = torch.cat([trace / 10, ca / 10, carbonyl], dim=-1) * mask[..., None]
    return torch.cat([here, chain_steps(trace, mask), chain_steps(ca, mask)], dim=-1)


def random_rotations(count: int, generator: torch.Generator) -> Tensor:
    """Rotations (count, 3, 3), uniform, by normalised quaternions."""
    w, x, y, z = F.normalize(torch.randn(count, 4, generator=generator), dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
