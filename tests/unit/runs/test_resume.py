"""The record of a run, and what `resume` does before it gives the run's command again."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cvae_protein.core.errors import UserError
from cvae_protein.core.files import holder
from cvae_protein.runs import resume
from cvae_protein.runs.resume import again, cancel_jobs, end_owners, slurm_runs

RUN = """
import sys, time
from cvae_protein.runs import resume as run_record
sys.argv = ["/bin/snakemake", "--cores", "2"]
run_record.begin("results", ["config/config.yaml"], [f"{LOG}.log"])
print("begun", flush=True)
if END: run_record.end("results", END)
else: time.sleep(60)
"""
OWNER = """
import sys, time
from cvae_protein.core.files import owned
with owned(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
SLURM = """#!{python}
import pathlib, sys
jobs = pathlib.Path(__file__).with_name("jobs")
rows = [line.split() for line in jobs.read_text().splitlines()]
if "squeue" in sys.argv[0]:
    names = next(word for word in sys.argv if word.startswith("--name=")).removeprefix("--name=").split(",")
    print("\\n".join(number for number, name in rows if name in names))
else:
    jobs.write_text("".join(f"{{number}} {{name}}\\n" for number, name in rows if number not in sys.argv[1:]))
"""


def start(folder, log, end=""):
    """A process that begins a run in `folder` and, if asked, ends it."""
    (folder / f"{log}.log").touch()
    program = RUN.replace("{LOG}", log).replace("END", repr(end))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline().strip() == "begun"
    return process


def kill(process):
    process.kill()
    process.wait()


def test_what_is_dated_after_now_is_dated_to_now(tmp_path):
    now = time.time()
    dates = {"models/ahead.txt": now + 86_400, "late.txt": now + 60, "skewed.txt": now + 2, "old.txt": now - 86_400}
    for name, date in dates.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("kept")
        os.utime(path, (date, date))
    assert resume.settle_dates(tmp_path) == 2
    for name, date in dates.items():
        expected = date if date < now + 5 else now
        assert (tmp_path / name).stat().st_mtime == pytest.approx(expected, abs=2)
    assert resume.settle_dates(tmp_path) == 0
    assert (tmp_path / "late.txt").read_text() == "kept"


def test_the_last_line_names_what_is_there(tmp_path):
    def put(name, age):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (now - age, now - age))

    now = time.time()
    put("domains.h5", 50)
    put("logs/split.log", 1)
    assert resume.said_of(tmp_path, now - 10).startswith("Made: nothing that was not there before; ")
    put("clusters.tsv", 5)
    put("splits.tsv", 3)
    said = resume.said_of(tmp_path, now - 10)
    assert said.startswith(
        f"Made: {tmp_path}/splits.tsv, {tmp_path}/clusters.tsv; {tmp_path}/report.html is not there yet"
    )
    put("report.html", 50)
    assert f"{tmp_path}/report.html is of an earlier run" in resume.said_of(tmp_path, now - 10)
    for number in range(9):
        put(f"samples/{number}.pdb", 4)
    assert "splits.tsv" in resume.said_of(tmp_path, now - 10)
    assert " and 6 files more; " in resume.said_of(tmp_path, now - 10)
    put("scores.tsv", 2)
    put("report.html", 1)
    assert (
        resume.said_of(tmp_path, now - 10)
        == f"Open {tmp_path}/report.html in a browser; all scores: {tmp_path}/scores.tsv"
    )


def test_inputs_dated_after_now_stop_a_run_with_what_mends_them(tmp_path):
    now = time.time()
    for name, date in {"old": now - 50, "skewed": now + 2, "my table": now + 1200, "code.py": now + 60}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (date, date))
    resume.check_dates([tmp_path / "old", tmp_path / "skewed", tmp_path / "absent"])
    mended = f"give `touch '{tmp_path}/my table' {tmp_path}/code.py`, then the same command"
    with pytest.raises(UserError, match=re.escape(mended)):
        resume.check_dates([tmp_path / "old", tmp_path / "my table", tmp_path / "code.py"])


def test_results_taken_elsewhere_are_said_to_be_made_again(tmp_path, monkeypatch, capsys):
    start(tmp_path, "first", "done").wait()
    (tmp_path / "clone").mkdir()
    (tmp_path / "results").rename(tmp_path / "clone/results")
    monkeypatch.chdir(tmp_path / "clone")
    resume.say_taken_elsewhere("results")
    assert "results: was made in another place" in capsys.readouterr().err
    resume.begin("results", [], [])
    resume.end("results", "done")
    resume._held.close()
    resume.say_taken_elsewhere("results")
    assert capsys.readouterr().err == ""
    (tmp_path / "clone/results/run.json").write_text("{}")  # of another version
    resume.say_taken_elsewhere("results")
    resume.begin("results", [], [])
    resume._held.close()
    assert resume.read("results")["cwd"] == str(tmp_path / "clone")


def test_record_says_how_a_run_began_and_ended(tmp_path):
    start(tmp_path, "first", "done").wait()
    facts = json.loads((tmp_path / "results/run.json").read_text())
    assert facts["command"] == ["/bin/snakemake", "--cores", "2"]
    assert facts["cwd"] == str(tmp_path)
    assert facts["configfiles"] == ["config/config.yaml"]
    assert facts["outcome"] == "done"
    assert facts["logs"] == [str(tmp_path / "first.log")]
    assert facts["started"] <= facts["finished"]


def test_logs_of_killed_runs_are_kept_until_one_ends(tmp_path):
    kill(start(tmp_path, "first"))
    kill(start(tmp_path, "second"))
    start(tmp_path, "third", "failed").wait()
    assert [Path(log).stem for log in resume.read(tmp_path / "results")["logs"]] == ["first", "second", "third"]
    start(tmp_path, "fourth", "done").wait()
    assert [Path(log).stem for log in resume.read(tmp_path / "results")["logs"]] == ["fourth"]


def test_one_run_at_a_time_works_on_a_folder(tmp_path, monkeypatch):
    process = start(tmp_path, "first")
    monkeypatch.chdir(tmp_path)
    owner = f"another run is at work there (process {process.pid} on {socket.gethostname()})"
    with pytest.raises(UserError, match=re.escape(owner)):
        resume.begin("results", [], ["x.log"])
    assert resume.running("results")
    kill(process)
    assert resume.running("results") is None


def test_a_folder_that_was_renamed_is_not_the_one_of_the_recorded_command(tmp_path, monkeypatch):
    kill(start(tmp_path, "first"))
    (tmp_path / "results").rename(tmp_path / "kept")
    (tmp_path / "link").symlink_to("kept")
    for name in ("kept", "link"):
        with pytest.raises(
            UserError, match=rf"{name}: its run was made in .*/results, .*`results=.*{name}` behind --conf"
        ):
            resume.resume(tmp_path / name)
    (tmp_path / "kept").rename(tmp_path / "results")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("results")
    given = []
    monkeypatch.setattr("os.execv", lambda program, command: given.append(command))
    monkeypatch.chdir(tmp_path)
    for name in ("results", "link"):
        resume.resume(Path(name))
    assert given == [["/bin/snakemake", "--rerun-incomplete", "--nolock", "--cores", "2"]] * 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"command": ['])
def test_a_record_that_is_none_is_a_users_mistake(tmp_path, text):
    with pytest.raises(UserError, match="no run has begun there"):
        resume.read(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match="expected the record of a run"):
        resume.read(tmp_path)


@pytest.mark.parametrize(
    ("command", "profile"),
    [
        (["snakemake", "--workflow-profile", "p"], "p"),
        (["snakemake", "--profile=q", "x"], "q"),
        (["snakemake", "--cores", "2"], ""),
    ],
)
def test_profile_of_a_command(command, profile):
    assert resume.profile_of(command) == profile


def test_a_second_start_keeps_options_before_targets():
    added = ["--rerun-incomplete", "--nolock"]
    assert again(["/b/snakemake", "--cores", "2", "--", "x"]) == ["/b/snakemake", *added, "--cores", "2", "--", "x"]
    assert again(["py", "-m", "snakemake", "--nolock"]) == ["py", "-m", "snakemake", added[0], "--nolock"]


def test_jobs_of_the_run_are_cancelled_and_no_others(tmp_path, monkeypatch):
    for name in ("squeue", "scancel"):
        (tmp_path / name).write_text(SLURM.format(python=sys.executable))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "jobs").write_text("11 cvae_protein_a\n12 cvae_protein_b\n13 cvae_protein_a\n14 mine\n")
    (tmp_path / "1.log").write_text("x\nSLURM run ID: cvae_protein_a\n")
    names = slurm_runs({"logs": [str(tmp_path / "1.log"), str(tmp_path / "gone.log")]})
    assert names == ["cvae_protein_a"]
    cancel_jobs(names)
    assert (tmp_path / "jobs").read_text() == "12 cvae_protein_b\n14 mine\n"


def test_slurm_out_of_reach_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    cancel_jobs([])
    with pytest.raises(UserError, match="expected squeue and scancel on PATH"):
        cancel_jobs(["cvae_protein_a"])


def test_a_training_without_a_scheduler_gets_sigterm(tmp_path):
    output = tmp_path / "models/concat/seed0"
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "held"
    end_owners(tmp_path)
    assert process.wait(10) == -signal.SIGTERM
    assert holder(output.with_name(".seed0.lock")) is None


def test_a_training_elsewhere_is_waited_for_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr("cvae_protein.runs.resume.PATIENCE", 0.6)
    monkeypatch.setattr("cvae_protein.runs.resume.socket.gethostname", lambda: "another")
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "held"
    with pytest.raises(UserError, match=f"process {process.pid} on .* is still making it"):
        end_owners(tmp_path)
    assert process.poll() is None
    kill(process)
    started = time.monotonic()
    end_owners(tmp_path)
    assert time.monotonic() - started < 5
