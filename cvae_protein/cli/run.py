"""Commands on whole runs: manifest, reproduction, resumption, search for settings, schema."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import UserError
from ..core.programs import settle_cache
from ..core.progress import say
from ..core.threads import usable_cores
from .options import Depth, Given, ModelGiven, Output, Splits, Stored, TrainGiven, app, settings_of
from .outputs import WORKFLOW, folder, table, tensors, text, writes
from .outputs import Output as Written

BASE = Path("config/config.yaml")  # over which every run is laid


@app.command()
def info(
    what: Annotated[
        str, typer.Argument(metavar="[WHAT]", help="`pretrained`, a model's folder, a store (.h5), or a run's folder.")
    ] = "pretrained",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all fold classes.")] = False,
) -> None:
    """Say what a model, a store or a run holds: fold classes with counts and lengths, settings, figures, device.

    \b
    Example:
      cvae-protein info pretrained
      cvae-protein info results/domains.h5 --json

    Lengths are in residues.
    """
    import json

    from ..api.info import info as look

    found = look(what)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            typer.echo(f"{name}:")
            columns = list(value[0])
            rows = [columns, *([str(row.get(column, "")) for column in columns] for row in value)]
            widths = [max(len(row[place]) for row in rows) for place in range(len(columns))]
            for row in rows:
                typer.echo(
                    "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                )
        elif isinstance(value, dict):
            typer.echo(f"{name}: " + ", ".join(f"{key} {each}" for key, each in value.items()))
        else:
            typer.echo(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


@app.command()
def init(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty folder.")]) -> None:
    """Lay out a folder to run in: workflow, configuration with examples, and the embedded structures.

    \b
    Example:
      cvae-protein init my-project

    Then, in that folder: `cvae-protein run --cores 2`.
    """
    from ..runs.layout import lay_out

    parts = lay_out(folder)
    say("init", f"wrote {', '.join(map(str, parts))}; next: cd {folder} && cvae-protein run --cores 2")


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Configuration; default: config/config.yaml.", exists=True)
    ] = None,
    cores: Annotated[int, typer.Option(min=1, help="Cores to use.")] = usable_cores(),
    targets: Annotated[list[str] | None, typer.Argument(help="Results to make, or options of Snakemake.")] = None,
) -> None:
    """Run the workflow of this folder; what is there already is kept.

    \b
    Example:
      cvae-protein run --cores 2
      cvae-protein run --config config/examples/architecture.yaml --cores 2 --dry-run

    Becomes `snakemake`: its options, such as --dry-run, which only says what would be done, may stand at the end.
    """
    import shutil
    import sys

    if not any(Path(place).is_file() for place in ("workflow/Snakefile", "Snakefile")):
        raise UserError("run: expected workflow/Snakefile here, found none; `cvae-protein init FOLDER` lays one out")
    beside = Path(sys.executable).with_name("snakemake")
    program = str(beside) if beside.is_file() else shutil.which("snakemake")
    if program is None:
        raise UserError("run: expected the program snakemake, found none; install cvae_protein[workflow]")
    given = ["--configfile", str(config)] if config else []
    settle_cache()
    os.execv(program, [program, *given, "--cores", str(cores), *(targets or [])])


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
    from ..config.load import layered, load
    from ..core.files import atomic_path

    text = described.guide(load(layered([BASE] if BASE.is_file() else []))) if guide else described.schema_text()
    if output is None:
        print(text, end="")
        return
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")


@app.command()
def check(
    config: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CONFIG...", help="Configuration files, laid over config/config.yaml in order."),
    ] = None,
    workflow: Annotated[Path, typer.Option(help="Folder of the Snakefile.")] = Path("workflow"),
) -> None:
    """Say what a run of a configuration would do, and do nothing: domains, classes, jobs, trainings, samples, time.

    \b
    Example:
      cvae-protein check config/examples/my-structures.yaml

    Call it in the project's folder. Exit code 1, with what is wrong, where the run would not begin.
    """
    from ..config.load import layered, load
    from ..runs.plan import plan

    files = config or []
    layers = [BASE, *files] if BASE.is_file() else files
    settings = load(layered(layers))
    for word, said in plan(settings, files, workflow).lines():
        typer.echo(f"{word:<11}{said}")


@app.command()
@writes(output=Written(text("w3id.org/ro/crate/1.1/context")))
def manifest(
    results: Annotated[Path, typer.Option(help="Folder of a run.")],
    output: Output,
    config: Annotated[
        str, typer.Option("--config", metavar="JSON|FILE", help="The whole configuration: JSON, or a YAML file.")
    ],
    workflow: Annotated[Path, typer.Option(help="Folder of the Snakefile that ran.")] = Path("workflow"),
) -> None:
    """Write the manifest of a run, an RO-Crate: settings, versions, commit, hashes, and what each job took.

    \b
    Example:
      cvae-protein manifest --results results --config config/config.yaml -o results/ro-crate-metadata.json
    """
    import json
    from dataclasses import asdict

    from ..config.load import load
    from ..runs.manifest import write_manifest

    whole = load(json.loads(config) if config.lstrip().startswith("{") else Path(config))
    count = write_manifest(results, json.loads(json.dumps(asdict(whole))), output, workflow)
    say("manifest", f"{count} files in {output}")


def _made_again(given: Mapping[str, Any]) -> dict[Path, Written]:
    """An empty folder, unless what is there is only compared."""
    return {} if given["compare_only"] else {given["output"]: folder({}, goes_on=True)}


@app.command()
@writes(_made_again)
def reproduce(
    recorded: Annotated[Path, typer.Argument(metavar="MANIFEST", help="ro-crate-metadata.json of a run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the new run.")] = Path("reproduced"),
    cores: Annotated[int, typer.Option(min=1, help="Cores for the new run.")] = usable_cores(),
    compare_only: Annotated[
        bool, typer.Option("--compare-only", help="Run nothing; compare what is in the folder already.")
    ] = False,
) -> None:
    """Do a run again from its manifest and say which files come out as recorded; exit code 1 where some do not.

    \b
    Example:
      cvae-protein reproduce results/ro-crate-metadata.json --output reproduced
      cvae-protein reproduce results/ro-crate-metadata.json --output results --compare-only

    Call it in the project's folder. Tables that hold times are compared without them. What networks made may differ
    by the tolerance that the manifest states of its kind, where the recorded file lies beside the manifest.
    """
    from ..runs.reproduce import ABSENT, DIFFERS, Manifest, compare, reasons, summary
    from ..runs.reproduce import reproduce as again

    rows = compare(Manifest(recorded), output) if compare_only else again(recorded, output, cores)
    for line in summary(rows, reasons(Manifest(recorded))):
        typer.echo(line)
    if odd := sum(row["verdict"] in (DIFFERS, ABSENT) for row in rows):
        raise UserError(f"reproduce: {odd} of {len(rows)} files are not as recorded")


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
    from ..runs.resume import resume as go_on

    go_on(results)


SEARCH = {
    "study.journal": text('"study_name"'),
    "tune.tsv": table("trial", "state"),
    "best.yaml": text("(tune.tsv)"),
    "checkpoint.safetensors": tensors,
    "checkpoint.former.safetensors": tensors,
}


@app.command()
@writes(output=folder(SEARCH, goes_on=True))
def tune(
    store: Stored,
    splits: Splits,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the search; one that is there goes on.")],
    depth: Depth = 1,
    force: bool = False,
    settings: Given = "",
    model_settings: ModelGiven = "",
    train_settings: TrainGiven = "",
) -> None:
    """Search for settings whose training does best on the split `validation`; the test split is not looked at.

    \b
    Example:
      cvae-protein tune --store domains.h5 --splits splits.tsv -o tune \\
          --settings '{"trials": 30, "space": {"train.kl.weight": [0.1, 10], "model.dropout": [0, 0.3]}}'

    Writes tune.tsv, one row per trial, and best.yaml, which `snakemake --configfile` takes. Run it again to go on:
    after an interruption, or with more trials. Needs optuna.
    """
    from dataclasses import replace

    from ..config.settings import Settings
    from ..training.gpu_slots import take

    take(1)
    from ..runs.tune import is_of_another_search
    from ..runs.tune import tune as search

    own, model = settings_of("tune", settings), settings_of("model", model_settings, settings)
    train = settings_of("train", train_settings, settings)
    whole = replace(Settings(), tune=own, model=model, train=train)
    whole = replace(whole, labels=replace(whole.labels, depth=depth))
    if not force and WORKFLOW not in os.environ and is_of_another_search(store, splits, whole, output):
        raise UserError(f"{output}: holds a search of other inputs or settings; --force begins another one in it")
    search(store, splits, whole, output)
