"""The command that says what is broken in a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..cli.options import Given, Output, app, settings_of
from ..cli.outputs import Output as Written
from ..cli.outputs import table, writes
from ..core.progress import say

VERDICT_FIRED = 3


@app.command()
@writes(output=Written(table("variant", "seed", "verdict")))
def verdicts(
    scores: Annotated[Path, typer.Option("--scores", help="Table scores.tsv of `score` or `collect`.")],
    output: Output,
    fail_on_verdict: Annotated[
        bool,
        typer.Option("--fail-on-verdict", help="Exit code 3 where one fires; those of pca and real do not count."),
    ] = False,
    settings: Given = "",
) -> None:
    """Say of each model whether it collapsed, leaks, ignores its label, repeats itself or copies its training.

    \b
    Example:
      cvae-protein verdicts --scores scores.tsv -o verdicts.tsv
      cvae-protein verdicts --scores scores.tsv --settings '{"leak": 0.2}' --fail-on-verdict -o verdicts.tsv

    A row a variant, seed and verdict: whether it fired (yes, no, unknown, not_applicable), the evidence, the threshold
    and a remedy. The table is written before the exit code is decided. `real` in the table is the reference of
    MODE-COLLAPSE and MEMORISATION: without its rows they are unknown.
    """
    from ..score.verdicts import write_verdicts

    fired = write_verdicts(scores, settings_of("verdict", settings), output)
    if fired and fail_on_verdict:
        said = ", ".join(f"{row['variant']} {row['seed']} {row['verdict']}" for row in fired)
        say("verdicts", f"exit code {VERDICT_FIRED}, for these fired: {said}")
        raise typer.Exit(VERDICT_FIRED)
