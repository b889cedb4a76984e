"""Everything that learns or samples keeps its tensors on one device: torch's `meta` device stands for a GPU.

Tensors there have shapes and no values, so that whole trainings run in seconds, and most operations refuse to mix them
with those of the CPU. A dispatch mode refuses the rest, as a GPU would: matrix products, and single numbers read
outside validation, each of which makes a training wait for the device. What is brought back is zeros, or identities.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.fx.experimental._config
from small_models import MODEL, REFINE, TRAIN, write_domains
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from cvae_protein.config.settings import DecoderSettings, SampleSettings
from cvae_protein.model import cvae, decoder, layers, priors, refiner
from cvae_protein.model.batch import read_domain
from cvae_protein.sampling import draw, reconstruct, sample, sampler
from cvae_protein.sampling.sample import sample_around, sample_folds, sample_heldout
from cvae_protein.training import fold_classifier
from cvae_protein.training import train as training

DECODER = DecoderSettings(width=16, depth=2, stages=2, heads=2, longest=60, steps=2, batch_size=4)
QUICK = replace(TRAIN, steps=2, flow_steps=2, report_every=1)
SAMPLE = SampleSettings(per_class=1, refine_steps=1, relax_steps=2)
TRAINED = ("refiner", "decoder", "branched", "adversarial", "literal_adversarial", "training_copies")
MAY_WAIT = {"watch", "validate", "log_likelihoods", "widen"}  # functions that look at a training now and then
BACK = (torch.ops.aten._to_copy.default,)


class SecondDevice(TorchDispatchMode):
    """Refuses what a GPU would refuse, and what would make it wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in _pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.is_meta for tensor in given):
            if func in BACK and kwargs.get("device") == torch.device("cpu"):
                return brought_back(args[0], kwargs.get("dtype") or args[0].dtype)
            if func is torch.ops.aten.copy_.default:
                return args[0] if args[0].is_meta else args[0].zero_()
            if func is torch.ops.aten._local_scalar_dense.default:
                if not MAY_WAIT & set(callers()):
                    raise AssertionError("a single number is read from the device outside validation")
                return 0.0 if args[0].dtype.is_floating_point else 0
            if any(tensor.dim() and not tensor.is_meta for tensor in given):
                raise AssertionError(f"{func}: tensors of two devices")
        return func(*args, **kwargs)


def brought_back(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Zeros of the tensor's shape on the CPU; identities for matrices, which may have to be solved with."""
    if tensor.dim() > 1 and tensor.shape[-1] == tensor.shape[-2]:
        return torch.eye(tensor.shape[-1], dtype=dtype).expand(tensor.shape).clone()
    return torch.zeros(tensor.shape, dtype=dtype)


def callers() -> list[str]:
    """Names of the functions that are running."""
    frame, found = sys._getframe(), []
    while frame is not None:
        found.append(frame.f_code.co_name)
        frame = frame.f_back
    return found


@pytest.fixture
def second_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecondDevice]:
    """The networks go to the meta device, which has no mixed precision and no fused optimiser."""
    for module in (training, sampler, fold_classifier):
        monkeypatch.setattr(module, "pick_device", lambda stage: torch.device("meta"))
    for module in (layers, refiner, decoder):
        monkeypatch.setattr(module, "mixed_precision", lambda *_: nullcontext())
    adamw = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda *args, **given: adamw(*args, **{**given, "fused": False}))
    for limits in (cvae.INFERRED_AT_ONCE, sampler.REFINED_AT_ONCE, sampler.RELAXED_AT_ONCE, draw.PART, draw.UNIT):
        monkeypatch.setitem(limits, "meta", limits["cpu"])
    for module in (sampler, reconstruct, sample):
        monkeypatch.setattr(module, "INVERSION_STEPS", 1)
    monkeypatch.setattr(priors, "STEPS", 1)
    one_step = partialmethod(priors.LatentFlow.log_density, steps=1)
    monkeypatch.setattr(priors.LatentFlow, "log_density", one_step)
    with torch.fx.experimental._config.patch(meta_nonzero_assume_all_nonzero=True):
        yield SecondDevice()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_domains(tmp_path_factory.mktemp("data"))


def trained(name: str, data: tuple[Path, Path], folder: Path) -> Path:
    training.train(*data, name, 0, folder / name, MODEL, QUICK, DECODER if name == "decoder" else REFINE, 2)
    return folder / name


@pytest.mark.parametrize("name", TRAINED)
def test_trainings_stay_on_their_device(
    name: str, data: tuple[Path, Path], tmp_path: Path, second_device: SecondDevice
) -> None:
    with second_device:
        assert (trained(name, data, tmp_path) / "weights.safetensors").is_file()


@pytest.mark.parametrize("name", ["refiner", "decoder"])
def test_distillation_stays_on_its_device(
    name: str, data: tuple[Path, Path], tmp_path: Path, second_device: SecondDevice
) -> None:
    with second_device:
        start = trained(name, data, tmp_path)
        own = replace(DECODER if name == "decoder" else REFINE, start=str(start), distilled=True)
        training.train(*data, name, 0, tmp_path / "distilled", MODEL, QUICK, own, 2)
    assert (tmp_path / "distilled/weights.safetensors").is_file()


def test_sampling_stays_on_its_device(data: tuple[Path, Path], tmp_path: Path, second_device: SecondDevice) -> None:
    """Draws of folds and around a domain, reconstructions, codes, priors, inversion, relaxation."""
    with second_device:
        model, refined, decoded = (trained(name, data, tmp_path) for name in ("concat", "refiner", "decoder"))
        sample_folds(model, refined, ["1"], None, SAMPLE, 0, tmp_path / "folds.h5")
        sample_heldout(model, decoded, *data, SAMPLE, 0, tmp_path / "step", 1)
        near = replace(SAMPLE, numbers=2)
        sample_around(model, decoded, read_domain(*data, "d20"), near, 0, tmp_path / "x.h5", noise_kept=0.5)
    assert {"samples.h5", "latents.h5", "swapped.h5"} <= {path.name for path in (tmp_path / "step").iterdir()}


def on_the_cpu(batch: Any, output: Any) -> torch.Tensor:
    return (output.target @ torch.ones(3)).mean()


def waiting(batch: Any, output: Any) -> torch.Tensor:
    return output.target.mean() * output.target.mean().item()


@pytest.mark.parametrize(("fault", "said"), [(on_the_cpu, "two devices"), (waiting, "outside validation")])
def test_a_forgotten_transfer_or_a_wait_is_noticed(
    fault: Callable,
    said: str,
    data: tuple[Path, Path],
    tmp_path: Path,
    second_device: SecondDevice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terms = training.evidence_terms

    def with_fault(*args: Any) -> Any:
        first, *others = terms(*args)
        return [replace(first, term=lambda *given: first.term(*given) + fault(*given)), *others]

    monkeypatch.setattr(training, "evidence_terms", with_fault)
    with second_device, pytest.raises((AssertionError, RuntimeError), match=said):
        trained("concat", data, tmp_path)
