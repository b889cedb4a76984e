"""The application, and options shared by several commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..config.settings import LARGEST_SEED
from ..core.errors import UserError

GROUPS = {
    "Use a model or data": (
        "sample",
        "score",
        "designability",
        "ensemble",
        "rmsf",
        "export",
        "featurize",
        "verify",
        "info",
        "check",
    ),
    "Runs": ("init", "run", "resume", "reproduce", "tune"),
}
"""Commands by purpose, in the order of the help; all others are the stages of a run."""


class UsageError(UserError):
    """Options that do not go together, or a missing one: exit code 2."""


def _tell_nothing(value: bool) -> None:
    if value:
        from ..core.progress import silence

        silence()


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_tell_nothing,
        expose_value=False,
        help="Print only errors on standard error, no progress and no notes.",
    ),
]


def _quiet() -> Any:
    """The option `--quiet`, as created by typer."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def command(quiet: Quiet = False) -> None:
        pass

    return typer.main.get_command(app).params[0]


class Commands(TyperGroup):
    """Commands in groups, each with the option `--quiet`."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command with this name; None if there is none."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and cmd_name != "launch" and all(each.name != "quiet" for each in command.params):
            command.params.append(_quiet())
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, group by group."""
        named = {name for names in GROUPS.values() for name in names}
        stages = tuple(name for name in self.list_commands(ctx) if name not in named)
        for title, names in {**GROUPS, "Stages of a run, in the order of the pipeline": stages}.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, each.get_short_help_str(200)) for name, each in found if each is not None])


app = typer.Typer(
    cls=Commands,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="Conditional VAEs of protein backbones by fold class. Distances are in Å, angles in radians.\n\n"
    "Exit codes: 0 success, 1 invalid input, 2 invalid command line, "
    "3 a verdict is flagged (on request), 70 a defect in the program, 130 interrupted.",
)


def _say_version(asked: bool) -> None:
    if asked:
        from .. import __version__

        typer.echo(f"cvae-protein {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


Given = Annotated[
    str,
    typer.Option("--settings", metavar="JSON|FILE", help="Settings of this stage: JSON, or a YAML configuration file."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="File or folder to write.")]
Rejected = Annotated[Path, typer.Option("--rejected", help="Table to write: what was rejected, and why.")]
Domains = Annotated[Path, typer.Option("--domains", help="Table of domains written by `select`.")]
Stored = Annotated[Path, typer.Option("--store", help="HDF5 store of domains written by `merge`.")]
Splits = Annotated[Path, typer.Option("--splits", help="Table written by `split`.")]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", help="File from which an interrupted training resumes.")
]
Depth = Annotated[
    int, typer.Option("--depth", min=1, max=4, help="Label levels the model is conditioned on; 1 = class.")
]
LabelsGiven = Annotated[str, typer.Option("--label-settings", help="Settings of section `labels`: JSON or YAML file.")]
ModelGiven = Annotated[str, typer.Option("--model-settings", help="Settings of section `model`: JSON or YAML file.")]
TrainGiven = Annotated[str, typer.Option("--train-settings", help="Settings of section `train`: JSON or YAML file.")]
RefineGiven = Annotated[str, typer.Option("--refine-settings", help="Settings of section `refine`: JSON or YAML file.")]
DecoderGiven = Annotated[
    str, typer.Option("--decoder-settings", help="Settings of section `decoder`: JSON or YAML file.")
]
Batch = Annotated[
    str, typer.Option("--batch", metavar="I/N", help="Do part I of N, counted from 0; `merge` joins the parts.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Random seed.")]
MODEL_SEED = typer.Option(
    "--model-seed",
    min=0,
    max=LARGEST_SEED,
    help="Seed of the model that drew the samples, to be recorded in the tables.",
)


PATHS = ("table", "boundaries", "include", "names", "superfamilies", "locked", "cache")


def paths_of(section: Any) -> list[str]:
    """Files and folders named in a section of the settings."""
    values = [getattr(section, name, "") for name in PATHS]
    return [path for path in [*values, *getattr(section, "sources", ())] if path]


def settings_of(name: str, given: str, file: str = "") -> Any:
    """Settings of the section `name` from `given`, else from `file` unless that is JSON, else the defaults."""
    from ..config.load import section

    return section(name, given or ("{}" if file.lstrip().startswith("{") else file) or "{}")


def batch_of(text: str) -> tuple[int, int]:
    """Parse `I/N` to two integers."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise UsageError(f"--batch: expected I/N with 0 ≤ I < N, such as 0/4, got {text!r}")
    return int(found[1]), int(found[2])
