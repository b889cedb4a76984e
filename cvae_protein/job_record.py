"""What a job took, as one small file a job: its time, its memory, and the machine it ran on."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from .core.files import atomic_path

BYTES = 1 if sys.platform == "darwin" else 1024  # of the unit in which the system counts memory


def write_record(folder: Path, arguments: Sequence[str], started: float, code: int) -> None:
    """Write `folder`/COMMAND-OUTPUT.json for a command that began at `started` (seconds of the epoch) and ends now.

    Keys: command, output, started and ended (UTC), seconds, cpu_seconds and peak_mb (of this process and of the largest
    of those that it started), host, cpu, cores, memory_mb, gpus, exit_code. A command without an output leaves no
    record, nor does a process of a training other than the first; what cannot be written is no reason to fail a job.
    """
    output = _output(arguments)
    if not output or os.environ.get("RANK", "0") != "0":
        return
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    now = time.time()
    facts = {
        "command": arguments[0],
        "output": output,
        "started": utc(started),
        "ended": utc(now),
        "seconds": round(now - started, 2),
        "cpu_seconds": round(own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime, 2),
        "peak_mb": round(max(own.ru_maxrss, others.ru_maxrss) * BYTES / 1e6, 1),
        **machine(),
        "exit_code": code,
    }
    name = re.sub(r"[^A-Za-z0-9._=,-]+", "-", os.path.relpath(output, folder.parent))
    with contextlib.suppress(OSError), atomic_path(folder / f"{arguments[0]}-{name}.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def utc(moment: float) -> str:
    """Seconds of the epoch as a date of ISO 8601."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _output(arguments: Sequence[str]) -> str:
    """What stands behind `--output`, or nothing."""
    for name, value in pairwise(arguments):
        if name in ("--output", "-o", "--out"):
            return value
    return ""


def machine() -> dict[str, object]:
    """Name, processor, cores, memory (MB) and GPUs of this machine; GPUs only where the process has loaded torch."""
    torch = sys.modules.get("torch")
    gpus = [] if torch is None else [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "host": platform.node(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "gpus": gpus,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
        if found:
            return found[1]
    return platform.processor() or platform.machine()
