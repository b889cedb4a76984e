"""Trainings that begin with trained weights: labels are added, nothing is lost, and the start may stay the best."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_models import MODEL, REFINE, TRAIN, write_domains, write_two_classes

from cvae_protein.config.settings import DecoderSettings
from cvae_protein.core import pretrained
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.model.batch import DomainSet, read_split
from cvae_protein.model.registry import load_model, variant
from cvae_protein.model.spec import Spec, load_tensors
from cvae_protein.sampling.sample import folds_to_draw, members_of
from cvae_protein.training import start as starting
from cvae_protein.training.start import begin, tell_likeness
from cvae_protein.training.train import make_spec, train

DECODER = DecoderSettings(width=16, depth=2, stages=2, heads=2, longest=60, steps=4, batch_size=4)
Data = tuple[Path, Path]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and both second levels of domains of classes 1, 2 and 3, two levels deep."""
    folder = tmp_path_factory.mktemp("start")
    data = write_domains(folder)
    for name, refine in (("concat", REFINE), ("refiner", REFINE), ("decoder", DECODER)):
        train(*data, name, 0, folder / name, MODEL, TRAIN, refine, 2)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Other domains, of classes 1 and 2 with labels `1.1`, `1.3`, `2.0`, `2.2` that the start does not know."""
    return write_two_classes(tmp_path_factory.mktemp("own"))


def spec_of(data: Data, variant: str = "fine_tuned", depth: int = 2) -> Spec:
    return make_spec(variant, 0, MODEL, REFINE, depth, read_split(*data)["train"], {})


def test_labels_are_added_and_those_of_the_start_are_kept(started: Path, data: Data) -> None:
    before, own = Spec.read(started / "concat/spec.json"), spec_of(data)
    spec, start = begin(own, str(started / "concat"))
    tensors = start.tensors
    weights = load_tensors(started / "concat/weights.safetensors")[0]
    for level in range(2):
        assert set(spec.vocabulary[level]) == {*before.vocabulary[level], *own.vocabulary[level]}
        rows, old = (x[f"cvae.condition.levels.{level}.weight"] for x in (tensors, weights))
        for row, name in enumerate(spec.vocabulary[level], 1):
            known = name in before.vocabulary[level]
            assert torch.equal(rows[row], old[before.vocabulary[level].index(name) + 1 if known else 0])
    assert spec.lengths["1.10"] == before.lengths["1.10"]
    assert spec.lengths["1"] == own.lengths["1"]
    third = tensors["aggregate.joint_mean"][spec.vocabulary[0].index("3") + 1]
    assert torch.equal(third, weights["aggregate.joint_mean"][before.vocabulary[0].index("3") + 1])


def test_levels_that_the_start_was_not_told_add_nothing_at_first(started: Path, data: Data, tmp_path: Path) -> None:
    train(*data, "concat", 0, tmp_path / "concat", MODEL, TRAIN, REFINE, 1)
    spec, start = begin(spec_of(data), str(tmp_path / "concat"))
    tensors = start.tensors
    assert spec.depth == 2
    assert tensors["cvae.condition.levels.1.weight"].shape[0] == len(spec.vocabulary[1]) + 1
    assert not tensors["cvae.condition.levels.1.weight"].any()


def test_the_first_row_is_that_of_the_start_and_may_be_the_best(started: Path, data: Data, tmp_path: Path) -> None:
    ruinous = replace(TRAIN, start=str(started / "concat"), learning_rate=100.0, steps=4, report_every=2, ema=0.0)
    train(*data, "fine_tuned", 0, tmp_path / "made", MODEL, ruinous, REFINE, 2)
    rows = read_table(tmp_path / "made/history.tsv", ["step", "best", "validation_bound"])
    assert [row["step"] for row in rows] == ["0", "2", "4"]
    assert [row["best"] for row in rows] == ["1", "0", "0"]
    made, before = (load_model(folder) for folder in (tmp_path / "made", started / "concat"))
    for name, value in before.state_dict().items():
        if "levels" not in name:
            assert torch.equal(made.state_dict()[name], value), name


def test_what_goes_on_gets_better_and_draws_the_runs_classes(started: Path, data: Data, tmp_path: Path) -> None:
    train(*data, "fine_tuned", 0, tmp_path / "made", MODEL, replace(TRAIN, start=str(started / "concat")), REFINE, 2)
    rows = read_table(tmp_path / "made/history.tsv", ["step", "validation_bound"])
    assert min(float(row["validation_bound"]) for row in rows[1:]) < float(rows[0]["validation_bound"])
    spec = Spec.read(tmp_path / "made/spec.json")
    assert spec.of_start == {"1.10", "2.10", "3", "3.10"}
    assert folds_to_draw(spec, 1) == ["1", "2"]
    assert {label for label, _ in members_of(spec, "1")} == {"1.0", "1.2"}  # those of the run's own domains
    assert {label for label, _ in members_of(spec, "3")} == {"3.10"}  # still drawn where it is asked for
    assert spec.label_ids("3.10")[0] > 0


@pytest.mark.parametrize(("name", "settings"), [("refiner", REFINE), ("decoder", DECODER)])
def test_a_second_level_is_taken_as_it_is_or_trained_on(
    name: str, settings, started: Path, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_tensors(started / name / "weights.safetensors")[0]
    for steps in (0, 3):
        own = replace(settings, start=str(started / name), steps=steps)
        train(*data, name, 0, tmp_path / f"{steps}", MODEL, TRAIN, own, 2)
        said = {0: "as it is", 3: "trained on for 3 steps; with an empty `start` a new one would be"}[steps]
        assert f"begins as {started / name}, {said}" in capsys.readouterr().err
        rows = read_table(tmp_path / f"{steps}/history.tsv", ["step", "best", "validation_flow"])
        assert [row["step"] for row in rows] == ["0", "3"][: 1 + bool(steps)]
    taken = load_tensors(tmp_path / "0/weights.safetensors")[0]
    assert all(torch.equal(taken[key], value) for key, value in weights.items() if "levels" not in key)


def test_a_start_of_another_kind_is_refused(started: Path, data: Data, tmp_path: Path) -> None:
    for start, said in (("refiner", "expected a trained concat, which fine_tuned starts from, got refiner"),):
        with pytest.raises(UserError, match=said):
            begin(spec_of(data), str(started / start))
    spec, other = begin(spec_of(data), str(started / "concat"))
    weights = other.tensors | {"cvae.log_sigma": torch.zeros(2, 2)}
    with pytest.raises(UserError, match=rf"^{re.escape(str(started / 'concat'))}: weights do not fit the spec"):
        replace(other, tensors=weights).load(variant("fine_tuned").build(spec), "cvae.")
    with pytest.raises(UserError, match=r"train.start: expected `pretrained` or the folder of a trained model"):
        train(*data, "fine_tuned", 0, tmp_path / "no", MODEL, replace(TRAIN, start=""), REFINE, 2)
    with pytest.raises(UserError, match=r"expected the spec.json of a trained model"):
        begin(spec_of(data), str(tmp_path / "nowhere"))


@pytest.fixture
def own(data: Data) -> dict[str, DomainSet]:
    """Domains by split of which half have labels of another scheme than the package's model."""
    by_split = read_split(*data)
    return {
        split: replace(one, labels=tuple(label.replace("1.", "kinase.") for label in one.labels))
        for split, one in by_split.items()
    }


def test_domains_of_new_labels_are_told_what_they_are_like(
    own: dict[str, DomainSet], capsys: pytest.CaptureFixture[str]
) -> None:
    told, depth = tell_likeness(own, 1, "train")
    assert depth == 2
    known = Spec.read(pretrained.FOLDER / "model/spec.json").lengths
    for split, domains in own.items():
        for before, after in zip(domains.labels, told[split].labels, strict=True):
            if before.startswith("2"):
                assert after == "2"
            else:
                label, like = after.split(".")
                assert label == "kinase"
                assert like.removeprefix("like_").replace("-", ".") in known
    assert (
        "1 labels are new and begin as the known ones that their domains are like: kinase as "
        in capsys.readouterr().err
    )
    assert tell_likeness({"train": replace(own["train"], labels=("2.1",) * len(own["train"]))}, 1, "")[1] == 1


@pytest.mark.parametrize("variant", ["fine_tuned", "decoder"])
def test_a_new_label_begins_as_what_its_domains_are_like(variant: str, own: dict[str, DomainSet]) -> None:
    told, depth = tell_likeness(own, 1, "train")
    spec, start = begin(make_spec(variant, 0, MODEL, DECODER, depth, told["train"], {}), "pretrained")
    children = [label for label in spec.lengths if label.startswith("kinase.")]
    assert {label for label, _ in members_of(spec, "kinase")} == set(children)
    assert folds_to_draw(spec, 1) == ["2", "kinase"]
    prefixes = {name.partition("levels.")[0] for name in start.tensors if "levels.0" in name}
    assert prefixes == ({"decoder."} if variant == "decoder" else {"cvae.condition.", "flow.condition."})
    for prefix in prefixes:
        tables = [start.tensors[f"{prefix}levels.{level}.weight"] for level in range(spec.depth)]

        def told_of(label: str, tables: list[torch.Tensor] = tables) -> torch.Tensor:
            return torch.stack([t[row] for t, row in zip(tables, spec.label_ids(label), strict=True)]).sum(0)

        whole = []
        for label in children:
            known = label.partition("like_")[2].replace("-", ".")  # or what is above it in a decoder of two levels
            torch.testing.assert_close(told_of(label), told_of(known))
            whole += [told_of(known)] * len(spec.lengths[label])
        torch.testing.assert_close(told_of("kinase"), torch.stack(whole).mean(0))
        assert not torch.equal(told_of("kinase"), told_of(""))


def test_a_domain_is_like_the_finest_label_that_is_likelier_than_not(monkeypatch: pytest.MonkeyPatch) -> None:
    chances = [[[0.9], [0.1]], [[0.6, 0.3], [0.4, 0.35]], [[0.4, 0.2], [0.51, 0.2]]]
    stub = SimpleNamespace(
        spec=SimpleNamespace(vocabulary=(("2",), ("2.60", "2.40"), ("2.60.40", "2.40.10"))),
        features=lambda described: described,
        posterior=lambda seen: [torch.tensor(level).log() for level in chances],
    )
    monkeypatch.setattr(starting, "load_classifier", lambda folder: stub)
    found = starting._likenesses(Path("package"), [np.zeros((50, 3), np.float32)] * 2)
    assert found == ["2.60", "2.60.40"]


def test_a_model_of_new_labels_is_one_to_begin_with(own: dict[str, DomainSet]) -> None:
    """Its labels keep what they have learnt: they do not begin again as what they were like."""
    told, depth = tell_likeness(own, 1, "train")
    spec, start = begin(make_spec("fine_tuned", 0, MODEL, REFINE, depth, told["train"], {}), "pretrained")
    table = start.tensors["flow.condition.levels.0.weight"]
    table[1:] += 1.0
    before = table.clone()
    starting._begin_alike([table, start.tensors["flow.condition.levels.1.weight"], table], spec, spec)
    assert torch.equal(table, before)
