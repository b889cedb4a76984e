"""Nested dropout: the first k numbers of a code are a code of size k."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvae_protein.config.settings import ModelSettings, RefineSettings, TrainSettings
from cvae_protein.model.batch import Batch, DomainSet
from cvae_protein.model.cvae import CVAE, Output
from cvae_protein.model.losses.evidence_bound import evidence_terms, kl, reconstruction
from cvae_protein.model.priors import Gaussian
from cvae_protein.model.registry import variant
from cvae_protein.model.spec import Spec

LATENT = 6


def domains() -> DomainSet:
    rng = np.random.default_rng(0)
    coords = []
    for length in rng.integers(30, 60, 24).tolist():
        ca = np.cumsum(rng.normal(0, 2.2, (length, 1, 3)), axis=0)
        coords.append((ca + rng.normal(0, 1.0, (1, 5, 3))).astype(np.float32))
    ids = tuple(f"d{row:02d}" for row in range(24))
    return DomainSet(tuple(coords), ids, tuple(f"{row % 2 + 1}.10" for row in range(24)), np.ones(24))


def model_of(name: str, nested: float) -> tuple[CVAE, Batch]:
    model = ModelSettings(
        latent=LATENT, coefficients=10, width=16, depth=1, decoder_width=16, decoder_depth=1, nested=nested, dropout=0.0
    )
    spec = Spec(name, 0, model, RefineSettings(), (("1", "2"),), {"1": (40,), "2": (50,)}, {})
    torch.manual_seed(0)
    made: CVAE = variant(name).build(spec)
    batch = domains().batch(spec)
    made.fit_linear(batch, torch.ones(len(batch.mask)))
    made.fit_components(batch, torch.ones(len(batch.mask)))
    return made, batch


@pytest.mark.parametrize("name", ["concat", "branched", "adversarial"])
def test_a_prefix_is_kept_in_training_and_the_rest_costs_nothing(name: str) -> None:
    model, batch = model_of(name, nested=1.0)
    output = model.train()(batch, torch.Generator().manual_seed(0))
    dropped = output.z == output.prior.mean
    sizes = LATENT - dropped.sum(1)
    assert {1, LATENT} <= set(sizes.tolist()) <= set(range(1, LATENT + 1))
    assert torch.equal(dropped, torch.arange(LATENT) >= sizes[:, None])
    each = output.posterior.kl(output.prior)
    assert (each[dropped] == 0).all()
    assert (each[~dropped] != 0).any()
    assert torch.equal(output.log_sigma, model.log_sigma_of(sizes))
    for term in evidence_terms(TrainSettings()):
        term.term(batch, output).backward(retain_graph=True)
    assert model.excess.grad.abs().sum() > 0
    whole = model.eval()(batch, torch.Generator().manual_seed(0))
    assert whole.log_sigma is model.log_sigma
    assert not (whole.z == whole.prior.mean).any()


def test_how_many_keep_a_prefix_is_the_setting() -> None:
    model, _ = model_of("concat", nested=0.5)
    sizes = model._draw_sizes(6000, torch.Generator().manual_seed(0))
    shares = torch.bincount(sizes, minlength=LATENT + 1) / 6000
    expected = torch.tensor([0.0] + [0.5 / LATENT] * (LATENT - 1) + [0.5 + 0.5 / LATENT])
    torch.testing.assert_close(shares, expected, atol=0.02, rtol=0)
    plain, batch = model_of("concat", nested=0.0)
    assert not any("excess" in key for key in plain.state_dict())
    output = plain.train()(batch, torch.Generator().manual_seed(0))
    assert not (output.z == output.prior.mean).any()


def test_an_untrained_prefix_is_as_many_principal_components_with_their_own_sigma() -> None:
    model, batch = model_of("concat", nested=1.0)
    model.eval()
    coefficients, target = model.describe(batch)
    scores = model.linear.encode(coefficients.flatten(1) - model.linear.center)
    for size in (1, 3, LATENT):
        found = model.infer(batch, 0, size)
        expected = torch.where(torch.arange(LATENT) < size, scores, 0.0)
        torch.testing.assert_close(found.mean, expected, atol=1e-4, rtol=1e-4)
        assert kl(batch, output_of(model, batch, found, target)) == pytest.approx(
            float(found.kl(model.prior(model.condition(batch.labels, batch.lengths)))[:, :size].sum(1).mean()), rel=1e-4
        )
        error = (model.decode(found.mean, batch.labels, batch.mask) - target).square().sum((1, 2))
        sigma_squared = error.sum() / (3 * batch.lengths).sum()
        assert model.log_sigma_of(torch.tensor([size])).item() == pytest.approx(
            0.5 * sigma_squared.log().item(), abs=1e-2
        )


@pytest.mark.parametrize("name", ["concat", "branched"])
def test_descent_moves_the_prefix_alone_and_betters_it(name: str) -> None:
    model, batch = model_of(name, nested=1.0)
    for p in model.decoder.parameters():
        p.data.add_(0.02 * torch.randn_like(p))
    model.eval()
    target = model.describe(batch)[1]
    prior = model.prior(model.condition(batch.labels, batch.lengths))

    def bound(steps: int) -> torch.Tensor:
        found = model.infer(batch, steps, 3)
        assert torch.equal(found.mean[:, 3:], prior.mean[:, 3:])
        output = output_of(model, batch, found, target, 3)
        return reconstruction(batch, output) + kl(batch, output)

    assert bound(20) < bound(0)
    with torch.no_grad():  # as validation does
        assert bound(20) < bound(0)


def output_of(model: CVAE, batch: Batch, found: Gaussian, target: torch.Tensor, size: int = LATENT) -> Output:
    prior = model.prior(model.condition(batch.labels, batch.lengths))
    trace = model.decode(found.mean, batch.labels, batch.mask)
    log_sigma = model.log_sigma_of(torch.full((len(trace),), size))
    return Output(found, prior, found.mean, target, trace, log_sigma, {})
