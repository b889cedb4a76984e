"""Commands that tell how a run came about, and that do it again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..cli.options import Output, app
from ..cli.outputs import Output as Written
from ..cli.outputs import folder, text, writes
from ..core.errors import UserError
from ..core.progress import say


@app.command()
@writes(output=Written(text("w3id.org/ro/crate/1.1/context")))
def manifest(
    results: Annotated[Path, typer.Option(help="Folder of a run.")],
    output: Output,
    settings: Annotated[
        str, typer.Option("--settings", metavar="JSON|FILE", help="The whole configuration: JSON, or a YAML file.")
    ],
) -> None:
    """Write the manifest of a run, an RO-Crate: settings, versions, commit, hashes, and what each job took.

    \b
    Example:
      cvae-protein manifest --results results --settings config/config.yaml -o results/ro-crate-metadata.json
    """
    import json
    from dataclasses import asdict

    from ..config.load import load
    from ..runs.manifest import write_manifest

    whole = load(json.loads(settings) if settings.lstrip().startswith("{") else Path(settings))
    count = write_manifest(results, json.loads(json.dumps(asdict(whole))), output)
    say("manifest", f"{count} files in {output}")


def _made_again(given: Mapping[str, Any]) -> dict[Path, Written]:
    """An empty folder, unless what is there is only compared."""
    return {} if given["compare_only"] else {given["output"]: folder({}, goes_on=True)}


@app.command()
@writes(_made_again)
def reproduce(
    recorded: Annotated[Path, typer.Argument(metavar="MANIFEST", help="ro-crate-metadata.json of a run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the new run.")] = Path("reproduced"),
    cores: Annotated[int, typer.Option(min=1, help="Cores for the new run.")] = os.cpu_count() or 1,
    compare_only: Annotated[
        bool, typer.Option("--compare-only", help="Run nothing; compare what is in the folder already.")
    ] = False,
) -> None:
    """Do a run again from its manifest and say which files come out the same; exit code 1 where some do not.

    \b
    Example:
      cvae-protein reproduce results/ro-crate-metadata.json --output reproduced
      cvae-protein reproduce results/ro-crate-metadata.json --output results --compare-only

    Call it in the project's folder. Tables that hold times are compared without them.
    """
    from ..reproduce import ABSENT, DIFFERS, Manifest, compare, reasons, summary
    from ..reproduce import reproduce as run

    rows = compare(Manifest(recorded), output) if compare_only else run(recorded, output, cores)
    for line in summary(rows, reasons(Manifest(recorded))):
        typer.echo(line)
    if odd := sum(row["verdict"] in (DIFFERS, ABSENT) for row in rows):
        raise UserError(f"reproduce: {odd} of {len(rows)} files are not as recorded")
