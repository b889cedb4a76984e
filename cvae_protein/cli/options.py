"""The application and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..config.settings import LARGEST_SEED

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="Conditional VAEs of protein backbones by fold class. One command is one stage; lengths are in Å, angles in "
    "radians.\n\nExit code: 0 done, 1 a mistake in what was given, 2 a wrong call, "
    "3 a verdict is flagged (on request), 70 a defect of the program, 130 interrupted.",
)
Given = Annotated[
    str, typer.Option("--settings", metavar="JSON|FILE", help="Settings of the stage: JSON, or a YAML config file.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="File or folder to write.")]
Rejected = Annotated[Path, typer.Option("--rejected", help="Table to write: what cannot be used, and why.")]
Domains = Annotated[Path, typer.Option("--domains", help="Table of domains that `select` wrote.")]
Stored = Annotated[Path, typer.Option("--store", help="HDF5 store of domains that `merge` wrote.")]
Splits = Annotated[Path, typer.Option("--splits", help="Table that `split` wrote.")]
Checkpoint = Annotated[Path | None, typer.Option("--checkpoint", help="Where an interrupted training can go on from.")]
Depth = Annotated[int, typer.Option("--depth", min=1, max=4, help="Label levels given to the model; 1 = class.")]
LabelsGiven = Annotated[str, typer.Option("--label-settings", help="Section `labels`: JSON or YAML file.")]
ModelGiven = Annotated[str, typer.Option("--model-settings", help="Section `model`: JSON or YAML file.")]
TrainGiven = Annotated[str, typer.Option("--train-settings", help="Section `train`: JSON or YAML file.")]
RefineGiven = Annotated[str, typer.Option("--refine-settings", help="Section `refine`: JSON or YAML file.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of the randomness.")]


PATHS = ("table", "boundaries", "include", "names", "superfamilies", "locked", "cache")


def paths_of(section: Any) -> list[str]:
    """Files and folders that a section of the settings names."""
    values = [getattr(section, name, "") for name in PATHS]
    return [path for path in [*values, *getattr(section, "sources", ())] if path]


def settings_of(name: str, given: str, file: str = "") -> Any:
    """Settings of the section `name` as `given`; else from `file` where that is no JSON; else the defaults."""
    from ..config.load import section

    return section(name, given or ("{}" if file.lstrip().startswith("{") else file) or "{}")
