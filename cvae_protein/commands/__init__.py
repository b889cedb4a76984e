"""The commands, one a stage: they read files and write files, and import a stage's code when they run."""

from . import data, store, model, oracle, results, ensemble, verdicts, tune, resume, manifest  # noqa: F401, I001  (in the order of --help)
from .options import app

__all__ = ["app"]
