"""Progress says what a person wants to know, and not too often."""

import io

import pytest

from cvae_protein.core import progress
from cvae_protein.core.progress import Progress, clock, say, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def time_at(monkeypatch):
    """A function that sets what the clock says, in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def set_to(seconds):
        now[0] = seconds

    return set_to


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (36_061, "10:01:01")],
)
def test_clock(seconds, said):
    assert clock(seconds) == said


def test_log_gets_a_line_every_few_seconds_and_one_at_the_end(time_at, capsys):
    counted = Progress("train", 100, "steps")
    for step in range(100):
        time_at(step * 0.2)
        counted.advance(note="loss 1.0")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train: 26/100 steps, 0:14 left, loss 1.0"
    assert lines[-1] == "train: 100/100 steps, done in 0:20, loss 1.0"
    assert len(lines) == 4


def test_terminal_gets_one_line_that_changes(time_at, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", screen)
    counted = Progress("fetch", 3, "entries")
    for second in range(3):
        time_at(second + 1.0)
        counted.advance()
    assert screen.getvalue().count("\r") == 3
    assert screen.getvalue().count("\n") == 1


def test_track_yields_all_and_counts_them(capsys):
    assert list(track("abc", "stage", 3, "letters")) == ["a", "b", "c"]
    assert "stage: 3/3 letters, done in 0:00" in capsys.readouterr().err


def test_say(capsys):
    say("merge", "3 kept")
    assert capsys.readouterr().err == "merge: 3 kept\n"
