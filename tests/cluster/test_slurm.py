"""The small run on a real Slurm that treats it badly.

One run meets all of it, since each job of a cluster costs seconds: two batches in one job, a job killed for its memory,
one that is cancelled, two trainings on two GPUs, and a scheduler that is killed while one of them runs.
"""

import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from small_run import BIN, differences, left_behind

from cvae_protein.core.files import holder, read_table
from cvae_protein.runs.resume import read

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("slurm")]

# Stands before the real program: has the job that clusters hold 512 MB for a while, since it takes too little by itself
# to be caught by a look each second; cancels the first job that splits; and notes each variant's GPU, going on once two
# trainings are at work at the same time.
PROGRAM = """#!/bin/sh
case "$*" in
"cluster "*)
    {python} -c 'import time; held = b"x" * (1 << 29); time.sleep(5)' ;;
"split "*)
    if mkdir cancelled 2>/dev/null; then scancel "$SLURM_JOB_ID"; sleep 60; fi ;;
"train --variant concat"* | "train --variant pca"*)
    echo "$3 $CUDA_VISIBLE_DEVICES" >> gpus.txt
    for _ in $(seq 120); do [ "$(wc -l < gpus.txt)" -lt 2 ] || break; sleep 0.5; done ;;
esac
exec {real} "$@"
"""
HARDSHIPS = [
    *("--groups", "featurize=several", "--group-components", "several=2"),
    *("--set-resources", "cluster:mem_mb=150 * attempt ** 4", "train:gpu=1", "train:slurm_partition=gpu"),
]
CHECKPOINT = "results/checkpoints/concat/seed0.safetensors"


def wait_for(path, process, seconds=1200):
    """Wait until `path` is there; the run must go on until then."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, f"the run ended before it wrote {path}"
        assert time.monotonic() < deadline, f"no {path} within {seconds} s"
        time.sleep(0.1)


def trainings(folder):
    """Processes that train `concat` below `folder`, the program itself and not its shells."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            here = (path / "cwd").resolve() == folder
        except OSError:
            continue
        if (
            here
            and words[1:2] == [str(BIN / "cvae-protein").encode()]
            and words[2:5] == [b"train", b"--variant", b"concat"]
        ):
            found.append(int(path.name))
    return found


@pytest.fixture(scope="module")
def killed(cluster):
    """What was at work after the scheduler was killed: trainings, who holds the output, and the outcome on record."""
    program = cluster.folder / "bin/cvae-protein"
    program.write_text(PROGRAM.format(real=BIN / "cvae-protein", python=sys.executable))
    program.chmod(0o755)
    process = cluster.start(*HARDSHIPS)
    try:
        wait_for(cluster.folder / CHECKPOINT, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(0.5)
    lock = cluster.folder / "results/models/concat/.seed0.lock"
    return trainings(cluster.folder), holder(lock), read(cluster.folder / "results")["outcome"]


@pytest.fixture(scope="module")
def resumed(cluster, killed):
    """The same project after `cvae-protein resume`; what that said."""
    code, said = cluster.resume()
    assert code == 0, said[-8000:]
    return said


def test_a_job_of_a_killed_scheduler_lives_on(killed):
    alive, owner, outcome = killed
    assert len(alive) == 1
    assert str(alive[0]) in owner
    assert outcome == ""


def test_two_trainings_get_two_gpus(cluster, killed):
    rows = [line.split() for line in (cluster.folder / "gpus.txt").read_text().splitlines()]
    assert sorted(variant for variant, _ in rows) == ["concat", "pca"]
    assert sorted(gpu for _, gpu in rows) == ["0", "1"]


def test_batches_of_a_group_are_one_job(cluster, killed):
    assert [path.stem for path in sorted((cluster.folder / "results/shards").glob("*.h5"))] == ["0", "1"]
    assert cluster.jobs("rule_featurize") == []
    assert [state for state, _ in cluster.jobs("rule_several")] == ["COMPLETED"]


def test_a_job_killed_for_memory_comes_back_with_more(cluster, killed):
    (first, little), *_, (last, more) = cluster.jobs("rule_cluster")
    assert (first, little) == ("FAILED", "150M")
    assert (last, more) == ("COMPLETED", "2400M")
    logs = "".join(path.read_text() for path in (cluster.folder / ".snakemake/slurm_logs/rule_cluster").rglob("*.log"))
    assert "exceeded memory limit" in logs


def test_a_cancelled_job_is_sent_again(cluster, killed):
    assert [state for state, _ in cluster.jobs("rule_split")] == ["CANCELLED", "COMPLETED"]


def test_resume_leaves_one_training_which_goes_on(cluster, killed, resumed):
    assert "cancels" in resumed
    assert [state for state, _ in cluster.jobs("rule_train_wildcards_concat_0")] == ["CANCELLED", "COMPLETED"]
    log = (cluster.folder / "results/logs/train/concat/seed0.log").read_text()
    assert "resumed at step" in log
    assert trainings(cluster.folder) == []
    steps = [int(row["step"]) for row in read_table(cluster.folder / "results/models/concat/seed0/history.tsv")]
    assert steps == sorted(set(steps))


def test_the_results_are_those_of_a_run_that_nothing_disturbed(cluster, resumed, clean):
    assert differences(cluster.folder / "results", clean / "results") == []
    assert left_behind(cluster.folder / "results") == []
    assert read(cluster.folder / "results")["outcome"] == "done"


@pytest.mark.long
def test_two_processes_share_a_training_on_two_gpus(cluster, resumed, tmp_path):
    folder = tmp_path / "several"
    shutil.copytree(cluster.folder, folder, symlinks=True)
    (folder / "run.log").unlink()
    (folder / "bin/cvae-protein").unlink()
    several = type(cluster)(folder)
    process = several.start(
        *("--config", "seeds=[1]", "train={steps: 30, report_every: 10, processes: 2}"),
        *("--set-resources", "train:gpu=2", "train:slurm_partition=gpu"),
        *("--", "results/models/concat/seed1/spec.json"),
    )
    assert process.wait(1500) == 0, several.said()[-6000:]
    assert (folder / "results/models/concat/seed1/weights.safetensors").stat().st_size
    log = (folder / "results/logs/train/concat/seed1.log").read_text()
    assert "30/30 steps" in log
    assert [state for state, _ in several.jobs("rule_train_wildcards_concat_1")] == ["COMPLETED"]
