"""Trainings of one machine take different GPUs, and give them back however they end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cvae_protein.core import programs
from cvae_protein.core.errors import UserError
from cvae_protein.core.programs import listed_gpus
from cvae_protein.model import device
from cvae_protein.training import gpu_slots
from cvae_protein.training.gpu_slots import take

LISTED = """\
GPU 0: Model A (UUID: GPU-aaaa-0)
GPU 1: Model A (UUID: GPU-bbbb-1)
"""
DIVIDED = """\
GPU 0: Model A (UUID: GPU-aaaa-0)
  MIG 1g.10gb     Device  0: (UUID: MIG-cccc-2)
  MIG 1g.10gb     Device  1: (UUID: MIG-dddd-3)
GPU 1: Model A (UUID: GPU-bbbb-1)
"""
TAKER = """
import os, sys, time
from cvae_protein.training.gpu_slots import take
take(int(sys.argv[1]), inherited=True)
print(os.environ.get("CUDA_VISIBLE_DEVICES", "none"), flush=True)
if sys.argv[2] == "exec":
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
time.sleep(60)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose `nvidia-smi` lists two GPUs; the function given changes what it lists."""

    def lists(text):
        program = tmp_path / "bin/nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        program.chmod(0o755)

    lists(LISTED)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_slots, "unusable", str)
    (tmp_path / "site").mkdir()  # torch of these tests has no GPU: other processes take its word for the other as well
    (tmp_path / "site/sitecustomize.py").write_text(
        "import cvae_protein.training.gpu_slots as slots\nslots.unusable = str\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{Path(__file__).parents[3]}")
    return lists


@pytest.fixture
def taker():
    """A function that starts a process which takes GPUs and holds them; all are ended with the test."""
    processes = []

    def start(count, how="stay"):
        process = subprocess.Popen(
            [sys.executable, "-c", TAKER, str(count), how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_gpus_are_listed_and_divided_ones_by_their_parts(machine):
    assert listed_gpus() == ["GPU-aaaa-0", "GPU-bbbb-1"]
    machine(DIVIDED)
    assert listed_gpus() == ["MIG-cccc-2", "MIG-dddd-3", "GPU-bbbb-1"]
    machine("")
    assert listed_gpus() == []


def test_trainings_take_different_gpus_and_a_killed_one_gives_its_own_back(machine, taker):
    first, second = taker(1), taker(1, "exec")
    names = [process.stdout.readline().strip() for process in (first, second)]
    assert sorted(names) == ["GPU-aaaa-0", "GPU-bbbb-1"]
    third = taker(1)
    assert "waits for 1 of 2 GPUs" in third.stderr.readline()
    time.sleep(1.5)
    assert third.poll() is None
    second.kill()  # a program that took over by exec holds the GPU until then
    second.wait()
    assert third.stdout.readline().strip() == names[1]


def test_two_that_want_both_do_not_wait_for_each_other(machine, taker):
    first, second = taker(2), taker(2)
    deadline = time.monotonic() + 30
    done = []
    while len(done) < 2 and time.monotonic() < deadline:
        for process in (first, second):
            os.set_blocking(process.stdout.fileno(), False)
            if process not in done and (line := process.stdout.readline()):
                assert line.strip() == "GPU-aaaa-0,GPU-bbbb-1"
                process.kill()
                done.append(process)
        time.sleep(0.05)
    assert len(done) == 2


def test_launched_processes_share_the_gpus_that_were_taken_for_them(machine, tmp_path):
    script = 'echo "$LOCAL_RANK of $WORLD_SIZE: $CUDA_VISIBLE_DEVICES" > "$TMPDIR/rank$LOCAL_RANK"'
    command = ["launch", "--processes", "2", "sh", "-c", script]
    subprocess.run([sys.executable, "-m", "cvae_protein.cli.main", *command], check=True, capture_output=True)
    for rank in range(2):
        assert (tmp_path / f"rank{rank}").read_text() == f"{rank} of 2: GPU-aaaa-0,GPU-bbbb-1\n"


@pytest.mark.parametrize("given", ["1", ""])
def test_what_the_scheduler_says_stays(machine, monkeypatch, given):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    take(5)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == given


def test_more_than_there_are_is_a_users_mistake(machine):
    with pytest.raises(UserError, match="expected 3 GPUs for the training, this machine has 2"):
        take(3)


def test_a_folder_of_somebody_else_is_refused(machine, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"cvae_protein-gpus-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="expected a folder of your own"):
        take(1)


def test_a_machine_without_gpus_takes_nothing(machine, taker):
    machine("")
    assert taker(1).stdout.readline().strip() == "none"


def test_gpus_that_torch_cannot_use_are_not_taken_nor_waited_for(machine, monkeypatch, capsys):
    monkeypatch.undo()
    if torch.cuda.is_available():
        pytest.skip("torch can use a GPU here")
    monkeypatch.setattr(gpu_slots, "listed_gpus", lambda: ["GPU-aaaa-0"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    take(1)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    said = capsys.readouterr().err
    assert said.startswith(
        f"gpu: takes none of the 1 that nvidia-smi lists, since torch cannot use them (torch {torch.__version__}"
    )


@pytest.mark.parametrize(
    ("environment", "listed", "said"),
    [
        ({}, [], ""),
        ({}, ["GPU-a"], ", although nvidia-smi lists 1 GPU: torch "),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["GPU-a"], ""),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ["GPU-a"], ""),
        ({"CUDA_VISIBLE_DEVICES": "gpu:1"}, ["GPU-a"], ", although CUDA_VISIBLE_DEVICES is gpu:1: torch "),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, [], ", although CUDA_VISIBLE_DEVICES is 0,1: torch "),
        ({"CVAE_PROTEIN_GPUS": "0"}, [], ""),
        ({"CVAE_PROTEIN_GPUS": "2"}, [], ", although the run asks for 2 GPUs: torch "),
    ],
)
def test_the_device_is_said_and_why_it_is_no_gpu(monkeypatch, capsys, environment, listed, said):
    for name in ("CUDA_VISIBLE_DEVICES", "CVAE_PROTEIN_GPUS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(device, "listed_gpus", lambda: listed)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device.pick_device("train x").type == "cpu"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train x: computes on the CPU{said}")
    assert len(line) > len("train x: computes on the CPU") or not said


def test_a_driver_that_does_not_answer_is_said(machine, monkeypatch, capsys, tmp_path):
    (tmp_path / "bin/nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(programs, "LONGEST", 0.1)
    assert listed_gpus() == []
    assert "nvidia-smi -L: no answer within 0 s; goes on as if there were no GPU" in capsys.readouterr().err
