"""The record of a run in its results folder, `run.json`: with which command it began, and whether it came to an end.

One run at a time works on a results folder: it holds the lock of the record, which goes with its process.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .core.errors import UserError
from .core.files import atomic_path, holder, owned

SKEW = 5.0  # seconds by which a file server's clock may be ahead without anyone minding
_held = ExitStack()  # the lock of this process's run; never left before the process ends


def record_of(results: str | Path) -> Path:
    """The record's path in a results folder."""
    return Path(results) / "run.json"


def begin(results: str | Path, configfiles: list[str], logs: list[str]) -> None:
    """Record that this process starts a run; `UserError` where another run is at work on the same results.

    logs : Snakemake's own logs of the run; those of earlier runs that never came to an end are added to them.
    """
    path = record_of(results)
    if (other := running(results)) is not None:
        raise UserError(f"{results}: another run is at work there ({other}); wait for it or end it")
    _held.enter_context(owned(path))
    before = read(results) if path.is_file() else {}
    unfinished = before["logs"] if before and not before["outcome"] else []
    command = command_line()
    facts = {
        "command": command,
        "configfiles": configfiles,
        "cwd": str(Path.cwd()),
        "started": _now(),
        "profile": profile_of(command),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "logs": [*unfinished, *(str(Path(log).resolve()) for log in logs)],
        "finished": "",
        "outcome": "",
    }
    _write(path, facts)


def settle_dates(results: str | Path) -> int:
    """Date what lies in a results folder and is dated after now to now; how many files that were.

    After a clock was set back, Snakemake would take what a job makes for older than what it was made of, and fail it.
    """
    now = time.time()
    ahead = [path for path in Path(results).rglob("*") if path.is_file() and path.stat().st_mtime > now + SKEW]
    for path in ahead:
        os.utime(path, (now, now))
    return len(ahead)


def end(results: str | Path, outcome: str) -> None:
    """Record that the run of this process ended, `done` or `failed`; nothing where it was never recorded."""
    path = record_of(results)
    if path.is_file():
        _write(path, read(results) | {"finished": _now(), "outcome": outcome})


def read(results: str | Path) -> dict[str, Any]:
    """The record of a results folder; `UserError` where there is none or it cannot be read."""
    path = record_of(results)
    if not path.is_file():
        raise UserError(f"{path}: no run has begun there; expected the results folder of a run of `snakemake`")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        facts["command"], facts["cwd"], facts["logs"], facts["outcome"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected the record of a run ({error}); start the run again by hand") from error
    return facts


def running(results: str | Path) -> str | None:
    """Which process is at work on a results folder, such as `process 123 on node7`; None where none is."""
    path = record_of(results)
    lock = path.with_name(f".{path.name}.lock")
    return holder(lock) if lock.is_file() else None


def command_line() -> list[str]:
    """The command that started this process, so that it can be given again from the same folder."""
    program = Path(sys.argv[0])
    start = [str(program.absolute())] if program.name == "snakemake" else [sys.executable, "-m", "snakemake"]
    return [*start, *sys.argv[1:]]


def profile_of(command: list[str]) -> str:
    """The workflow profile that a command names; empty where it leaves that to Snakemake."""
    for name in ("--workflow-profile", "--profile"):
        for position, word in enumerate(command):
            if word == name and position + 1 < len(command):
                return command[position + 1]
            if word.startswith(f"{name}="):
                return word.removeprefix(f"{name}=")
    return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(path: Path, facts: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
