"""What the networks do faster on a CPU is what PyTorch's own layers do."""

import pytest
import torch
from torch import nn

from cvae_protein.model.layers import Dropout, convolve_chain


@pytest.mark.parametrize("size", [5, 7])
def test_convolution_along_the_chain_is_that_of_pytorch(size: int) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv1d(12, 8, size, padding=size // 2), torch.randn(3, 21, 12)
    pairs = []
    for convolve in (lambda given: layer(given.transpose(1, 2)).transpose(1, 2), lambda g: convolve_chain(layer, g)):
        given = x.clone().requires_grad_(True)
        layer.zero_grad()
        out = convolve(given)
        out.square().sum().backward()
        pairs.append((out.detach(), given.grad, layer.weight.grad.clone(), layer.bias.grad.clone()))
    for plain, fast in zip(*pairs, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_dropout_keeps_the_mean_and_drops_its_share(share: float) -> None:
    torch.manual_seed(0)
    layer, x = Dropout(share), torch.ones(1001, 999)
    out = layer(x)
    assert (out == 0).float().mean().item() == pytest.approx(min(round(256 * share), 255) / 256, abs=0.002)
    assert out.mean().item() == pytest.approx(1.0, abs=0.07 if share > 0.9 else 0.005)
    assert len(out.unique()) == 2
    neighbours = (out[:, 1:] == 0) & (out[:, :-1] == 0)
    assert neighbours.float().mean().item() == pytest.approx(((out == 0).float().mean() ** 2).item(), abs=0.003)


def test_dropout_follows_the_seed_and_rests_in_evaluation() -> None:
    layer, x = Dropout(0.3), torch.randn(7, 13)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(layer(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
