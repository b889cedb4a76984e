"""Commands that compare settings: a grid that the workflow ran, and a search."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import UserError
from .options import Given, Splits, Stored, app, settings_of
from .outputs import SCORES, WORKFLOW, folder, table, tensors, text, writes


@app.command()
@writes(output=SCORES)
def sweep(
    tables: Annotated[list[Path], typer.Argument(help="Tables POINT/scores/VARIANT/SEED/scores.tsv of all points.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write.")],
) -> None:
    """Join the scores of a grid of settings into one table; each row is led by its point's settings.

    \b
    Example:
      cvae-protein sweep results/sweep/*/scores/*/seed*/scores.tsv -o results/sweep.tsv

    `snakemake sweep` trains and scores the points of the configuration's `sweep` and calls this.
    """
    from ..runs.sweep import point_values
    from ..score.score import collect_points

    collect_points({table: point_values(table.absolute().parents[3].name) for table in tables}, output)


SEARCH = {
    "study.journal": text('"study_name"'),
    "tune.tsv": table("trial", "state"),
    "best.yaml": text("(tune.tsv)"),
    "checkpoint.safetensors": tensors,
}


@app.command()
@writes(output=folder(SEARCH, SEARCH, goes_on=True))
def tune(
    store: Stored,
    splits: Splits,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the search; one that is there goes on.")],
    depth: Annotated[int, typer.Option(min=1, max=4, help="Label levels given to the model; 1 = class.")] = 1,
    force: bool = False,
    settings: Given = "",
    model_settings: Annotated[str, typer.Option("--model", help="Section `model`: JSON or YAML file.")] = "",
    train_settings: Annotated[str, typer.Option("--train", help="Section `train`: JSON or YAML file.")] = "",
) -> None:
    """Search for settings whose training does best on the split `validation`; the test split is not looked at.

    \b
    Example:
      cvae-protein tune --store domains.h5 --splits splits.tsv -o tune \\
          --settings '{"trials": 30, "space": {"train.kl.weight": [0.1, 10], "model.dropout": [0, 0.3]}}'

    Writes tune.tsv, a row a trial, and best.yaml, which `snakemake --configfile` takes. Run it again to go on: after an
    interruption, or with more trials. Needs optuna.
    """
    from dataclasses import replace

    from ..config.settings import Settings
    from ..training.gpu_slots import take

    take(1)
    from ..runs.tune import is_of_another_search
    from ..runs.tune import tune as run

    own, model = settings_of("tune", settings), settings_of("model", model_settings, settings)
    train = settings_of("train", train_settings, settings)
    whole = replace(Settings(), tune=own, model=model, train=train)
    whole = replace(whole, labels=replace(whole.labels, depth=depth))
    if not force and WORKFLOW not in os.environ and is_of_another_search(store, splits, whole, output):
        raise UserError(f"{output}: holds a search of other inputs or settings; --force begins another one in it")
    run(store, splits, whole, output)
