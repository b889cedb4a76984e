"""The decoder over whole chains: what it is told counts, padding does not, its flow can be run backwards."""

import numpy as np
import pytest
import torch

from cvae_protein.config.settings import DecoderSettings, ModelSettings, ScoreSettings, VerdictSettings
from cvae_protein.model.decoder import ChainDecoder, Coarse, expected_scale, noise_features, replace_labels
from cvae_protein.model.layers import LEAST_EXPONENT, distances, nearness
from cvae_protein.model.representation import PrincipalComponents, decode_trace
from cvae_protein.model.spec import Spec
from cvae_protein.score.metrics.latent import Codes
from cvae_protein.score.metrics.second_level import Inverted, second_level_rows
from cvae_protein.score.verdicts import FLAGGED, Case, Score, leak

SETTINGS = DecoderSettings(width=32, depth=4, stages=2, heads=2)
SPEC = Spec("decoder", 0, ModelSettings(latent=8), SETTINGS, (("1", "2"), ("1.10", "2.10")), {"1": (20,)}, {})


def a_decoder() -> ChainDecoder:
    """One whose weights are off their special start."""
    torch.manual_seed(0)
    net = ChainDecoder(SPEC)
    for p in net.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    return net.eval()


def some_traces(lengths: tuple[int, ...]) -> Coarse:
    generator, count = torch.Generator().manual_seed(1), len(lengths)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    trace = 2 * torch.randn(count, max(lengths), 3, generator=generator).cumsum(1) * mask[..., None]
    kept, error = torch.full((count,), 6), torch.full((count,), 0.1)
    return Coarse(trace, mask, kept, error, torch.full((count,), 2.0), torch.ones(count, 2, dtype=torch.long))


def wider(value: torch.Tensor, by: int) -> torch.Tensor:
    """More padding of what runs along the chain."""
    return (
        value if value.dim() < 2 or value.shape[1] < 10 else torch.cat([value, torch.zeros_like(value[:, :by])], dim=1)
    )


def test_padding_changes_nothing() -> None:
    net, coarse = a_decoder(), some_traces((20, 14))
    state, time = torch.randn(2, 20, 6) * coarse.mask[..., None], torch.tensor([0.3, 0.6])
    plain = net(state, time, coarse)
    assert len(plain) == 2
    for padded, tight in zip(net(wider(state, 9), time, coarse.apply(lambda x: wider(x, 9))), plain, strict=True):
        torch.testing.assert_close(padded[:, :20], tight, atol=1e-4, rtol=1e-3)
        assert padded[:, 20:].abs().max() == 0
    alone = net(
        state[1:, :14], time[1:], coarse.apply(lambda x: x[1:] if x.dim() < 2 or x.shape[1] < 10 else x[1:, :14])
    )
    torch.testing.assert_close(alone[-1][0], plain[-1][1, :14], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("what", ["trace", "kept", "error", "scale", "labels"])
def test_what_it_is_told_counts(what: str) -> None:
    net, coarse = a_decoder(), some_traces((20, 14))
    state, time = torch.randn(2, 20, 6), torch.tensor([0.3, 0.6])
    changed = Coarse(**{**vars(coarse), what: torch.zeros_like(getattr(coarse, what)) + (what == "scale")})
    assert (net(state, time, changed)[-1] - net(state, time, coarse)[-1]).abs().max() > 1e-3


def test_the_flow_runs_backwards_to_its_noise() -> None:
    net, coarse = a_decoder(), some_traces((20, 14))
    noise = torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(2)) * coarse.mask[..., None]
    state = net.integrate(noise, 0.0, 1.0, coarse, 40, 1.0)
    ca = coarse.trace + coarse.scale[:, None, None] * state[..., :3]
    torch.testing.assert_close(net.to_noise(ca, state[..., 3:], coarse, 40), noise, atol=0.02, rtol=0)
    made, carbonyl = net.to_structure(noise, coarse, 40)
    torch.testing.assert_close(made, ca * coarse.mask[..., None], atol=1e-4, rtol=0)
    torch.testing.assert_close(carbonyl[0].norm(dim=-1), torch.ones(20))


def test_guidance_goes_from_no_label_beyond_the_label() -> None:
    net, coarse = a_decoder(), some_traces((20, 14))
    noise = torch.randn(2, 20, 6)
    unlabelled = net.to_structure(noise, replace_labels(coarse, torch.zeros_like(coarse.labels)), 2)[0]
    torch.testing.assert_close(net.to_structure(noise, coarse, 2, guidance=0.0)[0], unlabelled, atol=1e-4, rtol=0)
    labelled, beyond = (net.to_structure(noise, coarse, 1, guidance)[0] for guidance in (1.0, 2.0))
    # Of one midpoint step the first half is shared by construction only without labels, so directions are compared.
    unlabelled = net.to_structure(noise, coarse, 1, 0.0)[0]
    towards, further = (labelled - unlabelled).flatten(), (beyond - unlabelled).flatten()
    assert torch.nn.functional.cosine_similarity(towards, further, dim=0) > 0.99
    assert further.norm() / towards.norm() == pytest.approx(2, rel=0.1)


def test_expected_scale_is_the_error_of_coarse_traces() -> None:
    """Whitened codes through a linear decoder: the distance from the whole trace to one of a few noisy numbers."""
    generator = torch.Generator().manual_seed(0)
    linear = PrincipalComponents(3 * 10, 6)
    linear.decode.weight.data = torch.randn(30, 6, generator=generator)
    codes, lengths = torch.randn(4000, 6, generator=generator), torch.full((4000,), 30)
    for kept, error in ((6, 0.0), (3, 0.0), (0, 0.0), (4, 0.5)):
        noisy = (codes + error * torch.randn(codes.shape, generator=generator)) * (torch.arange(6) < kept)
        with torch.no_grad():
            traces = [decode_trace(linear.decode(z).view(-1, 10, 3), lengths, 30) for z in (codes, noisy)]
        found = (traces[0] - traces[1]).square().sum(-1).mean().sqrt()
        told = expected_scale(linear.power, 0.0, torch.tensor([kept]), torch.tensor([error]))
        assert found.item() == pytest.approx(told.item(), rel=0.03, abs=1e-3)
    assert expected_scale(linear.power, 0.5, torch.tensor([6]), torch.tensor([0.0])).item() == pytest.approx(0.75**0.5)


def test_distances_are_those_of_cdist_with_their_gradient() -> None:
    x = (20 * torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))).requires_grad_(True)
    off = ~torch.eye(40, dtype=torch.bool)
    exact = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(distances(x)[:, off], exact[:, off], atol=1e-3, rtol=0)
    slopes = [torch.autograd.grad(d[:, off].square().mul(0.1).cos().sum(), x)[0] for d in (distances(x), exact)]
    torch.testing.assert_close(*slopes, atol=2e-2, rtol=1e-2)


def test_nearness_is_a_gaussian_without_numbers_that_are_slow() -> None:
    apart = torch.linspace(0, 90, 49).view(1, 7, 7)
    found = nearness(apart, (4.0, 20.0), 3.0)
    expected = np.exp(-(((apart.numpy().reshape(1, 1, 49) - np.array([[4.0], [20.0]])) / 3) ** 2))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.min() >= np.exp(LEAST_EXPONENT) * 0.99 > np.finfo(np.float32).tiny


def test_loss_has_a_gradient_for_every_weight_and_falls_to_zero_for_the_truth() -> None:
    net, coarse = a_decoder(), some_traces((20, 14))
    ca = coarse.trace + torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(3)) * coarse.mask[..., None]
    carbonyl = torch.nn.functional.normalize(torch.randn(2, 20, 3), dim=-1) * coarse.mask[..., None]
    terms = net.loss(ca, carbonyl, coarse, torch.Generator().manual_seed(0))
    sum(value * weight for value, weight in terms.values()).backward()
    silent = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert not silent

    def truth(state: torch.Tensor, time: torch.Tensor, told: Coarse) -> list[torch.Tensor]:
        target = torch.cat([(ca - coarse.trace) / 2.0, carbonyl], dim=-1)
        return [(target - state) / (1 - time)[:, None, None]] * 2

    net.forward = truth
    perfect = net.loss(ca, carbonyl, coarse, torch.Generator().manual_seed(0))
    assert all(value.item() == pytest.approx(0, abs=1e-4) for value, _ in perfect.values())


def test_features_of_white_noise_do_not_depend_on_padding_or_length() -> None:
    generator = torch.Generator().manual_seed(0)
    for length in (40, 110):
        noise, mask = torch.randn(600, length, 6, generator=generator), torch.ones(600, length, dtype=torch.bool)
        found = noise_features(noise, mask)
        padded = noise_features(torch.cat([noise, noise], 1), torch.cat([mask, ~mask], 1))
        torch.testing.assert_close(padded, found, atol=1e-4, rtol=1e-4)
        signed, others = found[:, :36], found[:, 36:]
        assert signed.mean().item() == pytest.approx(0, abs=0.02)
        assert signed.var().item() == pytest.approx(1, abs=0.03)
        assert others[:, :34].mean().item() == pytest.approx(1, abs=0.02)
        assert others[:, 34:].mean().item() == pytest.approx(0, abs=0.01)


def leaks(noise: torch.Tensor, mask: torch.Tensor, labels: np.ndarray) -> bool:
    """Whether the verdict LEAK is flagged on the noise of domains, each of a superfamily of its own."""
    names, features = np.arange(len(labels)).astype(str), noise_features(noise, mask).numpy().astype(float)
    places, empty = np.arange(len(labels)), np.zeros((len(labels), 2))
    inverted = Inverted(places, features, *(np.ones(len(labels)) for _ in range(3)))
    codes = Codes(names, labels, np.full(len(labels), "test"), empty, empty, empty)
    rows = second_level_rows(inverted, codes, {}, ScoreSettings(bootstrap=200))
    scores = {
        row.metric: Score(row.estimate.value, row.estimate.low, row.estimate.high, row.estimate.n) for row in rows
    }
    scores["class_leakage"] = Score(0.0, -0.1, 0.1, len(labels))
    return leak(Case("concat", scores, {}, {}, VerdictSettings())).state == FLAGGED


def test_a_label_that_is_fed_to_the_decoder_through_its_noise_is_flagged() -> None:
    generator, count = torch.Generator().manual_seed(0), 240
    mask = torch.arange(90) < torch.randint(50, 91, (count, 1), generator=generator)
    labels = np.arange(count) % 3
    white = torch.randn(count, 90, 6, generator=generator)
    assert not leaks(white, mask, labels.astype(str))
    told = torch.from_numpy(labels)[:, None].float()
    shifted, rough = white.clone(), white.clone()
    shifted[..., 4] += 0.3 * (told - 1)  # a constant, far below what its squared norm would show
    rough[:, 1:, :3] += 0.25 * (told - 1)[..., None] * white[:, :-1, :3]  # the neighbour's noise, by class
    for hidden in (shifted, rough):
        assert hidden[mask].square().mean().item() == pytest.approx(1, abs=0.1)
        assert leaks(hidden, mask, labels.astype(str))
