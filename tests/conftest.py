"""What several tests share."""

from pathlib import Path

import numpy as np
import pytest

from cvae_protein.core.structure import Backbone

ROOT = Path(__file__).parents[1]


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
