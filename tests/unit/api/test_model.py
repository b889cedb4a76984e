"""Models in Python: the same draws as on the command line, and mistakes that are told."""

import subprocess
import sys

import numpy as np
import pytest

import cvae_protein as cvae
from cvae_protein.cli import main
from cvae_protein.core.geometry import move, superpose

NONE_OF_THESE = ["torch", "numpy", "h5py", "pandas", "pydantic", "gemmi", "typer"]


def test_the_package_loads_nothing_until_it_is_used():
    program = f"import sys, cvae_protein as c; print([m for m in {NONE_OF_THESE} if m in sys.modules], dir(c))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.startswith("[] ")
    assert all(f"'{name}'" in found for name in ("load", "featurize", "read_store", "score"))
    assert "import_module" not in found  # what a notebook completes is what is for use
    with pytest.raises(AttributeError, match=r"no attribute 'loda'; it has .*load"):
        cvae.loda  # noqa: B018


def test_equal_seeds_give_what_the_command_line_gives(model, tmp_path):
    drawn = model.sample(fold="2", length=60, n=2, seed=7, temperature=0.8, guidance=1.5)
    words = "sample --model pretrained --fold 2 --length 60 -n 2 --seed 7 --temperature 0.8 --guidance 1.5 -o"
    assert main.run([*words.split(), str(tmp_path / "x.h5")]) == 0
    stored = cvae.read_store(tmp_path / "x.h5")
    assert stored.ids == drawn.ids
    assert [np.allclose(a, b, atol=6e-3) for a, b in zip(stored.coords, drawn.coords, strict=True)] == [True, True]
    assert dict(stored[0].facts) == dict(drawn[0].facts)
    again = model.sample(fold="2", length=60, n=1, seed=7, temperature=0.8, guidance=1.5)
    assert np.allclose(again.coords[0], drawn.coords[0], atol=0.5)  # relaxed in another batch
    other = model.sample(fold="2", length=60, n=1, seed=8, temperature=0.8, guidance=1.5)
    assert not np.allclose(other.coords[0], drawn.coords[0], atol=1)


@pytest.fixture
def unrelaxed(monkeypatch):
    """Samples without relaxation, which takes most of the time."""
    monkeypatch.setattr("cvae_protein.sampling.sampler.relax", lambda ca, carbonyl, *_: (ca, carbonyl))


@pytest.mark.usefixtures("unrelaxed")
def test_ways_to_say_folds_and_lengths(model):
    assert model.sample(length=50).labels == ["1", "2", "3"]
    assert model.sample(2, 50).labels == model.sample(fold="2", length=np.int64(50)).labels == ["2"]
    assert model.sample(fold=("1", "3"), length=[50, 55], n=2).lengths.tolist() == [50, 55, 50, 55]
    drawn = model.sample(fold="2", length="50-55", n=4).lengths.tolist()
    assert drawn == model.sample(fold="2", length=range(50, 56), n=4).lengths.tolist()
    assert min(drawn) >= 50
    assert max(drawn) <= 55
    assert len(set(drawn)) > 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fold": "7"}, "fold: expected one of 1, 2, 3 or one of 498 labels below them"),
        ({"fold": 2.6}, "fold: expected labels as text, such as '2.60', got 2.6"),
        ({"fold": []}, "fold: expected a label or more"),
        ({"fold": "2", "length": 2000}, "length: expected 5 to 512 residues"),
        ({"fold": "2.60.40", "length": 45}, "45 residues lie beyond what the model has seen"),
        ({"fold": "2", "length": "eighty"}, "length: expected numbers of residues, or one range such as 80-120"),
        ({"fold": "2", "length": 60.5}, "length: expected"),
        ({"fold": "2", "length": range(0)}, "range that is not empty"),
        ({"fold": "2", "n": 0}, "n: expected"),
        ({"fold": "2", "n": 1.5}, "n: expected"),
        ({"fold": "2", "temperature": 99}, "temperature: expected a number ≥ 0 and ≤ 10"),
        ({"fold": "2", "guidance": "much"}, "guidance: expected a number"),
        ({"fold": "2", "seed": -1}, "seed: expected a whole number from 0"),
        ({"fold": "2", "keep": 8}, "keep, noise_kept: expected like"),
        ({"fold": "2", "noise_kept": 0.5}, "keep, noise_kept: expected like"),
        ({"fold": "2", "like": "x.pdb", "length": 60}, "length: expected none with like"),
    ],
)
def test_mistakes_are_told_as_on_the_command_line(model, given, said):
    with pytest.raises(cvae.UserError) as caught:
        model.sample(**given)
    assert said in str(caught.value)


@pytest.mark.usefixtures("unrelaxed")
def test_lengths_beyond_the_training_are_drawn_where_asked(model):
    assert model.sample(fold="2.60.40", length=45, extrapolate=True).lengths.tolist() == [45]


@pytest.mark.usefixtures("unrelaxed")
def test_only_valid_samples_are_kept(model, monkeypatch, tmp_path, capsys):
    from cvae_protein.cli.main import run
    from cvae_protein.score.metrics import physical_validity

    plain = model.sample(fold="2", length=50, n=3)
    monkeypatch.setattr(physical_validity, "is_valid", lambda sample: int(sample.id[-4:]) % 2 == 1)
    kept = model.sample(fold="2", length=50, n=2, valid=True)
    options = ["--fold", "2", "--length", "50", "-n", "2", "--valid", "-o", str(tmp_path / "same.h5")]
    assert run(["sample", "--model", "pretrained", *options]) == 0
    same = cvae.read_store(tmp_path / "same.h5")
    assert same.ids == kept.ids
    assert np.abs(same.coords[1] - kept.coords[1]).max() < 0.01  # Å, of the store's steps
    assert kept.ids[0] == plain.ids[1]
    assert [name[-4:] for name in kept.ids] == ["0001", "0003"]
    assert np.array_equal(kept.coords[0], plain.coords[1])
    # Their numbers have gaps on purpose, of which `merge` says nothing, the second time neither.
    part, merged = tmp_path / "same.h5", tmp_path / "all.h5"
    assert run(["merge", str(part), "-o", str(merged), "--rejected", str(tmp_path / "no.tsv")]) == 0
    assert run(["merge", str(merged), "-o", str(tmp_path / "x.h5"), "--rejected", str(tmp_path / "n.tsv")]) == 0
    assert "in no part" not in capsys.readouterr().err


@pytest.mark.usefixtures("unrelaxed")
def test_what_is_never_valid_ends(model, monkeypatch):
    from cvae_protein.sampling import sample
    from cvae_protein.score.metrics import physical_validity

    monkeypatch.setattr(sample, "TRIES", 1)
    monkeypatch.setattr(physical_validity, "is_valid", lambda sample: False)
    with pytest.raises(cvae.UserError, match="fold 2: 0 of 16 samples are physically valid, 1 are wanted"):
        model.sample(fold="2", length=50, valid=True)


def rmsd(a, b):
    moved = move(a[0], *superpose(a[0], b[0]))
    return float(np.sqrt(((moved - b[0]) ** 2).sum(-1).mean()))


def test_codes_and_back(model, folder):
    domains = cvae.read_store(folder / "domains.h5")
    codes = model.encode(domains)
    assert codes.shape == (2, 64)
    assert np.allclose(model.encode(domains[1]), codes[1:], atol=1e-3)
    moved = cvae.Backbone("x", domains[0].sequence, domains[0].coords + 50, domains[0].residue_ids)
    assert np.allclose(model.encode(moved, fold="3.10.20"), model.encode(domains[0], fold="3.10.20"), atol=1e-2)
    rebuilt = model.reconstruct(domains)
    assert (rebuilt.ids, rebuilt.labels) == (domains.ids, domains.labels)
    assert rmsd(rebuilt[0].ca, domains[0].ca) < 3.0
    path = model.interpolate(domains[0], domains[1], steps=3)
    assert path.lengths.tolist() == [76, 61, 46]
    assert path.labels == ["3"] * 3
    by_label = model.decode(codes[:1], 76, fold="3")
    assert rmsd(path[0].ca, by_label[0].ca) < 0.2
    with pytest.raises(cvae.UserError, match=r"codes: expected \(n, 64\) of one or more, got \(1, 63\)"):
        model.decode(codes[0, :63], 76)
    with pytest.raises(cvae.UserError, match="length: expected one or 2, each 5 residues or more, got"):
        model.decode(codes, [76] * 3)
    with pytest.raises(cvae.UserError, match="a: expected one structure, got 2"):
        model.interpolate(domains, domains[0])
    with pytest.raises(cvae.UserError, match="found a refiner"):
        model.reconstruct(domains, noise=True)
    with pytest.raises(cvae.UserError, match="keep: expected none"):
        model.sample(like=domains[0], fold="1", keep=16)
    with pytest.raises(cvae.UserError, match=r"noise: expected \(L, 6\) for each"):
        model.decode(codes[:1], 76, noise=[np.zeros((75, 6))])


@pytest.mark.usefixtures("unrelaxed")
def test_around_and_like(model, folder):
    domain = cvae.read_store(folder / "domains.h5")[0]
    near = model.around(domain, n=2, temperature=0.5, seed=3)
    assert (near.lengths.tolist(), near.labels) == ([76, 76], ["3.10.20.90"] * 2)
    assert np.array_equal(near.coords[1], model.around(domain, n=2, temperature=0.5, seed=3).coords[1])
    other = model.sample(like=domain, fold="1")
    assert (other.lengths.tolist(), other.labels) == ([76], ["1"])
    assert model.sample(like=domain.coords[0]).labels == [""]
    with pytest.raises(cvae.UserError, match=r"fold: expected one of 1, 2, 3 .* got '9'"):
        model.around(domain, fold="9")
    for number in (0, 65, True, "3", 2.5):
        with pytest.raises(cvae.UserError, match=f"keep: expected 1 to 64 numbers of a code, got {number!r}"):
            cvae.load("pretrained", "decoder").sample(like=domain, keep=number)
    with pytest.raises(cvae.UserError, match="spread: expected a number of Å, got '2'"):
        model.around(domain, spread="2")


def test_a_folder_without_a_model_names_those_of_the_run(tmp_path):
    with pytest.raises(cvae.UserError, match="expected a folder with spec"):
        cvae.load(tmp_path / "none")
    (tmp_path / "models/concat/seed0").mkdir(parents=True)
    (tmp_path / "models/concat/seed0/spec.json").touch()
    with pytest.raises(cvae.UserError, match=r"of this run give one of .*models/concat/seed0"):
        cvae.load(tmp_path)


def test_the_folder_of_that_name_does_not_hide_the_function(folder):
    from cvae_protein.score import score as module

    assert callable(cvae.score)
    assert callable(module.score_real)


def test_scores_as_the_command_line_writes_them(samples, folder, tmp_path):
    table = cvae.score(samples, folder / "domains.h5", bootstrap=20)
    samples.to(tmp_path / "x.h5")
    words = ["score", "--samples", tmp_path / "x.h5", "--reference", folder / "domains.h5", "-o", tmp_path / "y"]
    assert main.run([*map(str, words), "--settings", '{"bootstrap": 20}']) == 0
    import pandas as pd

    written = pd.read_csv(tmp_path / "y/scores.tsv", sep="\t", dtype={"fold": str})
    assert table["metric"].tolist() == written["metric"].tolist()
    assert np.allclose(table["value"], written["value"], equal_nan=True)
    assert {"fold", "metric", "value", "low", "high", "n", "unit"} <= set(table)
    single = cvae.score(samples, cvae.read_store(folder / "domains.h5"), bootstrap=20, per_structure=True)
    assert single["id"].tolist() == samples.ids
    with pytest.raises(cvae.UserError, match="bootstrp"):
        cvae.score(samples, folder / "domains.h5", bootstrp=20)
