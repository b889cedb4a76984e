"""How many threads a process may take: those of the cores that it is given, not of all that the machine has."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

THREADS = "OMP_NUM_THREADS"  # read by OpenMP, torch, OpenBLAS and MKL alike, when they are loaded
NUMBERS = re.compile(r"\s*\+?0*[1-9]\d*\s*(,.*)?")  # one, or a list by levels of nesting
CGROUPS = Path("/sys/fs/cgroup")


def limit_threads(count: int) -> None:
    """Hold numerical libraries that are loaded from now on to `count` threads, unless the environment says a number.

    What is no number of threads (empty, 0, a variable of a scheduler that is not set) would give them all cores.
    """
    if not NUMBERS.fullmatch(os.environ.get(THREADS, "")):
        os.environ[THREADS] = str(count)


def usable_cores() -> int:
    """Cores that this process may use: those of its affinity, or fewer where its control group has a quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *_quotas()]))


def _quotas() -> list[int]:
    """Whole cores of the control groups, of version 1 or 2, that this process lies in."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, name = line.split(":", 2)
            root = CGROUPS / ("cpu" if "cpu" in controllers.split(",") else "")
            place = root / name.lstrip("/")
            for folder in (place, *place.parents):
                if folder.is_relative_to(root):  # a container sees its own group as the root
                    found += _quota(folder)
    return found


def _quota(folder: Path) -> list[int]:
    """The quota of one control group, in whole cores; empty where it has none."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return [-(-int(quota) // int(period))]
    with contextlib.suppress(OSError, ValueError):
        given = (int((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8")) for name in ("quota", "period"))
        quota_us, period_us = given
        return [-(-quota_us // period_us)] if quota_us > 0 else []
    return []


def may_start_thread() -> bool:
    """Whether one more thread can be started, which a limit of the user's processes or of a container may forbid."""
    try:
        thread = threading.Thread(target=int)
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True
