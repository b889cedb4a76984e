"""Going on with a run that was cut off: nothing of it may still be at work when its command is given again."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..core.errors import UserError
from ..core.files import holder
from ..core.progress import say
from ..run_record import read, record_of, running

SLURM_RUN = re.compile(r"SLURM run ID: ([A-Za-z0-9_-]+)")  # every job of a run bears it as its name
PATIENCE = 120.0  # seconds; Slurm's own between SIGTERM and SIGKILL is 30, unless a site says more
ADDED = ("--rerun-incomplete", "--nolock")  # the lock of run.json stands for Snakemake's, which a killed run leaves
STAGE = "resume"


def resume(results: Path) -> NoReturn:
    """End what a cut-off run left at work and become the command that started it, in the folder where it was given.

    Its Slurm jobs are cancelled, its trainings on this machine get SIGTERM and save a checkpoint. `UserError` where a
    run is at work on the results, or something does not end.
    """
    facts = read(results)
    if (process := running(results)) is not None:
        raise UserError(f"{results}: the run is at work ({process}); nothing to resume. End it first, or wait for it")
    cancel_jobs(slurm_runs(facts))
    end_owners(results)
    command = again(facts["command"])
    say(STAGE, f"in {facts['cwd']}: {' '.join(command)}")
    if not Path(facts["cwd"]).is_dir():
        raise UserError(f"{record_of(results)}: the folder of the run, {facts['cwd']}, is gone; start it again by hand")
    os.chdir(facts["cwd"])
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    os.execve(command[0], command, os.environ | {"PATH": path})


def again(command: list[str]) -> list[str]:
    """The command of a run with what a second start needs, in front, since targets may stand at its end."""
    start = 3 if command[1:3] == ["-m", "snakemake"] else 1
    return [*command[:start], *(option for option in ADDED if option not in command), *command[start:]]


def slurm_runs(facts: dict[str, Any]) -> list[str]:
    """Names of the Slurm jobs of a run, and of runs before it that never came to an end."""
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
        subprocess.run(["scancel", *left], check=False)
    _wait(lambda: not queued(names), f"the Slurm jobs {' '.join(left)} were cancelled and are still there")


def queued(names: list[str]) -> list[str]:
    """Ids of the Slurm jobs of these names that wait, run or are being ended."""
    states = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING,REQUEUED"
    call = ["squeue", "--noheader", "--format=%A", f"--name={','.join(names)}", f"--states={states}"]
    asked = subprocess.run(call, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise UserError(f"resume: squeue does not answer ({asked.stderr.strip()}); try again when Slurm does")
    return sorted(set(asked.stdout.split()))


def end_owners(results: Path) -> None:
    """End the processes that hold outputs below a results folder, such as a training whose scheduler was killed."""
    for lock in sorted(results.rglob(".*.lock")):
        if (told := holder(lock)) is not None:
            _end_owner(lock, told)


def _end_owner(lock: Path, told: str) -> None:
    """Ask the holder of a lock to end, if it is on this machine, and wait for that."""
    output = lock.with_name(lock.name[1 : -len(".lock")])
    found = re.fullmatch(r"process (\d+) on (.+)", told)
    here = found is not None and found[2] == socket.gethostname()
    say(STAGE, f"{output}: {told} is still making it, {'and gets SIGTERM' if here else 'and is waited for'}")
    if found is not None and here:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(found[1]), signal.SIGTERM)
    _wait(lambda: holder(lock) is None, f"{output}: {told} is still making it; end it, then try again")


def _wait(ended: Callable[[], bool], otherwise: str) -> None:
    """Return when `ended`; `UserError` after a while."""
    deadline = time.monotonic() + PATIENCE
    while not ended():
        if time.monotonic() > deadline:
            raise UserError(f"resume: {otherwise}")
        time.sleep(0.5)
