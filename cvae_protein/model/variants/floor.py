"""`floor`: the principal components of `pca` and a flow fitted to their codes; no network encodes or decodes.

What a trained variant adds to its samples is what it adds to these.
"""

from __future__ import annotations

from ..cvae import CVAE
from ..spec import Spec
from . import concat

TRAINED = False
FLOW = True


def build(spec: Spec) -> CVAE:
    """The linear model: its corrections are zero and stay so."""
    return concat.build(spec)
