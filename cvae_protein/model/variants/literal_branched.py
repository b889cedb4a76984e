"""`literal_branched`: input and label, and code and label, each take a path of half the width before they meet."""

from __future__ import annotations

from ..cvae import CVAE
from ..literal import LiteralCVAE
from ..spec import Spec


def build(spec: Spec) -> CVAE:
    """An untrained model."""
    return LiteralCVAE(spec, branched=True)
