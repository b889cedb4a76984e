"""Progress messages: a live line on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 5.0
Verbosity = Literal["all", "slow", "nothing"]  # slow: only the progress of stages longer than the interval
_verbosity: Verbosity = "all"


@contextmanager
def verbosity(what: Verbosity) -> Iterator[None]:
    """Reduce messages on standard error within the block, in all threads; never increases them after `nothing`."""
    global _verbosity
    before = _verbosity
    _verbosity = what if before != "nothing" else before
    try:
        yield
    finally:
        _verbosity = before


def clock(seconds: float) -> str:
    """`seconds` as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def silence() -> None:
    """Print no more messages."""
    global _verbosity
    _verbosity = "nothing"


class Progress:
    """Counts the finished units of a stage and reports them on standard error, with the time left."""

    def __init__(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        self.stage, self.total, self.unit = stage, total, unit
        self.start = time.monotonic()
        self.last_said = self.start
        self.done = self.first = done  # units finished by an earlier process took none of this one's time
        self.live = sys.stderr.isatty()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units; `note` (such as the loss) is added at the end of the line."""
        self.done += count
        now = time.monotonic()
        interval = 0.2 if self.live else SECONDS_BETWEEN_LINES
        if _verbosity == "nothing" or (self.done < self.total and now - self.last_said < interval):
            return
        if _verbosity == "slow" and now - self.start < SECONDS_BETWEEN_LINES:
            return
        self.last_said = now
        elapsed = now - self.start
        left = elapsed / max(self.done - self.first, 1) * (self.total - self.done)
        time_said = f"{clock(left)} left" if self.done < self.total else f"done in {clock(elapsed)}"
        line = f"{self.stage}: {self.done}/{self.total} {self.unit}, {time_said}{', ' + note if note else ''}"
        end = "\n" if not self.live or self.done >= self.total else ""
        print(("\r\x1b[K" if self.live else "") + line, end=end, file=sys.stderr, flush=True)


def track(items: Iterable[Item], stage: str, total: int, unit: str) -> Iterator[Item]:
    """Yield `items`; each is counted as done when the next one is requested."""
    progress = Progress(stage, total, unit)
    for item in items:
        yield item
        progress.advance()


def say(stage: str, message: str) -> None:
    """Print one line about a stage on standard error."""
    if _verbosity != "all":
        return
    print(f"{stage}: {message}", file=sys.stderr, flush=True)
