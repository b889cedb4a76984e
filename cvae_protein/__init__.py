"""Conditional VAEs of protein backbones by fold class: from PDB entries to scored, diagnosed samples.

In five lines (lengths in residues, coordinates in Å)::

    import cvae_protein as cvae
    model = cvae.load("pretrained")
    samples = model.sample(fold="2.60.40", length=110, n=4, seed=1)
    samples[0].ca.shape                 # (1, 110, 3): model, residue, xyz
    samples.to("samples/")              # one PDB file a sample

Names are loaded when they are first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.info import info
    from .api.model import Model, load
    from .api.score import score
    from .api.structures import Structure, Structures, featurize, read, read_store
    from .core.errors import StructureError, UserError
    from .core.structure import Backbone

__version__ = "0.1.0"
_PLACES = {
    "Backbone": "core.structure",
    "Model": "api.model",
    "Structure": "api.structures",
    "StructureError": "core.errors",
    "Structures": "api.structures",
    "UserError": "core.errors",
    "featurize": "api.structures",
    "info": "api.info",
    "load": "api.model",
    "read": "api.structures",
    "read_store": "api.structures",
    "score": "api.score",
}
__all__ = [
    "Backbone",
    "Model",
    "Structure",
    "StructureError",
    "Structures",
    "UserError",
    "featurize",
    "info",
    "load",
    "read",
    "read_store",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


class _Package(ModuleType):
    """The package, of which `score` is the function, whether or not the folder of that name is loaded."""

    @property
    def score(self) -> Any:
        """See `api.score.score`."""
        return __getattr__("score")

    @score.setter
    def score(self, folder: ModuleType) -> None:
        """Python sets a folder here when something of it is imported; by `from` it is found all the same."""


sys.modules[__name__].__class__ = _Package
