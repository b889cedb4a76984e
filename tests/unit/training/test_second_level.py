"""Distilled second levels: one step that does what many did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import MODEL, REFINE, TRAIN, write_domains

from cvae_protein.config.settings import DecoderSettings, RefineSettings, SampleSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.model.batch import read_domain
from cvae_protein.model.registry import load_second_level
from cvae_protein.model.spec import Spec, load_tensors, save_tensors
from cvae_protein.sampling.sampler import integration_steps, load_sampler
from cvae_protein.training.train import train

DECODER = DecoderSettings(width=16, depth=2, stages=2, heads=2, longest=60, steps=4, batch_size=4)
LEVELS = {"refiner": REFINE, "decoder": DECODER}
Data = tuple[Path, Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return write_domains(tmp_path_factory.mktemp("data"))


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
    for folder, steps in (("start", {"refiner": 2, "decoder": 5}[name]), ("distilled", 1)):
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


def test_what_is_distilled_is_not_distilled_again(data: Data, tmp_path: Path) -> None:
    train(*data, "refiner", 0, tmp_path / "start", MODEL, TRAIN, REFINE, 2)
    own = replace(REFINE, start=str(tmp_path / "start"), distilled=True)
    train(*data, "refiner", 0, tmp_path / "distilled", MODEL, TRAIN, own, 2)
    with pytest.raises(UserError, match="expected a refiner to distil, got one that is distilled already"):
        train(*data, "refiner", 0, tmp_path / "x", MODEL, TRAIN, replace(own, start=str(tmp_path / "distilled")), 2)


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
