import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cvae_protein.config.load import check_files, layered, load
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import write_table
from cvae_protein.dataset.select import Rows
from cvae_protein.runs import plan

ROOT = Path(__file__).parents[3]
JOBS = {"select": 1, "featurize": 2, "train": 4, "train_second_level": 1, "sample": 4, "score": 4}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "_jobs", lambda files, workflow: JOBS)
    columns = ("domain_id", "pdb_id", "chain", "residue_range", "cath")
    rows = [(f"d{i}", "1abc", "A", "", f"{1 + i % 2 if i < 30 else 4}.10.8.10") for i in range(35)]
    write_table(tmp_path / "t.tsv", columns, [dict(zip(columns, row, strict=True)) for row in rows])
    return load({"labels": {"table": str(tmp_path / "t.tsv")}, "variants": ["concat"], "seeds": [0, 1]})


def said(settings):
    return dict(plan.plan(settings, [], Path("workflow")).lines())


def test_what_a_run_would_do(settings):
    lines = said(settings)
    assert lines["domains"] == "30 of 35 rows; 5 class_not_selected"
    assert lines[""] == "class_not_selected, such as d30: class 4 of 4.10.8.10"
    assert lines["classes"] == "1 (15), 2 (15)"
    assert lines["jobs"].startswith("16: 1 select, 2 featurize")
    assert lines["trainings"].startswith("5, of 400 steps")
    assert lines["samples"] == "4 models × 2 classes × 16 = 128"


def test_samples_of_many_classes_are_bounded(settings):
    many = replace(settings, sample=replace(settings.sample, max_samples=9))
    assert said(many)["samples"] == "4 models × 2 classes × 4 = 32"
    assert [settings.sample.of_each(n) for n in (1, 16, 22, 300)] == [16, 16, 11, 1]


def test_time_grows_with_what_is_done(settings):
    def seconds(**train):
        return plan.plan(replace(settings, train=replace(settings.train, **train)), [], Path()).seconds

    assert seconds(steps=4000) - seconds(steps=400) == pytest.approx(2 * 3600 * 32 / 204)  # pca takes no steps


ONCE = (
    *("select", "fetch", "name_folds", "merge", "cluster", "split", "audit_leaks", "embed_real", "train_classifier"),
    *("train_second_level", "score_real", "collect", "judge", "report", "write_manifest"),
)


@pytest.mark.parametrize(
    ("files", "models", "batches", "measured", "factor"),
    [(["config/config.yaml"], 6, 3, 960, 1.15), (["config/config.yaml", ".test/config/config.yaml"], 4, 2, 110, 1.5)],
    ids=["default", "small"],
)
def test_time_of_runs_that_were_timed(monkeypatch, files, models, batches, measured, factor):
    """CPU time of all their jobs, by their records (2026-11-30)."""
    monkeypatch.chdir(ROOT)
    jobs = {**dict.fromkeys(ONCE, 1), **dict.fromkeys(("train", "sample", "embed", "score"), models)}
    monkeypatch.setattr(plan, "_jobs", lambda files, workflow: {**jobs, "featurize": batches})
    settings = load(layered([ROOT / file for file in files]))
    assert measured / factor < plan.plan(settings, [], Path("workflow")).seconds < measured * factor


@pytest.mark.parametrize(
    ("layer", "second_level"),
    [
        ({}, "that of pretrained, as it is"),
        ({"refine": {"steps": 20}}, "that of pretrained, trained on for 20 steps; refine.start: '' trains a new one"),
        ({"refine": {"start": "", "steps": 20}}, "a new one, 20 steps"),
        ({"second_level": "decoder", "decoder": {"steps": 7}}, "a new one, 7 steps"),
    ],
)
def test_weights_that_a_layer_inherits_are_said(layer, second_level, tmp_path):
    """A file that is laid over config.yaml and names `refine.steps` alone goes on from the package's refiner."""
    (tmp_path / "layer.yaml").write_text(yaml.safe_dump(layer))
    whole = layered([ROOT / "config/config.yaml", tmp_path / "layer.yaml"])
    assert plan.Plan(load(whole), Rows(), {}, {}, {}).second_level == second_level


@pytest.mark.parametrize(
    ("layer", "classifier"),
    [
        ({}, "that of pretrained, as it is; classifier.start: '' trains a new one"),
        ({"classifier": {"start": "", "steps": 7}}, "a new one, 7 steps"),
        ({"labels": {"scheme": "scope", "classes": ["a"]}, "variants": ["concat"]}, "a new one, 600 steps"),
    ],
)
def test_which_fold_classifier_judges_is_said(layer, classifier, tmp_path):
    """The package's knows labels of CATH: of others a new one is trained without being asked for."""
    (tmp_path / "layer.yaml").write_text(yaml.safe_dump(layer))
    whole = plan.Plan(load(layered([ROOT / "config/config.yaml", tmp_path / "layer.yaml"])), Rows(), {}, {}, {})
    assert dict(whole.lines())["classifier"] == whole.classifier == classifier
    assert bool(whole.settings.judge.start) == classifier.startswith("that of")


def test_classes_that_are_not_known_before(settings):
    labels = replace(settings.labels, scheme="none", classes=())
    assert said(replace(settings, labels=labels))["classes"] == "one, of all structures"
    lines = said(replace(settings, labels=replace(labels, scheme="cluster")))
    assert lines["classes"] == "are found by structure, those of 8 or more domains"
    assert lines["samples"] == "4 models × 16 a class, 256 a model at most"


def test_without_the_workflow_a_folder_is_asked_for(tmp_path):
    with pytest.raises(UserError, match="expected the workflow, found no file there"):
        plan._jobs([], tmp_path)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"labels": {"names": "nosuch.txt"}}, "labels.names: found no file at nosuch.txt"),
        ({"fetch": {"sources": ["nosuch"]}}, "fetch.sources: .*found no folder at nosuch"),
        ({"fetch": {"locked": "nosuch.tsv"}}, "fetch.locked: found no file at nosuch.tsv"),
    ],
)
def test_files_that_are_not_there(given, wrong):
    check_files(load({"fetch": {"sources": ["rcsb", "https://host/{pdb_id}.cif"]}}))
    with pytest.raises(UserError, match=wrong):
        check_files(load(given))


def test_files_are_laid_over_each_other(tmp_path):
    (tmp_path / "a.yaml").write_text("train: {steps: 1, kl: {weight: 2}}\nseeds: [1, 2]\n")
    (tmp_path / "b.yaml").write_text("train: {kl: {steps: 3}}\nseeds: [0]\n")
    (tmp_path / "c.yaml").write_text("")
    paths = [tmp_path / f"{name}.yaml" for name in "abc"]
    assert layered(paths) == {"train": {"steps": 1, "kl": {"weight": 2, "steps": 3}}, "seeds": [0]}
    (tmp_path / "c.yaml").write_text("- x\n")
    with pytest.raises(UserError, match=r"c\.yaml: expected sections of keys, found list"):
        layered(paths)


def test_keys_of_sections_are_told_at_the_top():
    with pytest.raises(
        UserError, match=r"did you mean train\.steps or refine\.steps or decoder\.steps or classifier\.steps"
    ):
        load({"steps": 10})
    with pytest.raises(UserError, match="expected classes of cath such as 1, 2, 3, got 7"):
        load({"labels": {"classes": ["7"]}})


@pytest.mark.parametrize(
    ("scheme", "classes"), [("cath", ("1", "2", "3")), ("scope", ("a", "b", "c", "d")), ("own", ()), ("none", ())]
)
def test_usual_classes_are_those_of_the_scheme(scheme, classes):
    assert load({"labels": {"scheme": scheme}, "variants": ["concat"]}).labels.classes == classes


def test_the_time_of_a_job_is_that_of_a_rule_of_the_workflow():
    """A rule that is named anew would else count as one that takes no time."""
    rules = "".join(path.read_text() for path in (Path(__file__).parents[3] / "workflow/rules").glob("*.smk"))
    known = re.findall(r"^rule (\w+):", rules, re.MULTILINE)
    program = (Path(plan.__file__)).read_text()
    timed = re.findall(r'^            "(\w+)": ', program, re.MULTILINE)
    assert len(timed) > 5
    assert set(timed) <= set(known)
