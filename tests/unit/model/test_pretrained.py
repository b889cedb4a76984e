"""The package's reference model: how it is named, made and drawn from, with a tiny model in its place."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

from cvae_protein.cli import main
from cvae_protein.config.settings import ClassifierSettings, ModelSettings, RefineSettings
from cvae_protein.core import pretrained
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import write_table
from cvae_protein.model import registry
from cvae_protein.model.fold_classifier import ClassifierSpec, FoldClassifier, load_classifier
from cvae_protein.model.priors import AggregatePosterior
from cvae_protein.model.refiner import Refiner
from cvae_protein.model.spec import Spec, load_tensors, save_tensors
from cvae_protein.store.read import Store
from cvae_protein.store.write import Entry, write_store

SPEC = Spec(
    "pca",
    3,
    ModelSettings(latent=4, coefficients=8, width=16, depth=1, decoder_width=16, decoder_depth=1),
    RefineSettings(width=16, depth=1, heads=1),
    (("1", "2"), ("1.10", "2.60"), ("2.60.40",)),
    {"1": (40, 60), "1.10": (40, 60), "2": (50, 70, 90), "2.60": (50, 70, 90), "2.60.40": (50, 70)},
    {"store": "5" * 64, "splits": "6" * 64, "torch": "2"},
)
CLASSIFIER = ClassifierSpec(ClassifierSettings(width=16, features=8), 0, SPEC.vocabulary, (1.0, 1.0, 1.0), {})
CHECKS = ["split", "level", "labels", "n", "accuracy", "low", "high", "ece", "temperature"]
SCORES = ["variant", "seed", "split", "fold", "metric", "value", "low", "high", "n", "unit", "better"]


@pytest.fixture(scope="module")
def script(request: pytest.FixtureRequest):
    """tools/make_pretrained.py as a module."""
    path = Path(__file__).parents[3] / "tools/make_pretrained.py"
    spec = importlib.util.spec_from_file_location("fill_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path, make_backbone) -> Path:
    """A finished run with one untrained model."""
    torch.manual_seed(0)
    results = tmp_path / "results"
    model, refiner = results / "models/pca/seed3", results / "models/refiner/seed3"
    for folder, spec in ((model, SPEC), (refiner, replace(SPEC, variant="refiner"))):
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(spec.to_json())
    weights = {f"cvae.{name}": value for name, value in registry.variant("pca").build(SPEC).state_dict().items()}
    weights |= {f"aggregate.{n}": v for n, v in AggregatePosterior(4, 2).state_dict().items()}
    save_tensors(model / "weights.safetensors", weights)
    net = Refiner(SPEC.refine)
    for p in net.parameters():
        p.data.add_(0.02 * torch.randn_like(p))
    save_tensors(refiner / "weights.safetensors", {f"refiner.{n}": v for n, v in net.state_dict().items()})
    judge = results / "models/classifier"
    judge.mkdir()
    (judge / "spec.json").write_text(CLASSIFIER.to_json())
    save_tensors(judge / "weights.safetensors", FoldClassifier(CLASSIFIER).state_dict())
    right = {"split": "test", "level": 1, "labels": "all", "n": 20, "accuracy": 0.9, "low": "0.6990", "high": "0.9721"}
    write_table(judge / "classifier.tsv", CHECKS, [dict.fromkeys(CHECKS, "") | right])
    domains = {"d1": ("train", "1.10.20.30", ""), "d2": ("crops", "", "b.1.1.2"), "d3": ("test", "3.40.50.300", "")}
    facts = {name: {"label": cath, "cath": cath, "scope": scope} for name, (_, cath, scope) in domains.items()}
    write_store(results / "domains.h5", (Entry(make_backbone(name), own) for name, own in facts.items()))
    rows = [{"domain_id": name, "split": split} for name, (split, *_) in domains.items()]
    write_table(results / "splits.tsv", ["domain_id", "split"], rows)
    row = dict.fromkeys(SCORES, "") | {"variant": "pca", "seed": 3, "fold": "all", "metric": "physically_valid"}
    other = row | {"seed": 4, "value": 0.1, "low": 0, "high": 1, "n": 8}
    row |= {"value": 0.96123, "low": 0.9, "high": 1, "n": 48}
    write_table(results / "scores.tsv", SCORES, [row, row | {"variant": "real", "seed": "", "value": 0.99}, other])
    return results


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the package's."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "package")
    return tmp_path / "package"


def draw(*arguments: str | Path) -> int:
    settings = ["--settings", '{"relax_steps": 3, "refine_steps": 1}']
    return main.run(["sample", "--model", "pretrained", *map(str, arguments), *settings])


def test_samples_come_right_from_the_package(
    script, run: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    script.adopt(run, "pca", 3, "Domains of a test.", package, 1)
    pdb = tmp_path / "samples.pdb"
    assert draw("--fold", "2.60.40", "--length", "55", "-n", "3", "-o", pdb) == 0
    assert len(re.findall(r"^ATOM.{8} CA ", pdb.read_text(), re.M)) == 3 * 55
    said = capsys.readouterr().err
    assert "unknown" not in said
    assert "beyond" not in said
    assert (package / "model/weights.safetensors").read_bytes() == (
        run / "models/pca/seed3/weights.safetensors"
    ).read_bytes()


def test_lengths_that_training_had_not_are_told(
    script, run: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    script.adopt(run, "pca", 3, "", package, 1)
    output = tmp_path / "samples.h5"
    asked = ("--fold", "2.60.40", "--length", "45", "--length", "5", "--length", "180", "-n", "3", "-o", output)
    assert draw(*asked) == 1
    assert "--extrapolate" in capsys.readouterr().err
    assert draw("--extrapolate", *asked) == 0
    said = capsys.readouterr().err
    assert (
        "5, 45, 180 residues lie beyond what the model has seen: the 2 training domains of 2.60.40 have 50 to" in said
    )
    with Store(output) as store:
        assert list(store.lengths) == [45, 5, 180]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--fold 2.60.99", "fold: 2.60.99 is unknown to the model; the nearest that it knows is 2.60"),
        (
            "--fold 2 --fold 2.60.40.10",
            "2.60.40.10 is finer than the model's labels; the nearest that it knows is 2.60.40",
        ),
        ("--fold 7.1", "expected one of 1, 2 or one of 3 labels below them"),
        ("--fold 2.60.40 --length 40-80", "20 from 40 to 80 residues lie beyond what the model has seen"),
        ("--fold 2 --length 60-50", "expected numbers of residues, or one range such as 80-120, got 60-50"),
        ("--fold 2 --length 1", "length: expected 5 to 180 residues"),
        ("--fold 2 --length 4", "got 4"),
        (
            "--fold 2 --length 60 --length 2000",
            "length: expected 5 to 180 residues, twice what the model has seen, got 2000",
        ),
    ],
)
def test_what_the_model_cannot_draw_is_refused(
    arguments: str, said: str, script, run: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    script.adopt(run, "pca", 3, "", package, 1)
    capsys.readouterr()
    assert draw(*arguments.split(), "-n", "1", "-o", tmp_path / "x.h5") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "x.h5").exists()


def test_a_version_is_named_and_checked(
    script, run: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    script.adopt(run, "pca", 3, "", package, 4)
    assert pretrained.package_model("pretrained@4") == pretrained.package_model() == package
    assert registry.resolve(Path("pretrained@4"), None)[0] == package / "model"
    asked = ["--fold", "2", "--length", "60", "-n", "1", "-o", str(tmp_path / "x.pdb")]
    capsys.readouterr()
    assert main.run(["sample", "--model", "pretrained@3", *asked]) == 1
    assert capsys.readouterr().err.startswith("error: pretrained@3: expected pretrained or pretrained@4")
    with (package / "refiner/weights.safetensors").open("ab") as file:
        file.write(b"x")
    pretrained._sha256.cache_clear()
    with pytest.raises(UserError, match=r"refiner/weights.safetensors: is not the file of pretrained@4; install"):
        pretrained.package_model()


def test_the_package_lists_what_its_model_was_trained_on(script, run: Path, package: Path) -> None:
    script.adopt(run, "pca", 3, "", package, 1)
    assert (package / "superfamilies.txt").read_text() == "b.1.1\n1.10.20.30\n"


@pytest.mark.parametrize(
    ("codes", "known"),
    [
        (("2.60.40.10", "", ""), True),
        (("", "", "b.1.1.1"), True),
        (("9.99.99.10", "9.99.99.10", ""), False),
        (("9.99.99.10", "", "b.1.1.1"), True),  # known by another name
        (("2.60.40", "", ""), True),  # one of a topology of which the model knows a superfamily
        (("9.99.99", "", ""), False),
        (("kinase", "", ""), True),  # nobody knows
    ],
)
def test_what_the_packages_model_may_know(codes: tuple[str, ...], known: bool) -> None:
    assert pretrained.may_know(codes) == known


def test_the_largest_seed_draws(script, run: Path, package: Path, tmp_path: Path) -> None:
    script.adopt(run, "pca", 3, "", package, 1)
    seed = str(2**64 - 1)
    assert draw("--fold", "2", "--length", "60", "-n", "1", "--seed", seed, "-o", tmp_path / "x.pdb") == 0


def test_a_package_without_the_model_says_what_to_do(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert draw("--fold", "2", "-o", tmp_path / "x.pdb") == 1
    assert "no pretrained model. Train one with `make run`" in capsys.readouterr().err
    assert registry.resolve(Path("./models/concat/seed1"), None)[1] == Path("models/refiner/seed1")
    assert registry.resolve(Path("a/b/seed1"), Path("r")) == (Path("a/b/seed1"), Path("r"))
    assert registry.resolve(Path("a/b/seed1"), Path("decoder")) == (Path("a/b/seed1"), Path("a/decoder/seed1"))


def test_the_card_has_the_figures_of_that_model(script, run: Path, package: Path) -> None:
    script.adopt(run, "pca", 3, "Domains of a test.", package, 1)
    text = (package / "MODEL_CARD.md").read_text()
    assert "| physically valid samples | 0.961 (0.9 to 1, n = 48) | 0.99 (0.9 to 1, n = 48) |" in text
    assert "Domains of a test." in text
    assert "1 crops, 1 test, 1 train" in text
    assert "5 labelled domains of 40 to 90 residues" in text
    assert "5" * 64 in text
    with pytest.raises(UserError, match=r"expected rows of concat, seed 3"):
        script.card(run, SPEC, "concat", 3, "", 1)


def test_large_weights_are_rounded_and_what_moves_samples_is_refused(
    script, run: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = run / "models/pca/seed3/weights.safetensors"
    whole = sum(path.stat().st_size for path in (run / "models").rglob("weights.safetensors"))
    script.adopt(run, "pca", 3, "", package, 1, largest=whole - 1)
    rounded, exact = load_tensors(package / "model/weights.safetensors")[0], load_tensors(source)[0]
    assert rounded["cvae.decoder.correct.into.weight"].dtype == torch.float16
    assert torch.equal(rounded["aggregate.joint_covariance"], exact["aggregate.joint_covariance"])
    before = (package / "MODEL_CARD.md").read_text()
    monkeypatch.setattr(script, "FARTHEST", 0.0)
    with pytest.raises(UserError, match="rounding moves a sample"):
        script.adopt(run, "pca", 3, "another", package, 1, largest=whole - 1)
    with pytest.raises(UserError, match="expected at most 10 bytes"):
        script.adopt(run, "pca", 3, "another", package, 1, largest=10)
    assert (package / "MODEL_CARD.md").read_text() == before


def test_the_fold_classifier_comes_along_in_half_precision(script, run: Path, package: Path) -> None:
    script.adopt(run, "pca", 3, "", package, 1)
    rounded, exact = (load_tensors(f / "classifier/weights.safetensors")[0] for f in (package, run / "models"))
    assert rounded["layers.1.weight"].dtype == torch.float16
    assert all(torch.equal(rounded[name], exact[name]) for name in ("middle", "spread", "centre", "scale"))
    seen = torch.randn(5, len(exact["middle"]))
    ours, theirs = (load_classifier(folder / "classifier")(seen) for folder in (package, run / "models"))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=0.01, rtol=0)
    assert "| class | 0.900 (0.699 to 0.972, n = 20) |  |" in (package / "MODEL_CARD.md").read_text()
    with (package / "classifier/weights.safetensors").open("ab") as file:
        file.write(b"x")
    pretrained._sha256.cache_clear()
    with pytest.raises(UserError, match=r"classifier/weights.safetensors: is not the file of pretrained@1; install"):
        pretrained.package_model()


def test_the_packages_fold_classifier_knows_the_labels_of_its_model() -> None:
    judge = load_classifier(pretrained.FOLDER / "classifier")
    assert judge.spec.vocabulary == Spec.read(pretrained.FOLDER / "model/spec.json").vocabulary


def test_what_the_package_holds_is_installed_with_it(root: Path) -> None:
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "cvae_protein"
    ]
    names = ("MODEL_CARD.md", "version.json", "superfamilies.txt")
    names += (
        "model/spec.json",
        "model/weights.safetensors",
        "refiner/weights.safetensors",
        "classifier/classifier.tsv",
    )
    for name in names:
        assert any(fnmatch(f"model/pretrained/{name}", pattern) for pattern in patterns), name
    assert pretrained.package_model(pretrained.version()) == pretrained.FOLDER
    held = [path for path in pretrained.FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in held) <= 16_000_000
