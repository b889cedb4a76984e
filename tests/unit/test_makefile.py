"""`make` in folders of any name, with programs in place of Python and Snakemake that tell how they were called."""

import os
import shutil
import subprocess
import sys

import pytest

PROGRAM = """#!/bin/sh
echo "${0##*/} $*" >> "$CALLS"
case "$*" in
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/cvae-protein" ;;
esac
"""


@pytest.mark.parametrize("name", ["plain", "my work"])
def test_make_works_in_a_folder_with_a_space_in_its_path(tmp_path, root, monkeypatch, name):
    folder = tmp_path / name / "cvae"
    folder.mkdir(parents=True)
    for file in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(root / file, folder)
    python = folder / "python3"
    python.write_text(PROGRAM)
    python.chmod(0o755)
    monkeypatch.setenv("CALLS", str(folder / "calls"))

    def make(*arguments):
        return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True)

    done = make("run", "PYTHON=./python3", "CORES=3", "CONFIG=my own.yaml", "TARGETS=a.tsv")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    calls = (folder / "calls").read_text().splitlines()
    assert "python3 -m venv .venv" in calls
    assert calls[-1] == "cvae-protein run --config my own.yaml --cores 3 a.tsv"
    assert (folder / ".venv/.installed").is_file()
    assert "the whole workflow" in make("help").stdout


def test_make_runs_on_the_cores_that_it_is_given(tmp_path, root):
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    python.chmod(0o755)
    (tmp_path / ".installed").touch()
    given = sorted(os.sched_getaffinity(0))[:1]
    done = subprocess.run(
        ["make", "--dry-run", "run", f"VENV={tmp_path}", "--assume-old", f"{tmp_path}/.installed"],
        cwd=root,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, given),
    )
    assert "cvae-protein run --cores 1 " in done.stdout, done.stderr
