"""Two runs at once, and files whose times lie."""

import os
import signal
import time

import pytest
from small_run import differences, facts, finish, left_behind, make_project, start, wait_for_group


def test_second_run_in_one_folder_stops_at_once_and_disturbs_nothing(tmp_path, clean):
    folder = make_project(tmp_path / "two")
    first = start(folder, "--until", "split")
    deadline = time.monotonic() + 300
    while not (folder / "results/domains.tsv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGSTOP)  # held in the middle, so that it can't be done before the second one asks
    try:
        code, said = finish(folder)
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert first.poll() is None
    assert code != 0
    assert "another run is at work there" in said
    assert "Traceback" not in said
    wait_for_group(first)
    assert first.returncode == 0, (folder / "run.log").read_text()[-4000:]
    made, wanted = facts(folder / "results"), facts(clean / "results")
    assert "splits.tsv" in made
    assert made.items() <= wanted.items()


@pytest.mark.faults
@pytest.mark.parametrize("shift", [-86_400, 86_400], ids=["past", "future"])
def test_a_clock_that_was_set_changes_no_result(tmp_path, clean, shift):
    """Everything up to the splits is made under a clock that is a day off; then it is set right."""
    folder = make_project(tmp_path / "clock")
    code, said = finish(folder, "--until", "split")
    assert code == 0, said[-4000:]
    then = time.time() + shift
    for path in (folder / "results").rglob("*"):
        os.utime(path, (then, then))
    code, said = finish(folder)
    assert code == 0, said[-4000:]
    assert differences(folder / "results", clean / "results") == []
    assert left_behind(folder / "results") == []
    code, said = finish(folder)
    assert code == 0, said[-4000:]
    assert "Nothing to be done" in said
