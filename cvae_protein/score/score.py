"""The scoring of one variant and seed, of the real domains, and the table of all: what the commands call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config.settings import ScoreSettings
from ..core.errors import UserError
from ..core.files import read_table, write_table
from ..core.labels import first_level, levels_match
from ..dataset.leak_audit import BINS, read_bins
from ..similarity.nearest_structures import Search
from .features import Sight, read_features
from .inputs import Domains, read_domains, read_pairs, read_structures
from .intervals import generator
from .judge import NOT_SEEN, judge_placed, judge_structures, place
from .latent_rows import latent_rows
from .metrics import physical_validity, reconstruction
from .metrics.classifier import SWAPS, swap_rows
from .metrics.latent import read_codes
from .metrics.metric import Judged
from .metrics.reconstruction import Pair
from .output import RAW, structure_table, write_scores
from .prior_rows import prior_rows
from .rows import SCORE_COLUMNS, Row, absent_rows, evaluate, structure_rows

REAL_PER_CLASS = 24  # real domains of a class that are judged as samples


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
    features: Path | None = None,
    real_features: Path | None = None,
) -> None:
    """Judge the samples, reconstructions and codes of one trained model against the held-out domains.

    `samples` is the folder with `samples.h5 raw.h5 reconstructions.h5 latents.h5`; writes `scores.tsv` and
    `structures.tsv` into the folder `output`, whole or not at all. With the table `audit`, the reconstructions are also
    judged by how near a held-out domain is to training: rows whose fold is a bin of the audit. `features` is the folder
    that `embed` made of the same files, `real_features` its file of the domains; without them, metrics in the oracle's
    eyes have no number.
    """
    domains = read_domains(store, splits)
    drawn, raw = (read_structures(samples / name) for name in ("samples.h5", "raw.h5"))
    if [structure.id for structure in drawn] != [structure.id for structure in raw]:
        raise UserError(f"{samples}: expected the same ids in samples.h5 and raw.h5")
    pairs = read_pairs(samples / "reconstructions.h5", domains.held_out)
    folds = np.array([structure.label for structure in drawn], object)
    names = [structure.id for structure in drawn]
    sight = read_sight(features / "samples.h5", real_features, names, domains) if features and real_features else None
    found = judge_structures(drawn, domains, settings, sight)
    rows = found.rows + _swap_rows(features, settings)
    before = evaluate(raw, physical_validity.METRICS)
    rows += structure_rows(physical_validity.METRICS, before, folds, settings, RAW)
    rebuilt = evaluate(pairs, reconstruction.METRICS)
    asked = sorted(set(folds.tolist()))
    pair_folds = np.array([_fold_of(pair.label, asked) for pair in pairs], object)
    rows += structure_rows(reconstruction.METRICS, rebuilt, pair_folds, settings)
    rows += _bin_rows(pairs, rebuilt, audit, settings) if audit else []
    codes = read_codes(samples / "latents.h5")
    rows += [*latent_rows(codes, domains.superfamily, settings), *prior_rows(codes, settings)]
    values = found.values | {name + RAW: column for name, column in before.items()}
    structures = [*structure_table(drawn, "sample", values, found.placed, found.told)]
    structures += structure_table([pair.model for pair in pairs], "reconstruction", rebuilt)
    write_scores(output, {variant: rows}, str(seed), structures)


def stand_ins(domains: Domains, settings: ScoreSettings) -> list[Judged]:
    """Up to 24 validation domains of each first-level class, drawn at random, asked for as that class.

    Neither the models nor the oracle were fitted to them. Training domains where there is no validation split.
    """
    pool = domains.validation or domains.training
    folds = np.array([first_level(domain.label) for domain in pool])
    chosen: list[int] = []
    for fold in sorted(set(folds.tolist())):
        members = generator(settings, "real", fold).permutation(np.flatnonzero(folds == fold))
        chosen.extend(sorted(members[:REAL_PER_CLASS].tolist()))
    return [replace(pool[index], label=first_level(pool[index].label)) for index in chosen]


def read_sight(own: Path, real: Path, names: Sequence[str], domains: Domains) -> Sight:
    """What the oracle saw of the structures `names`, in the file `own`, and of the held-out domains, in `real`."""
    held_out = read_features(real).of([domain.id for domain in domains.held_out])
    labels = tuple(domain.label for domain in domains.held_out)
    return Sight(read_features(own).of(names), replace(held_out, labels=labels), domains.superfamily)


def _swap_rows(features: Path | None, settings: ScoreSettings) -> list[Row]:
    """Rows about the held-out domains decoded under another class's label."""
    if features is None or not (features / "swapped.h5").is_file():
        return absent_rows(SWAPS, NOT_SEEN)
    swapped, own = (read_features(features / name) for name in ("swapped.h5", "reconstructions.h5"))
    return swap_rows(swapped, own, settings)


def score_real(
    store: Path, splits: Path, settings: ScoreSettings, output: Path, real_features: Path | None = None
) -> None:
    """Judge real domains as samples are judged: variant `real`, the floor of errors and the ceiling of a sampler.

    Their relatives are no neighbours. The same domains with their classes permuted are the variant `real_shuffled`:
    what metrics of the class are worth where the class says nothing.
    """
    domains = read_domains(store, splits)
    structures = stand_ins(domains, settings)
    search = Search(settings.neighbours)
    placed = place(structures, domains, search, settings, real=True)
    order = generator(settings, "shuffled").permutation(len(structures))
    shuffled = [replace(each, label=structures[k].label) for each, k in zip(structures, order.tolist(), strict=True)]
    names = [structure.id for structure in structures]
    sight = read_sight(real_features, real_features, names, domains) if real_features else None
    found, ceiling = (
        judge_placed(those, placed, domains, search, settings, sight, real=True) for those in (structures, shuffled)
    )
    rows = {"real": found.rows, "real_shuffled": ceiling.rows}
    write_scores(output, rows, "", structure_table(structures, "real", found.values, found.placed, found.told))


def collect(tables: list[Path], output: Path) -> None:
    """Write the rows of several `scores.tsv` as one table, in the order given."""
    write_table(output, SCORE_COLUMNS, (row for table in tables for row in read_table(table, SCORE_COLUMNS)))
