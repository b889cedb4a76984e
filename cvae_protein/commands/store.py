"""Commands on a finished store: is it whole, and which of its domains are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .options import app


@app.command()
def verify(files: Annotated[list[Path], typer.Argument(help="Stores (.h5) of domains, samples or others.")]) -> None:
    """Check stores against their checksums; exit code 1 unless all are whole.

    \b
    Example:
      cvae-protein verify results/domains.h5 results/samples/concat/seed0/samples.h5

    Names each damaged block and the domains in it. Featurize or sample those again.
    """
    from ..dataset.store_verify import verify_store

    wrong = []
    for path in files:
        try:
            verdict = verify_store(path)
        except UserError as error:
            typer.echo(str(error))
            wrong.append(path)
            continue
        for damage in verdict.damages:
            typer.echo(f"{path}: {damage}")
        if verdict.damages or not verdict.has_checksums:
            wrong.append(path)
        if not verdict.has_checksums:
            typer.echo(f"{path}: written before stores had checksums; featurize again, or merge it into a new store")
        elif not verdict.damages:
            typer.echo(f"{path}: whole, {verdict.conformations} conformations in {verdict.blocks} blocks")
    if wrong:
        raise UserError(f"verify: {len(wrong)} of {len(files)} stores are not known to be whole")
