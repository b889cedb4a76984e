"""The flow on codes learns a distribution a class; networks in bfloat16 agree with float32."""

from __future__ import annotations

import pytest
import torch

from cvae_protein.config.settings import ModelSettings, RefineSettings
from cvae_protein.model import layers, refiner
from cvae_protein.model.priors import Gaussian, LatentFlow
from cvae_protein.model.spec import Spec


def test_codes_of_each_class_are_drawn_where_that_class_lies() -> None:
    torch.manual_seed(0)
    model = ModelSettings(latent=2, coefficients=8, width=32, dropout=0.0)
    flow = LatentFlow(Spec("concat", 0, model, RefineSettings(), (("1", "2"),), {"1": (50,), "2": (60,)}, {}))
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(512)[:, None] % 2 + 1
    lengths = torch.full((512,), 80)
    center = torch.where(labels == 1, torch.tensor([-6.0, 1.0]), torch.tensor([4.0, 5.0]))
    z = center + torch.tensor([0.5, 2.0]) * torch.randn(512, 2, generator=generator)
    flow.whiten(Gaussian(z, torch.full_like(z, -20.0)))
    torch.testing.assert_close(flow.spread, z.std(0, correction=0), rtol=1e-3, atol=1e-3)
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        flow.loss(z, labels, lengths, generator).backward()
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
