"""Commands that judge, show and pass on what was drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import UserError
from ..core.progress import say
from .options import Given, Output, Seed, app, settings_of
from .outputs import PAGE, SAMPLES, SCORES, folder, recorded, table, text, writes
from .outputs import Output as Written

JUDGED = {"scores.tsv": SCORES.is_ours, "structures.tsv": table("id", "kind", "label", "length")}
THIRD_PARTY = {
    **JUDGED,
    "samples.tsv": table("id", "file", "model", "chain"),
    "rejected.tsv": table("domain_id", "source", "reason", "detail"),
    "samples.h5": SAMPLES.is_ours,
}


def _scored(given: Mapping[str, Any]) -> dict[Path, Written]:
    """A folder of tables, and the page where one is asked for."""
    output = folder(THIRD_PARTY, ["samples.h5"]) if given["reference"] else folder(JUDGED)
    return {given["output"]: output} | ({given["report"]: PAGE} if given["report"] else {})


@app.command()
@writes(_scored)
def score(
    output: Output,
    store: Annotated[Path | None, typer.Option("--store", help="HDF5 store of domains that `merge` wrote.")] = None,
    splits: Annotated[Path | None, typer.Option("--splits", help="Table that `split` wrote.")] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Folder that `sample` wrote; with --reference: a folder or file of anyone's.")
    ] = None,
    variant: Annotated[str, typer.Option(help="Variant that drew the samples, as the tables name it.")] = "",
    seed: Seed = 0,
    audit: Annotated[
        Path | None, typer.Option(help="Table that `audit` wrote: reconstructions also by nearness to training.")
    ] = None,
    features: Annotated[Path | None, typer.Option(help="Folder that `embed` wrote of the same files.")] = None,
    real_features: Annotated[Path | None, typer.Option(help="File that `embed` wrote of the store.")] = None,
    real: Annotated[bool, typer.Option("--real", help="Score real domains that trained nothing instead.")] = False,
    reference: Annotated[
        Path | None, typer.Option(help="Store beside which samples of any origin are judged, in place of --store.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="With --reference: table `id label` or `file label`, the class asked for.")
    ] = None,
    oracle: Annotated[Path | None, typer.Option(help="With --reference: folder of a trained oracle.")] = None,
    report: Annotated[Path | None, typer.Option(help="With --reference: page to write.")] = None,
    settings: Given = "",
) -> None:
    """Judge samples and reconstructions, the held-out real domains, or structures of any origin, by the same metrics.

    \b
    Example:
      cvae-protein score --store domains.h5 --splits splits.tsv --samples samples/concat/seed0 --variant concat \\
          --seed 0 --features features/concat/seed0 --real-features features/real/domains.h5 -o scores/concat/seed0
      cvae-protein score --real --store domains.h5 --splits splits.tsv -o scores/real
      cvae-protein score --samples designs/ --reference domains.h5 --splits splits.tsv --labels labels.tsv \\
          --oracle models/oracle --report designs.html -o scores/designs

    With --reference, --samples is a folder or file of PDB, mmCIF or BinaryCIF (.gz too; each model and chain is a
    sample) or a store. Without --splits the whole reference is held out and nothing is known of training.
    Every row of scores.tsv names its unit and which direction is better.
    """
    from ..score.score import score_real, score_samples

    own = settings_of("score", settings)
    if reference is not None:
        _refuse("--reference", store=store, audit=audit, features=features, real_features=real_features, real=real)
        if samples is None:
            raise UserError("score --reference: expected --samples, a folder or file of structures or a store")
        from ..commands.third_party import score_third_party

        score_third_party(samples, reference, splits, labels, oracle, report, variant, seed, own, output)
        return
    _refuse("--store", labels=labels, oracle=oracle, report=report)
    if store is None or splits is None:
        raise UserError("score: expected --store and --splits of a run, or --reference to judge samples of any origin")
    if real:
        score_real(store, splits, own, output, real_features)
    elif samples is None or not variant:
        raise UserError("score: expected --samples and --variant, or --real")
    else:
        score_samples(store, splits, samples, variant, seed, own, output, audit, features, real_features)


def _refuse(form: str, **others: object) -> None:
    """`UserError` where an option was given that belongs to the other form of the command."""
    wrong = [f"--{name.replace('_', '-')}" for name, value in others.items() if value]
    if wrong:
        raise UserError(
            f"score with {form}: expected none of {', '.join(wrong)}, which belong to the command's other form"
        )


@app.command()
@writes(output=SCORES)
def collect(
    tables: Annotated[list[Path], typer.Argument(help="Tables scores.tsv of all variants and seeds.")], output: Output
) -> None:
    """Join score tables into one.

    \b
    Example:
      cvae-protein collect scores/*/seed*/scores.tsv scores/real/scores.tsv -o scores.tsv
    """
    from ..score.score import collect as run

    run(tables, output)


@app.command()
@writes(output=PAGE)
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


def _exported(given: Mapping[str, Any]) -> dict[Path, Written]:
    """The files of an export; which lengths there are says the store."""
    from ..io.write import check_format, targets
    from ..store.read import read_backbones

    output, format = given["output"], given["format"]
    check_format(output, format)
    backbones = read_backbones(given["input"], given["fold"], given["length"]) if given["by_length"] else []
    paths = targets(backbones, output, format, by_length=given["by_length"])
    return {path: Written(text("REMARK 250 MODEL") if path.suffix == ".pdb" else recorded) for path in paths}


@app.command()
@writes(_exported)
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
    from ..io.write import export as run
    from ..store.read import read_backbones

    for path in run(read_backbones(input, fold, length), output, format, by_length=by_length):
        say("export", f"wrote {path}")


@app.command()
@writes(output=Written(text("Written by `make schema`")))
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
    from ..config import schema as described
    from ..core.files import atomic_path

    text = described.guide() if guide else described.schema_text()
    if output is None:
        print(text, end="")
        return
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
