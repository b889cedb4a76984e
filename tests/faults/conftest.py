"""Faults made on purpose. Tests with the marker `faults` are run by `make test-faults` alone, the others always."""

import os
import subprocess
from pathlib import Path

import pytest
from small_run import finish, make_project

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # and so, being registered later, before that of tests/conftest.py
def pytest_collection_modifyitems(config, items):
    """Leave out the long ones unless the marker is asked for; the others share one clean run, in one process."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.xdist_group("faults"))
    if "faults" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("faults")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def clean(tmp_path_factory):
    """A project after a whole run that nothing disturbed."""
    folder = make_project(tmp_path_factory.mktemp("clean"))
    code, said = finish(folder)
    assert code == 0, said[-6000:]
    return folder


class Disk:
    """A small file system in memory, which can be full or read-only."""

    def __init__(self, folder):
        self.folder = folder
        self.filler = folder / "filler"

    def fill(self, left):
        """Leave room for `left` bytes, rounded down to pages."""
        with open(self.filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                file.truncate(max(0, file.tell() - left // 4096 * 4096))

    def clear(self):
        """Make room again."""
        self.filler.unlink()

    def set_read_only(self, value):
        """Refuse, or allow, all writing, also that of root."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if value else 'rw'}", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    """A mounted `Disk` of 8 MB; skips where nothing may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a full or read-only disk is a tmpfs, which only root may mount")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)
