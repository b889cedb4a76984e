"""The scoring stage: samples, reconstructions, codes and real domains evaluated; `scores.tsv` and `structures.tsv`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config.settings import ScoreSettings
from ..core.errors import UserError
from ..core.files import atomic_path, write_table
from ..core.labels import RUNGS, first_level, is_within
from ..core.progress import Progress, say
from ..core.variants import NEW_MEMBER, REAL, REAL_SHUFFLED, TRAINING
from ..dataset.leak_audit import BINS, read_bins
from ..similarity import nearest_structures
from ..similarity.nearest_structures import Search
from .inputs import read_domains, read_pairs, read_structures
from .metrics import classifier, distribution, novelty, physical_validity, reconstruction
from .metrics.classifier import (
    SWAPS,
    EmbeddingPair,
    Embeddings,
    accuracy_rows,
    check_one_classifier,
    prediction_columns,
    read_features,
    swap_rows,
)
from .metrics.distribution import class_features
from .metrics.diversity import ClassSet, set_rows
from .metrics.latent import latent_rows, prior_rows, read_codes
from .metrics.likelihood import likelihood_rows
from .metrics.metric import (
    ALL,
    SCORE_COLUMNS,
    PreparedStructure,
    ScoreRow,
    absent_rows,
    classes,
    evaluate,
    generator,
    structure_rows,
)
from .metrics.novelty import NOT_SEEN, PAIRED_PER_CLASS, Allowed, NearestDomains, RealDomains, find_nearest
from .metrics.reconstruction import Pair
from .metrics.second_level import read_inverted, second_level_rows

STRUCTURE_METRICS = (*physical_validity.METRICS, *physical_validity.COMPOSITION)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results: score rows, per-structure values (name -> one number per structure) and nearest domains.

    `predictions` are the columns of `prediction_columns`, if there are embeddings.
    """

    rows: list[ScoreRow]
    values: dict[str, np.ndarray]
    nearest: list[NearestDomains]
    predictions: list[dict[str, str]]


def evaluate_structures(
    structures: Sequence[PreparedStructure],
    domains: RealDomains,
    settings: ScoreSettings,
    embeddings: EmbeddingPair | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Evaluation:
    """Evaluate structures against the held-out domains of their target class, given by `label`.

    Without a label, metrics of the target class are undefined. If no structure has a label, set metrics compare all of
    them with all held-out domains. Without `embeddings`, metrics that need them have one row each without a number.
    Set metrics use at most `sizes` structures of each class named there, drawn at random.
    """
    search = Search(settings.neighbours)
    nearest = find_nearest(structures, domains, search, settings, None)
    return evaluate_nearest(structures, nearest, domains, search, settings, embeddings, sizes=sizes)


def _drawn_evenly(folds: np.ndarray, sizes: Mapping[str, int], settings: ScoreSettings) -> np.ndarray:
    """Sorted indices (k,) of the structures that set metrics use: of each class at most the number in `sizes`."""
    keep: list[int] = []
    for fold in sorted(set(folds.tolist())):
        rows = np.flatnonzero(folds == fold)
        most = sizes.get(fold, len(rows))
        if most < len(rows):
            rows = generator(settings, "equal_sizes", fold).permutation(rows)[:most]
        keep.extend(rows.tolist())
    return np.array(sorted(keep), int)


def evaluate_nearest(
    structures: Sequence[PreparedStructure],
    nearest: Sequence[NearestDomains],
    domains: RealDomains,
    search: Search,
    settings: ScoreSettings,
    embeddings: EmbeddingPair | None,
    allowed: Allowed = None,
    sizes: Mapping[str, int] | None = None,
) -> Evaluation:
    """`evaluate_structures`, given the nearest domains found by `search`; `nearest` takes the labels of `structures`.

    Domains that are not `allowed` do not count as neighbours of a structure.
    """
    nearest = [replace(hits, label=structure.label) for hits, structure in zip(nearest, structures, strict=True)]
    folds = np.array([structure.label or ALL for structure in structures], object)
    values = {**evaluate(structures, STRUCTURE_METRICS), **evaluate(nearest, novelty.NEAREST)}
    values["nearest_same_class"][folds == ALL] = np.nan
    values |= novelty.class_coverage(structures, nearest, domains, search, allowed)
    rows = structure_rows((*STRUCTURE_METRICS, *novelty.NEAREST, *novelty.COVERAGE), values, folds, settings)
    even = _drawn_evenly(folds, sizes or {}, settings)
    chosen = [structures[row] for row in even.tolist()]
    rows += novelty.recall_rows(chosen, domains, search, settings, allowed)
    rows += novelty.tm_coverage_rows(chosen, domains, search, settings, allowed)
    seen = {name: column[even] for name, column in values.items()}
    rows += set_rows(_class_sets(chosen, folds[even], seen, domains, search, settings), settings)
    rows += _classifier_rows(embeddings, nearest, folds, even, settings)
    predictions = (
        prediction_columns(embeddings.own, [structure.label for structure in structures]) if embeddings else []
    )
    return Evaluation(rows, values, nearest, predictions)


def _classifier_rows(
    embeddings: EmbeddingPair | None,
    nearest: Sequence[NearestDomains],
    folds: np.ndarray,
    even: np.ndarray,
    settings: ScoreSettings,
) -> list[ScoreRow]:
    """Rows of all metrics based on the fold classifier; set metrics use only the structures `even`."""
    if embeddings is None:
        metrics = (*classifier.METRICS, *classifier.FIDELITY.values(), *distribution.METRICS)
        return absent_rows(metrics, NOT_SEEN)
    rows = accuracy_rows(embeddings, nearest, settings)
    sets = class_features(replace(embeddings, own=embeddings.own.take(even)), folds[even])
    return [*rows, *distribution.distribution_rows(sets, settings)]


def _class_sets(
    structures: Sequence[PreparedStructure],
    folds: np.ndarray,
    values: Mapping[str, np.ndarray],
    domains: RealDomains,
    search: Search,
    settings: ScoreSettings,
) -> dict[str, ClassSet]:
    """For each class, its structures and its held-out domains."""
    reference = evaluate(domains.held_out, physical_validity.COMPOSITION)
    names = classes(folds)
    progress = Progress(
        "pairs within a class", sum(min(PAIRED_PER_CLASS, (folds == fold).sum()) for fold in names), "structures"
    )
    groups = {}
    for fold in names:
        own = np.flatnonzero(folds == fold)
        theirs = np.array([fold == ALL or is_within(domain.label, fold) for domain in domains.held_out], bool)
        groups[fold] = ClassSet(
            {name: column[own] for name, column in values.items()},
            {name: column[theirs] for name, column in reference.items()},
            _pair_tm([structures[index] for index in own.tolist()], search, settings, fold, progress),
        )
    return groups


def _pair_tm(
    structures: Sequence[PreparedStructure], search: Search, settings: ScoreSettings, fold: str, progress: Progress
) -> np.ndarray:
    """TM-scores (k, k) of up to 12 structures drawn at random, mean of both normalisations, NaN on the diagonal."""
    order = generator(settings, "pairs", fold).permutation(len(structures))[:PAIRED_PER_CLASS]
    chosen = [structures[index] for index in order.tolist() if len(structures[index].ca) >= nearest_structures.FEWEST]
    table = np.full((len(chosen), len(chosen)), np.nan)
    for i, first in enumerate(chosen):
        for j in range(i):
            table[i, j] = table[j, i] = np.mean(search.aligned(first, chosen[j]))
        progress.advance()
    return table


RAW = "_raw"  # suffix of the metrics of a sample before relaxation
STRUCTURE_COLUMNS = (
    *("id", "kind", "label", "length"),
    *(metric.name for metric in (*STRUCTURE_METRICS, *novelty.NEAREST, *novelty.COVERAGE, *reconstruction.METRICS)),
    *(metric.name + RAW for metric in physical_validity.METRICS),
    *("nearest_id", "nearest_label", "training_id", "predicted_label", "target_probability"),
)


def structure_table(
    structures: Sequence[PreparedStructure],
    kind: str,
    values: Mapping[str, np.ndarray],
    nearest: Sequence[NearestDomains] = (),
    predictions: Sequence[Mapping[str, str]] = (),
) -> Iterable[dict[str, object]]:
    """Rows of `structures.tsv`: `values` one array (n) per metric, `predictions` the predicted label of each structure.

    Columns that do not apply stay empty.
    """
    for index, structure in enumerate(structures):
        row: dict[str, object] = dict.fromkeys(STRUCTURE_COLUMNS)
        row.update(id=structure.id, kind=kind, label=structure.label, length=len(structure))
        row.update({name: f"{column[index]:.6g}" for name, column in values.items()})
        if nearest:
            hits = nearest[index]
            row.update(nearest_id=hits.held_out.id, nearest_label=hits.held_out.label, training_id=hits.training.id)
        if predictions:
            row.update(predictions[index])
        yield row


def write_scores(
    output: Path, scores: Mapping[str, Iterable[ScoreRow]], seed: str, structures: Iterable[Mapping[str, object]]
) -> None:
    """Write both tables into the folder `output`, whole or not at all; `scores` are rows by variant."""
    with atomic_path(output) as folder:
        folder.mkdir()
        cells = (row.cells(variant, seed) for variant, rows in scores.items() for row in rows)
        write_table(folder / "scores.tsv", SCORE_COLUMNS, cells)
        write_table(folder / "structures.tsv", STRUCTURE_COLUMNS, structures)


PER_CLASS = 24  # real domains per class that are evaluated as samples by default
FEWEST_COMPARED = 5  # real domains of a class, from which sets of samples are reduced to the same size


def _fold_of(label: str, targets: Sequence[str]) -> str:
    """The target class that contains `label`, or the label's first level if none does."""
    holding = [fold for fold in targets if is_within(label, fold)]
    return max(holding, key=len) if holding else first_level(label)


def _bin_rows(
    pairs: Sequence[Pair], rebuilt: Mapping[str, np.ndarray], audit: Path, settings: ScoreSettings
) -> list[ScoreRow]:
    """Metrics of the reconstructions by how close the domain is to training; `UserError` if one was not audited."""
    bins = read_bins(audit)
    if missing := [pair.reference.id for pair in pairs if pair.reference.id not in bins]:
        raise UserError(f"{audit}: expected a row for each held-out domain, none for {missing[0]}; audit again")
    folds = np.array([bins[pair.reference.id] for pair in pairs], object)
    return _part_rows(rebuilt, folds, [name for _, name in BINS], settings)


def _rung_rows(
    pairs: Sequence[Pair], rebuilt: Mapping[str, np.ndarray], rung: Mapping[str, str], settings: ScoreSettings
) -> list[ScoreRow]:
    """Metrics of the reconstructions by how new the domain is to training, if the split says."""
    folds = np.array([rung.get(pair.reference.id, "") for pair in pairs], object)
    return _part_rows(rebuilt, folds, RUNGS, settings)


def _part_rows(
    rebuilt: Mapping[str, np.ndarray], folds: np.ndarray, names: Sequence[str], settings: ScoreSettings
) -> list[ScoreRow]:
    """Rows of the reconstructions for the `folds` in `names`, which are not classes."""
    return [row for row in structure_rows(reconstruction.METRICS, rebuilt, folds, settings) if row.fold in names]


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
    """Evaluate the samples, reconstructions and codes of one trained model against the held-out domains.

    `samples` is the folder with `samples.h5 raw.h5 reconstructions.h5 latents.h5`; writes `scores.tsv` and
    `structures.tsv` into the folder `output`, whole or not at all. Reconstructions are also evaluated by how new the
    domain is to training, in rows whose fold is a rung of the split, and with the table `audit` by how close it is, in
    rows whose fold is a bin of the audit. `features` is the folder that `embed` wrote for the same files,
    `real_features` its file for the domains; without them, metrics based on the fold classifier have no number. Set
    metrics use as many samples of each class as there are real domains to compare with, since most of them depend on
    the size of the set.
    """
    domains = read_domains(store, splits)
    drawn, raw = (read_structures(samples / name) for name in ("samples.h5", "raw.h5"))
    if [structure.id for structure in drawn] != [structure.id for structure in raw]:
        raise UserError(f"{samples}: expected the same ids in samples.h5 and raw.h5")
    pairs = read_pairs(samples / "reconstructions.h5", domains.held_out)
    folds = np.array([structure.label for structure in drawn], object)
    names = [structure.id for structure in drawn]
    embeddings = (
        read_embeddings(features / "samples.h5", real_features, names, domains) if features and real_features else None
    )
    found = evaluate_structures(drawn, domains, settings, embeddings, set_sizes(domains, set(folds.tolist())))
    rows = found.rows + _swap_rows(features, settings)
    before = evaluate(raw, physical_validity.METRICS)
    rows += structure_rows(physical_validity.METRICS, before, folds, settings, RAW)
    rebuilt = evaluate(pairs, reconstruction.METRICS)
    targets = sorted(set(folds.tolist()))
    pair_folds = np.array([_fold_of(pair.label, targets) for pair in pairs], object)
    rows += structure_rows(reconstruction.METRICS, rebuilt, pair_folds, settings)
    rows += _bin_rows(pairs, rebuilt, audit, settings) if audit else []
    rows += _rung_rows(pairs, rebuilt, domains.rung, settings)
    codes = read_codes(samples / "latents.h5")
    rows += [*latent_rows(codes, domains.superfamily, settings), *prior_rows(codes, settings)]
    rows += reconstruction.generalisation_rows(codes, domains.superfamily, settings)
    rows += likelihood_rows(codes, domains.superfamily, domains.rung, settings)
    if (inverted := read_inverted(samples / "latents.h5")) is not None:
        held_out = codes.take(codes.splits == "test")
        rows += second_level_rows(inverted, held_out, domains.superfamily, settings)
    values = found.values | {name + RAW: column for name, column in before.items()}
    structures = [*structure_table(drawn, "sample", values, found.nearest, found.predictions)]
    structures += structure_table([pair.model for pair in pairs], "reconstruction", rebuilt)
    write_scores(output, {variant: rows}, str(seed), structures)


def set_sizes(domains: RealDomains, targets: Iterable[str]) -> dict[str, int]:
    """Number of real domains of each target class that can be scored as samples; classes with too few are left out."""
    pool = domains.validation or domains.training
    counts = {fold: sum(is_within(domain.label, fold) for domain in pool) for fold in targets}
    return {fold: count for fold, count in counts.items() if count >= FEWEST_COMPARED}


def stand_ins(
    pool: Sequence[PreparedStructure], settings: ScoreSettings, per_class: int = PER_CLASS, role: str = REAL
) -> list[PreparedStructure]:
    """Up to `per_class` domains of each first-level class, which becomes their target, drawn at random for `role`."""
    folds = np.array([first_level(domain.label) for domain in pool])
    chosen: list[int] = []
    for fold in sorted(set(folds.tolist())):
        members = generator(settings, role, fold).permutation(np.flatnonzero(folds == fold))
        chosen.extend(sorted(members[:per_class].tolist()))
    return [replace(pool[index], label=first_level(pool[index].label)) for index in chosen]


def roles(domains: RealDomains) -> dict[str, tuple[Sequence[PreparedStructure], Allowed]]:
    """Real domains evaluated as samples, by variant in the score table, and which real domains may be their neighbours.

    `real`: validation domains, to which neither the models nor the fold classifier were fitted (training domains if
    there is no validation split), with their relatives hidden, so that nothing in training is related to them.
    `new_member`, what an ideal sampler draws: new members of trained superfamilies, that is, validation domains of that
    rung or, if the split has none, training domains with their own sequence cluster hidden. `training`, what a copying
    sampler draws: training domains as they are.
    """
    members = [domain for domain in domains.validation if domains.rung.get(domain.id) == RUNGS[0]]
    return {
        REAL: (domains.validation or domains.training, domains.unrelated),
        NEW_MEMBER: (members or domains.training, domains.of_other_sequence),
        TRAINING: (domains.training, None),
    }


def read_embeddings(own: Path, real: Path, names: Sequence[str], domains: RealDomains) -> EmbeddingPair:
    """Embeddings of the structures `names`, from the file `own`, and of the held-out domains, from `real`."""
    features = read_features(own).of(names), read_held_out(real, domains)
    check_one_classifier(own, real)
    return EmbeddingPair(*features, domains.superfamily)


def read_held_out(real: Path, domains: RealDomains) -> Embeddings:
    """Embeddings of the held-out domains from the file `real`, with the labels of the split."""
    held_out = read_features(real).of([domain.id for domain in domains.held_out])
    return replace(held_out, labels=tuple(domain.label for domain in domains.held_out))


def _swap_rows(features: Path | None, settings: ScoreSettings) -> list[ScoreRow]:
    """Rows about the held-out domains decoded under another class's label."""
    if features is None or not (features / "swapped.h5").is_file():
        return absent_rows(SWAPS, NOT_SEEN)
    swapped, own = (read_features(features / name) for name in ("swapped.h5", "reconstructions.h5"))
    return swap_rows(swapped, own, settings)


def score_real(
    store: Path,
    splits: Path,
    settings: ScoreSettings,
    output: Path,
    real_features: Path | None = None,
    per_class: int = PER_CLASS,
) -> None:
    """Evaluate real domains as if they were samples, `per_class` of each class: the rows of `roles`.

    The variant `real_shuffled` is `real` with the classes permuted: the values of class metrics if the class carries no
    information. `structures.tsv` has the domains of `real` and `new_member`, as its `kind`.
    """
    domains = read_domains(store, splits)
    search = Search(settings.neighbours)
    rows: dict[str, list[ScoreRow]] = {}
    table: list[dict[str, object]] = []
    for role, (pool, allowed) in roles(domains).items():
        structures = stand_ins(pool, settings, per_class, role)
        say("score", f"{len(structures)} real domains as {role}")
        nearest = find_nearest(structures, domains, search, settings, allowed)
        names = [structure.id for structure in structures]
        embeddings = read_embeddings(real_features, real_features, names, domains) if real_features else None
        found = evaluate_nearest(structures, nearest, domains, search, settings, embeddings, allowed)
        rows[role] = found.rows
        if role in (REAL, NEW_MEMBER):
            table += structure_table(structures, role, found.values, found.nearest, found.predictions)
        if role == REAL:
            order = generator(settings, "shuffled").permutation(len(structures)).tolist()
            shuffled = [replace(each, label=structures[k].label) for each, k in zip(structures, order, strict=True)]
            ceiling = evaluate_nearest(shuffled, nearest, domains, search, settings, embeddings, allowed)
            rows[REAL_SHUFFLED] = ceiling.rows
    write_scores(output, rows, "", table)
