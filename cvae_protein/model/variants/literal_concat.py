"""`literal_concat`: input and label concatenated, then code and label (`model/literal.py`)."""

from __future__ import annotations

from ..cvae import CVAE
from ..literal import LiteralCVAE
from ..spec import Spec


def build(spec: Spec) -> CVAE:
    """An untrained model."""
    return LiteralCVAE(spec, branched=False)
