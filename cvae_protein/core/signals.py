"""How schedulers, administrators and closed terminals ask a process to end: all are answered alike."""

from __future__ import annotations

import signal

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Slurm's and others' notice before a limit of time or a preemption is any of these, as their users set it."""


def heeded() -> list[signal.Signals]:
    """Those of `ENDING` that this process does not ignore, as it does under `nohup`."""
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
