"""What of a run may differ elsewhere: by how much files are apart, and that planted changes are told."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from safetensors.numpy import save_file

import cvae_protein as cvae
from cvae_protein.cli.main import run
from cvae_protein.config.load import load
from cvae_protein.core.files import write_table
from cvae_protein.runs.deviation import IncomparableError, mean_relative_difference
from cvae_protein.runs.manifest import write_manifest
from cvae_protein.runs.tolerance import KINDS, kind_of

SCORES = ["variant", "seed", "split", "fold", "metric", "value", "low", "high", "n", "unit", "note"]


def write_run(folder, rng, noise=0.0, drawn=None, split="test"):
    """A results folder of every kind of file, its numbers off by `noise` (relative; Å of structures)."""
    drawn = drawn or np.random.default_rng(0)
    write_table(folder / "splits.tsv", ["domain_id", "split"], [{"domain_id": "a", "split": split}])
    weights = {name: drawn.normal(size=(8, 4)).astype(np.float32) for name in ("first", "second")}
    weights = {name: value * (1 + noise * rng.normal(size=value.shape)) for name, value in weights.items()}
    (folder / "models/concat/seed0").mkdir(parents=True)
    save_file(weights, folder / "models/concat/seed0/weights.safetensors")
    rows = [dict.fromkeys(SCORES, "") | {"metric": m, "value": v * (1 + noise), "low": v, "high": v} for m, v in
            (("tm", 0.5), ("rate", 120.0))]  # fmt: skip
    write_table(folder / "scores.tsv", SCORES, rows)
    write_table(folder / "models/concat/seed0/history.tsv", ["step", "loss", "seconds"], [
        {"step": 1, "loss": 9 * (1 + noise), "seconds": rng.random()}])  # fmt: skip
    traces = [np.cumsum(drawn.normal(size=(30, 3)), 0) * 2 for _ in range(3)]
    found = [cvae.read(trace + noise * rng.normal(size=trace.shape), f"s{i}")[0] for i, trace in enumerate(traces)]
    cvae.Structures(found).to(folder / "samples/concat/seed0/samples.h5")
    (folder / "report.html").write_text(f"<p>{rng.random()}</p>")


@pytest.fixture
def recorded(tmp_path):
    """A run with its manifest."""
    folder = tmp_path / "recorded"
    write_run(folder, np.random.default_rng(1))
    write_manifest(folder, json.loads(json.dumps(asdict(load({})))), folder / "ro-crate-metadata.json")
    return folder


def compared(recorded, folder, capsys):
    code = run(["reproduce", str(recorded / "ro-crate-metadata.json"), "-o", str(folder), "--compare-only"])
    return code, capsys.readouterr().out


def test_rounding_is_within_the_tolerances_that_the_manifest_states(recorded, tmp_path, capsys):
    write_run(tmp_path / "again", np.random.default_rng(2), noise=1e-3)
    code, said = compared(recorded, tmp_path / "again", capsys)
    assert code == 0, said
    assert said.startswith("1 equal, 5 within tolerance")
    assert "mean relative difference ≤ " in said
    graph = json.loads((recorded / "ro-crate-metadata.json").read_text())["@graph"]
    stated = [entity for entity in graph if "measurementTechnique" in entity]
    limits = {f"tolerance of {kind.name}": kind.limit for kind in KINDS if kind.name != "figures of structures"}
    assert {entity["name"]: entity["value"] for entity in stated} == limits


@pytest.mark.parametrize(
    ("change", "odd"),
    [
        ({"drawn": np.random.default_rng(5)}, ["weights.safetensors", "samples.h5"]),  # as of another seed
        ({"split": "train"}, ["splits.tsv"]),
        ({"noise": 0.9}, ["weights.safetensors", "samples.h5", "scores.tsv", "history.tsv"]),
    ],
)
def test_what_is_another_run_is_told(recorded, tmp_path, capsys, change, odd):
    write_run(tmp_path / "other", np.random.default_rng(2), **change)
    code, said = compared(recorded, tmp_path / "other", capsys)
    assert code == 1
    assert {line.split()[0].rsplit("/")[-1] for line in said.splitlines() if " differs " in line} == set(odd)


def test_other_structures_and_changed_records_are_told(recorded, tmp_path, capsys):
    write_run(tmp_path / "again", np.random.default_rng(2), noise=1e-3)
    store = tmp_path / "again/samples/concat/seed0/samples.h5"
    store.unlink()
    cvae.read(np.zeros((9, 3)), "x").to(store)
    weights = recorded / "models/concat/seed0/weights.safetensors"
    weights.write_bytes((tmp_path / "again/models/concat/seed0/weights.safetensors").read_bytes()[:-1])
    code, said = compared(recorded, tmp_path / "again", capsys)
    assert code == 1
    assert "it is of other structures" in said
    assert "the recorded file is not beside the manifest" in said


def test_the_mean_relative_difference():
    one = {"a": np.array([3.0, 4.0]), "b": np.array(["x", "y"])}
    assert mean_relative_difference(one, {"a": np.array([3.0, 4.5]), "b": one["b"]}) == pytest.approx(0.1 / 2)
    assert mean_relative_difference(one, {"a": np.array([90.0, 4.0]), "b": np.array(["x", "z"])}) == pytest.approx(0.75)
    assert mean_relative_difference({"a": np.array([np.nan, 1.0])}, {"a": np.array([2.0, 1.0])}) == 1.0
    assert mean_relative_difference({"a": np.zeros(2)}, {"a": np.zeros(2)}) == 0.0
    with pytest.raises(IncomparableError, match="b is in one of them alone"):
        mean_relative_difference(one, {"a": one["a"]})
    with pytest.raises(IncomparableError, match="shape"):
        mean_relative_difference(one, {"a": np.zeros(3), "b": one["b"]})


def test_stages_without_a_network_are_compared_exactly():
    for name in ("domains.h5", "splits.tsv", "domains.tsv", "leak_audit.tsv", "entries.tsv", "rejected.tsv"):
        assert kind_of(name) is None
    assert kind_of("samples/concat/seed0/raw.h5").name == "structures"
    assert kind_of("features/real/domains.h5").name == "arrays"
