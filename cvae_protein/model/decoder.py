"""The second level as a decoder: from a coarse trace to CA positions and carbonyl directions, over the whole chain.

A conditional rectified flow (Liu et al. 2023): its noise is a latent of each residue with a standard normal prior.
Attention sees all pairs of residues; after each stage of blocks the structure is predicted, and the next stage sees the
distances and directions of that prediction. It is told the label, how many numbers its trace was decoded from and how
wrong these may be (conditioning augmentation, Ho et al. 2022), so that the label decides what the code leaves open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.settings import DecoderSettings
from .layers import (
    NEIGHBOURS,
    ChainBlock,
    chain_steps,
    chain_waves,
    distances,
    mixed_precision,
    nearness,
    time_features,
)
from .representation import cosine_basis
from .spec import Spec

WAVES = 16  # half waves along the chain that encode a residue's place
FARTHEST = 48  # residues, largest separation that is distinguished
RADII = tuple(2 + 22 * index / 31 for index in range(32))  # Å, centres of the distance features
RADIUS_WIDTH = 0.9  # Å
TIME = 64  # features of the flow time, and of numbers kept and their error together
ANGLES = 6  # features of a pair's carbonyl directions
REACH = 8.0  # Å over which the nearness of a pair falls to 1/e
TEACHER_STEPS = 4  # of the flow that a distilled decoder learns from
EARLY = 0.25  # weight of the predictions before the last one
NEAR, LARGEST_ERROR = 12.0, 6.0  # Å: pairs within it count in the loss; errors are clamped at it


@dataclass(frozen=True, eq=False)
class Coarse:
    """Coarse traces and what the decoder is told about them.

    trace, mask : CA (B, L, 3) in Å in the chain frame, (B, L)
    kept : how many numbers of a code each was decoded from (B,)
    error : standard deviation of the noise on these numbers, whose own is about 1 (B,)
    scale : expected root mean square distance in Å of CA from the trace (B,)
    labels : label ids (B, levels), 0 = unknown
    """

    trace: Tensor
    mask: Tensor
    kept: Tensor
    error: Tensor
    scale: Tensor
    labels: Tensor

    def apply(self, change: Callable[[Tensor], Tensor]) -> Coarse:
        """A copy with `change` applied to every tensor, such as taking rows or moving it to a device."""
        return Coarse(**{name: change(value) for name, value in vars(self).items()})


def expected_scale(power: Tensor, sigma: Tensor | float, kept: Tensor, error: Tensor, left: float = 1.0) -> Tensor:
    """Root mean square distance in Å of CA from a trace of the first `kept` numbers with `error` on them (B,).

    `power` (Z,) is the mean square in Å² by which a number of unit variance moves a CA, `sigma` in Å a decoder's
    standard deviation per coordinate, `left` the variance of the numbers left out, 0 if sigma includes it. For a linear
    decoder of whitened scores it is exact (Parseval).
    """
    is_kept = torch.arange(len(power), device=kept.device) < kept[:, None]
    squares = torch.where(is_kept, error[:, None].square(), left) * power
    return (3 * sigma**2 + squares.sum(-1)).sqrt()


class ChainDecoder(nn.Module):
    """Velocity of ((CA - trace) / expected size, carbonyl direction) for whole chains, given a coarse trace.

    Not equivariant: it works in the chain frame, in which traces are decoded.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.settings = settings = cast(DecoderSettings, spec.refine)
        self.spec, self.heads, self.stages = spec, settings.heads, settings.stages
        width, each = settings.width, settings.heads * settings.depth // settings.stages
        self.levels = nn.ModuleList(nn.Embedding(len(names) + 1, width) for names in spec.vocabulary)
        self.sizes = nn.Linear(2, width)
        self.moment = nn.Sequential(nn.Linear(2 * TIME, width), nn.SiLU(), nn.Linear(width, width))
        self.into = nn.Linear(3 * (3 + 2 * len(NEIGHBOURS)), width)
        self.place = nn.Linear(2 * WAVES, width)
        self.separation = nn.Embedding(2 * FARTHEST + 1, each * self.stages)
        self.trace_pair = nn.Linear(len(RADII), each * self.stages)
        self.pair = nn.ModuleList(nn.Linear(len(RADII) + ANGLES, each, bias=False) for _ in range(self.stages))
        self.blocks = nn.ModuleList(ChainBlock(width, settings.heads) for _ in range(settings.depth))
        self.out = nn.ModuleList(nn.Linear(width, 6) for _ in range(self.stages))
        self.again = nn.ModuleList(nn.Linear(6 + 3 * len(NEIGHBOURS), width) for _ in range(self.stages - 1))
        for p in self.out.parameters():
            nn.init.zeros_(p)

    def forward(self, state: Tensor, time: Tensor, coarse: Coarse, trace_bias: Tensor | None = None) -> list[Tensor]:
        """`state` (B, L, 6), `time` (B,) in [0, 1] -> velocity (B, L, 6) as each stage predicts it, the last one best.

        `trace_bias` is `trace_bias(coarse)`, computed once for repeated calls.
        """
        trace, mask, scale = coarse.trace, coarse.mask, coarse.scale[:, None, None]
        lengths, inside = mask.sum(1), mask[..., None]
        fixed = (self.trace_bias(coarse) if trace_bias is None else trace_bias).chunk(self.stages, dim=1)
        ca, carbonyl = trace + scale * state[..., :3], state[..., 3:]
        features = [trace / 10, ca / 10, carbonyl, chain_steps(trace, mask), chain_steps(ca, mask)]
        waves, each = chain_waves(lengths, mask, WAVES), len(self.blocks) // self.stages
        found = []
        with mixed_precision(trace.device, self.training):
            h = self.into(torch.cat(features, -1)) + self.place(waves)
            moment = F.silu(self._modulation(time, coarse))
        for stage, out in enumerate(self.out):
            bias = _with_pairs(fixed[stage], cast(nn.Linear, self.pair[stage]).weight, ca, carbonyl)
            shape = len(mask), each, self.heads, mask.shape[1], mask.shape[1]
            with mixed_precision(trace.device, self.training):
                for block, own in zip(self.blocks[stage * each :], bias.view(shape).unbind(1), strict=False):
                    h = block(h, own.to(h.dtype), mask, moment)
                found.append(out(F.layer_norm(h, h.shape[-1:])).float() * inside)
                if stage < self.stages - 1:
                    end = state + (1 - time)[:, None, None] * found[-1]
                    ca, carbonyl = trace + scale * end[..., :3], end[..., 3:]
                    h = h + self.again[stage](torch.cat([end, chain_steps(ca, mask)], -1))
        return found

    def trace_bias(self, coarse: Coarse) -> Tensor:
        """The constant part of the attention biases while CA move: (B, depth * heads, L * L), -inf at padded keys."""
        place = torch.arange(coarse.mask.shape[1], device=coarse.mask.device)
        apart = (place[:, None] - place).clamp(-FARTHEST, FARTHEST) + FARTHEST
        fixed = self.trace_pair.bias[:, None] + self.separation.weight[apart.flatten()].T
        weight = self.trace_pair.weight.expand(len(coarse.trace), -1, -1)
        bias = torch.baddbmm(fixed, weight, nearness(distances(coarse.trace), RADII, RADIUS_WIDTH))
        hidden = ~coarse.mask[:, None, None, :].expand(-1, -1, coarse.mask.shape[1], -1)
        return bias.masked_fill(hidden.flatten(2), float("-inf"))

    def _modulation(self, time: Tensor, coarse: Coarse) -> Tensor:
        """The modulation of every block by flow time, properties of the trace, label and length (B, width)."""
        share = (coarse.kept / self.spec.model.latent).clamp(max=1.0)
        amounts = [_slow_features(share), _slow_features(2 * coarse.error)]
        sizes = torch.stack([coarse.scale.log(), torch.log(coarse.mask.sum(1) / 100)], dim=-1)
        found = self.moment(torch.cat([time_features(time, TIME), *amounts], dim=-1)) + self.sizes(sizes)
        for level, embed in enumerate(self.levels):
            found = found + embed(coarse.labels[:, level])
        return found

    def loss(
        self, ca: Tensor, carbonyl: Tensor, coarse: Coarse, generator: torch.Generator
    ) -> dict[str, tuple[Tensor, float]]:
        """Loss terms with their weights, means over structures: squared errors of the velocity, and of distances in Å².

        `ca` (B, L, 3) Å in the trace's frame, `carbonyl` (B, L, 3) unit vectors. An error of the velocity is a mean
        over the six numbers of a residue. Distances are those of the predicted structure, of pairs within `NEAR`.
        """
        mask, trace, scale = coarse.mask, coarse.trace, coarse.scale[:, None, None]
        target = torch.cat([(ca - trace) / scale * mask[..., None], carbonyl], dim=-1)
        noise = torch.randn(target.shape, generator=generator).to(target.device)
        time = torch.sigmoid(1.2 * torch.randn(len(target), generator=generator) + 0.3).to(target.device)
        state = torch.lerp(noise, target, time[:, None, None])
        true = distances(ca)
        pairs = (mask[:, :, None] & mask[:, None] & (true < NEAR)).float()
        errors, distance_errors = [], []
        for velocity in self(state, time, coarse):
            square = (velocity - (target - noise)).square() * mask[..., None]
            errors.append((square.sum((1, 2)) / (6 * mask.sum(1))).mean())
            end = trace + scale * (state + (1 - time)[:, None, None] * velocity)[..., :3]
            off = (distances(end) - true).clamp(-LARGEST_ERROR, LARGEST_ERROR).square() * pairs
            distance_errors.append((time**3 * off.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean())
        early = torch.stack(errors)[:-1].sum()
        weights = torch.tensor([EARLY] * (self.stages - 1) + [1.0], device=true.device)
        return {
            "flow": (errors[-1], 1.0),
            "early": (early, EARLY),
            "distance": ((torch.stack(distance_errors) * weights).sum(), 0.05),
        }

    def distillation_loss(self, teacher: ChainDecoder, coarse: Coarse, generator: torch.Generator) -> Tensor:
        """Squared difference between one step and many steps of `teacher` from the same noise, of random amount.

        A mean over the six numbers of a residue, and over structures (progressive distillation, Salimans and Ho 2022,
        arXiv:2202.00512, with all halvings at once).
        """
        amount = torch.rand(len(coarse.mask), 1, 1, generator=generator)
        noise = amount * torch.randn((*coarse.trace.shape[:2], 6), generator=generator)
        noise = noise.to(coarse.trace.device)
        with torch.no_grad():
            goal = teacher.integrate(noise, 0.0, 1.0, coarse, TEACHER_STEPS, 1.0)
        error = (self.integrate(noise, 0.0, 1.0, coarse, 1, 1.0) - goal).square().sum((1, 2))
        return (error / (6 * coarse.mask.sum(1))).mean()

    @torch.no_grad()
    def to_structure(self, noise: Tensor, coarse: Coarse, steps: int, guidance: float = 1.0) -> tuple[Tensor, Tensor]:
        """CA (B, L, 3) in Å and carbonyl unit vectors (B, L, 3) to which the flow maps start noise (B, L, 6).

        `guidance` 1 follows the label; more exaggerates its difference from no label (Ho and Salimans 2022).
        """
        state = self.integrate(noise, 0.0, 1.0, coarse, steps, guidance)
        ca = (coarse.trace + coarse.scale[:, None, None] * state[..., :3]) * coarse.mask[..., None]
        return ca, F.normalize(state[..., 3:], dim=-1)

    @torch.no_grad()
    def to_noise(self, ca: Tensor, carbonyl: Tensor, coarse: Coarse, steps: int) -> Tensor:
        """The noise (B, L, 6) that the flow maps to CA (B, L, 3) in Å, in the trace's frame, and carbonyls."""
        residual = (ca - coarse.trace) / coarse.scale[:, None, None] * coarse.mask[..., None]
        return self.integrate(torch.cat([residual, carbonyl], -1), 1.0, 0.0, coarse, steps, 1.0)

    def integrate(
        self, state: Tensor, start: float, stop: float, coarse: Coarse, steps: int, guidance: float
    ) -> Tensor:
        """The state at time `stop` of a flow that is at `state` at time `start`, by `steps` of the midpoint rule."""
        both = coarse.apply(lambda value: torch.cat([value, value]))
        both = replace_labels(both, torch.cat([torch.zeros_like(coarse.labels), coarse.labels]))
        given = coarse if guidance == 1.0 else both
        bias = self.trace_bias(coarse)
        bias = bias if guidance == 1.0 else bias.repeat(2, 1, 1)

        def velocity(state: Tensor, time: float) -> Tensor:
            at = torch.full((len(given.mask),), time, device=state.device)
            if guidance == 1.0:
                return self(state, at, given, bias)[-1]
            unconditional, conditional = self(torch.cat([state, state]), at, given, bias)[-1].chunk(2)
            return torch.lerp(unconditional, conditional, guidance)

        step = (stop - start) / steps
        for index in range(steps):
            time = start + index * step
            state = state + step * velocity(state + 0.5 * step * velocity(state, time), time + 0.5 * step)
        return state * coarse.mask[..., None]


def replace_labels(coarse: Coarse, labels: Tensor) -> Coarse:
    """The same traces under other labels (B, levels)."""
    return Coarse(**{**vars(coarse), "labels": labels})


LAGS = (1, 2, 3, 4)  # residues, separations at which the noise's correlation is measured
SIGNED, FREQUENCIES = 6, 16  # cosine coefficients used with their sign, and by their power


def noise_features(noise: Tensor, mask: Tensor) -> Tensor:
    """Features of a chain's noise (B, L, 6) for a probe, their number independent of its length: (B, features).

    Cosine coefficients along the chain, each a standard normal deviate if the noise is white, the power of more of
    them, and the correlation of nearby residues; power and correlation are separate for CA and carbonyls.
    """
    lengths, inside = mask.sum(1), mask[..., None]
    noise = noise * inside
    spectrum = cosine_basis(lengths, mask.shape[1], FREQUENCIES) @ noise
    power = spectrum.square().unflatten(-1, (2, 3)).mean(-1)
    whole = noise.square().sum(1).unflatten(-1, (2, 3)).sum(-1) / (3 * lengths[:, None])
    correlations = [
        (noise[:, lag:] * noise[:, :-lag]).sum(1).unflatten(-1, (2, 3)).sum(-1) / (3 * lengths[:, None]) for lag in LAGS
    ]
    return torch.cat([spectrum[:, :SIGNED].flatten(1), power.flatten(1), whole, *correlations], dim=-1)


def _slow_features(amount: Tensor) -> Tensor:
    """The slower half of `time_features`, for an amount (B,) that needs less resolution: (B, TIME / 2)."""
    sine, cosine = time_features(amount, TIME).chunk(2, dim=-1)
    return torch.cat([sine[:, : TIME // 4], cosine[:, : TIME // 4]], dim=-1)


def _with_pairs(fixed: Tensor, weight: Tensor, ca: Tensor, carbonyl: Tensor) -> Tensor:
    """Attention biases (B, heads, L * L): `fixed` plus those of a structure's distances and carbonyl directions."""
    apart = distances(ca)
    direction = F.normalize(carbonyl, dim=-1, eps=1e-3)
    along = direction @ ca.transpose(1, 2)
    along = (along - along.diagonal(dim1=1, dim2=2)[..., None]) / apart  # of i, along the direction from i to j
    angles = torch.stack([along, -along.transpose(1, 2), direction @ direction.transpose(1, 2)], dim=1)
    angles = torch.cat([angles, angles * torch.exp(-apart / REACH)[:, None]], dim=1)
    features = torch.cat([nearness(apart, RADII, RADIUS_WIDTH), angles.flatten(2)], dim=1)
    return torch.baddbmm(fixed, weight.expand(len(ca), -1, -1), features)
