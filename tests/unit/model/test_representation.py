"""The smooth trace: cosine basis, chain frame, rigid motions and mirrors; and components class by class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.fft import dct
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from cvae_protein.config.settings import ModelSettings, RefineSettings
from cvae_protein.model.refiner import random_rotations
from cvae_protein.model.representation import (
    MEMBERS,
    ClassWhitening,
    chain_frame,
    cosine_basis,
    decode_trace,
    encode_trace,
)
from cvae_protein.model.spec import Spec


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


# --- components class by class: what they take out of a code, and that they lose nothing


LATENT = 4
SPEC = Spec(
    "concat", 0, replace(ModelSettings(), latent=LATENT), RefineSettings(), (("1", "2"), ("1.10", "1.20")), {}, {}
)
VARIANCE = torch.tensor([9.0, 4.0, 1.0, 0.25])


def draw(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (2 count, 4) of two classes with means and covariances of their own, and their label ids."""
    random = np.random.default_rng(seed)
    scores = []
    for label in range(2):
        own = np.random.default_rng(100 + label)
        mix = np.linalg.qr(own.normal(size=(LATENT, LATENT)))[0] * [1.0, 0.8, 0.4, 0.3]
        scores.append(own.normal(size=LATENT) + random.normal(size=(count, LATENT)) @ mix.T)
    labels = torch.tensor([[1, 0]] * count + [[2, 0]] * count)
    return torch.from_numpy(np.concatenate(scores)).float(), labels


@pytest.fixture(scope="module")
def fitted() -> ClassWhitening:
    components = ClassWhitening(SPEC)
    scores, labels = draw(20_000)
    components.fit(scores, labels, torch.ones(len(scores)), VARIANCE)
    return components


def test_codes_of_every_class_have_mean_0_and_covariance_1(fitted: ClassWhitening) -> None:
    scores, labels = draw(20_000)
    codes = fitted.to_codes(scores, labels).double()
    for label in (1, 2):
        own = codes[labels[:, 0] == label]
        # 8 of 20,008 parts of the mean, and 4 of 20,004 of the covariance, are not the class's own.
        torch.testing.assert_close(own.mean(0), torch.zeros(LATENT).double(), atol=1e-2, rtol=0)
        torch.testing.assert_close(torch.cov(own.T), torch.eye(LATENT).double(), atol=1e-2, rtol=0)


def test_a_probe_that_tells_gaussians_apart_is_left_with_chance(fitted: ClassWhitening) -> None:
    scores, labels = draw(20_000)
    fresh, truth = draw(5_000, seed=1)
    accuracy = {}
    for name, train, test in (
        ("scores", scores, fresh),
        ("codes", fitted.to_codes(scores, labels), fitted.to_codes(fresh, truth)),
    ):
        probe = QuadraticDiscriminantAnalysis().fit(train.numpy(), labels[:, 0].numpy())
        accuracy[name] = (probe.predict(test.numpy()) == truth[:, 0].numpy()).mean()
    assert accuracy["scores"] > 0.8
    assert accuracy["codes"] == pytest.approx(0.5, abs=0.03)


def test_the_map_loses_nothing_and_is_the_identity_without_a_class(fitted: ClassWhitening) -> None:
    scores, labels = draw(50, seed=2)
    torch.testing.assert_close(fitted.to_scores(fitted.to_codes(scores, labels), labels), scores, atol=1e-4, rtol=1e-4)
    unknown = torch.zeros_like(labels)
    assert torch.equal(fitted.to_codes(scores, unknown), scores)
    assert torch.equal(fitted.to_scores(scores, unknown), scores)
    assert (fitted.to_codes(scores, labels) - scores).abs().max() > 0.1


def test_numbers_of_a_code_stay_independent_in_the_posterior(fitted: ClassWhitening) -> None:
    """A squared error in Å² weighs the scores by their variance; by the codes' numbers it must be a sum of squares."""
    for label in (1, 2):
        spread = fitted.spread(torch.tensor([[label, 0]]))[0].double()
        gram = spread.T @ torch.diag(VARIANCE.double()) @ spread
        assert (gram - torch.diag(gram.diagonal())).abs().max() < 1e-4 * gram.diagonal().max()
        assert (gram.diagonal().diff() <= 0).all()


def test_a_finer_label_moves_the_mean_by_its_share_of_members() -> None:
    components = ClassWhitening(SPEC)
    members = 24
    scores = torch.zeros(2 * members, LATENT)
    scores[:members] = torch.tensor([1.0, 2.0, 0.0, -1.0])
    scores[members:] = -scores[:members]
    labels = torch.tensor([[1, 1]] * members + [[1, 2]] * members)
    components.fit(scores, labels, torch.ones(len(scores)), VARIANCE)
    mean = components.to_scores(torch.zeros(1, LATENT), torch.tensor([[1, 1]]))
    torch.testing.assert_close(mean[0], scores[0] * members / (members + MEMBERS))
    assert torch.equal(components.to_scores(torch.zeros(1, LATENT), torch.tensor([[1, 0]]))[0], torch.zeros(LATENT))


def test_a_small_class_is_drawn_to_all() -> None:
    scores, labels = draw(2_000)
    few = torch.cat([torch.arange(2_000), torch.arange(2_000, 2_002)])
    components = ClassWhitening(SPEC)
    components.fit(scores[few], labels[few], torch.ones(len(few)), VARIANCE)
    codes = components.to_codes(scores, labels)[2_000:]
    assert 0.1 < codes.std() < 10  # two members alone would have no covariance
