"""The scoring of one variant and seed, of the real domains, and the table of all: what the commands call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import atomic_path, read_table, write_table
from ..progress import Progress
from ..settings import ScoreSettings
from . import composition, neighbours, physics, reconstruction
from .audit import BINS, read_bins
from .inputs import Domains, read_domains, read_pairs, read_structures
from .intervals import generator
from .latent_rows import latent_rows
from .latents import read_codes
from .metric import Judged, first_level, levels_match
from .neighbours import Library, Placed, Search, tm_align_score
from .reconstruction import Pair
from .rows import SCORE_COLUMNS, Row, evaluate, set_rows, structure_rows
from .sets import ClassSet

RAW = "_raw"  # suffix of the metrics of a sample before relaxation
REAL_PER_CLASS = 24  # training domains of a class that stand for the real ones
PAIRED_PER_CLASS = 12  # structures of a class that are aligned each with each
STRUCTURE_METRICS = (*physics.METRICS, *composition.METRICS)
STRUCTURE_COLUMNS = (
    *("id", "kind", "label", "length"),
    *(metric.name for metric in (*STRUCTURE_METRICS, *neighbours.METRICS, *reconstruction.METRICS)),
    *(metric.name + RAW for metric in physics.METRICS),
    *("nearest_id", "nearest_label", "training_id"),
)


def _structure_row(structure: Judged, kind: str, values: Mapping[str, float], **places: str) -> dict[str, object]:
    """One row of `structures.tsv`; columns that do not apply stay empty."""
    row: dict[str, object] = dict.fromkeys(STRUCTURE_COLUMNS)
    row.update(id=structure.id, kind=kind, label=structure.label, length=len(structure), **places)
    row.update({name: f"{value:.6g}" for name, value in values.items()})
    return row


def _rows_of(
    structures: Sequence[Judged], kind: str, values: Mapping[str, np.ndarray], placed: Sequence[Placed] = ()
) -> Iterable[dict[str, object]]:
    for index, structure in enumerate(structures):
        places = {}
        if placed:
            hits = placed[index]
            places = {
                "nearest_id": hits.held_out.id,
                "nearest_label": hits.held_out.label,
                "training_id": hits.training.id,
            }
        yield _structure_row(structure, kind, {name: column[index] for name, column in values.items()}, **places)


def _write(output: Path, variant: str, seed: str, scores: Iterable[Row], structures: Iterable[dict]) -> None:
    with atomic_path(output) as folder:
        folder.mkdir()
        write_table(folder / "scores.tsv", SCORE_COLUMNS, (row.cells(variant, seed) for row in scores))
        write_table(folder / "structures.tsv", STRUCTURE_COLUMNS, structures)


def _equal_training(domains: Domains, library: Library, settings: ScoreSettings) -> Library:
    """As many training domains of each first-level class as are held out, drawn at random."""
    random = generator(settings, "equal_training")
    held_out = [first_level(domain.label) for domain in domains.held_out]
    labels = np.array([first_level(domain.label) for domain in library.structures])
    keep: list[int] = []
    for fold in sorted(set(held_out)):
        members = random.permutation(np.flatnonzero(labels == fold))
        keep.extend(sorted(members[: held_out.count(fold)].tolist()))
    return library.subset(keep)


def _place(structures: Sequence[Judged], domains: Domains, settings: ScoreSettings, real: bool) -> list[Placed]:
    """Nearest domains of every structure; relatives of a real one do not count."""
    training = Library(domains.training)
    equal = _equal_training(domains, training, settings)
    search = Search(settings.neighbours)

    def unrelated(query: Judged, target: Judged) -> bool:
        return not (real and domains.related(query.id, target.id))

    found = [
        search.all(structures, library, f"nearest of {len(library)} {name} domains", unrelated)
        for name, library in (("held-out", Library(domains.held_out)), ("training", training), ("even training", equal))
    ]
    return [Placed(structure.label, *hits) for structure, *hits in zip(structures, *found, strict=True)]


def _pair_tm(structures: Sequence[Judged], settings: ScoreSettings, fold: str, progress: Progress) -> np.ndarray:
    """TM-scores (k, k) of up to 12 structures drawn at random, mean of both normalisations, NaN on the diagonal."""
    order = generator(settings, "pairs", fold).permutation(len(structures))[:PAIRED_PER_CLASS]
    chosen = [structures[index] for index in order.tolist() if len(structures[index].ca) >= neighbours.FEWEST]
    table = np.full((len(chosen), len(chosen)), np.nan)
    for i, first in enumerate(chosen):
        for j in range(i):
            table[i, j] = table[j, i] = np.mean(tm_align_score(first.ca, chosen[j].ca))
        progress.advance()
    return table


def _class_sets(
    structures: Sequence[Judged],
    folds: np.ndarray,
    values: Mapping[str, np.ndarray],
    domains: Domains,
    settings: ScoreSettings,
) -> dict[str, ClassSet]:
    """The structures of each class beside the held-out domains of it."""
    reference = evaluate(domains.held_out, composition.METRICS)
    names = sorted(set(folds.tolist()))
    progress = Progress(
        "pairs within a class", sum(min(PAIRED_PER_CLASS, (folds == fold).sum()) for fold in names), "structures"
    )
    groups = {}
    for fold in names:
        own = np.flatnonzero(folds == fold)
        theirs = np.array([levels_match(fold, domain.label) for domain in domains.held_out], bool)
        groups[fold] = ClassSet(
            {name: column[own] for name, column in values.items()},
            {name: column[theirs] for name, column in reference.items()},
            _pair_tm([structures[index] for index in own.tolist()], settings, fold, progress),
        )
    return groups


def _judge(
    structures: Sequence[Judged], folds: np.ndarray, domains: Domains, settings: ScoreSettings, real: bool
) -> tuple[list[Row], dict[str, np.ndarray], list[Placed]]:
    """Score rows, per-structure values and neighbours of samples, or of real domains judged as if they were samples."""
    placed = _place(structures, domains, settings, real)
    values = {**evaluate(structures, STRUCTURE_METRICS), **evaluate(placed, neighbours.METRICS)}
    rows = structure_rows((*STRUCTURE_METRICS, *neighbours.METRICS), values, folds, settings)
    return [*rows, *set_rows(_class_sets(structures, folds, values, domains, settings), settings)], values, placed


def _fold_of(label: str, asked: Sequence[str]) -> str:
    """The asked class that holds `label`, or the label's first level where none does."""
    holding = [fold for fold in asked if levels_match(fold, label)]
    return max(holding, key=len) if holding else first_level(label)


def _bin_rows(
    pairs: Sequence[Pair], rebuilt: Mapping[str, np.ndarray], audit: Path, settings: ScoreSettings
) -> list[Row]:
    """Metrics of the reconstructions by how near the domain is to training; `UserError` where one was not audited."""
    bins = read_bins(audit)
    if missing := [pair.reference.id for pair in pairs if pair.reference.id not in bins]:
        raise UserError(f"{audit}: expected a row for each held-out domain, none for {missing[0]}; audit again")
    folds = np.array([bins[pair.reference.id] for pair in pairs], object)
    rows = structure_rows(reconstruction.METRICS, rebuilt, folds, settings)
    return [row for row in rows if row.fold in {name for _, name in BINS}]


def score_samples(
    store: Path,
    splits: Path,
    samples: Path,
    variant: str,
    seed: int,
    settings: ScoreSettings,
    output: Path,
    audit: Path | None = None,
) -> None:
    """Judge the samples, reconstructions and codes of one trained model against the held-out domains.

    `samples` is the folder with `samples.h5 raw.h5 reconstructions.h5 latents.h5`; writes `scores.tsv` and
    `structures.tsv` into the folder `output`, whole or not at all. With the table `audit`, the reconstructions are also
    judged by how near a held-out domain is to training: rows whose fold is a bin of the audit.
    """
    domains = read_domains(store, splits)
    drawn, raw = (read_structures(samples / name) for name in ("samples.h5", "raw.h5"))
    if [structure.id for structure in drawn] != [structure.id for structure in raw]:
        raise UserError(f"{samples}: expected the same ids in samples.h5 and raw.h5")
    pairs = read_pairs(samples / "reconstructions.h5", domains.held_out)
    folds = np.array([structure.label for structure in drawn], object)
    rows, values, placed = _judge(drawn, folds, domains, settings, real=False)
    before = evaluate(raw, physics.METRICS)
    rows += structure_rows(physics.METRICS, before, folds, settings, RAW)
    rebuilt = evaluate(pairs, reconstruction.METRICS)
    asked = sorted(set(folds.tolist()))
    pair_folds = np.array([_fold_of(pair.label, asked) for pair in pairs], object)
    rows += structure_rows(reconstruction.METRICS, rebuilt, pair_folds, settings)
    rows += _bin_rows(pairs, rebuilt, audit, settings) if audit else []
    rows += latent_rows(read_codes(samples / "latents.h5"), domains.superfamily, settings)
    values |= {name + RAW: column for name, column in before.items()}
    structures = [*_rows_of(drawn, "sample", values, placed)]
    structures += _rows_of([pair.model for pair in pairs], "reconstruction", rebuilt)
    _write(output, variant, str(seed), rows, structures)


def _stand_ins(domains: Domains, settings: ScoreSettings) -> list[Judged]:
    """Up to 40 training domains of each first-level class, drawn at random."""
    folds = np.array([first_level(domain.label) for domain in domains.training])
    chosen: list[int] = []
    for fold in sorted(set(folds.tolist())):
        members = generator(settings, "real", fold).permutation(np.flatnonzero(folds == fold))
        chosen.extend(sorted(members[:REAL_PER_CLASS].tolist()))
    return [domains.training[index] for index in chosen]


def score_real(store: Path, splits: Path, settings: ScoreSettings, output: Path) -> None:
    """Judge real training domains as samples are judged: the ceiling of a sampler, as variant `real` without a seed.

    A domain is asked for as its first-level class; its relatives are no neighbours. Metrics that are undefined for
    real domains have no row.
    """
    domains = read_domains(store, splits)
    structures = [
        Judged(each.id, first_level(each.label), each.coords, each.breaks, each.ss)
        for each in _stand_ins(domains, settings)
    ]
    folds = np.array([structure.label for structure in structures], object)
    rows, values, placed = _judge(structures, folds, domains, settings, real=True)
    rows = [row for row in rows if row.estimate.n and np.isfinite(row.estimate.value)]
    _write(output, "real", "", rows, _rows_of(structures, "real", values, placed))


def collect(tables: list[Path], output: Path) -> None:
    """Write the rows of several `scores.tsv` as one table, in the order given."""
    write_table(output, SCORE_COLUMNS, (row for table in tables for row in read_table(table, SCORE_COLUMNS)))
