"""How many threads a process may use: based on the cores assigned to it, not on all cores of the machine."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

THREADS = "OMP_NUM_THREADS"  # read by OpenMP, torch, OpenBLAS and MKL when they are loaded
NUMBERS = re.compile(r"\s*\+?0*[1-9]\d*\s*(,.*)?")  # one number, or a list with one per level of nesting
CGROUPS = Path("/sys/fs/cgroup")


def limit_threads(count: int) -> None:
    """Limit numerical libraries that are loaded later to `count` threads, unless the environment sets a number.

    A value that is not a valid number (empty, 0, an unset variable of a scheduler) would give them all cores.
    """
    if not NUMBERS.fullmatch(os.environ.get(THREADS, "")):
        os.environ[THREADS] = str(count)


def usable_cores() -> int:
    """Cores that this process may use: those of its CPU affinity, or fewer if its control group has a quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *_quotas()]))


def _quotas() -> list[int]:
    """Quotas, in whole cores, of the control groups (version 1 or 2) that contain this process."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, name = line.split(":", 2)
            root = CGROUPS / ("cpu" if "cpu" in controllers.split(",") else "")
            place = root / name.lstrip("/")
            for folder in (place, *place.parents):
                if folder.is_relative_to(root):  # a container sees its own group as root
                    found += _quota(folder)
    return found


def _quota(folder: Path) -> list[int]:
    """The quota of one control group in whole cores; empty if it has none."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return [-(-int(quota) // int(period))]
    with contextlib.suppress(OSError, ValueError):
        given = (int((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8")) for name in ("quota", "period"))
        quota_us, period_us = given
        return [-(-quota_us // period_us)] if quota_us > 0 else []
    return []


def may_start_thread() -> bool:
    """Whether another thread can be started; limits of the user or of a container may forbid it."""
    try:
        thread = threading.Thread(target=int)
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True
