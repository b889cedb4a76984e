"""The smooth trace: cosine basis, chain frame, and what rigid motions and mirrors do to the coefficients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dct

from cvae_protein.model.refiner import random_rotations
from cvae_protein.model.representation import chain_frame, cosine_basis, decode_trace, encode_trace


def chains(lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random walks with steps of about 3.8 Å, padded to the longest, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    ca = torch.randn(len(lengths), max(lengths), 3, generator=generator).cumsum(1) * 2.2
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return ca * mask[..., None], mask


@pytest.mark.parametrize("length", [3, 40, 64, 65, 200])
def test_basis_is_the_orthonormal_dct(length: int) -> None:
    basis = cosine_basis(torch.tensor([length]), length, length)[0].double().numpy()
    np.testing.assert_allclose(basis, dct(np.eye(length), axis=0, norm="ortho"), atol=2e-5)


def test_all_coefficients_give_the_trace_back() -> None:
    ca, mask = chains([30, 47])
    coefficients, frame = encode_trace(ca, mask, 46)
    back = decode_trace(coefficients, mask.sum(1), 47) @ frame.transpose(1, 2)
    mean = ca.sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    torch.testing.assert_close(back * mask[..., None], (ca - mean) * mask[..., None], atol=2e-3, rtol=0)


def test_rigid_motion_changes_nothing_and_a_mirror_the_third_axis() -> None:
    ca, mask = chains([60, 45, 52])
    plain, _ = encode_trace(ca, mask, 20)
    turn = random_rotations(3, torch.Generator().manual_seed(1))
    moved, _ = encode_trace((ca @ turn + 7.0) * mask[..., None], mask, 20)
    torch.testing.assert_close(moved, plain, atol=2e-3, rtol=0)
    mirrored, _ = encode_trace(ca * torch.tensor([-1.0, 1.0, 1.0]), mask, 20)
    torch.testing.assert_close(mirrored, plain * torch.tensor([1.0, 1.0, -1.0]), atol=2e-3, rtol=0)


def test_padding_changes_nothing() -> None:
    ca, mask = chains([50])
    wide = torch.nn.functional.pad(ca, (0, 0, 0, 90))
    wide_mask = torch.nn.functional.pad(mask, (0, 90))
    torch.testing.assert_close(encode_trace(wide, wide_mask, 16)[0], encode_trace(ca, mask, 16)[0], atol=1e-4, rtol=0)


def test_truncation_error_is_the_error_of_the_coefficients() -> None:
    ca, mask = chains([80])
    full, frame = encode_trace(ca, mask, 79)
    coarse = decode_trace(full[:, :12], mask.sum(1), 80)
    error = (((ca - ca.mean(1, keepdim=True)) @ frame - coarse).square().sum() / 80).sqrt()
    torch.testing.assert_close(error, full[:, 12:].square().sum().sqrt(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["vanishing", "parallel"])
def test_degenerate_chains_get_a_proper_frame(kind: str) -> None:
    series = torch.zeros(1, 4, 3)
    if kind == "parallel":
        series[:, 1, 0], series[:, 2, 0] = 3.0, 2.0
    frame = chain_frame(series)
    torch.testing.assert_close(frame.transpose(1, 2) @ frame, torch.eye(3)[None], atol=1e-5, rtol=0)
    assert torch.linalg.det(frame).item() == pytest.approx(1.0, abs=1e-5)
