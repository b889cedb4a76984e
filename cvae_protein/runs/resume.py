"""Resuming an interrupted run: which process works in a results folder, and how to continue."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from ..core.errors import UserError
from ..core.files import atomic_path, holder, owned
from ..core.programs import ask, settle_cache
from ..core.progress import say
from .manifest import NAME as MANIFEST
from .manifest import result_files, utc

SKEW = 5.0  # seconds by which a file server's clock may be ahead without harm
NO_OUTCOME = ("logs", "checkpoints", "jobs", "run.json")  # what is not an outcome of a run
MOST_NAMED = 5
_held = ExitStack()  # the lock of this process's run; never left before the process ends


def record_of(results: str | Path) -> Path:
    """The record's path in a results folder."""
    return Path(results) / "run.json"


def begin(results: str | Path, configfiles: list[str], logs: list[str]) -> None:
    """Record that this process starts a run; `UserError` if another run is working on the same results.

    logs : Snakemake's own logs of the run; those of earlier runs that never ended are added to them.
    """
    path = record_of(results)
    if (other := running(results)) is not None:
        raise UserError(f"{results}: another run is at work there ({other}); wait for it or end it")
    _held.enter_context(owned(path))
    before: dict[str, Any] = {}
    with contextlib.suppress(UserError):  # a record that cannot be read is replaced
        before = read(results)
    unfinished = before["logs"] if before and not before["outcome"] else []
    command = command_line()
    facts = {
        "results": str(Path(results).resolve()),
        "command": command,
        "configfiles": configfiles,
        "cwd": str(Path.cwd()),
        "started": utc(time.time()),
        "profile": profile_of(command),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "logs": [*unfinished, *(str(Path(log).resolve()) for log in logs)],
        "finished": "",
        "outcome": "",
    }
    _write(path, facts)


def say_taken_elsewhere(results: str | Path) -> None:
    """Say, before anything is planned, if finished results are from a run in another place."""
    try:
        facts = read(results)
    except UserError:  # none, or of another version
        return
    elsewhere = facts["cwd"] != str(Path.cwd()) or facts["results"] != str(Path(results).resolve())
    if facts["outcome"] == "done" and elsewhere and "--touch" not in sys.argv:
        said = "was made in another place, of which Snakemake has no record here, so that all would be made again"
        say(str(results), f"{said}; where nothing has changed, give the same command with --touch first")


def check_dates(inputs: Iterable[str | Path]) -> None:
    """`UserError` if an input is dated in the future: Snakemake would discard what is made from it as older than it."""
    latest = time.time() + SKEW
    ahead = [str(path) for path in inputs if os.path.exists(path) and os.stat(path).st_mtime > latest]
    if ahead:
        raise UserError(
            f"{ahead[0]}: dated after now ({utc(os.stat(ahead[0]).st_mtime)}), so that what is made of it would be "
            f"discarded as older; give `touch {shlex.join(ahead)}`, then the same command"
        )


def settle_dates(results: str | Path) -> int:
    """Reset the dates of files in a results folder that are in the future to now; return the number of these files.

    After a clock is set back, Snakemake would take the output of a job for older than its input, and fail the job.
    """
    now = time.time()
    ahead = [path for path in Path(results).rglob("*") if path.is_file() and path.stat().st_mtime > now + SKEW]
    for path in ahead:
        os.utime(path, (now, now))
    return len(ahead)


def end(results: str | Path, outcome: str) -> None:
    """Record that the run of this process ended, `done` or `failed`; do nothing if it was never recorded."""
    path = record_of(results)
    if path.is_file():
        _write(path, read(results) | {"finished": utc(time.time()), "outcome": outcome})


def said_of(results: str | Path, since: float) -> str:
    """Last line of a run that began at `since` (seconds of the epoch): what it has made, or the page if it made one.

    A run up to a rule, or for a single target, makes no page; one from an earlier run does not show what is new.
    """
    root = Path(results)
    page, files = root / "report.html", (path for path in result_files(root, (*NO_OUTCOME, MANIFEST)))
    dated = sorted(((path.stat().st_mtime, path) for path in files), reverse=True)
    made = [path for date, path in dated if date >= since]
    if page in made:
        return f"Open {page} in a browser; all scores: {root / 'scores.tsv'}"
    shown = ", ".join(str(path) for path in made[:MOST_NAMED]) or "nothing that was not there before"
    more = f" and {len(made) - MOST_NAMED} files more" if len(made) > MOST_NAMED else ""
    old = f"{page} is of an earlier run" if page.is_file() else f"{page} is not there yet"
    return f"Made: {shown}{more}; {old}: `snakemake` without targets makes it"


def read(results: str | Path) -> dict[str, Any]:
    """The record of a results folder; `UserError` if there is none or it cannot be read."""
    path = record_of(results)
    if not path.is_file():
        raise UserError(f"{path}: no run has begun there; expected the results folder of a run of `snakemake`")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        facts["results"], facts["command"], facts["cwd"], facts["logs"], facts["outcome"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected the record of a run ({error}); start the run again by hand") from error
    return facts


def running(results: str | Path) -> str | None:
    """Which process is working on a results folder, such as `process 123 on node7`; None if none is."""
    path = record_of(results)
    lock = path.with_name(f".{path.name}.lock")
    return holder(lock) if lock.is_file() else None


def command_line() -> list[str]:
    """The command that started this process, in a form that can be repeated from the same folder."""
    program = Path(sys.argv[0])
    start = [str(program.absolute())] if program.name == "snakemake" else [sys.executable, "-m", "snakemake"]
    return [*start, *sys.argv[1:]]


def profile_of(command: list[str]) -> str:
    """The workflow profile that a command names; empty if it leaves that to Snakemake."""
    for name in ("--workflow-profile", "--profile"):
        for position, word in enumerate(command):
            if word == name and position + 1 < len(command):
                return command[position + 1]
            if word.startswith(f"{name}="):
                return word.removeprefix(f"{name}=")
    return ""


def _write(path: Path, facts: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


SLURM_RUN = re.compile(r"SLURM run ID: ([A-Za-z0-9_-]+)")  # the name of every job of a run
PATIENCE = 120.0  # seconds; Slurm's own between SIGTERM and SIGKILL is 30, unless a site says more
ADDED = ("--rerun-incomplete", "--nolock")  # the lock of run.json replaces Snakemake's, which a killed run leaves
STAGE = "resume"


def resume(results: Path) -> NoReturn:
    """End what an interrupted run left running, then become the command that started it, in the folder it was given in.

    Its Slurm jobs are cancelled; its trainings on this machine get SIGTERM and save a checkpoint. `UserError` if a run
    is working on the results, something does not end, or the folder has been moved or renamed since.
    """
    facts = read(results)
    if (process := running(results)) is not None:
        raise UserError(f"{results}: the run is at work ({process}); nothing to resume. End it first, or wait for it")
    if Path(facts["results"]) != results.resolve():
        raise UserError(
            f"{results}: its run was made in {facts['results']}, where the recorded command works; to go on here, give "
            f"it by hand, with `results={shlex.quote(str(results))}` behind --config: {shlex.join(facts['command'])}"
        )
    cancel_jobs(slurm_runs(facts))
    end_owners(results)
    command = again(facts["command"])
    say(STAGE, f"in {facts['cwd']}: {' '.join(command)}")
    if not Path(facts["cwd"]).is_dir():
        raise UserError(f"{record_of(results)}: the folder of the run, {facts['cwd']}, is gone; start it again by hand")
    os.chdir(facts["cwd"])
    settle_cache()
    os.execv(command[0], command)


def again(command: list[str]) -> list[str]:
    """The command of a run with the options that a restart needs, placed first since targets may end the command."""
    start = 3 if command[1:3] == ["-m", "snakemake"] else 1
    return [*command[:start], *(option for option in ADDED if option not in command), *command[start:]]


def slurm_runs(facts: dict[str, Any]) -> list[str]:
    """Names of the Slurm jobs of a run, and of earlier runs that never ended."""
    names: list[str] = []
    for log in facts["logs"]:
        if not Path(log).is_file():
            say(STAGE, f"{log} is gone; should that run have used Slurm, look for jobs of it with `squeue --me`")
            continue
        names += SLURM_RUN.findall(Path(log).read_text(encoding="utf-8", errors="replace"))
    return sorted(set(names))


def cancel_jobs(names: list[str]) -> None:
    """Cancel the Slurm jobs of these names and wait until none is left."""
    if not names:
        return
    if shutil.which("squeue") is None:
        raise UserError(
            "resume: the run used Slurm; expected squeue and scancel on PATH, run it where jobs are submitted"
        )
    left = queued(names)
    if left:
        say(STAGE, f"cancels {len(left)} Slurm jobs of the run: {' '.join(left)}")
        ask("scancel", *left)
    _wait(lambda: not queued(names), f"the Slurm jobs {' '.join(left)} were cancelled and are still there")


def queued(names: list[str]) -> list[str]:
    """Ids of the Slurm jobs of these names that are pending, running or ending."""
    states = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING,REQUEUED"
    call = ["squeue", "--noheader", "--format=%A", f"--name={','.join(names)}", f"--states={states}"]
    answer = ask(*call)
    if answer.returncode:
        raise UserError(f"resume: squeue does not answer ({answer.stderr.strip()}); try again when Slurm does")
    return sorted(set(answer.stdout.split()))


def end_owners(results: Path) -> None:
    """End the processes that hold outputs below a results folder, such as a training whose scheduler was killed."""
    for lock in sorted(results.rglob(".*.lock")):
        if (owner := holder(lock)) is not None:
            _end_owner(lock, owner)


def _end_owner(lock: Path, owner: str) -> None:
    """Ask the holder of a lock to end, if it is on this machine, and wait for that."""
    output = lock.with_name(lock.name[1 : -len(".lock")])
    found = re.fullmatch(r"process (\d+) on (.+)", owner)
    here = found is not None and found[2] == socket.gethostname()
    say(STAGE, f"{output}: {owner} is still making it, {'and gets SIGTERM' if here else 'and is waited for'}")
    if found is not None and here:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(found[1]), signal.SIGTERM)
    _wait(lambda: holder(lock) is None, f"{output}: {owner} is still making it; end it, then try again")


def _wait(ended: Callable[[], bool], otherwise: str) -> None:
    """Wait until `ended()`; `UserError` after `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while not ended():
        if time.monotonic() > deadline:
            raise UserError(f"resume: {otherwise}")
        time.sleep(0.5)
