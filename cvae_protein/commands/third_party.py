"""What `score --reference` runs: samples read, shown to the oracle, judged, and shown on a page."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.progress import say


def score_third_party(
    samples: Path,
    reference: Path,
    splits: Path | None,
    labels: Path | None,
    oracle: Path | None,
    report: Path | None,
    variant: str,
    seed: int,
    settings: Any,
    output: Path,
) -> None:
    """Write `samples.tsv rejected.tsv samples.h5 structures.tsv scores.tsv` into `output`, and the page last.

    What can fail for want of a file fails before the search; the tables stay where the page cannot be written.
    """
    from ..score.external import read_set, score_set, write_set

    name = _name(variant or samples.resolve().name.split(".", 1)[0])
    given = read_set(samples, reference, splits, labels)
    stored = write_set(given, output, name, seed)
    sight = _sight(given, oracle, reference, output / "samples.h5") if oracle and stored else None
    score_set(given, output, name, seed, settings, sight)
    if report is not None:
        _write_page(report, reference, splits, name, seed, output)


def _name(text: str) -> str:
    """`text` as a variant's name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:40].lstrip("._-") or "samples"


def _sight(given: Any, oracle: Path, reference: Path, samples: Path) -> Any:
    """What the oracle sees of the samples and of the held-out domains."""
    from ..model.fold_classifier import embed
    from ..score.external import read_set_sight

    with tempfile.TemporaryDirectory() as scratch:
        own, real = Path(scratch) / "own", Path(scratch) / "real"
        embed(oracle, [samples], own)
        embed(oracle, [reference], real)
        return read_set_sight(given, own / samples.name, real / reference.name)


def _write_page(page: Path, reference: Path, splits: Path | None, name: str, seed: int, output: Path) -> None:
    """The page of a run, of a folder that is laid out like one and holds this set alone."""
    from ..config.load import section
    from ..report.page import write_report

    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch)
        for stage in ("samples", "scores"):
            (results / stage / name).mkdir(parents=True)
            (results / stage / name / f"seed{seed}").symlink_to(output.resolve(), target_is_directory=True)
        for file in ("scores.tsv", "rejected.tsv"):
            (results / file).symlink_to((output / file).resolve())
        (results / "domains.h5").symlink_to(reference.resolve())
        if splits is not None:
            (results / "splits.tsv").symlink_to(splits.resolve())
        try:
            write_report(results, section("report", "{}"), [name], [str(seed)], page)
        except (UserError, OSError, KeyError, ValueError) as error:
            raise UserError(f"{page}: the page cannot be written ({error}); the tables are in {output}") from error
    say("score", f"page {page}")
