"""A process takes the cores that it is given."""

import os
from pathlib import Path

import pytest

from cvae_protein.core import threads
from cvae_protein.core.threads import may_start_thread, usable_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 cores whose control groups lie below a folder; the function given writes files there."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    read = Path.read_text

    def put(own, **files):
        monkeypatch.setattr(
            Path, "read_text", lambda path, **o: own if str(path).startswith("/proc") else read(path, **o)
        )
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("cpu_", "cpu.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return put


def test_a_quota_of_the_control_group_counts(machine):
    machine("0::/a/b\n", a__cpu_max="150000 100000\n", a__b__cpu_max="max 100000\n")
    assert usable_cores() == 2
    machine("0::/\n", cpu_max="max 100000\n")
    assert usable_cores() == 64
    machine("0::/../x\n", cpu_max="300000 100000\n")
    assert usable_cores() == 3


def test_a_quota_of_version_1_counts(machine):
    machine("4:cpu,cpuacct:/job\n", cpu__job__cpu_cfs_quota_us="-1\n", cpu__job__cpu_cfs_period_us="100000\n")
    assert usable_cores() == 64
    machine("4:cpu,cpuacct:/job\n", cpu__cpu_cfs_quota_us="400000\n", cpu__cpu_cfs_period_us="100000\n")
    assert usable_cores() == 4


def test_the_affinity_counts(monkeypatch):
    monkeypatch.setattr(threads, "_quotas", list)
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_a_thread_that_cannot_be_started_is_noticed(monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    assert may_start_thread()
    monkeypatch.setattr("threading.Thread.start", start)
    assert not may_start_thread()
