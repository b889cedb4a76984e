"""A search on synthetic chains: it goes on where it stopped, judges by validation, and its best values are a config."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from small_models import write_two_classes

from cvae_protein.config import load
from cvae_protein.config.settings import Settings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.runs import tune as search
from cvae_protein.training import train

pytest.importorskip("optuna")
SETTINGS = load.load(
    {
        "model": {"latent": 4, "coefficients": 10, "width": 16, "depth": 1, "decoder_width": 16, "decoder_depth": 1},
        "train": {"steps": 3, "batch_size": 8, "report_every": 1, "kl": {"steps": 1}},
        "tune": {"space": {"train.kl.weight": [0.1, 10], "model.width": [8, 16, 24]}, "trials": 3},
    }
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store of sixteen random chains and its split."""
    return write_two_classes(tmp_path_factory.mktemp("data"), tested=2)


def with_trials(settings: Settings, trials: int) -> Settings:
    return replace(settings, tune=replace(settings.tune, trials=trials))


def trials_of(folder: Path) -> list[dict[str, str]]:
    """Rows of the table without what a clock says."""
    return [{key: row[key] for key in row if key != "seconds"} for row in read_table(folder / "tune.tsv")]


@pytest.fixture(scope="module")
def straight(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of three trials in one go."""
    folder = tmp_path_factory.mktemp("straight") / "tune"
    search.tune(*data, SETTINGS, folder)
    return folder


def test_the_best_trial_has_the_least_bound_and_its_values_are_a_config(straight: Path) -> None:
    rows = trials_of(straight)
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert len({row["train.kl.weight"] for row in rows}) == 3
    best = min(rows, key=lambda row: float(row["validation_bound"]))
    text = (straight / "best.yaml").read_text()
    assert "validation_bound" in text.splitlines()[0]
    found = load.load(yaml.safe_load(text))
    assert found.train.kl.weight == float(best["train.kl.weight"])
    assert found.model.width == int(best["model.width"])
    assert 0.1 <= found.train.kl.weight <= 10
    assert not (straight / "checkpoint.safetensors").exists()


def test_more_trials_go_on_and_are_those_of_one_go(straight: Path, data: tuple[Path, Path], tmp_path: Path) -> None:
    search.tune(*data, with_trials(SETTINGS, 2), tmp_path / "tune")
    assert len(trials_of(tmp_path / "tune")) == 2
    search.tune(*data, SETTINGS, tmp_path / "tune")
    assert trials_of(tmp_path / "tune") == trials_of(straight)


def test_an_interrupted_trial_is_made_anew(
    straight: Path, data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = train.train, []

    def interrupted(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(search, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search.tune(*data, SETTINGS, tmp_path / "tune")
    assert len(trials_of(tmp_path / "tune")) == 1
    search.tune(*data, SETTINGS, tmp_path / "tune")
    assert trials_of(tmp_path / "tune") == trials_of(straight)


def test_a_changed_setting_begins_another_search(data: tuple[Path, Path], tmp_path: Path) -> None:
    search.tune(*data, with_trials(SETTINGS, 1), tmp_path / "tune")
    other = replace(SETTINGS, train=replace(SETTINGS.train, jitter=0.1))
    search.tune(*data, with_trials(other, 1), tmp_path / "tune")
    assert [row["trial"] for row in trials_of(tmp_path / "tune")] == ["0"]


def test_a_failed_training_has_a_row_and_the_search_goes_on(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = train.train, []

    def failing(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise UserError("the loss is nan")
        real(*arguments)

    monkeypatch.setattr(search, "train", failing)
    search.tune(*data, with_trials(SETTINGS, 2), tmp_path / "tune")
    rows = trials_of(tmp_path / "tune")
    assert [(row["state"], row["failure"]) for row in rows] == [("failed", "the loss is nan"), ("done", "")]
    monkeypatch.setattr(search, "train", lambda *_: (_ for _ in ()).throw(UserError("never")))
    with pytest.raises(UserError, match="no trial succeeded; the last: never"):
        search.tune(*data, with_trials(SETTINGS, 1), tmp_path / "other")


def test_the_test_split_is_not_looked_at(straight: Path, data: tuple[Path, Path], tmp_path: Path) -> None:
    rows = read_table(data[1])
    hidden = [{**row, "split": "excluded" if row["split"] == "test" else row["split"]} for row in rows]
    write_table(tmp_path / "splits.tsv", ["domain_id", "split", "label"], hidden)
    search.tune(data[0], tmp_path / "splits.tsv", SETTINGS, tmp_path / "tune")
    assert trials_of(tmp_path / "tune") == trials_of(straight)


def test_what_cannot_be_searched_is_said(data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tune\.space: expected keys"):
        search.tune(*data, Settings(), tmp_path / "tune")
    rows = [{**row, "split": "train"} for row in read_table(data[1])]
    write_table(tmp_path / "splits.tsv", ["domain_id", "split", "label"], rows)
    with pytest.raises(UserError, match="hold domains out"):
        search.tune(data[0], tmp_path / "splits.tsv", with_trials(SETTINGS, 1), tmp_path / "tune")
