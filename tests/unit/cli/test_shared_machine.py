"""What people meet on shared machines; each was met with another program (docs/running-anywhere.md names where)."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cvae_protein.cli import main
from cvae_protein.core import programs
from cvae_protein.core.signals import heeded
from cvae_protein.core.threads import THREADS, limit_threads
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store

TALKER = """
import sys, pathlib
from cvae_protein.cli import main as cli
def talk(arguments):
    for _ in range(9):
        print("how it goes", file=sys.stderr, flush=True)
    pathlib.Path(sys.argv[1]).write_text("the result")
    return 0
cli.run = talk
cli.main()
"""


@pytest.mark.parametrize("told", ["full disk", "reader gone"])
def test_a_result_is_not_lost_where_nothing_can_be_told(tmp_path, told):
    if told == "full disk":
        stderr = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stderr = os.pipe()
        os.close(reader)
    done = subprocess.run([sys.executable, "-c", TALKER, str(tmp_path / "x")], stderr=stderr)
    os.close(stderr)
    assert done.returncode == 0
    assert (tmp_path / "x").read_text() == "the result"


def test_what_cannot_be_printed_names_the_output(tmp_path):
    call = [sys.executable, "-m", "cvae_protein.cli.main", "--version"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: standard output: No space left on device; free some there, or give a path elsewhere\n"


def test_a_hangup_is_ignored_where_it_was_before():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in heeded()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert {signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU} <= set(heeded())


@pytest.mark.parametrize(
    ("given", "threads"),
    [("", "3"), ("0", "3"), ("-2", "3"), ("auto", "3"), ("$SLURM_CPUS_PER_TASK", "3"), ("8", "8"), ("4,2", "4,2")],
)
def test_a_number_of_threads_that_is_none_does_not_mean_all_cores(monkeypatch, given, threads):
    monkeypatch.setenv(THREADS, given)
    limit_threads(3)
    assert os.environ[THREADS] == threads


def test_snakemake_gets_a_cache_where_the_home_folder_has_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home/.cache"))
    programs.settle_cache()
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "home/.cache")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file/.cache"))  # where even root can make no folder
    programs.settle_cache()
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / ".snakemake/cache")
    assert "file/.cache: cannot be written to; Snakemake's cache lies in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "first"),
    [({}, True), ({"RANK": "3"}, True), ({"RANK": "3", "TORCHELASTIC_RUN_ID": "x"}, False)],
)
def test_a_rank_of_another_launcher_does_not_silence_a_command(monkeypatch, environment, first):
    for name in ("RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert programs.is_first() == first


def test_a_store_is_read_without_locks_whatever_the_environment_asks(tmp_path, make_backbone):
    write_store(tmp_path / "a.h5", [Entry(make_backbone("a"), {"label": "1"})])
    call = [sys.executable, "-m", "cvae_protein.cli.main", "verify", str(tmp_path / "a.h5")]
    with open(tmp_path / "a.h5") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as of a writer, or where a file system has none to give
        environment = os.environ | {"HDF5_USE_FILE_LOCKING": "TRUE"}
        done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_bear_the_names_that_are_given_in_a_call(tmp_path, capsys):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/notes.txt").write_text("mine")
    given = ["--store", "none.h5", "--splits", "none.tsv", "-o", str(tmp_path / "m")]
    assert main.run(["train-classifier", *given]) == 1
    assert "holds notes.txt, which `train-classifier` does not write" in capsys.readouterr().err
    assert Path(tmp_path / "m/notes.txt").read_text() == "mine"
