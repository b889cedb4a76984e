"""Terms beyond the evidence bound against closed forms, by their sign, and in a training that asks for them."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import write_two_classes
from torch import Tensor

from cvae_protein.config import load
from cvae_protein.config.settings import ModelSettings, RefineSettings, Schedule, TermSettings, TrainSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.model import registry
from cvae_protein.model.batch import Batch
from cvae_protein.model.cvae import CVAE, Output
from cvae_protein.model.losses import critics, regularizers
from cvae_protein.model.losses.objective import PLAIN, WITH_CRITIC, further_terms
from cvae_protein.model.priors import Gaussian
from cvae_protein.model.spec import Spec, load_tensors
from cvae_protein.training.train import train

MODEL = ModelSettings(
    latent=4, coefficients=10, width=16, depth=1, decoder_width=16, decoder_depth=1, inference_steps=0
)
SPEC = Spec("concat", 0, MODEL, RefineSettings(), (("1", "2"), ("1.1", "2.1", "2.2")), {"1": (50,), "2": (60,)}, {})
WEIGHTS = [field.name for field in fields(TermSettings) if field.name != "schedule"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_codes(mean: Tensor, labels: Tensor | None = None, logvar: float = -30.0) -> tuple[Batch, Output]:
    """A batch and an output whose codes are drawn around `mean` (B, Z); labels (B,) of the first level."""
    rows, latent = mean.shape
    posterior = Gaussian(mean, torch.full_like(mean, logvar))
    prior = Gaussian(torch.zeros_like(mean), torch.zeros_like(mean))
    first = torch.ones(rows, dtype=torch.long) if labels is None else labels
    levels = torch.stack([first, torch.zeros_like(first)], dim=1)
    trace = torch.randn(rows, 12, 3, generator=seeded(5))
    batch = Batch(torch.zeros(rows, 12, 5, 3), torch.ones(rows, 12, dtype=torch.bool), levels)
    z = posterior.sample(seeded(7))
    return batch, Output(posterior, prior, z, trace, trace, torch.zeros(()), {"z": (0, latent)})


def over_batches(term, make, count: int = 60) -> tuple[float, float]:
    """Mean of a term over batches made from random numbers, and the standard error of that mean."""
    values = torch.stack([term(*make(seeded(seed))) for seed in range(count)])
    return values.mean().item(), values.std().item() / math.sqrt(count)


class TestCodes:
    def test_spread_codes_cost_nothing_and_collapsed_ones_the_floor(self) -> None:
        wide = torch.randn(64, 4, generator=seeded())
        assert regularizers.variance_floor(*of_codes(wide)).item() == 0
        assert regularizers.variance_floor(*of_codes(wide * 1e-6)).item() == pytest.approx(4 * (0.5 - 0.01), rel=1e-3)
        narrow = (0.3 * wide / wide.std(0)).requires_grad_(True)
        (slope,) = torch.autograd.grad(regularizers.variance_floor(*of_codes(narrow)), narrow)
        assert (slope * (narrow - narrow.mean(0))).sum() < 0  # descent spreads them

    def test_a_spread_at_the_floor_has_the_rate_that_is_promised(self) -> None:
        mean = torch.randn(500, 1, generator=seeded())
        mean = regularizers.FLOOR * (mean - mean.mean()) / mean.std()
        for logvar in (-3.0, -1.0, 0.0):
            _, output = of_codes(mean, logvar=logvar)
            assert output.posterior.kl(output.prior).mean() >= 0.5 * regularizers.FLOOR**2 * 0.99

    def test_kernel_is_the_formula(self) -> None:
        found = regularizers.kernel(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])).item()
        assert found == pytest.approx(np.mean([4 * s / (4 * s + 25) for s in regularizers.SCALES]))
        assert regularizers.kernel(torch.ones(1, 2), torch.ones(1, 2)).item() == pytest.approx(1.0)

    def test_discrepancy_of_point_masses_is_that_of_the_kernel(self) -> None:
        a, b = torch.zeros(5, 2), torch.tensor([[3.0, 4.0]]).expand(4, 2)
        expected = 2 - 2 * regularizers.kernel(a[:1], b[:1]).item()
        assert regularizers.discrepancy(a, b).item() == pytest.approx(expected, rel=1e-5)

    def test_mmd_is_zero_on_average_for_codes_of_the_prior_and_positive_for_others(self) -> None:
        term = regularizers.mmd(seeded(1))
        mean, error = over_batches(term, lambda g: of_codes(torch.randn(32, 4, generator=g)))
        assert abs(mean) < 4 * error
        assert error < 0.01
        assert over_batches(term, lambda g: of_codes(torch.randn(32, 4, generator=g) + 1.0))[0] > 0.05
        assert over_batches(term, lambda g: of_codes(0.2 * torch.randn(32, 4, generator=g)))[0] > 0.05

    @pytest.mark.parametrize("logvar", [-4.0, -1.0, 1.0])
    def test_total_correlation_of_independent_codes_is_about_zero(self, logvar: float) -> None:
        term = regularizers.total_correlation(seeded(1))
        mean, error = over_batches(term, lambda g: of_codes(torch.randn(64, 6, generator=g), logvar=logvar))
        assert abs(mean) < 4 * error
        assert error < 0.05

    def test_total_correlation_of_two_correlated_dimensions_is_the_closed_form(self) -> None:
        def make(g: torch.Generator) -> tuple[Batch, Output]:
            first, noise = torch.randn(256, 1, generator=g), torch.randn(256, 1, generator=g)
            return of_codes(torch.cat([first, 0.9 * first + math.sqrt(0.19) * noise], 1), logvar=-1.0)

        rho = 0.9 / (1 + math.exp(-1.0))
        mean, _ = over_batches(regularizers.total_correlation(seeded(1)), make, 20)
        assert mean == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.05)

    @pytest.mark.parametrize("name", ["class_mmd", "hsic"])
    def test_dependence_on_the_class_is_zero_without_it_and_grows_with_it(self, name: str) -> None:
        term = getattr(regularizers, name)

        def make(shift: float):
            def codes(g: torch.Generator) -> tuple[Batch, Output]:
                labels = torch.randint(1, 4, (32,), generator=g)
                return of_codes(torch.randn(32, 3, generator=g) + shift * (labels[:, None] == 1), labels)

            return codes

        mean, error = over_batches(term, make(0.0))
        assert abs(mean) < 4 * error
        some, more = (over_batches(term, make(shift))[0] for shift in (1.0, 3.0))
        assert 5 * error < some < more

    def test_hsic_is_the_estimate_over_all_quadruples(self) -> None:
        """Song et al. 2012: the U-statistic, summed here over distinct i, j, q, r as it is defined."""
        batch, output = of_codes(torch.randn(5, 2, generator=seeded()), torch.tensor([1, 2, 1, 2, 2]))
        k = regularizers.kernel(output.z, output.z).double()
        same = (batch.labels[:, None, 0] == batch.labels[None, :, 0]).double()
        from itertools import permutations

        parts = [k[i, j] * (same[i, j] + same[q, r] - 2 * same[i, q]) for i, j, q, r in permutations(range(5), 4)]
        assert regularizers.hsic(batch, output).item() == pytest.approx(torch.stack(parts).mean().item(), abs=1e-6)

    def test_terms_against_the_label_pass_the_block_that_may_know_it(self) -> None:
        labels = torch.tensor([1, 2] * 16)
        code = torch.randn(32, 4, generator=seeded())
        code[:, 3] += 20.0 * labels
        batch, output = of_codes(code, labels)
        blocks = replace(output, blocks={"shape": (0, 3), "fold": (3, 4)})
        assert regularizers.free_columns(blocks.blocks) == [0, 1, 2]
        assert regularizers.class_mmd(batch, output) > 10 * regularizers.class_mmd(batch, blocks).abs()

    @pytest.mark.parametrize("known", [0, 1, 3])
    def test_few_known_labels_give_a_number_with_a_gradient(self, known: int) -> None:
        labels = torch.zeros(8, dtype=torch.long)
        labels[:known] = 1
        mean = torch.randn(8, 4, generator=seeded(), requires_grad=True)
        batch, output = of_codes(mean, labels)
        model = a_model()
        for term in further_terms(model, TermSettings(**dict.fromkeys(WEIGHTS, 1.0)), seeded()):
            value = term.term(batch, output)
            assert torch.isfinite(value), term.name
            if value.requires_grad:
                value.backward(retain_graph=True)


def a_model() -> CVAE:
    """A model with all weights moved off their special start."""
    model = registry.variant("concat").build(SPEC)
    for p in model.parameters():
        p.data.add_(0.05 * torch.randn(p.shape, generator=seeded(p.numel())))
    return model.eval()


class TestCritics:
    def test_a_critic_that_tells_the_shares_costs_nothing_and_one_that_tells_more_does(self) -> None:
        labels = torch.tensor([1, 2, 2, 2])
        batch, output = of_codes(torch.eye(4), labels)
        critic = critics.LabelCritic(4, SPEC)
        for p in critic.parameters():
            p.data.zero_()
        critic.layers[-1].bias.data[:2] = torch.tensor([0.25, 0.75]).log()
        assert critic.fool(batch, output).item() == pytest.approx(0.0, abs=1e-6)
        shares = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
        assert critic.fit(batch, output, seeded()).item() == pytest.approx(shares, rel=1e-5)
        critic.layers[-1].bias.data[:2] = torch.tensor([0.9, 0.1]).log()
        expected = 0.25 * math.log(0.25 / 0.9) + 0.75 * math.log(0.75 / 0.1)
        assert critic.fool(batch, output).item() == pytest.approx(expected, rel=1e-5)

    def test_club_of_known_gaussians_is_the_closed_form_and_no_less_than_the_information(self) -> None:
        labels = torch.tensor([1, 2]).repeat(5000)
        center = 1.5
        sign = (labels * 2 - 3).float()[:, None]
        batch, output = of_codes(torch.randn(10000, 1, generator=seeded()) + center * sign, labels)
        critic = critics.LabelGaussian(1, SPEC)
        critic.levels[0].weight.data[1:, 0] = torch.tensor([-center, center])
        found = torch.stack([critic.fool(*part).detach() for part in thirds(batch, output, 1000)]).mean().item()
        assert found == pytest.approx(center**2, rel=0.05)
        assert found > math.log(2)
        critic.levels[0].weight.data.zero_()
        assert critic.fool(*thirds(batch, output, 1000)[0]).item() == pytest.approx(0.0, abs=1e-5)

    def test_density_is_best_at_the_moments_of_a_class(self) -> None:
        batch, output = of_codes(2.0 + 0.5 * torch.randn(2000, 1, generator=seeded()))
        critic = critics.LabelGaussian(1, SPEC)
        critic.levels[0].weight.data[1] = torch.tensor([2.0, 2 * math.log(0.5)])
        best = critic.fit(batch, output, seeded()).item()
        assert best == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 0.25), abs=0.05)

    @pytest.mark.parametrize("name", WITH_CRITIC)
    def test_fit_moves_the_critic_alone_and_use_all_but_the_critic(self, name: str) -> None:
        model = a_model()
        mean = torch.randn(8, 4, generator=seeded(), requires_grad=True)
        batch, output = of_codes(mean, torch.tensor([1, 2] * 4))
        fit, use = further_terms(model, TermSettings(**{name: 2.0}), seeded())
        assert (fit.name, use.name) == (f"{name}_fit", name)
        assert fit.weight(0) == 1.0
        critic = model.critics[name]
        for p in critic.parameters():
            p.data.add_(0.1)
        judged = [mean] if name != "classifier" else list(model.decoder.correct.parameters())
        fit.term(batch, output).backward(retain_graph=True)
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in critic.parameters())
        assert all(p.grad is None for p in judged)
        critic.zero_grad(set_to_none=True)
        use.term(batch, output).backward()
        assert all(p.grad is None for p in critic.parameters())
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in judged)
        assert name != "classifier" or mean.grad is None


def thirds(batch: Batch, output: Output, size: int) -> list[tuple[Batch, Output]]:
    """Batch and output cut to `size` rows each."""
    cut = []
    for rows in torch.arange(len(batch.mask)).split(size):
        part = Batch(batch.coords[rows], batch.mask[rows], batch.labels[rows])
        cut.append((part, replace(output, z=output.z[rows])))
    return cut


def a_helix(rows: int = 3, length: int = 20) -> Tensor:
    """CA of an ideal alpha helix (rows, length, 3) in Å, steps of about 3.8 Å."""
    turn = torch.arange(length) * math.radians(100)
    return torch.stack([2.3 * turn.cos(), 2.3 * turn.sin(), 1.5 * torch.arange(length)], -1).expand(rows, -1, -1)


def of_traces(made: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Batch, Output]:
    rows, length, _ = target.shape
    mask = torch.ones(rows, length, dtype=torch.bool) if mask is None else mask
    batch = Batch(torch.zeros(rows, length, 5, 3), mask, torch.ones(rows, 2, dtype=torch.long))
    output = of_codes(torch.randn(rows, 4, generator=seeded()))[1]
    return batch, replace(output, target=target, reconstruction=made)


class TestTraces:
    def test_local_frames_are_proper_rotations_that_turn_with_the_chain(self) -> None:
        ca = torch.randn(2, 9, 3, generator=seeded())
        turn = torch.linalg.qr(torch.randn(3, 3, generator=seeded(1)))[0]
        turn = turn * torch.det(turn).sign()
        frames = regularizers.local_frames(ca)
        torch.testing.assert_close(torch.det(frames), torch.ones(2, 7), atol=1e-4, rtol=0)
        torch.testing.assert_close(regularizers.local_frames(ca @ turn.T + 3), turn @ frames, atol=1e-3, rtol=0)

    def test_fape_sees_no_rigid_motion_but_the_mirror_image(self) -> None:
        helix = a_helix()
        turn = torch.linalg.qr(torch.randn(3, 3, generator=seeded(1)))[0]
        turn = turn * torch.det(turn).sign()
        assert regularizers.fape(*of_traces(helix @ turn.T + 7, helix)).item() == pytest.approx(0.001, abs=2e-4)
        mirrored = regularizers.fape(*of_traces(helix * torch.tensor([1.0, 1.0, -1.0]), helix)).item()
        assert mirrored > 0.1

    def test_fape_of_a_far_last_residue_is_the_clamped_share(self) -> None:
        helix = a_helix(1, 20)
        moved = helix.clone()
        moved[:, -1] += 1000.0  # a point of all 18 frames, and an axis of the last one
        found = regularizers.fape(*of_traces(moved, helix)).item()
        assert found >= 1 / 20
        assert found <= 1 / 20 + 1 / 18 + 0.002

    def test_padding_changes_no_term_of_the_trace(self) -> None:
        helix = a_helix()
        made = helix + 0.5 * torch.randn(helix.shape, generator=seeded())
        wide = [torch.nn.functional.pad(x, (0, 0, 0, 6)) for x in (made, helix)]
        mask = torch.arange(26).expand(3, -1) < 20
        for term in (regularizers.fape, regularizers.step_length):
            torch.testing.assert_close(term(*of_traces(*wide, mask)), term(*of_traces(made, helix)))

    def test_steps_are_summed_squares_in_angstrom(self) -> None:
        straight = torch.zeros(2, 5, 3)
        straight[:, :, 0] = torch.arange(5) * 3.3
        value = regularizers.step_length(*of_traces(straight, straight)).item()
        assert value == pytest.approx(4 * 0.25, rel=1e-3)
        ideal = straight * 3.8 / 3.3
        assert regularizers.step_length(*of_traces(ideal, ideal)).item() == pytest.approx(0.0, abs=1e-6)

    def test_profile_of_a_helix_is_its_geometry_in_every_frame(self) -> None:
        helix = a_helix(1, 30)
        turn = torch.linalg.qr(torch.randn(3, 3, generator=seeded(1)))[0]
        mask = torch.ones(1, 30, dtype=torch.bool)
        found = critics.profile(helix @ turn.T + 9, mask)
        spans = torch.tensor(critics.SPANS)
        chord = 2 * 2.3 * torch.sin(torch.deg2rad(spans * 50.0)).abs()
        expected = (chord.square() + (1.5 * spans).square()).sqrt() / 10
        torch.testing.assert_close(found[0, ::2], expected, atol=1e-4, rtol=1e-4)
        assert found[0, 1::2].max() < 0.002  # all distances of a span are the same
        padded = torch.nn.functional.pad(helix, (0, 0, 0, 7), value=3.0)
        mask = torch.arange(37)[None] < 30
        torch.testing.assert_close(critics.profile(padded, mask), critics.profile(helix, mask[:, :30]))

    @pytest.mark.parametrize("name", ["mode_seeking", "label_seeking"])
    def test_seeking_terms_are_at_their_most_where_the_decoder_does_not_heed(self, name: str) -> None:
        labels, code = torch.tensor([1, 2, 1, 2]), torch.randn(4, 4, generator=seeded())
        heeding, deaf = a_model(), a_model()
        deaf.decode = lambda z, labels, mask: torch.zeros(len(z), mask.shape[1], 3)  # type: ignore[method-assign]
        values = []
        for model in (heeding, deaf):
            batch, output = of_codes(code, labels)
            output = replace(output, reconstruction=model.decode(output.z, batch.labels, batch.mask))
            (term,) = further_terms(model, TermSettings(**{name: 1.0}), seeded(3))
            values.append(term.term(batch, output).item())
        assert values[1] == pytest.approx(1.0, abs=5e-3)
        assert values[0] < values[1] - 1e-3


class TestObjective:
    def test_every_weight_of_the_settings_has_its_term(self) -> None:
        assert {*PLAIN, *WITH_CRITIC} == set(WEIGHTS)

    def test_weights_are_zero_unless_asked_for_and_follow_the_schedule(self) -> None:
        assert further_terms(a_model(), TermSettings(), seeded()) == []
        settings = TermSettings(mmd=10.0, hsic=2.0, schedule=Schedule(kind="ramp", weight=0.5, steps=10))
        found = {
            term.name: [term.weight(step) for step in (0, 9, 99)]
            for term in further_terms(a_model(), settings, seeded())
        }
        assert found["mmd"] == pytest.approx([0.5, 5.0, 5.0])
        assert found["hsic"] == pytest.approx([0.1, 1.0, 1.0])

    def test_wrong_settings_are_named(self) -> None:
        with pytest.raises(UserError, match=r"train\.terms\.schedule\.kind: expected constant, ramp"):
            load.load({"train": {"terms": {"schedule": {"kind": "target_rate"}}}})
        with pytest.raises(UserError, match=r"train\.batch_size: expected 2 or more"):
            load.load({"train": {"batch_size": 7, "processes": 4, "terms": {"mmd": 1}}})
        load.load({"train": {"batch_size": 1}})
        with pytest.raises(UserError, match=r"train\.terms\.mdm: unknown key; did you mean mmd"):
            load.load({"train": {"terms": {"mdm": 1}}})

    @pytest.mark.parametrize("variant", ["concat", "branched"])
    def test_training_logs_its_terms_and_keeps_no_critic(self, variant: str, tmp_path: Path) -> None:
        store, splits = write_two_classes(tmp_path)
        settings = TrainSettings(steps=4, flow_steps=1, batch_size=8, report_every=2)
        every = replace(settings, terms=TermSettings(**dict.fromkeys(WEIGHTS, 0.1)))
        for name, own in (("plain", settings), ("every", every)):
            train(store, splits, variant, 0, tmp_path / name, MODEL, own, RefineSettings(), 2)
        columns = {name: list(read_table(tmp_path / name / "history.tsv")[0]) for name in ("plain", "every")}
        added = {*WEIGHTS, *(f"{name}_fit" for name in WITH_CRITIC)}
        assert set(columns["every"]) - set(columns["plain"]) == added
        assert [c for c in columns["every"] if c not in added] == columns["plain"]
        rows = read_table(tmp_path / "every/history.tsv", sorted(added))
        assert all(math.isfinite(float(row[name])) for row in rows for name in added)
        plain, other = (load_tensors(tmp_path / name / "weights.safetensors")[0] for name in ("plain", "every"))
        assert plain.keys() == other.keys()
        assert any(not torch.equal(plain[key], other[key]) for key in plain)
