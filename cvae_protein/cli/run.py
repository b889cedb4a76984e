"""Commands for whole runs: manifest, reproduction, resumption, search for settings, schema."""

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

BASE = Path("config/config.yaml")  # on top of which every run's configuration is applied


@app.command()
def info(
    what: Annotated[
        str, typer.Argument(metavar="[WHAT]", help="`pretrained`, the folder of a model or run, or a store (.h5).")
    ] = "pretrained",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all fold classes.")] = False,
) -> None:
    """Describe a model, a store or a run: fold classes with counts and lengths, settings, figures, device.

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
    """Set up a folder to run in: workflow, configuration with examples, and the embedded structures.

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
        Path | None,
        typer.Option("--config", "-c", help="Configuration file; default: config/config.yaml.", exists=True),
    ] = None,
    cores: Annotated[int, typer.Option(min=1, help="Number of cores to use.")] = usable_cores(),
    targets: Annotated[list[str] | None, typer.Argument(help="Files to make, or options for Snakemake.")] = None,
) -> None:
    """Run the workflow in this folder; existing results are kept.

    \b
    Example:
      cvae-protein run --cores 2
      cvae-protein run --config config/examples/architecture.yaml --cores 2 --dry-run

    Calls `snakemake`, whose options, such as --dry-run, which only shows what would be done, can be added at the end.
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
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: standard output.")
    ] = None,
    guide: Annotated[bool, typer.Option("--guide", help="Print the table of keys instead, as Markdown.")] = False,
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
        typer.Argument(metavar="CONFIG...", help="Configuration files, applied on top of config/config.yaml in order."),
    ] = None,
    workflow: Annotated[Path, typer.Option(help="Folder with the Snakefile.")] = Path("workflow"),
) -> None:
    """Show what a run would do, without running it: domains, classes, jobs, trainings, samples, time.

    \b
    Example:
      cvae-protein check config/examples/my-structures.yaml

    Call it in the project folder. If the run could not start, it says why, with exit code 1.
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
    workflow: Annotated[Path, typer.Option(help="Folder with the Snakefile that ran.")] = Path("workflow"),
) -> None:
    """Write the manifest of a run, an RO-Crate: settings, versions, commit, hashes, and time and memory of each job.

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
    """Output of `reproduce`: an empty folder, unless existing content is only compared."""
    return {} if given["compare_only"] else {given["output"]: folder({}, goes_on=True)}


@app.command()
@writes(_made_again)
def reproduce(
    recorded: Annotated[Path, typer.Argument(metavar="MANIFEST", help="ro-crate-metadata.json of a run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the new run.")] = Path("reproduced"),
    cores: Annotated[int, typer.Option(min=1, help="Number of cores for the new run.")] = usable_cores(),
    compare_only: Annotated[
        bool, typer.Option("--compare-only", help="Run nothing; only compare what is already in the folder.")
    ] = False,
) -> None:
    """Repeat a run from its manifest and report which files come out as recorded; exit code 1 if any do not.

    \b
    Example:
      cvae-protein reproduce results/ro-crate-metadata.json --output reproduced
      cvae-protein reproduce results/ro-crate-metadata.json --output results --compare-only

    Call it in the project folder. Tables that contain times are compared without them. Files that networks made may
    differ by the tolerance that the manifest states for their kind, if the recorded file lies next to the manifest.
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
    """Resume a run whose `snakemake` was killed: stop what it left running, then repeat its command.

    \b
    Example:
      cvae-protein resume results

    Cancels the Slurm jobs of that run and no others, stops trainings that still run without a scheduler (they save a
    checkpoint first), and repeats the command recorded in results/run.json, in the folder where it was given. Complete
    outputs are kept; unfinished ones are made again, trainings from their checkpoints.
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
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the search; an existing one is continued.")],
    depth: Depth = 1,
    force: bool = False,
    settings: Given = "",
    model_settings: ModelGiven = "",
    train_settings: TrainGiven = "",
) -> None:
    """Search for the settings that do best on the validation split; the test split is not used.

    \b
    Example:
      cvae-protein tune --store domains.h5 --splits splits.tsv -o tune \\
          --settings '{"trials": 30, "space": {"train.kl.weight": [0.1, 10], "model.dropout": [0, 0.3]}}'

    Writes tune.tsv, one row per trial, and best.yaml, for `snakemake --configfile`. Run it again to continue after an
    interruption, or with more trials. Requires optuna.
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
