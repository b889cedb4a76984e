"""The smooth trace: CA positions in a frame of their own, as the first coefficients of a cosine series.

The orthonormal DCT-II of the centred CA trace along the chain keeps lengths (Parseval): a squared error of coefficients
is the squared error of the smooth trace, summed over residues. The frame's axes are the first two non-constant
coefficient vectors, made orthonormal, and their cross product; a rigid motion leaves the coefficients as they are, a
mirror image changes the sign of the third.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

SMALLEST = 1e-6


@lru_cache(maxsize=8)
def _bases(longest: int, count: int, device: torch.device) -> Tensor:
    """The basis of every length 0 ... `longest` (longest + 1, count, longest); made once: cosines are slow."""
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
    longest = -(-size // 64) * 64  # few different tables
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
    """Coefficients 1 ... count of the CA trace in its chain frame, over the root of its length, and that frame.

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
