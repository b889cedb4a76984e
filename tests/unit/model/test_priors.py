"""The flow on codes learns a distribution a class; networks in bfloat16 agree with float32."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from cvae_protein.config.settings import ModelSettings, RefineSettings
from cvae_protein.model import layers, refiner
from cvae_protein.model.priors import AggregatePosterior, LatentFlow, TrainingCodes
from cvae_protein.model.spec import Spec


def spec_of(latent: int) -> Spec:
    model = ModelSettings(latent=latent, coefficients=8, width=32, dropout=0.0)
    return Spec("concat", 0, model, RefineSettings(), (("1", "2"),), {"1": (50,), "2": (60,)}, {})


def aggregate_of(z: torch.Tensor, classes: torch.Tensor, lengths: torch.Tensor) -> AggregatePosterior:
    aggregate = AggregatePosterior(z.shape[1], 2)
    aggregate.fit(z, torch.full_like(z, -20.0), classes, lengths)
    return aggregate


def test_codes_of_each_class_are_drawn_where_that_class_lies() -> None:
    torch.manual_seed(0)
    flow = LatentFlow(spec_of(2))
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(512)[:, None] % 2 + 1
    lengths = torch.full((512,), 80)
    center = torch.where(labels == 1, torch.tensor([-6.0, 1.0]), torch.tensor([4.0, 5.0]))
    z = center + torch.tensor([0.5, 2.0]) * torch.randn(512, 2, generator=generator)
    flow.whiten(aggregate_of(z, labels[:, 0], lengths))
    torch.testing.assert_close(flow.factor @ flow.factor.T, z.T.cov(correction=0), rtol=1e-3, atol=1e-3)
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        flow.losses(z, labels, lengths, generator)[0].mean().backward()
        optimizer.step()
    drawn = flow.eval().sample(labels, lengths, 1.0, 1.0, generator)
    for label in (1, 2):
        here = labels[:, 0] == label
        torch.testing.assert_close(drawn[here].mean(0), z[here].mean(0), atol=0.5, rtol=0)
        torch.testing.assert_close(drawn[here].std(0), z[here].std(0), atol=0.4, rtol=0.3)
    cold = flow.sample(labels, lengths, 0.0, 1.0, generator)[labels[:, 0] == 1]
    assert cold.std(0).max() < 1e-3
    noise = flow.to_noise(z, labels, lengths)
    torch.testing.assert_close(flow.to_codes(noise, labels, lengths), z, atol=2e-2, rtol=0)  # there and back
    first, second = (noise[labels[:, 0] == label].mean(0) for label in (1, 2))
    assert (first - second).norm() < 0.5 < (z[labels[:, 0] == 1].mean(0) - z[labels[:, 0] == 2].mean(0)).norm()
    swapped = flow.to_codes(noise, 3 - labels, lengths)
    assert (swapped[labels[:, 0] == 1].mean(0) - center[labels[:, 0] == 2][0]).norm() < 1  # the label decides
    unguided = flow.to_codes(noise, labels, lengths, guidance=0.0)
    torch.testing.assert_close(unguided, flow.to_codes(noise, torch.zeros_like(labels), lengths), atol=1e-4, rtol=1e-4)


class GaussianFlow(LatentFlow):
    """A flow whose velocity is, in closed form, that of straight ways from noise to N(mean, covariance)."""

    def __init__(self, mean: torch.Tensor, covariance: torch.Tensor) -> None:
        super().__init__(spec_of(len(mean)))
        self.mean, self.covariance = mean, covariance

    def forward(self, x: torch.Tensor, time: torch.Tensor, labels: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        t, identity = time[:, None, None], torch.eye(len(self.mean))
        on_the_way = (1 - t) ** 2 * identity + t**2 * self.covariance
        shift = torch.linalg.solve(on_the_way, (x - time[:, None] * self.mean)[..., None])
        return self.mean + ((t * self.covariance - (1 - t) * identity) @ shift)[..., 0]


@pytest.mark.parametrize("latent", [3, 12])
def test_a_flow_has_the_density_of_the_gaussian_that_it_makes(latent: int) -> None:
    """Exact up to 8 dimensions; beyond, the trace is estimated, whose error the mean over codes loses."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(latent, latent, generator=generator) / latent**0.5
    mean, covariance = torch.randn(latent, generator=generator), root @ root.T + 0.3 * torch.eye(latent)
    known = MultivariateNormal(mean, covariance)
    z = mean + torch.randn(400, latent, generator=generator) @ torch.linalg.cholesky(covariance).T
    given = torch.ones(400, 1, dtype=torch.long), torch.full((400,), 60)
    found, noise = GaussianFlow(mean, covariance).log_density(z, *given)
    error = found - known.log_prob(z)
    assert error.abs().max() < 0.02 if latent == 3 else error.std() < 1
    assert error.mean().abs() < 0.02 + 3 * error.std() / 20
    assert noise.square().sum(-1).mean() == pytest.approx(latent, rel=0.1)


def test_an_untrained_flow_is_one_gaussian_for_all_classes_given_the_length() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(40, 200, (500,), generator=generator)
    z = torch.randn(500, 4, generator=generator) @ torch.randn(4, 4, generator=generator)
    z[:, 0] += 3 * torch.log(lengths.float())
    classes = torch.randint(1, 3, (500,), generator=generator)
    aggregate = aggregate_of(z, classes, lengths)
    flow = LatentFlow(spec_of(4)).eval()
    flow.whiten(aggregate)
    known = aggregate.log_density(z, torch.zeros_like(classes), lengths)
    torch.testing.assert_close(flow.log_density(z, classes[:, None], lengths)[0], known, atol=1e-3, rtol=1e-4)
    own, gaussian = flow.losses(z, classes[:, None], lengths, generator)
    assert torch.equal(own, gaussian)
    joint = torch.cat([z, torch.log(lengths.float())[:, None]], 1).double()
    both = MultivariateNormal(joint.mean(0), joint.T.cov(correction=0)).log_prob(joint)
    alone = Normal(joint[:, -1].mean(), joint[:, -1].std(correction=0)).log_prob(joint[:, -1])
    torch.testing.assert_close(known.double(), both - alone, atol=1e-2, rtol=0)


def test_density_of_handed_out_training_codes_is_that_of_the_members_alike() -> None:
    mean = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    kept = TrainingCodes(mean, torch.zeros(3, 2), torch.tensor([[1], [1], [2]]), torch.tensor([50, 60, 50]))
    z, lengths = torch.tensor([[1.0, 0.0], [0.0, 9.0]]), torch.tensor([50, 50])
    found = kept.log_density(z, torch.tensor([[1], [2]]), lengths)
    each = MultivariateNormal(mean, torch.eye(2).repeat(3, 1, 1)).log_prob(z[:, None])
    assert found[0] == pytest.approx(float(torch.logsumexp(each[0, :2], 0) - torch.log(torch.tensor(2.0))), abs=1e-4)
    assert found[1] == pytest.approx(float(each[1, 2]), abs=1e-4)


def test_bfloat16_networks_stay_near_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = refiner.Refiner(RefineSettings(width=32, depth=2, heads=2)).eval()
    for p in net.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    mask = torch.arange(30) < torch.tensor([[30], [21]])
    trace = torch.randn(2, 30, 3).cumsum(1) * 2 * mask[..., None]
    arguments = (torch.randn(2, 30, 6), torch.tensor([0.2, 0.7]), trace, mask)
    exact = net(*arguments)
    monkeypatch.setattr(refiner, "mixed_precision", lambda device, training: torch.autocast("cpu", torch.bfloat16))
    rounded = net(*arguments)
    assert rounded.dtype == torch.float32
    error = (rounded - exact).norm() / exact.norm()
    assert 0 < error < 0.05


@pytest.mark.parametrize("instructions", [True, False])
def test_a_cpu_computes_in_bfloat16_in_training_alone_and_where_it_can(
    instructions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(layers, "CPU_HAS_BFLOAT16", instructions)
    net = layers.ChainNetwork(4, 3, 2, 16, 1, 0.0)
    net.out.weight.data.normal_()
    inputs = torch.randn(2, 30, 4), torch.ones(2, 30, dtype=torch.bool), torch.randn(2, 3)
    exact, trained = net.eval()(*inputs), net.train()(*inputs)
    monkeypatch.setattr(layers, "mixed_precision", lambda device, training: torch.autocast("cpu", enabled=False))
    assert torch.equal(exact, net(*inputs))
    error = (trained - exact).norm() / exact.norm()
    assert 0 < error < 0.05 if instructions else error == 0
