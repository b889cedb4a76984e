"""Sets side by side: differences of means and their intervals."""

import numpy as np
import pytest

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.core.files import write_table
from cvae_protein.score.compare import difference, differences

SETTINGS = ScoreSettings(bootstrap=400)


def test_the_interval_is_that_of_two_means():
    """Beside the closed form: a difference of 0.5 with a standard error of sqrt(1/200 + 4/300)."""
    random = np.random.default_rng(0)
    first, second = random.normal(1.5, 1, 200), random.normal(1.0, 2, 300)
    found = difference(first, second, SETTINGS, np.random.default_rng(1))
    error = np.sqrt(first.var() / 200 + second.var() / 300)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.25 * error)
    assert found.n == 500


def test_what_is_undefined_has_no_difference():
    one, none = np.array([1.0, np.nan]), np.array([np.nan])
    assert np.isnan(difference(one, none, SETTINGS, np.random.default_rng(0)).value)
    alone = difference(one, one, SETTINGS, np.random.default_rng(0))
    assert alone.value == 0
    assert np.isnan(alone.low)


def test_every_pair_of_sets_and_metric_has_a_row(tmp_path):
    places = {}
    for name, level in (("a", 0.2), ("b", 0.6), ("c", 0.6)):
        rows = [{"id": f"{name}{k}", "kind": "sample", "helix": level + 0.01 * k, "clashes": ""} for k in range(8)]
        rows += [{"id": "r", "kind": "reconstruction", "helix": 9, "clashes": ""}]
        write_table(tmp_path / f"{name}.tsv", list(rows[0]), rows)
        places[name] = tmp_path / f"{name}.tsv"
    found = differences(places, SETTINGS)
    assert [(row["metric"], row["first"], row["second"]) for row in found] == [
        ("helix", "a", "b"),
        ("helix", "a", "c"),
        ("helix", "b", "c"),
    ]
    assert float(found[0]["high"]) < 0
    assert float(found[2]["low"]) < 0 < float(found[2]["high"])
    assert found[0]["n_first"] == found[0]["n_second"] == 8
