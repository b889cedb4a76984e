"""The textbook's designs: the sizes given, and what their parts compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cvae_protein.config import load
from cvae_protein.config.settings import ModelSettings, RefineSettings
from cvae_protein.model import registry
from cvae_protein.model.batch import Batch
from cvae_protein.model.literal import LiteralCVAE, OneHot, Standardisation
from cvae_protein.model.losses.critics import PriorCritic
from cvae_protein.model.representation import decode_trace, encode_trace
from cvae_protein.model.spec import Spec

FOUNDING = Path(__file__).parents[3] / "config/examples/founding.yaml"
VOCABULARY = (("1", "2", "3"), ("1.10", "3.40"))


def a_spec(model: ModelSettings) -> Spec:
    return Spec("literal_concat", 0, model, RefineSettings(), VOCABULARY, {}, {})


def a_batch(count: int = 6, length: int = 50) -> Batch:
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(count, length, 1, 3, generator=generator)
    coords = steps.cumsum(1) + torch.randn(1, 1, 5, 3, generator=generator)
    labels = torch.tensor([[1, 1], [2, 0], [3, 2], [0, 0], [1, 0], [3, 0]])[:count]
    return Batch(coords, torch.ones(count, length, dtype=torch.bool), labels)


@pytest.mark.parametrize("design", ["concat", "branched"])
def test_layers_have_the_sizes_of_the_page(design: str) -> None:
    """3K + y -> 512 -> z twice; z + y -> 512 -> 3K; or two paths of 256 that meet."""
    spec = a_spec(load.load(FOUNDING).model)
    model = registry.variant(f"literal_{design}").build(spec)
    inputs, y, latent = 3 * 48, 3 + 2 + 1, 32
    sizes = {
        name: tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight") and "linear" not in name
    }
    first = {
        "concat": {"paths.0.weight": (512, inputs + y)},
        "branched": {"paths.0.weight": (256, inputs), "paths.1.weight": (256, y)},
    }[design]
    second = {
        "concat": {"paths.0.weight": (512, latent + y)},
        "branched": {"paths.0.weight": (256, latent), "paths.1.weight": (256, y)},
    }[design]
    assert sizes == (
        {f"encoder.network.hidden.{name}": size for name, size in first.items()}
        | {f"decoder.network.hidden.{name}": size for name, size in second.items()}
        | {"encoder.network.mean.weight": (latent, 512), "encoder.network.logvar.weight": (latent, 512)}
        | {"decoder.network.out.weight": (inputs, 512)}
    )
    assert registry.variant("literal_adversarial").build(spec).critic.__class__ is PriorCritic


def test_an_encoder_is_the_page_computed_by_hand() -> None:
    """mu and log variance are linear in ReLU(W [x, y] + b)."""
    model = LiteralCVAE(a_spec(ModelSettings(latent=4, width=16, depth=1, coefficients=8, dropout=0.0)), False).eval()
    network = model.encoder.network
    x, y = torch.randn(5, 24), torch.randn(5, 6)
    weight, bias = network.hidden.paths[0].weight, network.hidden.paths[0].bias
    h = torch.clamp(torch.cat([x, y], dim=1) @ weight.T + bias, min=0)
    found = network(x, y)
    torch.testing.assert_close(found.mean, h @ network.mean.weight.T + network.mean.bias)
    torch.testing.assert_close(found.logvar, h @ network.logvar.weight.T + network.logvar.bias)


def test_one_hot_labels_hide_what_is_unknown() -> None:
    found = OneHot(a_spec(ModelSettings()))(torch.tensor([[3, 2], [1, 0], [0, 0]]), torch.tensor([100, 50, 100]))
    expected = [[0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, -0.693147], [0, 0, 0, 0, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_standardised_coefficients_have_mean_0_and_variance_1_and_come_back() -> None:
    flat, weights = 3 + 5 * torch.randn(200, 7), torch.rand(200)
    scaling = Standardisation(7)
    variance = scaling.fit(flat, weights)
    shares = (weights / weights.sum())[:, None]
    scaled = scaling.encode(flat - scaling.center)
    torch.testing.assert_close((shares * scaled).sum(0), torch.zeros(7), atol=1e-5, rtol=0)
    torch.testing.assert_close((shares * scaled**2).sum(0), torch.ones(7), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaling.center + scaling.decode(scaled), flat, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close((shares * (flat - (shares * flat).sum(0)) ** 2).sum(0), variance)
    assert not any(p.requires_grad for p in scaling.parameters())


def test_the_untrained_scale_is_that_of_the_mean_trace() -> None:
    model = LiteralCVAE(a_spec(ModelSettings(latent=4, width=16, coefficients=8)), branched=True).eval()
    batch = a_batch()
    model.fit_linear(batch, torch.ones(6))
    coefficients, frame = encode_trace(batch.ca, batch.mask, 8)
    centred = (batch.ca - batch.ca.mean(1, keepdim=True)) @ frame
    mean = decode_trace(coefficients.mean(0, keepdim=True).expand(6, -1, -1), batch.lengths, 50)
    expected = (centred - mean).square().mean().sqrt()
    torch.testing.assert_close(model.log_sigma.exp(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.infer(batch, 10).mean, model.infer(batch, 0).mean)
