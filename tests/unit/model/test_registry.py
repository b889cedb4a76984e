"""The contract of every variant, and training and sampling end to end on synthetic chains."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from small_models import MODEL, REFINE, TRAIN, a_chain, write_domains

from cvae_protein.config.settings import DecoderSettings, SampleSettings, Schedule, ScoreSettings, TrainSettings
from cvae_protein.core import pretrained, variants
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.core.geometry import rmsd
from cvae_protein.core.structure import CA
from cvae_protein.model import registry
from cvae_protein.model.batch import Batch, DomainSet, crop, pad, read_domain, read_split, training_batch
from cvae_protein.model.cvae import CVAE
from cvae_protein.model.losses.evidence_bound import TargetRate, evidence_terms
from cvae_protein.model.priors import Gaussian, TrainingCodes
from cvae_protein.model.representation import PrincipalComponents, decode_trace
from cvae_protein.model.spec import Spec, load_tensors
from cvae_protein.sampling import sampler as sampler_module
from cvae_protein.sampling.reconstruct import write_latents
from cvae_protein.sampling.sample import (
    choose_members,
    draw_around,
    folds_to_draw,
    members_of,
    sample_around,
    sample_folds,
    sample_heldout,
)
from cvae_protein.sampling.sampler import Sampler, complete, draw_codes, load_sampler, other_class, start_noise
from cvae_protein.score.metrics.latent import read_codes
from cvae_protein.score.metrics.second_level import read_inverted, second_level_rows
from cvae_protein.store.read import Store
from cvae_protein.training.checkpoint import TrainingState
from cvae_protein.training.refiner import crop_windows
from cvae_protein.training.train import make_spec, train

DECODER = DecoderSettings(width=16, depth=2, stages=2, heads=2, longest=60, steps=4, batch_size=4)
MODELS = [name for name in variants.names() if name not in (variants.PRETRAINED, variants.FINE_TUNED)]
LINEAR_AT_FIRST = [name for name in MODELS if not name.startswith("literal_")]
SAMPLE = SampleSettings(per_class=2, refine_steps=2, relax_steps=5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store and a table of splits."""
    return write_domains(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a refiner and every variant, trained for a few steps."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("refiner", "decoder", *MODELS):
        refine = DECODER if name == "decoder" else REFINE
        train(*data, name, 0, folder / name / "seed0", MODEL, TRAIN, refine, 2)
    return folder


def a_spec(data: tuple[Path, Path], variant: str = "concat", depth: int = 2) -> Spec:
    return make_spec(variant, 0, MODEL, REFINE, depth, read_split(*data)["train"], {})


def nudged(model: CVAE) -> CVAE:
    """The model with all weights moved off their special start."""
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.data.add_(0.05 * torch.randn(p.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
class TestEveryVariant:
    def test_output_has_the_documented_shapes(self, name: str, data: tuple[Path, Path]) -> None:
        batch = read_split(*data)["train"].batch(a_spec(data))
        model = nudged(registry.variant(name).build(a_spec(data, name)))
        output = model(batch, torch.Generator().manual_seed(0))
        rows = len(batch.mask)
        for code in (output.posterior.mean, output.posterior.logvar, output.prior.mean, output.prior.logvar, output.z):
            assert code.shape == (rows, 5)
        assert output.target.shape == output.reconstruction.shape == (rows, batch.mask.shape[1], 3)
        columns = sorted(c for start, stop in output.blocks.values() for c in range(start, stop))
        assert columns == list(range(5))

    def test_padding_and_rigid_motion_change_nothing(self, name: str, data: tuple[Path, Path]) -> None:
        batch = read_split(*data)["train"].batch(a_spec(data))
        model = nudged(registry.variant(name).build(a_spec(data, name)))
        wide = Batch(
            torch.nn.functional.pad(batch.coords + 5.0, (0, 0, 0, 0, 0, 30)),
            torch.nn.functional.pad(batch.mask, (0, 30)),
            batch.labels,
        )
        plain, padded = (model(b, torch.Generator().manual_seed(0)) for b in (batch, wide))
        torch.testing.assert_close(padded.posterior.mean, plain.posterior.mean, atol=1e-3, rtol=1e-3)
        length = plain.reconstruction.shape[1]
        torch.testing.assert_close(padded.reconstruction[:, :length], plain.reconstruction, atol=1e-3, rtol=1e-3)
        assert (padded.reconstruction[:, length:] == 0).all()

    def test_the_decoder_uses_label_and_code(self, name: str, data: tuple[Path, Path]) -> None:
        batch = read_split(*data)["train"].batch(a_spec(data))
        model = nudged(registry.variant(name).build(a_spec(data, name)))
        z = torch.randn(len(batch.mask), 5, generator=torch.Generator().manual_seed(0))
        own = model.decode(z, batch.labels, batch.mask)
        assert (model.decode(z, torch.zeros_like(batch.labels), batch.mask) - own).abs().max() > 1e-4
        assert (model.decode(z.flip(0), batch.labels, batch.mask) - own).abs().max() > 1e-3

    def test_all_terms_are_finite_scalars_with_gradients(self, name: str, data: tuple[Path, Path]) -> None:
        batch = read_split(*data)["train"].batch(a_spec(data))
        module = registry.variant(name)
        model = module.build(a_spec(data, name))
        terms = evidence_terms(TRAIN)
        if hasattr(module, "extra_terms"):
            terms += module.extra_terms(model, TRAIN, torch.Generator())
        output = model(batch, torch.Generator().manual_seed(0))
        for term in terms:
            value = term.term(batch, output)
            assert value.shape == ()
            assert torch.isfinite(value)
            assert value.requires_grad
        assert len({t.name for t in terms}) == len(terms)

    def test_a_trained_folder_rebuilds_itself_and_samples(
        self, name: str, trained: Path, data: tuple[Path, Path], tmp_path: Path
    ) -> None:
        folder = trained / name / "seed0"
        assert Spec.read(folder / "spec.json").variant == name
        assert len(read_table(folder / "history.tsv", ["step", "rmsd", "validation_rmsd", "active_units"])) > 0
        output = tmp_path / "samples"
        sample_heldout(folder, trained / "refiner/seed0", *data, SAMPLE, 0, output, 4)
        with Store(output / "samples.h5") as samples, Store(output / "raw.h5") as raw:
            assert samples.ids == raw.ids
            assert list(samples.columns["label"]) == ["1", "1", "2", "2", "3", "3"]
            for chain in map(samples.backbone, samples.ids):
                assert chain.complete.all()
        with Store(output / "reconstructions.h5") as made:
            assert made.ids == ["d20", "d21", "d22", "d23"]
            assert np.isfinite(made.columns["rate"]).all()
            assert (made.columns["rate"] > 0).all()
            others = made.columns["permuted_code_rmsd"]  # d21 and d22 are alone in their classes
            assert np.isfinite(others).tolist() == [True, False, False, True]
        with Store(output / "swapped.h5") as swapped:
            assert swapped.ids == made.ids
            asked, own = (swapped.columns[name].tolist() for name in ("label", "own_label"))
            assert all(other in "123" and other != label[0] for other, label in zip(asked, own, strict=True))
        with h5py.File(output / "latents.h5") as codes:
            assert codes["prior_draw"].shape == codes["mean"].shape
            assert np.isfinite(codes["prior_draw"][:]).all()


@pytest.mark.parametrize("name", LINEAR_AT_FIRST)
class TestEveryVariantThatStartsAsPrincipalComponents:
    def test_starts_as_principal_components(self, name: str, data: tuple[Path, Path]) -> None:
        batch = read_split(*data)["train"].batch(a_spec(data))
        model = registry.variant(name).build(a_spec(data, name)).eval()
        model.fit_linear(batch, torch.ones(len(batch.mask)))
        coefficients, _ = model.describe(batch)
        flat = coefficients.flatten(1).detach().numpy()
        centred = flat - flat.mean(0)
        axes = np.linalg.svd(centred, full_matrices=False)[2][:5]
        expected = flat.mean(0) + centred @ axes.T @ axes
        mean = model.posterior(coefficients, batch.labels, batch.lengths).mean
        made = model.decode(mean, batch.labels, batch.mask)
        smooth = torch.from_numpy(expected).view(coefficients.shape)
        torch.testing.assert_close(made, decode_trace(smooth, batch.lengths, made.shape[1]), atol=2e-2, rtol=1e-3)

    def test_descent_betters_the_code_and_structures_do_not_influence_each_other(
        self, name: str, data: tuple[Path, Path]
    ) -> None:
        domains = read_split(*data)["train"]
        model = nudged(registry.variant(name).build(a_spec(data, name)))
        batch = domains.batch(a_spec(data, name))
        target = model.describe(batch)[1]

        def error(steps: int) -> torch.Tensor:
            found = model.infer(batch, steps)
            return (model.decode(found.mean, batch.labels, batch.mask) - target).square().sum((1, 2))

        def bound(steps: int) -> torch.Tensor:
            found = model.infer(batch, steps)
            prior = model.prior(model.condition(batch.labels, batch.lengths))
            precision = torch.exp(-2 * model.log_sigma)
            return (0.5 * precision * error(steps) + found.kl(prior).sum(-1)).detach()

        assert (error(30) < error(0)).float().mean() > 0.9
        assert (bound(30) <= bound(0) + 1e-4).all()  # the guess stands where no step is better
        apart = model.infer_all(domains, 5)
        torch.testing.assert_close(apart.mean, model.infer(batch, 5).mean, atol=2e-3, rtol=1e-3)


def test_same_seed_same_bytes_and_another_seed_others(trained: Path, data: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("refiner", "adversarial"):
        train(*data, name, 0, tmp_path / name, MODEL, TRAIN, REFINE, 2)
        again, first = tmp_path / name / "weights.safetensors", trained / name / "seed0/weights.safetensors"
        assert again.read_bytes() == first.read_bytes()
    train(*data, "adversarial", 1, tmp_path / "other", MODEL, TRAIN, REFINE, 2)
    assert (tmp_path / "other/weights.safetensors").read_bytes() != again.read_bytes()
    for number in (0, 1):
        sample_folds(
            trained / "concat/seed0", trained / "refiner/seed0", ["1"], [50], SAMPLE, 5, tmp_path / f"{number}.h5"
        )
    assert (tmp_path / "0.h5").read_bytes() == (tmp_path / "1.h5").read_bytes()


def test_splits_and_labels_of_another_scheme_than_the_models_are_told(
    trained: Path, data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    models = trained / "concat/seed0", trained / "refiner/seed0"
    quick = replace(SAMPLE, per_class=1, relax_steps=1)
    sample_heldout(*models, *data, quick, 0, tmp_path / "own", 1)
    assert "another table" not in (said := capsys.readouterr().err)
    assert "unknown" not in said
    other = tmp_path / "splits.tsv"
    other.write_text(re.sub(r"\t(\d)\.10\.", r"\ta.\1.", data[1].read_text()))
    sample_heldout(*models, data[0], other, quick, 0, tmp_path / "other", 1)
    said = capsys.readouterr().err
    for folder in models:
        assert f"{folder}: trained by another table of splits than {other}" in said
    assert f"{other}: 4 of 4 domains are of classes unknown to the model, such as a." in said
    sample_around(*models, read_domain(data[0], other, "d20"), quick, 0, tmp_path / "x.h5")
    assert "1 of 1 domains are of classes unknown to the model" in capsys.readouterr().err
    train(data[0], other, "flow_prior", 0, tmp_path / "view", MODEL, TRAIN, REFINE, 2, trained=models[0])
    assert f"{models[0]}: was trained by another file than {other}" in capsys.readouterr().err


@pytest.mark.parametrize("variant", ["concat", "flow_prior"])
def test_codes_that_training_kept_are_those_of_the_model_and_are_not_inferred_again(
    variant: str, trained: Path, data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refiner, quick = trained / "refiner/seed0", replace(SAMPLE, per_class=1, relax_steps=1)
    bare = Path(shutil.copytree(trained / variant / "seed0", tmp_path / "bare"))
    (bare / "codes.safetensors").unlink()
    inferred, infer_all = list[int](), CVAE.infer_all

    def counted(model: CVAE, domains: DomainSet, *given: int) -> Gaussian:
        inferred.append(len(domains))
        return infer_all(model, domains, *given)

    monkeypatch.setattr(CVAE, "infer_all", counted)
    whole = {split: each.first_conformations() for split, each in read_split(*data).items() if split != "crops"}
    sizes = {split: len(each) for split, each in whole.items()}
    for folder, expected in ((bare, sorted(sizes.values())), (trained / variant / "seed0", [sizes["test"]])):
        inferred.clear()
        sample_heldout(folder, refiner, *data, quick, 0, tmp_path / folder.name, 1)
        assert sorted(inferred) == expected
    one, other = (tmp_path / name / "latents.h5" for name in ("bare", "seed0"))
    assert one.read_bytes() == other.read_bytes()
    splits = tmp_path / "splits.tsv"  # of other splits than the model's: what was kept says nothing
    header, *rows = data[1].read_text().splitlines(keepends=True)
    splits.write_text("".join([header, *rows[::-1]]))
    inferred.clear()
    sample_heldout(trained / variant / "seed0", refiner, data[0], splits, quick, 0, tmp_path / "other", 1)
    assert sorted(inferred) == sorted(sizes.values())


@pytest.mark.parametrize("variant", ["concat", "branched", "flow_prior"])
def test_the_decoder_over_whole_chains_takes_the_place_of_the_refiner(
    variant: str, trained: Path, data: tuple[Path, Path], tmp_path: Path
) -> None:
    """It is told the label by name, how many numbers are kept, and that codes are wrong."""
    second_level = trained / "decoder/seed0"
    settings = replace(SAMPLE, numbers=3, code_error=0.2, decoder_guidance=2.0)
    sample_heldout(trained / variant / "seed0", second_level, *data, settings, 0, tmp_path / "samples", 4)
    with Store(tmp_path / "samples/samples.h5") as samples, Store(tmp_path / "samples/reconstructions.h5") as made:
        assert len(samples.ids) == 6
        assert len(made.ids) == 4
        assert all(chain.complete.all() for chain in map(samples.backbone, samples.ids))
    sampler = load_sampler(trained / variant / "seed0", second_level)
    for p in sampler.second_level.parameters():
        p.data.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    traces = [torch.from_numpy(a_chain(40, np.random.default_rng(0))[:, 1]).float()]

    def drawn(label: str, **changes: float) -> np.ndarray:
        noise = start_noise([40], [1], settings.refine_noise)
        return complete(sampler, traces, [label], replace(settings, **changes), noise, "test")[0][0]

    told = drawn("1.10")
    np.testing.assert_array_equal(told, drawn("1.10"))
    changed = (drawn("2"), drawn("1.10", numbers=4), drawn("1.10", code_error=0.0), drawn("1.10", decoder_guidance=1.0))
    assert all(np.abs(other - told).max() > 1e-4 for other in changed)
    coarse = sampler.coarse(traces, ["2.10.7.1"], 3)
    assert coarse.labels.tolist() == [sampler.second_level.spec.label_ids("2.10.7.1")]
    assert sampler.coarse(traces, ["2"]).scale < coarse.scale < sampler.coarse(traces, ["2"], 3, 0.5).scale


def test_code_and_noise_together_give_a_structure_back(trained: Path, data: tuple[Path, Path]) -> None:
    sampler = load_sampler(trained / "concat/seed0", trained / "decoder/seed0")
    for p in sampler.second_level.parameters():
        p.data.add_(0.03 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    domains = read_split(*data)["test"].first_conformations()
    codes = sampler.infer(domains).mean
    for kept in (0, 2):
        noise = sampler.infer_noise(domains, codes, kept)
        traces = sampler.decode(codes, domains.label_ids(sampler.spec), torch.from_numpy(domains.lengths), kept)
        for row, trace in enumerate(traces):
            told = sampler.coarse([trace], [domains.labels[row]], kept)
            ca, _ = sampler.second_level.to_structure(noise[row][None], told, 20)
            own = sampler.model.describe(domains.batch(sampler.spec, [row]))[1]
            error = (ca - own).square().sum(-1).mean().sqrt()
            assert error < 0.05 < 0.1 * (trace - own).square().sum(-1).mean().sqrt()
    own, as_own = domains.take([0]), replace(SAMPLE, per_class=1, temperature=0.0, relax_steps=0)
    back, part, new = (draw_around(sampler, own, as_own, 0, noise_kept=kept).relaxed[0][:, CA] for kept in (1, 0.5, 0))
    near, midway, far = (rmsd(made, own.coords[0][:, CA]) for made in (back, part, new))
    assert near < 0.1 < midway < far
    with pytest.raises(UserError, match="share from 0 to 1, and no spread"):
        draw_around(sampler, own, as_own, 0, spread=1.0, noise_kept=0.5)
    with pytest.raises(UserError, match="found a refiner"):
        draw_around(load_sampler(trained / "concat/seed0", trained / "refiner/seed0"), own, as_own, 0, noise_kept=0.5)


def test_what_inversion_finds_of_held_out_domains_lies_beside_their_codes(
    trained: Path, data: tuple[Path, Path], tmp_path: Path
) -> None:
    sampler = load_sampler(trained / "concat/seed0", trained / "decoder/seed0")
    by_split = {
        split: domains.first_conformations() for split, domains in read_split(*data).items() if split != "crops"
    }
    posteriors = {split: sampler.infer(domains) for split, domains in by_split.items()}
    write_latents(tmp_path / "latents.h5", sampler, by_split, posteriors, SAMPLE, 0)
    found = read_inverted(tmp_path / "latents.h5")
    domains = by_split["test"].take(found.rows)
    noise = sampler.infer_noise(domains, posteriors["test"].mean[found.rows])
    np.testing.assert_allclose(found.norm, [one.square().mean() for one in noise], rtol=1e-4)
    assert (found.both_rmsd < 0.1 * found.code_rmsd).all()
    codes = read_codes(tmp_path / "latents.h5")
    rows = second_level_rows(found, codes.take(codes.splits == "test"), {}, ScoreSettings(bootstrap=20))
    values = {row.metric: row.estimate.value for row in rows}
    assert values["second_level_norm"] == pytest.approx(found.norm.mean())
    assert values["both_levels_rmsd"] == pytest.approx(found.both_rmsd.mean())
    refined = load_sampler(trained / "concat/seed0", trained / "refiner/seed0")
    write_latents(tmp_path / "local.h5", refined, by_split, posteriors, SAMPLE, 0)
    assert read_inverted(tmp_path / "local.h5") is None


def test_threads_change_no_sample(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sampler_module.REFINED_AT_ONCE, "cpu", 120)
    monkeypatch.setitem(sampler_module.RELAXED_AT_ONCE, "cpu", 120)
    sampler = load_sampler(trained / "concat/seed0", trained / "refiner/seed0")
    traces = [torch.from_numpy(a_chain(40 + 3 * i, np.random.default_rng(i))[:, 1]).float() for i in range(6)]
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            noise = start_noise([len(trace) for trace in traces], range(6), SAMPLE.refine_noise)
            made.append(complete(sampler, traces, ["1"] * 6, SAMPLE, noise, "test"))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for alone, beside in zip(*made, strict=True):
        assert [len(atoms) for atoms in alone] == [len(trace) for trace in traces]
        for one, other in zip(alone, beside, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", ["refiner", "adversarial", "branched"])
def test_an_interrupted_training_goes_on_bit_for_bit(
    name: str, trained: Path, data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvae_protein.training import loop

    every_step = TrainSettings(
        steps=12, flow_steps=3, batch_size=8, report_every=4, checkpoint_seconds=1e-9, kl=Schedule(steps=4)
    )
    clip, calls = loop.nn.utils.clip_grad_norm_, []

    def interrupt(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return clip(*arguments)

    monkeypatch.setattr(loop.nn.utils, "clip_grad_norm_", interrupt)
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(*data, name, 0, tmp_path / "out", MODEL, every_step, REFINE, 2, checkpoint)
    monkeypatch.undo()
    assert checkpoint.is_file()
    assert not (tmp_path / "out").exists()
    assert load_tensors(checkpoint)[1]["step"] == 2
    train(*data, name, 0, tmp_path / "out", MODEL, every_step, REFINE, 2, checkpoint)
    assert not checkpoint.exists()
    resumed, _ = load_tensors(tmp_path / "out/weights.safetensors")
    straight, _ = load_tensors(trained / name / "seed0/weights.safetensors")
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[key], straight[key]) for key in straight)


def test_a_controlled_weight_goes_on_where_it_was(data: tuple[Path, Path], tmp_path: Path) -> None:
    controller = TargetRate(1.0, 5.0, 10)
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter])
    parts = ([("p", parameter)], optimizer, torch.Generator(), np.random.default_rng(0))
    state = TrainingState(*parts, controllers=[controller])
    controller.observe(50.0)
    state.save(tmp_path / "c.safetensors", {"of": "this"})
    moved = controller(0)
    controller.observe(50.0)
    assert controller(0) > moved > 1.0
    assert TrainingState(*parts, controllers=[controller]).restore(tmp_path / "c.safetensors", {"of": "this"}) == []
    assert controller(0) == moved
    other = TrainingState(*parts).restore(tmp_path / "c.safetensors", {"of": "another"})
    assert other == ["of this, now another"]


def test_a_damaged_checkpoint_is_named(data: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"checkpoint\.safetensors"):
        train(*data, "concat", 0, tmp_path / "b", MODEL, TRAIN, REFINE, 1, checkpoint)


def test_a_loss_that_is_no_number_stops_with_advice(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cvae_protein.model.losses.evidence_bound.reconstruction", lambda batch, output: output.z.sum() * np.nan
    )
    with pytest.raises(UserError, match=r"the loss is nan at step 0, .* lower train\.learning_rate"):
        train(*data, "concat", 0, tmp_path / "b", MODEL, TRAIN, REFINE, 1)
    assert not (tmp_path / "b").exists()


def test_labels_fall_back_to_what_training_knew(data: tuple[Path, Path]) -> None:
    spec = a_spec(data)
    assert spec.vocabulary == (("1", "2", "3"), ("1.10", "2.10", "3.10"))
    assert spec.label_ids("2.10.5.1") == [2, 2]
    assert spec.label_ids("2.99") == [2, 0]
    assert spec.label_ids("9.10") == [0, 0]
    assert spec.label_ids("") == [0, 0]
    rng = np.random.default_rng(0)
    labels, lengths = choose_members(members_of(spec, "2.99.1"), None, 20, rng)
    assert set(labels) == {"2.10"}
    assert set(lengths) <= set(spec.lengths["2"])
    with pytest.raises(UserError, match="expected one of 1, 2, 3 or one of 3 labels below them"):
        members_of(spec, "7")


def test_a_fold_is_drawn_as_the_mixture_of_what_lies_below_it(data: tuple[Path, Path]) -> None:
    rng, known = np.random.default_rng(0), {"1": (50, 50, 50, 60, 90), "1.1": (50, 50, 90), "1.1.7": (50, 90), "2": ()}
    spec = replace(a_spec(data), lengths=known)
    assert sorted(members_of(spec, "1")) == [("1", 50), ("1", 60), ("1.1", 50), ("1.1.7", 50), ("1.1.7", 90)]
    labels, lengths = choose_members(members_of(spec, "1"), None, 5000, rng)
    assert set(zip(labels, lengths.tolist(), strict=True)) == set(members_of(spec, "1"))
    assert [labels.count(label) / 5000 for label in ("1", "1.1", "1.1.7")] == pytest.approx([0.4, 0.2, 0.4], abs=0.03)
    labels, lengths = choose_members(members_of(spec, "1"), np.array([50, 90, 500] * 1000), 3000, rng)
    assert lengths.tolist() == [50, 90, 500] * 1000
    assert set(labels[1::3]) == set(labels[2::3]) == {"1.1.7"}  # the one as long, and the nearest
    near = math.exp(-((math.log(60 / 50) / 0.1) ** 2) / 2)  # of the one of 60 residues, where 50 are asked for
    assert labels[::3].count("1") / 1000 == pytest.approx((1 + near) / (3 + near), abs=0.05)


def test_a_view_has_the_weights_of_the_variant_that_it_shares(
    data: tuple[Path, Path], trained: Path, tmp_path: Path
) -> None:
    apart, shared = trained / "flow_prior/seed0", trained / "concat/seed0"
    train(*data, "flow_prior", 0, tmp_path / "view", MODEL, TRAIN, REFINE, 2, trained=shared)
    for name in ("spec.json", "weights.safetensors", "codes.safetensors"):
        assert (tmp_path / "view" / name).read_bytes() == (apart / name).read_bytes()
    assert (tmp_path / "view/history.tsv").read_bytes() == (shared / "history.tsv").read_bytes()
    for variant, seed, folder, said in (
        ("flow_prior", 0, "branched", "expected concat of seed 0 in .*, got branched of seed 0"),
        ("flow_prior", 1, "concat", "expected concat of seed 1 in .*, got concat of seed 0"),
        ("branched", 0, "concat", "branched is no view of another variant"),
    ):
        with pytest.raises(UserError, match=said):
            train(*data, variant, seed, tmp_path / "no", MODEL, TRAIN, REFINE, 2, trained=trained / folder / "seed0")
    assert not (tmp_path / "no").exists()


def test_without_a_flow_samples_come_from_another_prior(data: tuple[Path, Path], trained: Path, tmp_path: Path) -> None:
    train(*data, "concat", 0, tmp_path / "concat", MODEL, replace(TRAIN, flow_steps=0), REFINE, 2)
    sampler = load_sampler(tmp_path / "concat", trained / "refiner/seed0")
    assert sampler.flow is None
    labels, lengths = torch.ones((3, 2), dtype=torch.long), torch.tensor([50, 60, 70])
    with pytest.raises(
        UserError, match="expected gaussian or model, since concat was trained without a flow, got flow"
    ):
        draw_codes(sampler, labels, lengths, SAMPLE, torch.Generator())
    codes = draw_codes(sampler, labels, lengths, replace(SAMPLE, prior="model"), torch.Generator())
    assert codes.shape == (3, sampler.spec.model.latent)
    with_flow = load_tensors(trained / "concat/seed0/weights.safetensors")[0]
    without = load_tensors(tmp_path / "concat/weights.safetensors")[0]
    assert without.keys() == {name for name in with_flow if not name.startswith("flow.")}


def test_the_model_of_the_package_stands_beside_those_of_a_run(
    data: tuple[Path, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, made = trained / "flow_prior/seed0", tmp_path / "pretrained/seed1"
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "package")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/model").symlink_to(source)
    (tmp_path / "package/version.json").write_text('{"version": 1, "sha256": {}}')
    train(*data, "pretrained", 1, made, MODEL, TRAIN, REFINE, 1)
    for name in ("spec.json", "weights.safetensors"):
        assert (made / name).read_bytes() == (source / name).read_bytes()
    (row,) = read_table(made / "history.tsv", ["step"])
    assert float(row["validation_rmsd"]) > 0
    sample_heldout(made, trained / "refiner/seed0", *data, SAMPLE, 1, tmp_path / "samples", 1)
    with Store(tmp_path / "samples/samples.h5") as store:
        assert {str(store.fact(name, "label")) for name in store.ids} == {"1", "2", "3"}


def test_the_finest_labels_with_members_enough_are_drawn(data: tuple[Path, Path]) -> None:
    spec = a_spec(data)
    many = {"1": (50,) * 20, "1.10": (50,) * 8, "1.20": (50,) * 12, "2": (60,) * 9, "2.10": (60,) * 7}
    finer = replace(spec, vocabulary=(("1", "2"), ("1.10", "1.20", "2.10")), lengths=many)
    assert folds_to_draw(finer, 4) == ["1.10", "1.20", "2"]
    assert folds_to_draw(finer, 1) == ["1", "2"]
    assert folds_to_draw(replace(finer, vocabulary=(("1", "2"),)), 4) == ["1", "2"]


def cut_rows(domains: DomainSet, share: float) -> np.ndarray:
    rows = np.arange(3)
    return np.stack([rows, *crop(domains.lengths[rows], share, np.random.default_rng(0))], axis=1)


def test_crops_hide_the_label_and_keep_the_stretch(data: tuple[Path, Path]) -> None:
    spec, domains = a_spec(data), read_split(*data)["train"]
    batch = training_batch(domains, spec, cut_rows(domains, 1.0), 0.0, np.random.default_rng(0))
    assert batch.labels.abs().max() == 0
    for row in range(3):
        cut = batch.coords[row, : batch.lengths[row]].numpy()
        whole = domains.coords[row]
        starts = [s for s in range(len(whole) - len(cut) + 1) if np.array_equal(whole[s : s + len(cut)], cut)]
        assert len(starts) == 1
    whole_batch = training_batch(domains, spec, cut_rows(domains, 0.0), 0.0, np.random.default_rng(0))
    assert whole_batch.labels.min() > 0


def test_windows_are_centred_stretches() -> None:
    coords = [np.random.default_rng(i).normal(size=(n, 5, 3)).astype(np.float32) for i, n in enumerate((30, 12))]
    batch = pad(coords, [[0], [0]])
    ca, carbonyl, trace, mask = crop_windows(
        batch.ca, batch.carbonyl, batch.ca, batch.mask, 16, np.random.default_rng(0)
    )
    assert mask.sum(1).tolist() == [16, 12]
    assert ca.shape == carbonyl.shape == trace.shape == (2, 16, 3)
    torch.testing.assert_close(trace.sum(1), torch.zeros(2, 3), atol=1e-4, rtol=0)


def test_the_linear_map_copes_with_fewer_structures_than_components() -> None:
    linear = PrincipalComponents(30, 12)
    flat = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    linear.fit(flat, torch.ones(4))
    back = linear.center + linear.decode(linear.encode(flat - linear.center))
    torch.testing.assert_close(back, flat, atol=1e-2, rtol=0)


def test_damaged_and_foreign_folders_are_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"spec\.json"):
        load_sampler(tmp_path, trained / "refiner/seed0")
    (tmp_path / "spec.json").write_text((trained / "branched/seed0/spec.json").read_text())
    weights = (trained / "adversarial/seed0/weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="do not fit the spec"):
        load_sampler(tmp_path, trained / "refiner/seed0")
    (tmp_path / "weights.safetensors").write_bytes(weights[:1000])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_sampler(tmp_path, trained / "refiner/seed0")
    with pytest.raises(UserError, match="expected one of adversarial"):
        registry.variant("nonesuch")


@pytest.mark.parametrize("name", ["spec.json", "weights.safetensors"])
def test_what_may_not_be_read_is_told_as_that_and_not_as_damaged(trained: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "spec.json").write_text((trained / "concat/seed0/spec.json").read_text())
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()  # in place of a file without permission, which root may read all the same
    with pytest.raises(OSError, match=r"Is a directory: .*" + re.escape(name)):
        load_sampler(tmp_path, trained / "refiner/seed0")


def test_weights_have_the_mode_of_the_umask(trained: Path) -> None:
    mode = (trained / "concat/seed0/spec.json").stat().st_mode
    assert all(path.stat().st_mode == mode for path in trained.rglob("weights.safetensors"))


def test_conformations_around_a_domain_stay_near_it_and_spread_with_temperature(
    trained: Path, data: tuple[Path, Path], tmp_path: Path
) -> None:
    def spread(temperature: float) -> float:
        output = tmp_path / f"{temperature}.h5"
        settings = replace(SAMPLE, per_class=6, temperature=temperature, refine_noise=0.0, relax_steps=0)
        sample_around(
            trained / "concat/seed0", trained / "refiner/seed0", read_domain(*data, "d20"), settings, 0, output
        )
        with Store(output) as made, Store(data[0]) as store:
            assert len(made.ids) == 6
            assert set(made.columns["label"]) == {"3.10.20.1"}
            assert set(made.lengths) == {store.lengths[store.rows("d20")[0]]}
            return float(np.stack([made.coords(row)[:, CA] for row in range(6)]).std(0).mean())

    assert spread(0.0) < 1e-2 < spread(1.0) < spread(4.0)
    edited, settings = tmp_path / "edited.h5", replace(SAMPLE, temperature=0.0, numbers=2)
    sample_around(
        trained / "branched/seed0", trained / "decoder/seed0", read_domain(*data, "d20"), settings, 0, edited, fold="1"
    )
    with Store(edited) as made, Store(data[0]) as store:
        assert set(made.columns["label"]) == {"1"}
        assert set(made.lengths) == {store.lengths[store.rows("d20")[0]]}
    with pytest.raises(UserError, match="fold: expected one of 1, 2, 3"):
        sample_around(
            trained / "branched/seed0",
            trained / "decoder/seed0",
            read_domain(*data, "d20"),
            settings,
            0,
            edited,
            fold="7",
        )
    with pytest.raises(UserError, match="no domain 'nobody'"):
        read_domain(data[0], None, "nobody")


class TestBaselines:
    def test_copies_are_training_domains_of_the_class_and_length(self, trained: Path, data: tuple[Path, Path]) -> None:
        sampler = load_sampler(trained / "training_copies/seed0", trained / "refiner/seed0")
        training = read_split(*data)["train"]
        labels = torch.tensor([sampler.spec.label_ids(label) for label in ("1", "2", "3")] * 4)
        lengths = torch.full((12,), 55)
        cold = replace(SAMPLE, temperature=0.0)
        drawn = draw_codes(sampler, labels, lengths, cold, torch.Generator().manual_seed(0))
        known = sampler.infer(training)
        nearest = torch.cdist(drawn, known.mean)
        assert nearest.min(1).values.max() < 1e-4
        origin = [training.labels[row][0] for row in nearest.argmin(1).tolist()]
        assert origin == ["1", "2", "3"] * 4
        assert len({tuple(code.tolist()) for code in drawn}) > 3  # and not one member a class alone
        warm = draw_codes(sampler, labels, lengths, SAMPLE, torch.Generator().manual_seed(0))
        assert (torch.cdist(warm, known.mean).min(1).values > 1e-3).all()

    def test_a_label_without_members_gives_way_to_the_level_above(self) -> None:
        mean = torch.arange(4.0)[:, None]
        labels = torch.tensor([[1, 1], [1, 2], [2, 3], [2, 3]])
        memory = TrainingCodes(mean, torch.zeros(4, 1), labels, torch.tensor([50, 60, 70, 80]))
        generator = torch.Generator().manual_seed(0)
        asked = torch.tensor([[1, 2], [1, 0], [2, 1], [0, 0]]).repeat(20, 1)
        drawn = memory.sample(asked, torch.full((80,), 60), 0.0, generator).view(20, 4)
        assert [set(column.tolist()) for column in drawn.T] == [{1.0}, {0.0, 1.0}, {2.0, 3.0}, {0.0, 1.0, 2.0, 3.0}]

    def test_shuffled_is_the_floor_asked_for_another_class(self, trained: Path, data: tuple[Path, Path]) -> None:
        shuffled = load_sampler(trained / "swapped_label/seed0", trained / "refiner/seed0")
        floor = load_sampler(trained / "pca_flow/seed0", trained / "refiner/seed0")
        labels = torch.tensor([floor.spec.label_ids("1"), floor.spec.label_ids("3.1")])
        lengths = torch.tensor([50, 60])

        def codes(sampler: Sampler, asked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return draw_codes(sampler, asked, lengths, SAMPLE, generator)

        generator = torch.Generator().manual_seed(0)
        others = other_class(labels, 3, generator)
        assert (others[:, 0] != labels[:, 0]).all()
        assert set(others[:, 0].tolist()) <= {1, 2, 3}
        assert (others[:, 1:] == 0).all()
        expected = codes(floor, others, generator)
        torch.testing.assert_close(codes(shuffled, labels, torch.Generator().manual_seed(0)), expected)
        assert (other_class(torch.ones(3, 1, dtype=torch.long), 1, generator) == 0).all()


def test_long_domains_train_by_unlabelled_stretches_alone(data: tuple[Path, Path], trained: Path) -> None:
    sides = read_split(*data)
    pool = sides["train"].with_crops_of(sides["crops"])
    assert (pool.ids[-1], pool.labels[-1], pool.lengths[-1]) == ("d24", "", 100)
    assert sides["train"].with_crops_of(None) is sides["train"]
    spec = Spec.read(trained / "concat" / "seed0" / "spec.json")
    assert max(max(lengths) for lengths in spec.lengths.values()) < 70  # nothing so long is ever asked for
