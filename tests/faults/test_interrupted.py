"""A run that is stopped again and again, in every way that a run is stopped, ends with the bytes of the clean run."""

import os
import random
import signal
import time

import pytest
from small_run import facts, finish, left_behind, make_project, start, wait_for_group

MOST_STARTS = 8  # after the last interruption: processes that outlive their run hold what they make for a while
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL, "crash": signal.SIGKILL}


def logs_since(folder, moment):
    """How many jobs have begun to speak since `moment`."""
    return sum(path.stat().st_mtime >= moment for path in (folder / "results/logs").rglob("*.log"))


def interrupt(folder, how, chance, targets):
    """Start the run and stop it at a random moment; false where it was done before.

    SIGINT goes to the whole group, as Ctrl-C does; SIGTERM and SIGKILL to Snakemake alone, whose jobs go on; a crash
    kills everything at once.
    """
    jobs, rest, moment = chance.randrange(4), chance.uniform(0, 2), time.time()
    process = start(folder, *targets)
    deadline = time.monotonic() + 300
    while process.poll() is None and logs_since(folder, moment) < jobs and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(rest)
    if process.poll() is not None:
        return False
    (os.killpg if how in ("SIGINT", "crash") else os.kill)(process.pid, SIGNALS[how])
    if how == "SIGKILL":
        process.wait(60)  # its jobs are still running when the next run starts
    else:
        wait_for_group(process)
    return True


def interrupt_often(folder, ways, chance, targets=()):
    """Stop a run in each of `ways`, one after the other; how many it took before the run was done."""
    for count, how in enumerate(ways):
        if not interrupt(folder, how, chance, targets):
            return count
    return len(ways)


def assert_same_as(clean, folder, targets=()):
    """The run comes to its end, all that it made is as in the clean one, and it is done."""
    for _ in range(MOST_STARTS):
        code, said = finish(folder, *targets)
        if code == 0:
            break
        assert "another process is making it" in said, said[-4000:]
        time.sleep(5)
    assert code == 0, said[-4000:]
    made, wanted = facts(folder / "results"), facts(clean / "results")
    assert made == {name: wanted.get(name) for name in made}
    assert targets or made.keys() == wanted.keys()
    assert left_behind(folder / "results") == []
    code, said = finish(folder, *targets)
    assert code == 0
    assert "Nothing to be done" in said


def test_interrupted_run_equals_the_clean_one(tmp_path, clean):
    """As far as the samples: the interruptions come before them."""
    folder, targets = make_project(tmp_path / "run"), ("--", "results/samples/concat/seed0/samples.h5")
    interrupt_often(folder, ["SIGINT", "crash", "SIGKILL"], random.Random(1), targets)
    assert_same_as(clean, folder, targets)
    assert (folder / targets[-1]).stat().st_size


@pytest.mark.faults
@pytest.mark.parametrize("how", SIGNALS)
def test_twenty_moments(tmp_path, clean, how):
    chance, left = random.Random(how), 20
    while left > 0:
        folder = make_project(tmp_path / f"run{left}")
        left -= interrupt_often(folder, [how] * left, chance)
        assert_same_as(clean, folder)
