"""Codes that were inferred outlive an interruption of their training, and no other model takes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import MODEL, REFINE, TRAIN, write_domains

from cvae_protein.core.errors import UserError
from cvae_protein.model.batch import read_split
from cvae_protein.model.codes import resumed_codes
from cvae_protein.model.cvae import CVAE
from cvae_protein.model.registry import load_model
from cvae_protein.model.spec import load_tensors
from cvae_protein.training import prior
from cvae_protein.training.train import train


class Interruption(BaseException):
    """What ends a training here."""


@pytest.fixture
def inferred(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many domains each inference of codes was of."""
    counts: list[int] = []
    infer_all = CVAE.infer_all
    monkeypatch.setattr(CVAE, "infer_all", lambda self, d, *a: counts.append(len(d)) or infer_all(self, d, *a))
    return counts


def test_codes_survive_an_interruption_while_the_flow_is_fitted(
    inferred: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, checkpoint = write_domains(tmp_path), tmp_path / "checkpoints/seed0.safetensors"
    checkpoint.parent.mkdir()

    def run(output: str, path: Path | None) -> None:
        train(*data, "concat", 0, tmp_path / output, MODEL, TRAIN, REFINE, 2, path)

    run("whole", None)
    whole = inferred.copy()
    assert len(whole) == 2
    assert min(whole) > 0
    with monkeypatch.context() as broken:
        broken.setattr(prior, "fit_flow", lambda *_: (_ for _ in ()).throw(Interruption()))
        with pytest.raises(Interruption):
            run("resumed", checkpoint)
    assert inferred == 2 * whole
    assert len(list(checkpoint.parent.iterdir())) == 2
    run("resumed", checkpoint)
    assert inferred == 2 * whole, "codes were inferred again"
    assert not list(checkpoint.parent.iterdir())
    for name in ("weights", "codes"):
        a, b = (load_tensors(tmp_path / output / f"{name}.safetensors")[0] for output in ("whole", "resumed"))
        assert a.keys() == b.keys()
        assert [key for key in a if not torch.equal(a[key], b[key])] == []


def test_codes_of_other_weights_are_inferred_anew_and_a_damaged_file_is_named(
    inferred: list[int], tmp_path: Path
) -> None:
    data, path = write_domains(tmp_path), tmp_path / "codes.safetensors"
    train(*data, "concat", 0, tmp_path / "model", MODEL, TRAIN, REFINE, 2)
    model, domains = load_model(tmp_path / "model"), read_split(*data)["validation"]
    inferred.clear()
    first = resumed_codes(path, "validation", model, domains, 0)
    again = resumed_codes(path, "validation", model, domains, 0)
    assert len(inferred) == 1
    assert torch.equal(first.posterior.mean, again.posterior.mean)
    with torch.no_grad():
        model.linear.encode.weight.add_(0.1)
    other = resumed_codes(path, "validation", model, domains, 0)
    assert len(inferred) == 2
    assert not torch.equal(first.posterior.mean, other.posterior.mean)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(UserError, match=r"codes\.safetensors"):
        resumed_codes(path, "validation", model, domains, 0)
