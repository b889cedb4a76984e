"""The workflow as others use it: as a module of their own workflow, its graph, its report, and its catalogue entry."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from small_run import BIN, ROOT, environment, finish, make_project

HOST = """
configfile: "mine.yaml"


module cvae_protein:
    snakefile: "theirs/workflow/Snakefile"
    config: config["structures"]


use rule * from cvae_protein as structures_*


rule mine:
    default_target: True
    input: rules.structures_select.output.domains
    output: "count.txt"
    shell: "wc -l < {input} > {output}"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("module"))


def snakemake(folder, source, *arguments):
    """Snakemake in `folder` with the package of the project `source`: exit code and output."""
    command = [str(BIN / "snakemake"), "--cores", "1", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(source), capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.workflow
def test_another_workflow_uses_it_as_a_module(tmp_path, project):
    """Settings come from the other workflow; its rule reads what a rule of this one made."""
    (tmp_path / "theirs").symlink_to(project)
    for name in (".test", "data"):
        (tmp_path / name).symlink_to(project / name)
    settings = yaml.safe_load((project / "config/config.yaml").read_text()) | {"results": "made/here"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"structures": settings}))
    (tmp_path / "Snakefile").write_text(HOST)
    code, _, said = snakemake(tmp_path, project)
    assert code == 0, said[-4000:]
    kept = (tmp_path / "made/here/domains.tsv").read_text().splitlines()
    assert int((tmp_path / "count.txt").read_text()) == len(kept)
    code, planned, said = snakemake(tmp_path, project, "--dry-run", "structures_all")
    assert code == 0, said[-4000:]
    assert "made/here/report.html" in planned + said


@pytest.mark.workflow
def test_of_an_installed_package_the_version_is_the_input(tmp_path):
    """The same version installed anew reruns nothing; another one reruns what was made."""
    folder = make_project(tmp_path / "project")
    installed = tmp_path / "site-packages"
    shutil.copytree(folder / "cvae_protein", installed / "cvae_protein", ignore=shutil.ignore_patterns("__pycache__"))
    target = "results/domains.tsv"

    def planned():
        code, out, said = snakemake(folder, installed, target, "--dry-run", "--workflow-profile", "none")
        assert code == 0, out + said
        return out + said

    first = planned()
    assert str(installed / "cvae_protein/__init__.py") in first
    assert "dataset/select.py" not in first
    code, _, said = snakemake(folder, installed, target)
    assert code == 0, said[-4000:]
    for path in (installed / "cvae_protein").rglob("*.py"):
        path.touch()
    assert "Nothing to be done" in planned()
    with (installed / "cvae_protein/__init__.py").open("a") as file:
        file.write("# another version\n")
    assert "rule select" in planned()


@pytest.mark.workflow
def test_graph_of_the_rules_is_drawn(project):
    code, graph, said = snakemake(project, project, "--rulegraph")
    assert code == 0, said[-4000:]
    assert graph.startswith("digraph")
    names = set(re.findall(r'label ?= ?"?<?(?:<b>)?(\w+)', graph))
    assert {"select", "featurize", "merge", "split", "train", "sample", "score", "report", "write_manifest"} <= names


@pytest.mark.faults
def test_snakemakes_own_report_as_page_and_as_archive(tmp_path):
    """Built without a network: it ends well where every connection is refused."""
    folder = make_project(tmp_path / "project")
    code, said = finish(folder)
    assert code == 0, said[-4000:]
    for name in ("page.html", "page.zip"):
        offline = shutil.which("unshare")
        command = [str(BIN / "snakemake"), "--report", name]
        command = [offline, "--net", "--map-root-user", *command] if offline else command
        done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-4000:]
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "report.html" in page
    with zipfile.ZipFile(folder / "page.zip") as archive:
        assert any(Path(name).name == "report.html" for name in archive.namelist())


def test_catalogue_finds_what_it_asks_for():
    """Standardized usage: fixed places, a schema with descriptions, a documented configuration and one for tests."""
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda"}
    for name in ("workflow/Snakefile", "config/README.md", "config/config.yaml", ".test/config/config.yaml", "LICENSE"):
        assert (ROOT / name).is_file(), name
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert all("description" in value and "default" in value for value in schema["properties"].values())


BUCKET = """
from dataclasses import dataclass
from snakemake_interface_storage_plugins.settings import StorageProviderSettingsBase
from snakemake_interface_storage_plugins.storage_object import StorageObjectRead, StorageObjectWrite
from snakemake_interface_storage_plugins.storage_provider import StorageProviderBase, StorageQueryValidationResult


@dataclass
class StorageProviderSettings(StorageProviderSettingsBase):
    pass


class StorageProvider(StorageProviderBase):
    pass


class StorageObject(StorageObjectRead, StorageObjectWrite):
    pass


for each in (StorageProvider, StorageObject):  # nothing of them is called before a run is planned
    for name in each.__abstractmethods__:
        setattr(each, name, lambda *_, **__: None)
    each.__abstractmethods__ = frozenset()
StorageProvider.is_valid_query = lambda query: StorageQueryValidationResult(query=query, valid=True)
"""


@pytest.mark.workflow
def test_results_behind_a_storage_provider_are_refused_in_one_line(tmp_path, project):
    """As on S3, and as the executor for Kubernetes asks for."""
    plugin = tmp_path / "snakemake_storage_plugin_bucket/__init__.py"
    plugin.parent.mkdir()
    plugin.write_text(BUCKET)
    paths = f"{project}{os.pathsep}{tmp_path}"
    command = [str(BIN / "snakemake"), "--cores", "1", "--default-storage-provider", "bucket"]
    command += ["--default-storage-prefix", "bucket://results"]
    known = environment(project) | {"PYTHONPATH": paths}
    done = subprocess.run(command, cwd=project, env=known, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert errors == [
        "error: results lie in a folder that all jobs see, not behind a storage provider; run without "
        "--default-storage-provider, and copy the folder when it is done"
    ]
    assert "Traceback" not in done.stderr
