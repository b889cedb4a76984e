"""Designability and sequence compatibility: sequences for backbones, and agreement with their predicted structures."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config.settings import DesignSettings, ScoreSettings
from ..core.errors import StructureError, UserError
from ..core.files import atomic_path, read_table, write_table
from ..core.geometry import rmsd
from ..core.labels import first_level
from ..core.progress import say
from ..core.structure import CA, Backbone
from ..io.read import read_structure
from ..similarity.tm_score import tm_score
from ..store.read import Store
from .metrics.metric import ALL, SCORE_COLUMNS, Metric, ScoreRow, evaluate, structure_rows

ADAPTERS = ("proteinmpnn", "esmfold")  # files of `cvae_protein/designability/`
PARTS = 32  # backbones whose sequences are designed, and stored, in one call
DESIGNABLE = 2.0  # Å
LENGTHS = (80, 128)  # residues that separate the rows by length
DESIGN_COLUMNS = ("id", "design", "sequence", "nll", "recovery")


@dataclass(frozen=True, eq=False)
class Designed:
    """Designs of one backbone (n,): likelihood, recovery, and CA RMSD and TM-score of each predicted structure."""

    nll: np.ndarray
    recovery: np.ndarray
    rmsd: np.ndarray
    tm: np.ndarray


def design_nll(designed: Designed) -> float:
    """Mean negative log-likelihood of the designs under the designer, nats per residue."""
    return float(designed.nll.mean())


def design_recovery(designed: Designed) -> float:
    """Mean share of native residues in the designs; NaN if no native sequence is known."""
    return float(designed.recovery.mean())


def sc_rmsd(designed: Designed) -> float:
    """Lowest CA RMSD (Å) between a backbone and the predicted structures of its designs (Trippe et al. 2023)."""
    return float(designed.rmsd.min())


def sc_tm(designed: Designed) -> float:
    """Highest TM-score between a backbone and the predicted structures of its designs, residue on residue."""
    return float(designed.tm.max())


def designable(designed: Designed) -> float:
    """1 where the best `sc_rmsd` is at most 2 Å (Geffner et al. 2025), else 0; NaN where nothing is predicted."""
    best = sc_rmsd(designed)
    return float(best <= DESIGNABLE) if np.isfinite(best) else float("nan")


COMPATIBILITY = (
    Metric("design_nll", "nats", "real", design_nll),
    Metric("design_recovery", "share", "real", design_recovery),
)
SELF_CONSISTENCY = (
    Metric("sc_rmsd", "Å", "low", sc_rmsd),
    Metric("sc_tm", "score", "high", sc_tm),
    Metric("designable", "share", "high", designable),
)
METRICS = (*COMPATIBILITY, *SELF_CONSISTENCY)
STRUCTURE_COLUMNS = ("id", "label", "length", *(metric.name for metric in METRICS))


def command(program: str, python: str, *paths: Path) -> list[str]:
    """The command line of an adapter, given by name, or of any program with `{}` in place of each path."""
    if program in ADAPTERS:
        return [python or sys.executable, "-m", f"cvae_protein.designability.{program}", *map(str, paths)]
    parts = shlex.split(program)
    if parts.count("{}") != len(paths):
        raise UserError(
            f"design: expected {' or '.join(ADAPTERS)}, or a command with {len(paths)} times {{}}, got {program!r}"
        )
    left = iter(map(str, paths))
    return [next(left) if part == "{}" else part for part in parts]


def _called(call: Sequence[str]) -> None:
    """Run a program; `UserError`, with its last line, if it fails or is absent."""
    try:
        run = subprocess.run(call, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    except OSError as error:
        raise UserError(f"{call[0]}: cannot be started ({error.strerror})") from error
    if run.returncode:
        last = (run.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"{shlex.join(call[:4])} … failed with exit code {run.returncode}: {last}")


def _key(backbone: Backbone, settings: DesignSettings) -> str:
    """Name of the designs of a backbone: a hash of its atoms, its sequence and the settings of the designer."""
    given = [backbone.sequence, settings.designer, settings.number, settings.temperature, settings.ca_only]
    return hashlib.sha256(backbone.coords[0, :, :4].tobytes() + json.dumps(given).encode()).hexdigest()[:24]


def _options(settings: DesignSettings) -> str:
    return json.dumps(
        {"number": settings.number, "temperature": settings.temperature, "ca_only": settings.ca_only}, sort_keys=True
    )


def design(backbones: Mapping[str, Backbone], settings: DesignSettings, cache: Path) -> None:
    """Write the designs of each backbone to `KEY.tsv` in the folder `cache` if it is not there, in batches."""
    left = [key for key in backbones if not (cache / f"{key}.tsv").is_file()]
    if len(left) < len(backbones):
        say("designs", f"{len(backbones) - len(left)} of {len(backbones)} backbones were designed before")
    for start in range(0, len(left), PARTS):
        part = left[start : start + PARTS]
        with tempfile.TemporaryDirectory() as scratch:
            given, made = Path(scratch, "backbones.npz"), Path(scratch, "sequences.tsv")
            arrays = {key: backbones[key].coords[0, :, :4] for key in part}
            native = {f"native/{key}": np.array(backbones[key].sequence) for key in part}
            np.savez(given, **arrays, **native)  # type: ignore[arg-type]
            call = command(settings.designer, settings.python, given, made)
            _called([*call, "--settings", _options(settings)] if settings.designer in ADAPTERS else call)
            rows = read_table(made, DESIGN_COLUMNS)
        for key in part:
            own = [row for row in rows if row["id"] == key]
            if len(own) != settings.number or any(len(row["sequence"]) != len(backbones[key]) for row in own):
                raise UserError(
                    f"{settings.designer}: expected {settings.number} sequences of {len(backbones[key])} residues for "
                    f"each backbone, got {len(own)} of {sorted({len(row['sequence']) for row in own})}"
                )
            write_table(cache / f"{key}.tsv", DESIGN_COLUMNS, own)


def predict(keys: Sequence[str], settings: DesignSettings, cache: Path) -> None:
    """Predict the structure of each design, in `cache/predicted/KEY_DESIGN.pdb`, if it is not there."""
    folder = cache / "predicted"
    folder.mkdir(exist_ok=True)
    rows = [row for key in keys for row in read_table(cache / f"{key}.tsv", DESIGN_COLUMNS)]
    left = [row for row in rows if not (folder / f"{row['id']}_{row['design']}.pdb").is_file()]
    if not left:
        return
    say("predictions", f"{len(left)} of {len(rows)} designs are to be predicted")
    with tempfile.TemporaryDirectory() as scratch:
        fasta = Path(scratch, "sequences.fasta")
        lines = (f">{row['id']}_{row['design']}\n{row['sequence'].replace('X', 'A')}\n" for row in left)
        fasta.write_text("".join(lines), encoding="utf-8")
        _called(command(settings.predictor, settings.python, fasta, folder))
    missing = [name for row in left if not (folder / (name := f"{row['id']}_{row['design']}.pdb")).is_file()]
    if missing:
        raise UserError(
            f"{settings.predictor}: expected {folder / missing[0]}, and {len(missing) - 1} more, found none"
        )


def compare(backbone: Backbone, file: Path) -> tuple[float, float]:
    """CA RMSD in Å and TM-score of a predicted structure against the backbone, over residues with CA in both."""
    try:
        predicted = read_structure(file)
        trace = predicted.backbone(np.arange(len(predicted.chain))[None], file.stem).coords[0, :, CA]
    except StructureError as error:
        raise UserError(f"{file}: not readable as a structure ({error.detail})") from error
    own = backbone.coords[0, :, CA]
    if len(trace) != len(own):
        raise UserError(f"{file}: expected {len(own)} residues, found {len(trace)}")
    both = np.isfinite(own).all(axis=1) & np.isfinite(trace).all(axis=1)
    mobile, target = trace[both].astype(float), own[both].astype(float)
    return float(rmsd(mobile, target)), tm_score(mobile, target, len(own))


def _designed(backbone: Backbone, key: str, settings: DesignSettings, cache: Path) -> Designed:
    rows = read_table(cache / f"{key}.tsv", DESIGN_COLUMNS)
    nll, recovery = (np.array([float(row[name]) for row in rows]) for name in ("nll", "recovery"))
    files = [cache / "predicted" / f"{key}_{row['design']}.pdb" for row in rows]
    pairs = [compare(backbone, file) if settings.predictor else (float("nan"),) * 2 for file in files]
    found, tm = np.array(pairs, float).T
    return Designed(nll, recovery, found, tm)


def length_bin(length: int) -> str:
    """Name of the bin of a length, such as `length_80_to_127`."""
    low = max((cut for cut in LENGTHS if length >= cut), default=None)
    high = min((cut for cut in LENGTHS if length < cut), default=None)
    return (
        f"length_from_{low}"
        if high is None
        else f"length_to_{high - 1}"
        if low is None
        else f"length_{low}_to_{high - 1}"
    )


def assess(
    backbones: Sequence[Backbone], labels: Sequence[str], settings: DesignSettings, scores: ScoreSettings, cache: Path
) -> tuple[list[ScoreRow], list[dict[str, object]]]:
    """Rows of `METRICS` over all, by class and by length, and one line per backbone.

    Sequences come from the designer, structures from the predictor; without a predictor, there are only the metrics of
    the designer. Files in the folder `cache` are reused.
    """
    cache.mkdir(parents=True, exist_ok=True)
    keys = [_key(backbone, settings) for backbone in backbones]
    design(dict(zip(keys, backbones, strict=True)), settings, cache)
    if settings.predictor:
        predict(keys, settings, cache)
    designed = [_designed(backbone, key, settings, cache) for backbone, key in zip(backbones, keys, strict=True)]
    metrics = METRICS if settings.predictor else COMPATIBILITY
    values = evaluate(designed, metrics)
    classes = np.array([first_level(label) or ALL for label in labels], object)
    bins = np.array([length_bin(len(backbone)) for backbone in backbones], object)
    rows = structure_rows(metrics, values, classes, scores)
    rows += [row for row in structure_rows(metrics, values, bins, scores) if row.fold != ALL]
    note = f"best of {settings.number}" if settings.predictor else f"mean of {settings.number}"
    table: list[dict[str, object]] = []
    for index, (backbone, label) in enumerate(zip(backbones, labels, strict=True)):
        facts: dict[str, object] = dict.fromkeys(STRUCTURE_COLUMNS)
        facts |= {"id": backbone.id, "label": label, "length": len(backbone)}
        table.append(facts | {name: f"{column[index]:.5g}" for name, column in values.items()})
    return [replace(row, note=note) for row in rows], table


def score_designs(
    samples: Path,
    splits: Path | None,
    most: int,
    variant: str,
    seed: str,
    settings: DesignSettings,
    scores: ScoreSettings,
    output: Path,
    cache: Path,
) -> None:
    """Write `scores.tsv` and `designs.tsv` of the structures of a store into the folder `output`.

    With `splits`, the store is that of the domains, and those of the split `test` are assessed. If there are more than
    `most` structures, that number is taken at even intervals.
    """
    with Store(samples) as store:
        names = list(store.ids)
        if splits is not None:
            held_out = {
                row["domain_id"] for row in read_table(splits, ("domain_id", "split")) if row["split"] == "test"
            }
            names = [name for name in names if name in held_out]
        if not names:
            raise UserError(f"{samples}: expected structures{' of the split test' if splits else ''}, found none")
        chosen = [
            names[index] for index in np.unique(np.linspace(0, len(names) - 1, most).round().astype(int)).tolist()
        ]
        backbones = [store.backbone(name).model(0) for name in chosen]
        labels = [str(store.fact(name, "label", "")) for name in chosen]
    rows, table = assess(backbones, labels, settings, scores, cache)
    with atomic_path(output) as folder:
        folder.mkdir()
        write_table(folder / "scores.tsv", SCORE_COLUMNS, (row.cells(variant, seed) for row in rows))
        write_table(folder / "designs.tsv", STRUCTURE_COLUMNS, table)
