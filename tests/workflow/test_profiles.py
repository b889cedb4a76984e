"""What the profiles make of a run, seen in dry runs: nothing here needs a cluster or a GPU."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from small_run import ROOT, finish_each, make_project

TARGET = "results/models/concat/seed0/spec.json"
pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("profiles")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project in which nothing has run, in a folder with a space in its name."""
    return make_project(tmp_path_factory.mktemp("my profiles"), train={"processes": 8})


SLURM = ["--workflow-profile", "workflow/profiles/slurm"]
EXAMPLE = "config/examples/benchmark.yaml"
BENCHMARK = yaml.safe_load((ROOT / EXAMPLE).read_text())
ARCHIVE = ["--config", 'fetch={"sources": ["rcsb"]}', f"results={BENCHMARK['results']}"]
# Name -> what a dry run of it is given.
CALLS = {
    "eight GPUs": ["--cores", "8", "--resources", "gpu=8", "--", TARGET],
    "no GPU": ["--cores", "8", "--resources", "gpu=0", "--", TARGET],
    "Slurm": [*SLURM, "--", TARGET],
    "two GPUs on Slurm": [*SLURM, "--set-resources", "train:gpu=2", "train:slurm_partition=fast", "--", TARGET],
    "several nodes": ["--workflow-profile", "workflow/profiles/slurm-nodes", "--", TARGET],
    "all": ["--cores", "1"],
    "container": ["--cores", "1", "--software-deployment-method", "apptainer", "--", TARGET],
    "benchmark": ["--cores", "1", "--configfile", EXAMPLE, *ARCHIVE, "--", f"{BENCHMARK['results']}/splits.tsv"],
}


@pytest.fixture(scope="module")
def planned(folder):
    """By the names of `CALLS`, the exit code of Snakemake and what it says that it would do."""
    (folder / EXAMPLE).parent.mkdir()
    (folder / EXAMPLE).write_bytes((ROOT / EXAMPLE).read_bytes())
    dry = ["--dry-run", "--quiet", "host", "--printshellcmds"]
    return dict(zip(CALLS, finish_each(folder, [[*dry, *call] for call in CALLS.values()]), strict=True))


def said_of(planned, name):
    """What Snakemake says that it would do."""
    code, said = planned[name]
    assert code == 0, said[-4000:]
    return said


def training(planned, name):
    """What a dry run says of the training of `concat`: its resources, and the command."""
    said = said_of(planned, name)
    block = said[said.index("\nrule train:") :]
    resources = dict(re.findall(r"(\w+)=(.*?)(?:, (?=\w+=)|$)", re.search(r"resources: (.*)", block)[1]))
    return resources, re.search(r"Shell command: (.*)", block)[1]


def test_a_training_takes_gpus_where_there_are_any_to_count(planned):
    resources, command = training(planned, "eight GPUs")
    assert resources["gpu"] == "8"
    assert "cvae-protein launch --processes 8 cvae-protein train --variant concat" in command
    assert training(planned, "no GPU")[0]["gpu"] == "0"


def test_the_number_of_gpus_is_counted_by_the_default_profile():
    profile = yaml.safe_load((ROOT / "workflow/profiles/default/config.yaml").read_text())
    assert "/dev/nvidia[0-9]*" in profile["resources"]["gpu"]


def test_on_slurm_memory_and_time_grow_and_gpus_are_for_the_profile_to_say(planned):
    resources, _ = training(planned, "Slurm")
    assert resources["mem_mb"] == "4000"
    assert resources["runtime"] == "240"
    assert resources["gpu"] == "0"
    settings = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    assert "attempt" in settings["default-resources"]["mem_mb"]
    assert settings["retries"] >= 1
    resources, _ = training(planned, "two GPUs on Slurm")
    assert (resources["gpu"], resources["slurm_partition"]) == ("2", "fast")


def test_partition_and_account_stand_in_profiles_alone():
    for path in [*(ROOT / "workflow/rules").glob("*.smk"), ROOT / "workflow/Snakefile"]:
        assert not re.search(r"slurm_(partition|account)", path.read_text()), path


def test_several_nodes_run_one_launcher_each(planned):
    resources, command = training(planned, "several nodes")
    assert (resources["nodes"], resources["tasks"], resources["gpu"]) == ("2", "2", "4")
    assert "mpi" in resources  # the plugin leaves srun to the command
    launcher = (
        r"srun --ntasks-per-node=1 torchrun --nnodes=2 --nproc-per-node=4 --rdzv-backend=c10d .*:29500 --no-python"
    )
    assert re.search(launcher + " cvae-protein train --variant concat", command)


def test_every_result_that_the_readme_names_is_a_target(planned):
    (targets,) = re.findall(r"rule all:\n    input: (.*)", said_of(planned, "all"))
    named = re.findall(r"^\| (`.*?) \|", (ROOT / "README.md").read_text(), re.M)
    paths = re.findall(r"`([^`]+)`", " ".join(named))
    assert len(paths) > 8
    for path in paths:
        path = path.replace("VARIANT", "concat").replace("seedN", "seed0")
        assert f"results/{path}" in targets, path


def test_a_container_is_named_where_jobs_run_in_one(planned):
    """None can be run here, for the space in the path; the other tests show that it asks for none."""
    code, said = planned["container"]
    assert code == 1
    assert said.splitlines()[-1].endswith("move the project, or use the profile `conda`")


def test_the_benchmark_is_planned_with_the_archive_alone(folder, planned):
    """Its table and its split come with the project: beside it, nothing is there."""
    assert not (folder / "../shared").exists()
    assert BENCHMARK["labels"]["table"].startswith("data/")
    assert BENCHMARK["split"]["file"].startswith("data/")
    said = said_of(planned, "benchmark")
    assert "cvae-protein select" in said
    assert "rcsb" in said
    assert f"{BENCHMARK['results']}/splits.tsv" in said


NAMELESS = """
import pwd, sys
def getpwuid(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = getpwuid
from snakemake.cli import main
main()
"""


def test_a_user_without_a_name_runs_it(folder):
    names = ("USER", "LOGNAME", "LNAME", "USERNAME")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    run = subprocess.run(
        [sys.executable, "-c", NAMELESS, "--dry-run", "--cores", "1", "--", TARGET],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(folder), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert "train" in run.stdout + run.stderr
