"""The command that goes on with a run which was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..cli.options import app


@app.command()
def resume(
    results: Annotated[Path, typer.Argument(help="Results folder of the run.")] = Path("results"),
) -> None:
    """Go on with a run whose `snakemake` was killed: end what it left at work, then give its command again.

    \b
    Example:
      cvae-protein resume results

    Cancels the Slurm jobs of that run and no others, ends trainings that go on without a scheduler (they save a
    checkpoint first), and runs the command that results/run.json records, in the folder where it was given. Outputs
    that are whole are kept; what was half done is done again, a training from its checkpoint.
    """
    from ..runs.resume import resume as run

    run(results)
