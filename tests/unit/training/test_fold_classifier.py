"""The fold classifier: what it sees, that its probabilities fit together and can be trusted, and its files."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from small_models import write_chains

from cvae_protein.config.settings import ClassifierSettings
from cvae_protein.core import pretrained
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, sha256, write_table
from cvae_protein.core.structure import Backbone
from cvae_protein.model.fold_classifier import (
    INPUTS,
    ClassifierSpec,
    FoldClassifier,
    deepest_label_loss,
    embed,
    load_classifier,
    trace_features,
)
from cvae_protein.score.metrics.classifier import read_features
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store
from cvae_protein.training.fold_classifier import calibration_error, fit_temperatures, train_classifier, wilson

SETTINGS = ClassifierSettings(
    features=6, width=24, dropout=0.1, augmentations=2, steps=80, batch_size=16, learning_rate=1e-2
)
VOCABULARY = (("1", "2"), ("1.10", "1.20", "2.40"), ("1.10.8", "1.10.9", "2.40.5"))
LABELS = ("1.10.8", "2.40.5", "3.30.7")


def trace(label, length, rng):
    """CA of a helix, of a strand, or of both in turn, with a little noise (L, 3)."""
    at = np.arange(length)
    angle = np.deg2rad(100) * at
    helix = np.stack([2.3 * np.cos(angle), 2.3 * np.sin(angle), 1.5 * at], axis=1)
    strand = np.stack([0.9 * (-1.0) ** at, np.zeros(length), 3.3 * at], axis=1)
    half = length // 2
    mixed = np.concatenate([helix[:half], helix[half] + strand[: length - half]])
    chosen = {"1": helix, "2": strand, "3": mixed}[label[0]]
    return chosen + rng.normal(0, 0.2, chosen.shape)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A store of 45 chains of three classes and its split."""
    folder, rng, chains = tmp_path_factory.mktemp("classifier"), np.random.default_rng(0), []
    for index in range(45):
        label, length = LABELS[index % 3], int(rng.integers(40, 60))
        coords = trace(label, length, rng)[:, None] + rng.normal(0, 0.5, (1, 5, 3))
        chains.append((coords[None], "test" if index >= 36 else "validation" if index >= 30 else "train", label))
    write_chains(folder, chains)
    return folder


@pytest.fixture(scope="module")
def trained(data):
    """The folder of a fold classifier of these chains."""
    train_classifier(data / "domains.h5", data / "splits.tsv", data / "classifier", SETTINGS)
    return data / "classifier"


def test_the_packages_is_taken_as_it_is_and_checked_on_the_runs_domains(data, tmp_path, capsys):
    train_classifier(
        data / "domains.h5", data / "splits.tsv", tmp_path / "taken", replace(SETTINGS, start="pretrained")
    )
    said = capsys.readouterr().err
    assert f"takes the fold classifier of {pretrained.version()} as it is" in said
    package = pretrained.FOLDER / "classifier"
    taken, before = (load_classifier(folder) for folder in (tmp_path / "taken", package))
    assert taken.spec.vocabulary == before.spec.vocabulary
    assert taken.spec.temperatures == before.spec.temperatures
    for name, value in before.state_dict().items():
        assert torch.equal(taken.state_dict()[name], value), name
    start = taken.spec.origin["start"]
    assert start == {"name": pretrained.version(), "weights": sha256(package / "weights.safetensors")}
    (row,) = read_table(tmp_path / "taken/history.tsv", ["step", "validation_accuracy_level1"])
    assert row["step"] == "0"
    first = next(iter(read_table(tmp_path / "taken/classifier.tsv", ["split", "level", "labels", "accuracy"])))
    assert (first["split"], first["level"], first["labels"]) == ("validation", "1", "all")
    assert float(first["accuracy"]) == pytest.approx(float(row["validation_accuracy_level1"]), abs=1e-4)


def padded(*traces):
    lengths = torch.tensor([len(each) for each in traces])
    ca = torch.zeros(len(traces), int(lengths.max()) + 7, 3)
    for row, each in enumerate(traces):
        ca[row, : len(each)] = torch.from_numpy(each)
    return ca, torch.arange(ca.shape[1]) < lengths[:, None]


def test_it_sees_no_motion_and_no_padding_but_a_mirror_image():
    rng = np.random.default_rng(0)
    short, long = trace("1", 40, rng), trace("3", 70, rng)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    alone = trace_features(*padded(short))[0].numpy()
    assert alone.shape == (INPUTS,)
    assert trace_features(*padded(short, long))[0].numpy() == pytest.approx(alone, abs=1e-4)
    assert trace_features(*padded(short @ turn + 30))[0].numpy() == pytest.approx(alone, abs=1e-3)
    assert np.abs(trace_features(*padded(short * [1, 1, -1]))[0].numpy() - alone).max() > 0.3


def test_probabilities_of_a_parent_are_those_of_its_children():
    spec = ClassifierSpec(SETTINGS, 0, VOCABULARY, (1.0, 2.0, 0.5), {})
    predicted = [p.exp() for p in FoldClassifier(spec).eval()(torch.randn(5, INPUTS))]
    assert predicted[0].sum(1).tolist() == pytest.approx([1] * 5)
    assert torch.allclose(predicted[1][:, 0] + predicted[1][:, 1], predicted[0][:, 0], atol=1e-6)
    assert torch.allclose(predicted[2][:, 0] + predicted[2][:, 1], predicted[1][:, 0], atol=1e-6)
    assert torch.allclose(predicted[1][:, 2], predicted[0][:, 1], atol=1e-6)


def test_the_loss_is_that_of_the_deepest_known_label():
    predicted = [torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(), torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]).log()]
    labels = torch.tensor([[1, 2], [1, 0]])  # the second is known at the first level alone
    assert deepest_label_loss(predicted, labels).item() == pytest.approx((-np.log(0.3) - np.log(0.9)) / 2)
    assert deepest_label_loss(predicted, torch.zeros(2, 2, dtype=torch.long)).item() == 0


def test_calibration_error_of_honest_and_of_boastful_guesses():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 20_000)
    honest = (rng.random(20_000) < confidence).astype(float)
    assert calibration_error(confidence, honest) < 0.015
    assert calibration_error(np.full(100, 0.9), np.repeat([1.0, 0.0], 50)) == pytest.approx(0.4)
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0)))


def test_temperatures_undo_what_made_logits_too_steep():
    classifier = FoldClassifier(ClassifierSpec(SETTINGS, 0, VOCABULARY, (1.0, 1.0, 1.0), {})).eval()
    with torch.no_grad():
        classifier.tell[0].weight.mul_(8)
    generator = torch.Generator().manual_seed(0)
    features = 2 * torch.randn(4000, SETTINGS.features, generator=generator)
    p = classifier.posterior(features, (3.0, 1.0, 1.0))[0].exp()
    labels = torch.zeros(4000, 3, dtype=torch.long)
    labels[:, 0] = torch.multinomial(p, 1, generator=generator)[:, 0] + 1
    found = fit_temperatures(classifier, features, labels)
    assert found[0] == pytest.approx(3, rel=0.15)
    assert found[1:] == (1.0, 1.0)  # nothing known there


def test_wilson_interval_of_a_textbook():
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)


def test_a_trained_classifier_predicts_held_out_classes_and_says_how_well(trained):
    checks = {(row["split"], row["level"], row["labels"]): row for row in read_table(trained / "classifier.tsv")}
    assert float(checks["test", "1", "all"]["accuracy"]) == 1
    assert checks["test", "3", "trained"]["n"] == "9"
    assert float(checks["test", "1", "all"]["ece"]) < 0.2
    confusion = read_table(trained / "confusion.tsv")
    counts = [int(row["n"]) for row in confusion if (row["split"], row["level"]) == ("test", "2")]
    assert sum(counts) == 9
    assert {row["split"] for row in confusion} == {"test", "validation"}
    assert len(read_table(trained / "history.tsv", ["step", "validation_cross_entropy", "best"])) > 0


def test_the_same_seed_gives_the_same_classifier(trained, data, tmp_path):
    train_classifier(data / "domains.h5", data / "splits.tsv", tmp_path / "again", SETTINGS)
    for name in ("weights.safetensors", "spec.json", "classifier.tsv"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


def test_embed_writes_a_file_of_features_a_store(trained, data, tmp_path):
    coords = np.zeros((1, 4, 5, 3), np.float32)
    short = Entry(Backbone("short", "AAAA", coords, tuple("1234")), {"label": "1"})
    write_store(tmp_path / "few.h5", [short], compression="gzip")
    embed(trained, [data / "domains.h5", tmp_path / "few.h5"], tmp_path / "features")
    found, few = (read_features(tmp_path / "features" / name) for name in ("domains.h5", "few.h5"))
    assert found.ids[:2] == ("d00", "d01")
    assert found.labels[:3] == LABELS
    assert found.values.shape == (45, SETTINGS.features)
    assert found.values[:30].mean(0) == pytest.approx(np.zeros(SETTINGS.features), abs=1e-3)
    assert found.values[:30].std(0) == pytest.approx(np.ones(SETTINGS.features), abs=1e-2)
    assert found.likeliest[2][-3:] == LABELS
    assert found.probability(44, "3") == pytest.approx(found.posteriors[0][44, 2])
    assert np.isnan(found.probability(0, "9.9"))
    assert found.of(["d05", "d02"]).ids == ("d05", "d02")
    assert not few.seen.any()
    assert few.likeliest[0] == ("",)
    with pytest.raises(UserError, match="found none of 'x'; embed again"):
        found.of(["x"])


def test_mistakes_are_named(trained, data, tmp_path):
    with pytest.raises(UserError, match=r"spec\.json: expected the spec\.json of a trained fold classifier"):
        load_classifier(tmp_path)
    with pytest.raises(UserError, match="different file names"):
        embed(trained, [data / "domains.h5", data / "domains.h5"], tmp_path / "x")
    with pytest.raises(UserError, match="expected the features"):
        read_features(tmp_path / "none.h5")
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file["feature"] = np.zeros((2, 2))
    with pytest.raises(UserError, match="not a readable file of features"):
        read_features(tmp_path / "bad.h5")
    rows = read_table(data / "splits.tsv")
    write_table(tmp_path / "splits.tsv", list(rows[0]), [{**row, "label": ""} for row in rows])
    with pytest.raises(UserError, match="expected labelled training domains"):
        train_classifier(data / "domains.h5", tmp_path / "splits.tsv", tmp_path / "y", SETTINGS)
