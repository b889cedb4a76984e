"""Commands on a finished store: is it whole, and which of its domains are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..cli.options import Given, Output, Stored, app, settings_of
from ..cli.outputs import Output as Written
from ..cli.outputs import table, writes
from ..core.errors import UserError


@app.command()
def verify(files: Annotated[list[Path], typer.Argument(help="Stores (.h5) of domains, samples or others.")]) -> None:
    """Check stores against their checksums; exit code 1 unless all are whole.

    \b
    Example:
      cvae-protein verify results/domains.h5 results/samples/concat/seed0/samples.h5

    Names each damaged block and the domains in it. Featurize or sample those again.
    """
    from ..store.verify import verify_store

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


@app.command()
@writes(output=Written(table("domain_id", "sequence_cluster")))
def cluster(
    store: Stored,
    output: Output,
    scheme: Annotated[
        str, typer.Option(help="What labels the domains: cath, scope, or cluster, which finds fold classes.")
    ] = "cath",
    settings: Given = "",
) -> None:
    """Group the domains with like sequences, and where nothing labels them, those with like structures.

    \b
    Example:
      cvae-protein cluster --store domains.h5 --settings '{"identity": 0.35}' -o clusters.tsv
      cvae-protein cluster --store domains.h5 --scheme cluster -o clusters.tsv

    Structures are alike from a TM-score of 0.5, normalised by the longer one.
    """
    from ..dataset.cluster import find_folds, read_sequences, sequence_clusters, write_clusters

    if scheme not in ("cath", "scope", "cluster"):
        raise UserError(f"--scheme: expected cath, scope or cluster, got {scheme!r}")
    sequence, method = sequence_clusters(read_sequences(store), settings_of("cluster", settings))
    structure: dict[str, str] = {}
    if scheme == "cluster":
        structure, folds = find_folds(store, sequence)
        method = f"{method}; {folds}"
    write_clusters(output, sequence, structure, method)
