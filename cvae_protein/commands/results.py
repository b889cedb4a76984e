"""Commands that judge, show and pass on what was drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from ..progress import say
from .options import Given, Output, Seed, Splits, Stored, app, settings_of


@app.command()
def score(
    store: Stored,
    splits: Splits,
    output: Output,
    samples: Annotated[Path | None, typer.Option(help="Folder that `sample` wrote.")] = None,
    variant: Annotated[str, typer.Option(help="Variant that drew the samples.")] = "",
    seed: Seed = 0,
    audit: Annotated[
        Path | None, typer.Option(help="Table that `audit` wrote: reconstructions also by nearness to training.")
    ] = None,
    features: Annotated[Path | None, typer.Option(help="Folder that `embed` wrote of the same files.")] = None,
    real_features: Annotated[Path | None, typer.Option(help="File that `embed` wrote of the store.")] = None,
    real: Annotated[bool, typer.Option("--real", help="Score real domains that trained nothing instead.")] = False,
    settings: Given = "",
) -> None:
    """Judge samples and reconstructions, or the held-out real domains, by the same metrics.

    \b
    Example:
      cvae-protein score --store domains.h5 --splits splits.tsv --samples samples/concat/seed0 --variant concat \\
          --seed 0 --features features/concat/seed0 --real-features features/real/domains.h5 -o scores/concat/seed0
      cvae-protein score --real --store domains.h5 --splits splits.tsv -o scores/real

    Every row of scores.tsv names its unit and which direction is better.
    """
    from ..score.table import score_real, score_samples

    own = settings_of("score", settings)
    if real:
        score_real(store, splits, own, output, real_features)
    elif samples is None or not variant:
        raise UserError("score: expected --samples and --variant, or --real")
    else:
        score_samples(store, splits, samples, variant, seed, own, output, audit, features, real_features)


@app.command()
def collect(
    tables: Annotated[list[Path], typer.Argument(help="Tables scores.tsv of all variants and seeds.")], output: Output
) -> None:
    """Join score tables into one.

    \b
    Example:
      cvae-protein collect scores/*/seed*/scores.tsv scores/real/scores.tsv -o scores.tsv
    """
    from ..score.table import collect as run

    run(tables, output)


@app.command()
def report(
    results: Annotated[Path, typer.Option(help="Folder of a run.")],
    output: Output,
    variants: Annotated[str, typer.Option(help="Variants to show, separated by commas.")],
    seeds: Annotated[str, typer.Option(help="Seeds to show, separated by commas.")] = "0",
    settings: Given = "",
) -> None:
    """Write the page that shows a run; it opens without a network.

    \b
    Example:
      cvae-protein report --results results --variants concat,pca --seeds 0,1 -o results/report.html
    """
    from ..report.page import write_report

    if not re.fullmatch(r"\d+(,\d+)*", seeds):
        raise UserError(f"--seeds: expected whole numbers separated by commas, got {seeds!r}")
    write_report(results, settings_of("report", settings), variants.split(","), seeds.split(","), output)


@app.command()
def export(
    input: Annotated[Path, typer.Option("--input", "-i", help="Store of samples or domains (.h5).")],
    output: Output,
    format: Annotated[str, typer.Option(help="pdb, cif or xtc; default: the suffix of the output.")] = "",
    fold: Annotated[str, typer.Option(help="Only this fold class, such as 2 or 3.40.")] = "",
    length: Annotated[int | None, typer.Option(min=1, help="Only structures of so many residues.")] = None,
    by_length: Annotated[bool, typer.Option("--by-length", help="One file a length, named NAME-L110.")] = False,
) -> None:
    """Write stored structures as PDB, mmCIF, or XTC with a PDB topology.

    \b
    Example:
      cvae-protein export --input samples/concat/seed0/samples.h5 --fold 2 --format cif -o beta.cif

    Coordinates are in Å; XTC, which counts in nm, keeps 0.01 Å.
    """
    from ..export import export as run
    from ..export import read_backbones

    for path in run(read_backbones(input, fold, length), output, format, by_length=by_length):
        say("export", f"wrote {path}")


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: the terminal.")] = None,
    guide: Annotated[bool, typer.Option("--guide", help="The table of keys instead, as Markdown.")] = False,
) -> None:
    """Print the JSON schema of the configuration file as YAML.

    \b
    Example:
      cvae-protein schema -o workflow/schemas/config.schema.yaml
      cvae-protein schema --guide -o config/README.md
    """
    from .. import schema as described
    from ..files import atomic_path

    text = described.guide() if guide else described.schema_text()
    if output is None:
        print(text, end="")
        return
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
