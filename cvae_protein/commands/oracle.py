"""Commands of the oracle that tells the fold of a structure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..cli.options import Given, Output, Splits, Stored, app, settings_of
from ..cli.outputs import CHECKPOINT, folder, hdf5, json_with, table, tensors, writes
from ..cli.outputs import Output as Written

TRAINED = {
    "spec.json": json_with("temperatures"),
    "weights.safetensors": tensors,
    "history.tsv": table("step", "seconds"),
    "oracle.tsv": table("split", "level", "labels"),
    "confusion.tsv": table("split", "level", "label"),
}


@app.command()
@writes(output=folder(TRAINED), checkpoint=CHECKPOINT)
def oracle(
    store: Stored,
    splits: Splits,
    output: Output,
    checkpoint: Annotated[Path | None, typer.Option(help="Where an interrupted training can go on from.")] = None,
    settings: Given = "",
) -> None:
    """Train the oracle that tells class, architecture and topology of a structure, on the training split alone.

    \b
    Example:
      cvae-protein oracle --store domains.h5 --splits splits.tsv -o models/oracle

    The folder holds spec.json, weights.safetensors, history.tsv, oracle.tsv (held-out accuracy and calibration) and
    confusion.tsv.
    """
    from ..training.fold_classifier import train_oracle

    train_oracle(store, splits, output, settings_of("oracle", settings), checkpoint)


def _embedded(given: Mapping[str, Any]) -> dict[Path, Written]:
    """A folder with a file for each store."""
    return {given["output"]: folder({path.name: hdf5("feature") for path in given["stores"]})}


@app.command()
@writes(_embedded)
def embed(
    stores: Annotated[list[Path], typer.Argument(help="Stores of structures (.h5): domains or samples.")],
    output: Output,
    oracle: Annotated[Path, typer.Option(help="Folder of a trained oracle.")],
) -> None:
    """Show structures to the oracle; its features and probabilities are what `score` compares sets by.

    \b
    Example:
      cvae-protein embed domains.h5 --oracle models/oracle -o features/real
      cvae-protein embed samples/concat/seed0/*.h5 --oracle models/oracle -o features/concat/seed0

    The folder has a file for each store, of the same name.
    """
    from ..model.fold_classifier import embed as run

    run(oracle, stores, output)
