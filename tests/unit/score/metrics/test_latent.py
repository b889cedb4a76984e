import json

import h5py
import numpy as np
import pytest

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import RENAMED
from cvae_protein.score.metrics.latent import (
    PROBES,
    Codes,
    active_share,
    active_units,
    information,
    kl,
    latent_rows,
    probe_predictions,
    read_codes,
)
from cvae_protein.score.metrics.metric import bounds, generator, mean_estimate

SETTINGS = ScoreSettings(bootstrap=200)


def codes(mean, logvar=None, labels=None, splits=None, blocks=None):
    mean = np.asarray(mean, float)
    logvar = np.full(mean.shape, -2.0) if logvar is None else np.broadcast_to(logvar, mean.shape).astype(float)
    rate = 0.5 * (mean**2 + np.exp(logvar) - logvar - 1)
    count = len(mean)
    return Codes(
        np.array([f"d{k}" for k in range(count)]),
        np.array(labels if labels is not None else ["1.10"] * count),
        np.array(splits if splits is not None else ["test"] * count),
        mean,
        logvar,
        rate,
        blocks or {},
    )


def test_active_units_are_dimensions_that_vary():
    random = np.random.default_rng(0)
    scales = np.array([1.0, 0.2, 0.05, 0.001])  # variances 1, 0.04, 0.0025, 1e-6; the limit is 0.01
    made = codes(random.normal(size=(400, 4)) * scales)
    assert active_units(made) == 2
    assert active_share(made) == 0.5


def test_kl_of_a_gaussian_in_closed_form():
    """KL(N(2, 1) | N(0, 1)) = 2 nats a dimension."""
    assert kl(codes(np.full((5, 3), 2.0), logvar=0.0)) == pytest.approx(6)


def test_information_is_nil_where_all_posteriors_agree():
    assert np.abs(information(codes(np.zeros((100, 4)), logvar=0.0), np.random.default_rng(0))).max() < 1e-9


def test_information_never_passes_the_logarithm_of_the_count():
    found = information(codes(100 * np.random.default_rng(1).normal(size=(50, 8))), np.random.default_rng(0))
    assert found.mean() == pytest.approx(np.log(50), abs=1e-6)


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_information_of_gaussian_channels_in_closed_form(noise):
    """z = x + noise, x standard normal in two dimensions: I = 2 · ½ log(1 + 1/noise²)."""
    mean = np.random.default_rng(2).normal(size=(1500, 2))
    found = information(codes(mean, logvar=2 * np.log(noise)), np.random.default_rng(0))
    assert found.mean() == pytest.approx(np.log(1 + noise**-2), abs=0.03)


def test_collapsed_or_undefined_codes_say_nan_or_nothing():
    assert np.isnan(active_units(codes(np.zeros((1, 4)))))
    assert np.isnan(information(codes(np.zeros((10, 2)), logvar=np.nan), np.random.default_rng(0))).all()
    assert np.isnan(kl(codes(np.zeros((0, 4)))))


def _labelled(count, seed=0):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(["1", "2", "3"], (count // 2, count // 3, count - count // 2 - count // 3)))
    groups = np.array([f"{label}.{random.integers(12)}" for label in labels])
    return labels, groups, random.normal(size=(count, 8))


@pytest.mark.parametrize("probe", PROBES)
def test_probes_learn_nothing_from_independent_codes_and_all_from_codes_that_hold_the_label(probe):
    skills = []
    for seed in range(3):
        labels, groups, noise = _labelled(240, seed)
        skills.append(probe_predictions(noise, labels, groups, probe, seed).skill)
    assert abs(np.mean(skills)) < 0.1
    noise[:, :3] += 6 * (labels[:, None] == np.array(["1", "2", "3"]))
    assert probe_predictions(noise, labels, groups, probe, 0).skill > 0.95


def test_no_superfamily_lies_on_both_sides_of_a_fold():
    """Codes that name the superfamily but not the class: a probe that met the superfamily would know the class."""
    labels, groups, _ = _labelled(240)
    places = {group: np.random.default_rng(k).normal(size=8) * 10 for k, group in enumerate(sorted(set(groups)))}
    found = probe_predictions(np.array([places[group] for group in groups]), labels, groups, "knn", 0)
    assert found.skill < 0.4


@pytest.mark.parametrize("labels", [["1"] * 40, ["1"] * 38 + ["2"] * 2, []])
def test_a_single_class_or_a_rare_one_has_no_skill(labels):
    found = probe_predictions(np.random.default_rng(0).normal(size=(len(labels), 4)), np.array(labels, str),
                    np.arange(len(labels)).astype(str), "linear", 0)  # fmt: skip
    assert np.isnan(found.skill)
    assert found.estimate(SETTINGS, generator(SETTINGS, "x")).n == 0


def test_rows_name_every_block_and_dimension():
    labels, groups, noise = _labelled(120)
    names = [f"{group}.{k}" for k, group in enumerate(groups)]
    made = codes(noise, labels=names, splits=["test"] * 40 + ["train"] * 80, blocks={"shape": (0, 6), "fold": (6, 8)})
    made = Codes(*(made.ids, np.array([label + ".1" for label in labels])), *(made.splits, made.mean, made.logvar),
                 made.kl, made.blocks)  # fmt: skip
    rows = {row.metric: row for row in latent_rows(made, dict(zip(made.ids, groups, strict=True)), SETTINGS)}
    assert {
        "class_leakage",
        "class_leakage_shape",
        "class_leakage_fold",
        "class_leakage_linear",
        "class_leakage_sampled",
    } <= set(rows)
    assert {f"kl_{k:03d}" for k in range(8)} <= set(rows)
    assert sum(rows[f"kl_{k:03d}"].estimate.value for k in range(8)) == pytest.approx(rows["kl"].estimate.value)
    assert rows["active_units"].estimate.n == 40
    assert rows["class_leakage"].estimate.n == 120
    assert rows["mutual_information"].estimate.value <= rows["mutual_information_bound"].estimate.value


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_codes_never_crash(count):
    assert latent_rows(codes(np.zeros((count, 3))), {}, SETTINGS)


def test_codes_are_read_with_their_blocks(tmp_path):
    with h5py.File(tmp_path / "latents.h5", "w") as file:
        for name in ("id", "label", "split"):
            file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())
        for name in ("mean", "logvar", "kl"):
            file[name] = np.zeros((2, 4), np.float32)
        file.attrs["blocks"] = json.dumps({"shape": [0, 3], "fold": [3, 4]})
    read = read_codes(tmp_path / "latents.h5")
    assert read.blocks == {"shape": (0, 3), "fold": (3, 4)}
    assert read.mean.dtype == np.float64
    with pytest.raises(UserError, match="found no file"):
        read_codes(tmp_path / "absent.h5")
    (tmp_path / "broken.h5").write_text("no")
    with pytest.raises(UserError, match="not a readable file of codes"):
        read_codes(tmp_path / "broken.h5")


def test_intervals_cover_the_mean_about_as_often_as_they_say():
    random = np.random.default_rng(0)
    inside = 0
    for trial in range(300):
        estimate = mean_estimate(random.normal(size=40), SETTINGS, generator(SETTINGS, str(trial)))
        inside += estimate.low <= 0 <= estimate.high
    assert 0.88 <= inside / 300 <= 0.98


def test_intervals_leave_out_what_is_undefined():
    estimate = mean_estimate(np.array([1.0, np.nan, 3.0]), SETTINGS, generator(SETTINGS, "a"))
    assert (estimate.value, estimate.n) == (2, 2)
    assert np.isnan(mean_estimate(np.array([np.nan]), SETTINGS, generator(SETTINGS, "a")).value)
    lone = mean_estimate(np.array([4.0]), SETTINGS, generator(SETTINGS, "a"))
    assert (lone.value, lone.n) == (4, 1)
    assert np.isnan(lone.low)
    assert np.isnan(bounds(np.array([np.nan, np.nan, 1.0]), SETTINGS)).all()


def test_codes_with_a_name_of_before_are_refused(tmp_path):
    (old,) = (name for name, new in RENAMED["column"].items() if new == "prior_draw")
    with h5py.File(tmp_path / "latents.h5", "w") as file:
        file[old] = np.zeros((2, 3))
    with pytest.raises(UserError, match=f"column `{old}` is now `prior_draw`"):
        read_codes(tmp_path / "latents.h5")


def test_the_leak_of_held_out_codes_is_not_hidden_by_training_ones():
    """Codes that know the class where they are held out, and nothing where they trained, as an overfitted flow has."""
    random = np.random.default_rng(0)
    labels = np.array(["1.10", "2.20"] * 200)
    held_out = np.arange(400) >= 280
    mean = random.normal(size=(400, 4))
    mean[:, 0] += 4 * held_out * (labels == "1.10")
    made = codes(mean, labels=labels, splits=np.where(held_out, "test", "train"))
    found = {row.metric: row.estimate for row in latent_rows(made, {}, SETTINGS)}
    assert found["class_leakage_held_out"].n == 120
    assert found["class_leakage_held_out"].low > 0.8
    assert found["class_leakage"].high < 0.6
    only = codes(mean, labels=labels, splits=["train"] * 400)
    assert "class_leakage_held_out" not in {row.metric for row in latent_rows(only, {}, SETTINGS)}
