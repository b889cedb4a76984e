"""The manifest of a run: an RO-Crate 1.1 by its rules, and what a comparison with it finds."""

import json
import subprocess
import sys
from dataclasses import asdict
from datetime import datetime

import pytest

from cvae_protein.cli.main import run
from cvae_protein.config.load import load
from cvae_protein.core.files import sha256, write_table
from cvae_protein.core.threads import usable_cores
from cvae_protein.runs.manifest import commit, write_manifest, write_record

TYPES = {
    "CreativeWork", "Dataset", "File", "PropertyValue", "SoftwareApplication", "SoftwareSourceCode", "CreateAction",
}  # fmt: skip


@pytest.fixture
def results(tmp_path):
    """A results folder with two outputs, a log, a checkpoint and the record of a job."""
    folder = tmp_path / "results"
    write_table(folder / "scores.tsv", ["metric", "value"], [{"metric": "tm_score", "value": 0.5}])
    write_table(folder / "models/concat/seed0/history.tsv", ["step", "seconds"], [{"step": 1, "seconds": 2.5}])
    for name in ("logs/x.log", "checkpoints/x.safetensors", ".hidden/x", "run.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    write_record(folder / "jobs", ["train", "--output", str(folder / "models/concat/seed0")], 0.0, 0)
    write_record(folder / "jobs", ["score", "-o", str(folder / "scores.tsv")], 0.0, 1)
    return folder


def crate(results):
    """The manifest of `results`, as its entities by id."""
    settings = json.loads(json.dumps(asdict(load({"report": {"title": "a <run>"}}))))
    write_manifest(results, settings, results / "ro-crate-metadata.json")
    whole = json.loads((results / "ro-crate-metadata.json").read_text())
    entities = {entity["@id"]: entity for entity in whole["@graph"]}
    assert len(entities) == len(whole["@graph"]), "an id is there twice"
    return whole["@context"], entities


def references(value):
    """Every id that an entity refers to."""
    if isinstance(value, dict):
        assert set(value) == {"@id"}, "entities are flat: nothing but a reference stands inside another"
        yield value["@id"]
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_structure_is_that_of_ro_crate(results):
    context, entities = crate(results)
    assert context[0] == "https://w3id.org/ro/crate/1.1/context"
    descriptor = entities["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = entities["./"]
    assert root["@type"] == "Dataset"
    assert all(root[key] for key in ("name", "description", "license"))
    assert datetime.fromisoformat(root["datePublished"])
    known = {"@id", "@type"} | set(context[1])
    for identifier, entity in entities.items():
        assert entity["@type"] in TYPES
        assert all(key in known or key.isalpha() for key in entity), identifier
        values = [value for key, value in entity.items() if not key.startswith("@")]
        outside = set(references(values)) - set(entities)
        assert outside <= {"https://w3id.org/ro/crate/1.1"}, identifier


def test_data_entities_are_the_files_and_every_one_is_part_of_the_root(results):
    _, entities = crate(results)
    files = {name for name, entity in entities.items() if entity["@type"] == "File"}
    assert files == {"scores.tsv", "models/concat/seed0/history.tsv"}
    assert {part["@id"] for part in entities["./"]["hasPart"]} == files
    for name in files:
        assert entities[name]["sha256"] == sha256(results / name)
        assert entities[name]["contentSize"] == str((results / name).stat().st_size)
        assert not name.startswith(("/", "../"))


def test_jobs_are_those_of_a_results_folder_that_was_renamed(results):
    moved = results.rename(results.parent / "kept")
    _, entities = crate(moved)
    (job,) = [entity for entity in entities.values() if entity["@type"] == "CreateAction"]
    assert job["result"] == [{"@id": "models/concat/seed0/history.tsv"}]


def test_it_tells_settings_versions_sources_and_what_a_job_took(results):
    _, entities = crate(results)
    settings = json.loads(entities["#configuration"]["value"])
    assert load(settings).report.title == "a <run>"
    assert entities["#package/python"]["softwareVersion"] == ".".join(map(str, sys.version_info[:3]))
    assert entities["#package/torch"]["softwareVersion"]
    assert len(entities["#source/cvae_protein/training/train.py"]["sha256"]) == 64
    jobs = [entity for entity in entities.values() if entity["@type"] == "CreateAction"]
    assert [job["name"] for job in jobs] == ["cvae-protein train"]  # the other one failed
    assert jobs[0]["result"] == [{"@id": "models/concat/seed0/history.tsv"}]
    took = {entities[item["@id"]]["name"]: entities[item["@id"]] for item in jobs[0]["resourceUsage"]}
    assert took["peak memory of the largest process"]["value"] > 5
    assert took["peak memory of the largest process"]["unitText"] == "MB"
    assert "cores" not in took["machine"]["value"]
    assert took["machine"]["value"].endswith("no GPU used")


def git(folder, *arguments):
    """What git says in a folder."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a commit, and this package as if it lay at a path below it."""
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "own")

    def place(name):
        package = tmp_path / name / "cvae_protein"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package.parent / "workflow").mkdir()
        monkeypatch.setattr("cvae_protein.runs.manifest.PACKAGE", package)
        return tmp_path

    return place


def test_the_commit_is_that_of_the_packages_own_repository(repository, monkeypatch):
    folder = repository(".")
    assert commit() == ("", f"the package lies in a repository that is not its own, {folder.resolve()}")  # not in git
    git(folder, "add", "cvae_protein/__init__.py")
    git(folder, "commit", "-m", "package")
    head = git(folder, "rev-parse", "HEAD").strip()
    assert commit() == (head, "")
    (folder / "cvae_protein/__init__.py").write_text("changed")
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as within a hook of another repository
    assert commit() == (f"{head}, changed", "")


@pytest.mark.parametrize("place", ["deps", ".venv/lib/site-packages"])
def test_the_commit_of_another_repository_is_none_with_a_reason(repository, results, place):
    folder = repository(place)
    git(folder, "add", ".")
    git(folder, "commit", "-m", "all")
    assert commit()[0] == ""
    code = crate(results)[1]["#cvae_protein"]
    assert code["identifier"] == ""
    assert code["description"].startswith("no commit is known: the package lies in a repository that is not its own")


def test_a_git_that_refuses_or_is_not_there_is_the_reason(repository, monkeypatch, tmp_path):
    repository(".")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert commit() == ("", "git: cannot be started (No such file or directory)")
    (tmp_path / "bin/git").write_text("#!/bin/sh\necho 'fatal: detected dubious ownership' >&2; exit 128\n")
    (tmp_path / "bin/git").chmod(0o755)
    assert commit() == ("", "fatal: detected dubious ownership")
    (tmp_path / "bin/git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr("cvae_protein.core.programs.LONGEST", 0.1)
    assert commit()[1].endswith("rev-parse --show-toplevel: no answer within 0 s")


def test_the_workflows_files_are_those_of_the_snakefile_that_ran(results, tmp_path, root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = json.loads(json.dumps(asdict(load({}))))
    write_manifest(results, settings, results / "ro-crate-metadata.json", root / "workflow")
    names = {entity["@id"] for entity in json.loads((results / "ro-crate-metadata.json").read_text())["@graph"]}
    assert {"#source/workflow/Snakefile", "#source/workflow/rules/model.smk"} <= names


def test_comparison_tells_equal_times_other_and_absent(results, capsys):
    crate(results)
    manifest, other = results / "ro-crate-metadata.json", results.parent / "again"
    history, scores = other / "models/concat/seed0/history.tsv", other / "scores.tsv"
    write_table(history, ["step", "seconds"], [{"step": 1, "seconds": 9.9}])
    write_table(scores, ["metric", "value"], [{"metric": "tm_score", "value": 0.5}])
    compare = ["reproduce", str(manifest), "--output", str(other), "--compare-only"]
    assert run(compare) == 0
    assert "1 equal, 1 equal but for times" in capsys.readouterr().out
    write_table(history, ["step", "seconds"], [{"step": 2, "seconds": 2.5}])
    scores.unlink()
    assert run(compare) == 1
    said = capsys.readouterr()
    assert "1 differs, 1 absent" in said.out
    assert "reproduce: 2 of 2 files are not as recorded" in said.err


def test_comparison_says_what_is_other_than_then(results, capsys):
    crate(results)
    path = results / "ro-crate-metadata.json"
    path.write_text(
        path.read_text().replace(
            '"name": "python",\n   "softwareVersion": "3', '"name": "python",\n   "softwareVersion": "2'
        )
    )
    assert run(["reproduce", str(path), "-o", str(results), "--compare-only"]) == 0
    assert "python: 2." in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"@graph": []}', '{"@graph": [{"@id": "./", "hasPart": []}]}'])
def test_what_is_no_manifest_is_a_users_mistake(tmp_path, text, capsys):
    (tmp_path / "x.json").write_text(text)
    assert run(["reproduce", str(tmp_path / "x.json"), "-o", str(tmp_path / "new")]) == 1
    assert "expected a manifest" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_nothing_old_is_compared(results, tmp_path, monkeypatch, capsys):
    crate(results)
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/Snakefile").touch()
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", str(results / "ro-crate-metadata.json"), "-o", str(results)]) == 1
    assert "holds an input of this call" in capsys.readouterr().err
    (tmp_path / "new").mkdir()
    (tmp_path / "new/old.tsv").touch()
    assert run(["reproduce", str(results / "ro-crate-metadata.json"), "-o", "new"]) == 1
    assert "holds old.tsv, which `reproduce` does not write" in capsys.readouterr().err


def test_a_command_leaves_its_record_where_the_environment_says(tmp_path, root):
    import os

    domains = tmp_path / "results/domains.tsv"
    settings = json.dumps({"table": str(root / ".test/domains.tsv"), "min_members": 1})
    command = [sys.executable, "-m", "cvae_protein.cli.main", "select", "--settings", settings, "-o", str(domains)]
    command += ["--rejected", str(tmp_path / "results/no.tsv")]
    subprocess.run(command, env=os.environ | {"CVAE_PROTEIN_JOBS": str(tmp_path / "results/jobs")}, check=True)
    record = json.loads((tmp_path / "results/jobs/select-domains.tsv.json").read_text())
    assert record["exit_code"] == 0
    assert record["cpu_seconds"] > 0
    assert 1 < record["peak_mb"] < 10_000
    assert record["cores"] == usable_cores()
    before = set(tmp_path.rglob("*"))
    subprocess.run([*command, "--force"], check=True)
    assert {path.name for path in set(tmp_path.rglob("*")) - before} == {".domains.tsv.made.json", ".no.tsv.made.json"}
