"""What several tests share."""

from pathlib import Path

import numpy as np
import pytest

from cvae_protein.core import progress
from cvae_protein.core.structure import Backbone

ROOT = Path(__file__).parents[1]
LONG = ("faults", "workflow", "docs", "packaging", "golden")  # folders of tests that take longest


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups
def pytest_collection_modifyitems(items):
    """Let one process of several run a whole file, so that what its tests share is made once, and long ones begin.

    Tests that have a group of their own keep it.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(ROOT).as_posix()))
    order = {folder: place for place, folder in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.relative_to(ROOT / "tests").parts[0], len(order)))


@pytest.fixture(autouse=True)
def unsilenced(monkeypatch):
    """What a call with `--quiet` silences, be it but parsed, is no other test's."""
    monkeypatch.setattr(progress, "_verbosity", "all")


@pytest.fixture
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture
def make_backbone():
    """A function that makes a backbone of `length` residues at random places, for what needs no sensible geometry."""

    def make(name: str = "d1", length: int = 6, models: int = 1, seed: int = 0) -> Backbone:
        rng = np.random.default_rng(seed)
        coords = rng.normal(0, 15, (models, length, 5, 3))
        letters = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), length))
        return Backbone(name, letters, coords, tuple(str(number) for number in range(1, length + 1)))

    return make
