"""Each stage against what was recorded of it: what should change no number changes none, and a change is named.

`make golden` records anew what differs. Do so where a stage was changed on purpose, and say why in CHANGELOG.md.
"""

from __future__ import annotations

import pytest
from golden.stages import STAGES, Arrays, load
from golden.tolerances import beyond_tolerance, differences


@pytest.fixture(scope="module")
def arrays() -> tuple[Arrays, Arrays]:
    """Recorded inputs and outputs."""
    return load()


@pytest.mark.parametrize("stage", STAGES)
def test_stage_makes_what_was_recorded(arrays: tuple[Arrays, Arrays], stage: str) -> None:
    inputs, recorded = arrays
    too_far = beyond_tolerance(differences(STAGES[stage](inputs), recorded))
    assert not too_far, f"{stage}: {too_far}"
