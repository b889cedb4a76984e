"""SIGTERM (Slurm, a killed job) and SIGINT (Ctrl-C) are noted, so that a step ends before the process does."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

ASKED_TO_STOP = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Within it the first signal that asks to stop is noted in `asked`; a second one does what it did before."""

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python hands signals to no other thread
            self._before = {number: signal.signal(number, self._note) for number in ASKED_TO_STOP}
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        self._restore()


def leave(number: int) -> None:
    """End as a process does that such a signal stops: exit code 128 + its number."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
