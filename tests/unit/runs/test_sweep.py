"""Settings that vary: points of a sweep, the space of a search, and what is said of mistakes in them."""

from dataclasses import replace
from pathlib import Path

import pytest

from cvae_protein.config import load
from cvae_protein.config.settings import Settings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.runs import sweep
from cvae_protein.runs.sweep import Choices, Range
from cvae_protein.score.collect import collect_points
from cvae_protein.score.metrics.metric import SCORE_COLUMNS


def test_points_are_all_combinations_with_nothing_else_changed() -> None:
    settings = load.load({"sweep": {"train.kl.weight": [0.3, 1], "model.latent": [32, 64, 128]}})
    points = sweep.points(settings)
    assert len(points) == 6
    name = "train.kl.weight=0.3,model.latent=128"
    assert points[name].train.kl.weight == 0.3
    assert points[name].model.latent == 128
    kl = replace(settings.train.kl, weight=0.3)
    expected = replace(settings, train=replace(settings.train, kl=kl), model=replace(settings.model, latent=128))
    assert points[name] == expected
    assert sweep.points(Settings()) == {}


def test_values_are_as_the_setting_has_them() -> None:
    """Snakemake's --config brings text alone; YAML reads 1e-3 as text."""
    settings = load.load(
        {"sweep": {"model.latent": ["8", "16"]}, "tune": {"space": {"train.kl.weight": ["1e-2", "10"]}}}
    )
    assert list(sweep.points(settings)) == ["model.latent=8", "model.latent=16"]
    assert sweep.space(settings) == {"train.kl.weight": Range(0.01, 10.0, log=True)}
    ends = sweep.space(settings)["train.kl.weight"]
    assert isinstance(ends, Range)
    assert isinstance(ends.high, float)  # whole numbers alone would be tried else


def test_a_name_says_its_values_and_is_one_folder() -> None:
    values = {"train.kl.kind": "cosine", "train.learning_rate": 1e-5}
    name = sweep.point_name(values)
    assert Path(name).name == name
    assert sweep.point_values(name) == {"train.kl.kind": "cosine", "train.learning_rate": "1e-05"}
    with pytest.raises(UserError, match="expected the name of a point"):
        sweep.point_values("seed0")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train.kl.wieght": [1]}, "train.kl.wieght: unknown key; did you mean weight"),
        ({"train.kl.weight": [-1]}, "train.kl.weight: expected a number"),
        ({"train.kl.weight": 1}, r"sweep\.train\.kl\.weight: expected a list"),
        ({"train.kl.weight": [1, "1.0"]}, "each value once"),
        ({"train.kl": [{"weight": 1}]}, "this is a section of keys"),
        ({"train.kl.weight": []}, "expected a list"),
        ({"split.seed": [1]}, "expected a key of model, train, sample"),
        ({"model": [1]}, "expected a key of model"),
        ({"model.coefficients": [16]}, "the refiner"),
        ({"train.kl.kind": ["../up"]}, "train.kl.kind: expected one of constant"),
        ({"model.latent": list(range(1, 30)), "model.width": list(range(8, 30))}, "at most 200 points, got 638"),
    ],
)
def test_mistakes_in_a_sweep_are_named(given: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        sweep.points(load.load({"sweep": given}))


def test_a_sweep_that_is_no_mapping_is_said_in_one_line() -> None:
    with pytest.raises(UserError, match="sweep: expected a section of dotted keys, each with a list"):
        load.load({"sweep": ["model.latent"]})
    assert load.load({"sweep": '{"model.latent": [8]}'}).sweep == {"model.latent": [8]}


def test_a_space_is_of_ranges_and_choices() -> None:
    space = {
        "train.kl.weight": [10, 0.1],
        "model.dropout": [0.0, 0.3],
        "model.latent": [16, 64],
        "model.width": [64, 128, 256],
        "train.kl.kind": ["ramp", "cosine"],
    }
    assert sweep.space(load.load({"tune": {"space": space}})) == {
        "train.kl.weight": Range(0.1, 10, log=True),
        "model.dropout": Range(0.0, 0.3, log=False),
        "model.latent": Range(16, 64, log=False),
        "model.width": Choices((64, 128, 256)),
        "train.kl.kind": Choices(("ramp", "cosine")),
    }


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"train.flow_steps": [1, 9]}, "the objective does not depend on it"),
        ({"sample.temperature": [0.1, 1]}, "expected a key of model, train"),
        ({"model.dropout": [0.0, 1.0]}, "model.dropout: expected a number"),
    ],
)
def test_mistakes_in_a_space_are_named(space: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        sweep.space(load.load({"tune": {"space": space}}))


def test_scores_of_points_stand_beside_their_settings(tmp_path: Path) -> None:
    tables = {}
    for latent in ("8", "16"):
        table = tmp_path / f"{latent}.tsv"
        write_table(table, SCORE_COLUMNS, [dict.fromkeys(SCORE_COLUMNS, "x") | {"value": latent}])
        tables[table] = {"model.latent": latent}
    collect_points(tables, tmp_path / "sweep.tsv")
    rows = read_table(tmp_path / "sweep.tsv")
    assert [(row["model.latent"], row["value"], row["metric"]) for row in rows] == [("8", "8", "x"), ("16", "16", "x")]
    tables[table] = {"train.steps": "3"}
    with pytest.raises(UserError, match="expected a point of model"):
        collect_points(tables, tmp_path / "sweep.tsv")
