"""A folder to run in: workflow, configuration and embedded structures, as they come with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..core.errors import UserError

PACKAGE = Path(__file__).parents[1]
PARTS = ("workflow", "config", "data")
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "__init__.py")


def lay_out(folder: Path) -> list[Path]:
    """Copy the workflow into a new or empty folder, and return what was copied.

    An installed package has it as `laid_out/`, a checkout beside the package. `UserError` if the folder is not empty,
    or this copy of the package has no workflow.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: expected a new or empty folder, found something there; give another path")
    source = next((place for place in (PACKAGE / "laid_out", PACKAGE.parent) if (place / PARTS[0]).is_dir()), None)
    if source is None:
        raise UserError(f"init: expected a workflow in {PACKAGE / 'laid_out'}, found none; install the package anew")
    for part in PARTS:
        shutil.copytree(source / part, folder / part, ignore=LEFT_OUT)
    return [folder / part for part in PARTS]
