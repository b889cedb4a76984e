"""Second levels: traces of a model's own codes, and one step that does what many did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import MODEL, REFINE, TRAIN, write_domains

from cvae_protein.config.settings import DecoderSettings, ModelSettings, RefineSettings, SampleSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.model import registry
from cvae_protein.model.batch import DomainSet, read_domain, read_split, training_batch
from cvae_protein.model.cvae import CVAE
from cvae_protein.model.registry import load_second_level
from cvae_protein.model.spec import Spec, load_tensors, save_tensors
from cvae_protein.sampling.sampler import integration_steps, load_sampler
from cvae_protein.training.decoder import ModelCodes
from cvae_protein.training.train import train

DECODER = DecoderSettings(width=16, depth=2, stages=2, heads=2, longest=60, steps=4, batch_size=4)
LEVELS = {"refiner": REFINE, "decoder": DECODER}
Data = tuple[Path, Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return write_domains(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def domains(data: Data) -> DomainSet:
    return read_split(*data)["train"]


def a_model(domains: DomainSet, nested: float = 0.0) -> CVAE:
    """A linear model of as many numbers as its coefficients have, whose traces are those of the coefficients."""
    torch.manual_seed(0)
    settings = ModelSettings(latent=36, coefficients=12, width=24, depth=1, decoder_width=16, decoder_depth=1)
    settings = replace(settings, inference_steps=0, nested=nested)
    spec = Spec("pca", 0, settings, REFINE, (("1", "2", "3"),), {"1": (50,)}, {})
    model = registry.variant("pca").build(spec).eval()
    model.fit_linear(domains.batch(spec), torch.from_numpy(domains.weights).float())
    return model


def coarse_of(domains: DomainSet, crops: np.ndarray, model: CVAE, seed: int = 0):
    batch = training_batch(domains, model.spec, crops, 0.0, np.random.default_rng(0))
    codes = ModelCodes.of(domains, model)
    return codes, codes.coarsen(domains, crops, batch, np.random.default_rng(seed), torch.Generator().manual_seed(seed))


def test_a_trace_of_a_whole_domain_is_that_of_its_code(domains: DomainSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvae_protein.training.decoder._errors", lambda count, rng: torch.zeros(count))
    model, rows = a_model(domains), np.arange(5)
    crops = np.stack([rows, 0 * rows, domains.lengths[rows]], axis=1)
    codes, (ca, carbonyl, coarse) = coarse_of(domains, crops, model)
    batch = domains.batch(model.spec, rows)
    traces = model.decode(codes.codes[rows], batch.labels, batch.mask)
    torch.testing.assert_close(coarse.trace, traces.detach(), atol=1e-3, rtol=0)
    torch.testing.assert_close(ca, model.describe(batch)[1], atol=1e-3, rtol=0)
    assert (carbonyl.norm(dim=-1)[batch.mask] <= 1.001).all()
    assert (coarse.kept == 36).all()


def test_a_trace_of_a_crop_lies_where_the_crop_does(domains: DomainSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far from it as the whole trace is there, before and after the chain frame of the crop is taken."""
    monkeypatch.setattr("cvae_protein.training.decoder._errors", lambda count, rng: torch.zeros(count))
    model, rows = a_model(domains), np.arange(4)
    lengths = domains.lengths[rows]
    crops = np.stack([rows, [0, 1, 2, 3], [40, lengths[1], 41, lengths[3] - 1]], axis=1)
    _, (ca, _, coarse) = coarse_of(domains, crops, model)
    whole = np.stack([rows, 0 * rows, lengths], axis=1)
    _, (whole_ca, _, whole_coarse) = coarse_of(domains, whole, model)
    for row, (_, start, stop) in enumerate(crops):
        own = (ca[row] - coarse.trace[row]).norm(dim=-1)[: stop - start]
        expected = (whole_ca[row] - whole_coarse.trace[row]).norm(dim=-1)[start:stop]
        torch.testing.assert_close(own, expected, atol=1e-3, rtol=0)
        assert (coarse.trace[row, stop - start :] == 0).all()


def test_errors_of_codes_move_traces_as_far_as_is_told(domains: DomainSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear model's numbers have the spread 1, so that the distance to be expected is exact."""
    monkeypatch.setattr("cvae_protein.training.decoder._errors", lambda count, rng: torch.full((count,), 0.5))
    model = a_model(domains)
    rows = np.tile(np.arange(len(domains)), 40)
    crops = np.stack([rows, 0 * rows, domains.lengths[rows]], axis=1)
    _, (ca, _, coarse) = coarse_of(domains, crops, model)
    squares = (ca - coarse.trace).square().sum((1, 2)) / coarse.mask.sum(1)
    assert squares.mean().sqrt() == pytest.approx(coarse.scale.square().mean().sqrt().item(), rel=0.1)


@pytest.mark.parametrize("name", LEVELS)
def test_one_step_comes_to_do_what_many_did(name: str, data: Data, tmp_path: Path) -> None:
    """Held-out structures of one step are nearer to those of many steps than before, and one step is the default."""
    train(*data, name, 0, tmp_path / "start", MODEL, TRAIN, LEVELS[name], 2)
    tensors, facts = load_tensors(tmp_path / "start/weights.safetensors")
    generator = torch.Generator().manual_seed(0)  # a flow that bends, as one of a few steps does not
    moved = {key: value + 0.2 * torch.randn(value.shape, generator=generator) for key, value in tensors.items()}
    save_tensors(tmp_path / "start/weights.safetensors", moved, facts)
    own = replace(LEVELS[name], start=str(tmp_path / "start"), distilled=True, steps=60, learning_rate=5e-3)
    train(*data, name, 0, tmp_path / "distilled", MODEL, replace(TRAIN, report_every=20), own, 2)
    rows = read_table(tmp_path / "distilled/history.tsv", ["step", "validation_flow"])
    far = [float(row["validation_flow"]) for row in rows]
    assert min(far[1:]) < 0.8 * far[0]
    for folder, steps in (("start", {"refiner": 3, "decoder": 5}[name]), ("distilled", 1)):
        level = load_second_level(tmp_path / folder)
        assert integration_steps(level, SampleSettings()) == steps
        assert integration_steps(level, SampleSettings(refine_steps=7)) == 7


def test_a_distilled_level_stays_so_as_it_is_and_is_a_flow_again_when_trained_on(data: Data, tmp_path: Path) -> None:
    train(*data, "refiner", 0, tmp_path / "start", MODEL, TRAIN, REFINE, 2)
    own = replace(REFINE, start=str(tmp_path / "start"), distilled=True)
    train(*data, "refiner", 0, tmp_path / "distilled", MODEL, TRAIN, own, 2)
    for steps, distilled in ((0, True), (2, False)):
        own = RefineSettings(start=str(tmp_path / "distilled"), steps=steps)
        train(*data, "refiner", 0, tmp_path / f"{steps}", MODEL, TRAIN, own, 2)
        assert Spec.read(tmp_path / f"{steps}/spec.json").refine.distilled is distilled


def test_without_weights_nothing_is_distilled(data: Data, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train refiner: expected `start` beside `distilled`"):
        train(*data, "refiner", 0, tmp_path / "x", MODEL, TRAIN, replace(REFINE, distilled=True), 2)


def test_the_noise_of_a_distilled_decoder_is_not_looked_for(data: Data, tmp_path: Path) -> None:
    train(*data, "concat", 0, tmp_path / "model", MODEL, TRAIN, REFINE, 2)
    train(*data, "decoder", 0, tmp_path / "start", MODEL, TRAIN, DECODER, 2)
    own = replace(DECODER, start=str(tmp_path / "start"), distilled=True)
    train(*data, "decoder", 0, tmp_path / "distilled", MODEL, TRAIN, own, 2)
    sampler, domain = load_sampler(tmp_path / "model", tmp_path / "distilled"), read_domain(*data, "d20")
    with pytest.raises(UserError, match="found a distilled one"):
        sampler.infer_noise(domain, sampler.infer(domain).mean)


def test_a_decoder_learns_from_the_codes_of_a_model(data: Data, tmp_path: Path) -> None:
    train(*data, "concat", 0, tmp_path / "model", MODEL, TRAIN, REFINE, 2)
    for name, codes in (("linear", ""), ("own", str(tmp_path / "model"))):
        train(*data, "decoder", 0, tmp_path / name, MODEL, TRAIN, replace(DECODER, codes=codes), 2)
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("linear", "own")]
    assert weights[0] != weights[1]
