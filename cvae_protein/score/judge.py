"""Structures judged against the held-out domains: samples of a model, of anyone else, or real domains as if samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..config.settings import ScoreSettings
from ..core.labels import first_level, levels_match
from ..core.progress import Progress
from ..similarity import nearest_structures
from ..similarity.nearest_structures import Library, Placed, Search, tm_align_score
from . import composition, distribution_rows
from .distribution_rows import class_features
from .features import Sight
from .inputs import Domains
from .intervals import generator
from .metrics import classifier, novelty, physical_validity
from .metrics.classifier import accuracy_rows, told_columns
from .metrics.diversity import ClassSet
from .metrics.metric import Judged
from .rows import ALL, Row, absent_rows, evaluate, set_rows, structure_rows

NOT_SEEN = "no features of an oracle were given"
PAIRED_PER_CLASS = 12  # structures of a class that are aligned each with each
STRUCTURE_METRICS = (*physical_validity.METRICS, *composition.METRICS)


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was found: score rows, per-structure values (name -> one number a structure) and nearest domains.

    `told` says what the oracle takes each structure for, where there is one.
    """

    rows: list[Row]
    values: dict[str, np.ndarray]
    placed: list[Placed]
    told: list[dict[str, str]]


def judge_structures(
    structures: Sequence[Judged],
    domains: Domains,
    settings: ScoreSettings,
    sight: Sight | None = None,
    *,
    real: bool = False,
) -> Judgement:
    """Judge structures, each by its `label`, the class asked for, against the held-out domains of that class.

    An empty label asks for no class: metrics of the class asked for are undefined. Where no structure has a label, set
    metrics compare all of them with all held-out domains. With `real`, a structure's relatives are no neighbours.
    `sight` is what the oracle saw; without it, metrics that need it have one row each without a number.
    """
    search = Search(settings.neighbours)
    placed = place(structures, domains, search, settings, real)
    return judge_placed(structures, placed, domains, search, settings, sight, real=real)


def judge_placed(
    structures: Sequence[Judged],
    placed: Sequence[Placed],
    domains: Domains,
    search: Search,
    settings: ScoreSettings,
    sight: Sight | None = None,
    *,
    real: bool = False,
) -> Judgement:
    """The same for structures whose nearest domains `search` has found; `placed` takes the labels of `structures`."""
    placed = [replace(hits, label=structure.label) for hits, structure in zip(placed, structures, strict=True)]
    folds = np.array([structure.label or ALL for structure in structures], object)
    values = {**evaluate(structures, STRUCTURE_METRICS), **evaluate(placed, nearest_structures.METRICS)}
    values["nearest_same_class"][folds == ALL] = np.nan
    values |= novelty.nearest_in_class(structures, placed, domains, search, real)
    rows = structure_rows((*STRUCTURE_METRICS, *nearest_structures.METRICS, *novelty.METRICS), values, folds, settings)
    rows += novelty.recall_rows(structures, domains, search, settings, real)
    rows += set_rows(_class_sets(structures, folds, values, domains, settings), settings)
    rows += _oracle_rows(sight, placed, folds, settings)
    told = told_columns(sight.own, [structure.label for structure in structures]) if sight else []
    return Judgement(rows, values, placed, told)


def _oracle_rows(
    sight: Sight | None, placed: Sequence[Placed], folds: np.ndarray, settings: ScoreSettings
) -> list[Row]:
    """Rows of all metrics in the oracle's eyes."""
    if sight is None:
        metrics = (*classifier.METRICS, *classifier.FIDELITY.values(), *distribution_rows.METRICS)
        return absent_rows(metrics, NOT_SEEN)
    rows = accuracy_rows(sight, placed, settings)
    return [*rows, *distribution_rows.distribution_rows(class_features(sight, folds), settings)]


def place(
    structures: Sequence[Judged], domains: Domains, search: Search, settings: ScoreSettings, real: bool
) -> list[Placed]:
    """Nearest domains of every structure; relatives of a real one do not count."""
    training = Library(domains.training)
    equal = _equal_training(domains, training, settings)
    unrelated = domains.unrelated if real else None
    found = [
        search.all(structures, library, f"nearest of {len(library)} {name} domains", unrelated)
        for name, library in (("held-out", Library(domains.held_out)), ("training", training), ("even training", equal))
    ]
    return [Placed(structure.label, *hits) for structure, *hits in zip(structures, *found, strict=True)]


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


def _class_sets(
    structures: Sequence[Judged],
    folds: np.ndarray,
    values: Mapping[str, np.ndarray],
    domains: Domains,
    settings: ScoreSettings,
) -> dict[str, ClassSet]:
    """The structures of each class beside the held-out domains of it."""
    reference = evaluate(domains.held_out, composition.METRICS)
    names = sorted(set(folds.tolist()) - {ALL}) or sorted(set(folds.tolist()))
    progress = Progress(
        "pairs within a class", sum(min(PAIRED_PER_CLASS, (folds == fold).sum()) for fold in names), "structures"
    )
    groups = {}
    for fold in names:
        own = np.flatnonzero(folds == fold)
        theirs = np.array([fold == ALL or levels_match(fold, domain.label) for domain in domains.held_out], bool)
        groups[fold] = ClassSet(
            {name: column[own] for name, column in values.items()},
            {name: column[theirs] for name, column in reference.items()},
            _pair_tm([structures[index] for index in own.tolist()], settings, fold, progress),
        )
    return groups


def _pair_tm(structures: Sequence[Judged], settings: ScoreSettings, fold: str, progress: Progress) -> np.ndarray:
    """TM-scores (k, k) of up to 12 structures drawn at random, mean of both normalisations, NaN on the diagonal."""
    order = generator(settings, "pairs", fold).permutation(len(structures))[:PAIRED_PER_CLASS]
    chosen = [structures[index] for index in order.tolist() if len(structures[index].ca) >= nearest_structures.FEWEST]
    table = np.full((len(chosen), len(chosen)), np.nan)
    for i, first in enumerate(chosen):
        for j in range(i):
            table[i, j] = table[j, i] = np.mean(tm_align_score(first.ca, chosen[j].ca))
        progress.advance()
    return table
