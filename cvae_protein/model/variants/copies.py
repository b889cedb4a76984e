"""`copies`: training domains handed out as samples, by their codes and `pca`'s decoder; what memorising looks like.

Scores that a copy tops say nothing about a model; `training_tm` and `memorisation_ratio` have to tell it apart.
"""

from __future__ import annotations

from ..cvae import CVAE
from ..spec import Spec
from . import concat

TRAINED = False
CODES = "copies"


def build(spec: Spec) -> CVAE:
    """The linear model: its corrections are zero and stay so."""
    return concat.build(spec)
