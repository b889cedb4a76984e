"""A scheduler killed while it trains on this machine, and `cvae-protein resume`. On Slurm: tests/cluster."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from small_run import BIN, differences, environment, finish, make_project, start

from cvae_protein.core.files import holder
from cvae_protein.runs.resume import read

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("resume")]

TARGETS = ["--", "results/models/concat/seed0/spec.json"]
SETTINGS = {"steps": 500, "flow_steps": 20, "batch_size": 16, "report_every": 100, "checkpoint_seconds": 0.1}


def resume(folder):
    done = subprocess.run(
        [BIN / "cvae-protein", "resume", "results"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_one_training_goes_on_to_the_same_bytes(tmp_path):
    folder = make_project(tmp_path / "killed", train=SETTINGS)
    process = start(folder, *TARGETS)
    checkpoint = folder / "results/checkpoints/concat/seed0.safetensors"
    deadline = time.monotonic() + 300
    while not checkpoint.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    code, said = resume(folder)
    assert code == 1
    assert f"the run is at work (process {process.pid} on " in said

    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    orphan = holder(folder / "results/models/concat/.seed0.lock")
    assert orphan is not None
    assert read(folder / "results")["outcome"] == ""
    code, said = resume(folder)
    assert code == 0, said[-4000:]
    assert f"{orphan} is still making it, and gets SIGTERM" in said
    assert re.search(r"resumed at step [1-9]\d* of 500", said)
    assert read(folder / "results")["outcome"] == "done"

    resumed = shutil.copytree(folder / "results", tmp_path / "resumed")
    shutil.rmtree(folder / "results/models/concat")
    assert finish(folder, *TARGETS)[0] == 0
    assert "resumed" not in (folder / "results/logs/train/concat/seed0.log").read_text()
    assert differences(resumed, folder / "results") == []
