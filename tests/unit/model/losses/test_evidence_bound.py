"""Terms against closed forms, schedules at their corners, and which parameters a critic's terms move."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from cvae_protein.config.settings import ModelSettings, RefineSettings, Schedule, TrainSettings
from cvae_protein.model.batch import Batch
from cvae_protein.model.cvae import Output
from cvae_protein.model.losses import critics, evidence_bound
from cvae_protein.model.priors import AggregatePosterior, Gaussian
from cvae_protein.model.spec import Spec

GENERATOR = torch.Generator()


def a_batch(rows: int = 6, length: int = 50) -> Batch:
    mask = torch.ones(rows, length, dtype=torch.bool)
    return Batch(torch.zeros(rows, length, 5, 3), mask, torch.ones(rows, 1, dtype=torch.long))


def an_output(rows: int = 6, latent: int = 4, count: int = 10) -> Output:
    generator = torch.Generator().manual_seed(3)
    mean, logvar = (torch.randn(rows, latent, generator=generator) for _ in range(2))
    posterior, prior = Gaussian(mean, logvar), Gaussian(torch.zeros_like(mean), torch.zeros_like(mean))
    target, made = (torch.randn(rows, count, 3, generator=generator) for _ in range(2))
    return Output(posterior, prior, mean, target, made, torch.tensor(0.4), {"z": (0, latent)})


def a_spec() -> Spec:
    model = ModelSettings(latent=4, coefficients=10, width=16)
    return Spec("concat", 0, model, RefineSettings(), (("1", "2"),), {"1": (50,), "2": (60,)}, {})


def test_divergence_is_that_of_torch_distributions() -> None:
    output = an_output()
    other = Gaussian(output.posterior.mean.flip(0), output.posterior.logvar.flip(1))
    expected = kl_divergence(
        Normal(output.posterior.mean, torch.exp(0.5 * output.posterior.logvar)),
        Normal(other.mean, torch.exp(0.5 * other.logvar)),
    )
    torch.testing.assert_close(output.posterior.kl(other), expected)


def test_log_density_is_that_of_torch_distributions() -> None:
    posterior = an_output().posterior
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    expected = Normal(posterior.mean, torch.exp(0.5 * posterior.logvar)).log_prob(z).sum(-1)
    torch.testing.assert_close(posterior.log_density(z), expected)


def test_reconstruction_is_the_gaussian_log_density_of_the_positions_in_angstrom() -> None:
    batch, output = a_batch(), an_output(count=50)
    density = Normal(output.reconstruction, torch.exp(output.log_sigma)).log_prob(output.target)
    torch.testing.assert_close(evidence_bound.reconstruction(batch, output), -density.sum((1, 2)).mean())


def test_sigma_is_best_at_the_root_mean_square_error() -> None:
    batch, output = a_batch(), an_output(count=50)
    log_sigma = torch.zeros((), requires_grad=True)
    best = 0.5 * torch.log((output.target - output.reconstruction).square().mean())
    for value, sign in ((best - 0.3, -1), (best, 0), (best + 0.3, 1)):
        log_sigma.data.copy_(value)
        moved = Output(output.posterior, output.prior, output.z, output.target, output.reconstruction, log_sigma, {})
        (slope,) = torch.autograd.grad(evidence_bound.reconstruction(batch, moved), log_sigma)
        assert torch.sign(slope.round(decimals=2)).item() == sign


def test_free_bits_press_no_dimension_below_the_allowance() -> None:
    batch, output = a_batch(), an_output()
    collapsed = Gaussian(torch.zeros(6, 4, requires_grad=True), torch.zeros(6, 4))
    flat = Output(collapsed, output.prior, output.z, output.target, output.reconstruction, output.log_sigma, {})
    value = evidence_bound.kl_free_bits(0.25)(batch, flat)
    assert value.item() == pytest.approx(4 * 0.25)
    full = output.posterior.kl(output.prior).mean(0)
    assert evidence_bound.kl_free_bits(1e-9)(batch, output).item() == pytest.approx(full.sum().item(), rel=1e-5)


def test_schedules() -> None:
    assert [evidence_bound.constant(0.3)(s) for s in (0, 99)] == [0.3, 0.3]
    ramp = evidence_bound.ramp(2.0, 10)
    assert [ramp(s) for s in (0, 4, 9, 50)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    cosine = evidence_bound.cosine(2.0, 10)
    assert [cosine(s) for s in (4, 9, 50)] == pytest.approx([1.0, 2.0, 2.0])
    assert 0 < cosine(0) < ramp(0)
    cycle = evidence_bound.cycle(1.0, 10, 0.5)
    assert [cycle(s) for s in (0, 4, 9, 10, 14)] == pytest.approx([0.2, 1.0, 1.0, 0.2, 1.0])


def test_target_rate_finds_the_weight_of_a_known_rate() -> None:
    weight = evidence_bound.schedule(Schedule(kind="target_rate", weight=1.0, rate=20.0, steps=20))
    assert isinstance(weight, evidence_bound.TargetRate)
    for step in range(2000):
        weight.observe(50.0 / weight(step))  # a model whose rate is inverse to the weight
    assert weight(0) == pytest.approx(2.5, rel=1e-3)


def test_fit_leaves_the_encoder_and_fool_the_critic_without_gradient() -> None:
    critic = critics.PriorCritic(a_spec())
    batch, output = a_batch(), an_output()
    z = output.z.clone().requires_grad_(True)
    coded = Output(output.posterior, output.prior, z, output.target, output.reconstruction, output.log_sigma, {})
    critics.fit(critic, GENERATOR)(batch, coded).backward()
    assert z.grad is None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in critic.layers.parameters())
    critic.zero_grad(set_to_none=True)
    critics.fool(critic)(batch, coded).backward()
    assert z.grad is not None
    assert z.grad.abs().sum() > 0
    assert all(p.grad is None for p in critic.parameters())


def test_fit_and_fool_have_the_gradients_of_gradient_reversal() -> None:
    """With the minimax form, d(fit)/dz reversed; here the non-saturating form: same sign, same zeros."""
    critic = critics.PriorCritic(a_spec())
    batch, output = a_batch(), an_output()
    z = output.z.clone().requires_grad_(True)
    coded = Output(output.posterior, output.prior, z, output.target, output.reconstruction, output.log_sigma, {})
    (fool,) = torch.autograd.grad(critics.fool(critic)(batch, coded), z)
    caught = torch.nn.functional.softplus(critic(z, batch.labels, batch.lengths)).mean()
    (catch,) = torch.autograd.grad(caught, z)
    cosine = torch.nn.functional.cosine_similarity(fool, -catch, dim=-1)
    torch.testing.assert_close(cosine, torch.ones(6), atol=1e-4, rtol=0)


def test_aggregate_posterior_gives_back_the_moments_of_each_class() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(3000) % 2 + 1
    mean = torch.randn(3000, 3, generator=generator) * torch.tensor([1.0, 0.5, 2.0]) + classes[:, None] * 3.0
    lengths = torch.randint(60, 120, (3000,), generator=generator)
    aggregate = AggregatePosterior(3, 2)
    aggregate.fit(mean, torch.full((3000, 3), -4.0), classes, lengths)
    drawn = aggregate.sample(classes, lengths, 1.0, generator)
    for label in (1, 2):
        here = classes == label
        torch.testing.assert_close(drawn[here].mean(0), mean[here].mean(0), atol=0.2, rtol=0)
        expected = (mean[here].var(0) + math.exp(-4)).sqrt()
        torch.testing.assert_close(drawn[here].std(0), expected, atol=0.1, rtol=0.05)
    assert aggregate.sample(classes, lengths, 0.0, generator)[classes == 1].std(0).max() < 0.1


def test_every_schedule_kind_is_built() -> None:
    for kind in ("constant", "ramp", "cosine", "cycle", "target_rate"):
        built = evidence_bound.evidence_terms(TrainSettings(kl=Schedule(kind=kind)))
        assert [t.name for t in built] == ["reconstruction", "kl"]
        assert isinstance(built[1].weight, evidence_bound.TargetRate) == (kind == "target_rate")
