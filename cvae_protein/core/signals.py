"""Signals by which schedulers, administrators and closed terminals end a process; all are handled alike."""

from __future__ import annotations

import signal

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Slurm and other schedulers announce a time limit or preemption by any of these, as users configure them."""


def heeded() -> list[signal.Signals]:
    """The signals of `ENDING` that this process does not ignore (under `nohup` it ignores some)."""
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
