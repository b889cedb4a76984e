"""The command that compares conformations drawn around a domain with its known ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..cli.options import Given, Output, Seed, app, settings_of
from ..cli.outputs import SCORES, writes


@app.command()
@writes(output=SCORES)
def ensemble(
    samples: Annotated[Path, typer.Option(help="Store, file or folder of conformations of the domain.")],
    reference: Annotated[Path, typer.Option(help="Store that holds the domain and its other conformers.")],
    domain: Annotated[str, typer.Option(help="Domain that the samples were drawn around.")],
    output: Output,
    variant: Annotated[str, typer.Option(help="Variant that drew the samples, as the table names it.")] = "samples",
    seed: Seed = 0,
    settings: Given = "",
) -> None:
    """Judge conformations drawn around one domain beside its NMR models and other conformers in a store.

    \b
    Example:
      cvae-protein sample --model models/concat/seed0 --around 1ubqA00 --store domains.h5 -n 32 --temperature 1 -o y.h5
      cvae-protein ensemble --samples y.h5 --reference domains.h5 --domain 1ubqA00 -o ensemble.tsv

    Other conformers are domains of its `group` or of nearly its sequence. The table has the columns of scores.tsv.
    """
    from ..score.ensemble import score_ensemble

    score_ensemble(samples, reference, domain, variant, seed, settings_of("score", settings), output)
