"""Building blocks shared by all models."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .spec import Spec

# Whether the CPU has instructions for bfloat16 products; other CPUs only emulate them.
CPU_HAS_BFLOAT16 = any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def mixed_precision(device: torch.device, training: bool) -> torch.autocast:
    """bfloat16 for the matrix products of a network; coordinates and codes stay float32 outside it.

    Always on a GPU; on a CPU that supports it, only in training, so that the results of a trained model do not depend
    on the CPU beyond rounding.
    """
    enabled = device.type == "cuda" or (training and CPU_HAS_BFLOAT16)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


class Dropout(nn.Module):
    """Dropout; on a CPU it uses one random byte per number, so that the share is rounded to 1/256."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape, some of its numbers 0 in training, the others scaled up."""
        if x.device.type != "cpu" or not self.training or not self.share:
            return F.dropout(x, self.share, self.training)
        dropped = min(round(256 * self.share), 255)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * (kept.to(x.dtype) * (256 / (256 - dropped)))


def convolve_chain(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution along the chain: (B, L, C) -> (B, L, C').

    A CPU does it a fifth faster as a two-dimensional convolution, which uses the channels in place.
    """
    if x.device.type != "cpu":
        return convolution(x.transpose(1, 2)).transpose(1, 2)
    weight, padding = convolution.weight[:, :, None], (0, convolution.kernel_size[0] // 2)
    return F.conv2d(x.transpose(1, 2)[:, :, None], weight, convolution.bias, padding=padding)[:, :, 0].transpose(1, 2)


CONDITION = 32  # numbers that carry label and length


class Condition(nn.Module):
    """What a model is conditioned on: label ids of each level (0 = unknown) and length -> vector (B, CONDITION).

    Levels are added, so that an unseen architecture still has its class.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Embedding(len(names) + 1, CONDITION) for names in spec.vocabulary)
        self.length = nn.Linear(2, CONDITION)

    def forward(self, labels: Tensor, lengths: Tensor) -> Tensor:
        """`labels` (B, levels), `lengths` (B,) -> (B, CONDITION)."""
        scaled = torch.log(lengths.float() / 100)
        out = self.length(torch.stack([scaled, scaled.square()], dim=-1))
        for level, embed in enumerate(self.levels):
            out = out + embed(labels[:, level])
        return out


class ConditionedMLP(nn.Module):
    """Residual multilayer perceptron with the condition given to every layer; its output starts at zero.

    (B, inputs), (B, condition) -> (B, outputs)
    """

    def __init__(self, inputs: int, condition: int, outputs: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.into = nn.Linear(inputs, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.wide = nn.ModuleList(nn.Linear(width + condition, 2 * width) for _ in range(depth))
        self.back = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(width, outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """`x` (B, inputs), `condition` (B, condition) -> (B, outputs)."""
        with mixed_precision(x.device, self.training):
            h = self.into(x)
            for norm, wide, back in zip(self.norms, self.wide, self.back, strict=True):
                h = h + back(self.dropout(F.silu(wide(torch.cat([norm(h), condition], dim=-1)))))
            return self.out(F.silu(h)).float()


def time_features(time: Tensor, size: int) -> Tensor:
    """Sines and cosines of a flow time in [0, 1] at `size` / 2 frequencies: (B,) -> (B, size)."""
    frequencies = torch.exp(torch.linspace(0, 6, size // 2, device=time.device))
    angle = time[:, None] * frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class ChainBlock(nn.Module):
    """Convolution along the chain, attention with a pair bias, and a perceptron, each modulated by the flow time.

    The modulation is zero-initialised: at first the flow time has no effect. Padding changes nothing.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.convolution = nn.Conv1d(width, width, 5, padding=2)
        self.modulate = nn.Linear(width, 7 * width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, h: Tensor, bias: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """`h` (B, L, width), `bias` (B, heads, L, L) with -inf at padded keys, `mask` (B, L), `time` (B, width)."""
        batch, length, width = h.shape
        gate0, scale1, shift1, gate1, scale2, shift2, gate2 = self.modulate(time)[:, None].chunk(7, dim=-1)
        h = h + (1 + gate0) * F.gelu(convolve_chain(self.convolution, h * mask[..., None]))
        x = F.layer_norm(h, (width,)) * (1 + scale1) + shift1
        q, k, v = self.query_key_value(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        h = h + (1 + gate1) * self.project(mixed.transpose(1, 2).reshape(batch, length, width))
        x = F.layer_norm(h, (width,)) * (1 + scale2) + shift2
        return h + (1 + gate2) * self.perceptron(x)


NEIGHBOURS = (1, -1, 2, -2, 3, -3, 4, -4)  # offsets along the chain that step features use


def chain_steps(x: Tensor, mask: Tensor) -> Tensor:
    """Vectors from each residue to its chain neighbours, a quarter of their length in Å: (B, L, 3) -> (B, L, 24).

    Zero where there is no neighbour.
    """
    inside = mask[..., None]
    parts = []
    for offset in NEIGHBOURS:
        there = torch.roll(inside, -offset, 1).clone()
        if offset > 0:
            there[:, -offset:] = False
        else:
            there[:, :-offset] = False
        parts.append(torch.where(there & inside, (torch.roll(x, -offset, 1) - x) / 4, 0.0))
    return torch.cat(parts, dim=-1)


class ChainNetwork(nn.Module):
    """Residual convolutions along the chain, each layer given the condition; its output starts at zero.

    (B, L, inputs), (B, L), (B, condition) -> (B, L, outputs). Padding changes nothing.
    """

    def __init__(self, inputs: int, condition: int, outputs: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.into = nn.Linear(inputs, width)
        self.modulate = nn.ModuleList(nn.Linear(condition, 3 * width) for _ in range(depth))
        self.along = nn.ModuleList(nn.Conv1d(width, width, 7, padding=3) for _ in range(depth))
        self.wide = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(depth))
        self.back = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(depth))
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(width, outputs)
        for layer in (*self.modulate, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """`x` (B, L, inputs), `mask` (B, L), `condition` (B, condition) -> (B, L, outputs)."""
        inside = mask[..., None]
        with mixed_precision(x.device, self.training):
            h = self.into(x)
            shape = h.shape[-1:]
            for modulate, along, wide, back in zip(self.modulate, self.along, self.wide, self.back, strict=True):
                shift, gate, scale = modulate(condition)[:, None].chunk(3, dim=-1)
                local = (F.layer_norm(h, shape) + shift) * inside
                h = h + (1 + gate) * F.gelu(convolve_chain(along, local))  # type: ignore[arg-type]
                h = h + back(self.dropout(F.gelu(wide(F.layer_norm(h, shape) * (1 + scale)))))
            return self.out(F.layer_norm(h, shape)).float() * inside


def chain_waves(lengths: Tensor, mask: Tensor, count: int) -> Tensor:
    """Cosines and sines of each residue's relative position in its chain (B, L, 2 count), zeros in the padding."""
    place = (torch.arange(mask.shape[1], device=mask.device) + 0.5) / lengths[:, None]
    angle = math.pi * place[..., None] * torch.arange(1, count + 1, device=mask.device)
    return torch.cat([angle.cos(), angle.sin()], dim=-1) * mask[..., None]


def distances(x: Tensor) -> Tensor:
    """Distances in Å of all pairs of points (B, L, 3): (B, L, L), at least 0.001 and with a finite gradient.

    By matrix products, several times as fast as `torch.cdist` with its gradient; exact to 0.001 Å within 4 Å.
    """
    square = x.square().sum(-1)
    return (square[:, :, None] + square[:, None] - 2 * x @ x.transpose(1, 2)).clamp(min=1e-6).sqrt()


LEAST_EXPONENT = -60.0  # where a Gaussian is cut off: subnormal float32 numbers take a CPU ten times as long


def nearness(apart: Tensor, radii: Sequence[float], width: float) -> Tensor:
    """How near distances (B, L, L) in Å are to each of `radii`, as Gaussians of `width` Å: (B, radii, L * L)."""
    centres = torch.tensor(radii, device=apart.device)[:, None] / width
    return (apart.flatten(1)[:, None] / width - centres).square().neg_().clamp(min=LEAST_EXPONENT).exp_()


def chain_positions(length: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of the residue's place in the chain (L, width)."""
    place = torch.arange(length, device=device)[:, None]
    angle = place * torch.exp(-math.log(1e4) * torch.arange(0, width, 2, device=device) / width)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
