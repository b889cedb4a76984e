"""A real Slurm of one node, and a run on it. Tests here have the marker `cluster`: `make test-cluster` runs them."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_run import BIN, environment, finish, make_project

SCRIPT = Path(__file__).with_name("slurm.sh")
# Long enough to be cut off in its middle; a checkpoint every fifth of a second.
SETTINGS = {"steps": 800, "flow_steps": 20, "batch_size": 16, "report_every": 100, "checkpoint_seconds": 0.2}


def pytest_collection_modifyitems(config, items):
    """Leave out what needs a Slurm unless the marker is asked for."""
    if "cluster" in config.option.markexpr:
        return
    there = [item for item in items if item.get_closest_marker("cluster")]
    config.hook.pytest_deselected(items=there)
    items[:] = [item for item in items if item not in there]


@pytest.fixture(scope="session")
def slurm():
    """The tests' own Slurm, running; who asked for it is told what is missing where it cannot run."""
    can = subprocess.run([SCRIPT, "can"], capture_output=True, text=True, check=False)
    assert can.returncode == 0, can.stderr
    subprocess.run([SCRIPT, "start"], check=True)
    yield
    subprocess.run([SCRIPT, "stop"], check=True)


@pytest.fixture(scope="session")
def clean(tmp_path_factory):
    """A project after a whole run on this machine, without any cluster."""
    folder = make_project(tmp_path_factory.mktemp("clean"), train=SETTINGS)
    code, said = finish(folder)
    assert code == 0, said[-6000:]
    return folder


class Cluster:
    """A project whose runs are sent to Slurm. What lies in `bin` goes before the real programs, as `AHEAD` has it."""

    AHEAD = "PATH=${BASH_ENV%/*}:$PATH\n"  # read by the shell of every job, behind what the workflow does to its PATH

    def __init__(self, folder):
        self.folder = folder
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin/ahead.sh").write_text(self.AHEAD)
        self.environment = environment(folder) | {"BASH_ENV": str(folder / "bin/ahead.sh")}

    def start(self, *arguments):
        """A run in the background; what it says is in `run.log`."""
        command = [str(BIN / "snakemake"), "--workflow-profile", "workflow/profiles/slurm-ci", *arguments]
        with open(self.folder / "run.log", "a", encoding="utf-8") as log:
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)

    def said(self):
        """What the runs in the background said."""
        return (self.folder / "run.log").read_text(encoding="utf-8")

    def resume(self):
        """`cvae-protein resume`: exit code and what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "cvae_protein.cli.main", "resume", "results"],
            cwd=self.folder,
            env=environment(self.folder),
            capture_output=True,
            text=True,
            timeout=1500,
        )
        return done.returncode, done.stdout + done.stderr

    def jobs(self, comment):
        """Slurm's jobs of a rule, oldest first, each as state and memory in MB."""
        shown = subprocess.run(
            ["squeue", "--states=all", "--noheader", "--format=%A|%T|%m|%k|%Z"],
            capture_output=True,
            text=True,
            check=True,
        )
        rows = [line.strip().split("|") for line in shown.stdout.splitlines()]
        mine = [row for row in rows if row[3].startswith(comment) and row[4] == str(self.folder)]
        return [(state, memory) for _, state, memory, _, _ in sorted(mine, key=lambda row: int(row[0]))]


@pytest.fixture(scope="session")
def cluster(slurm, tmp_path_factory):
    """A project in which nothing has run, whose runs are sent to Slurm."""
    return Cluster(make_project(tmp_path_factory.mktemp("slurm"), train=SETTINGS))
