"""`pca`: the baseline. Probabilistic PCA of the coefficients, the state in which every variant starts; not trained."""

from __future__ import annotations

from ..cvae import CVAE
from ..spec import Spec
from . import concat

TRAINED = False


def build(spec: Spec) -> CVAE:
    """The linear model: its corrections are zero and stay so."""
    return concat.build(spec)
