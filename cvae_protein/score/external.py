"""Samples of any origin evaluated against a store of real domains: what `score --reference` does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config.settings import ScoreSettings
from ..core.errors import UserError
from ..core.files import read_table, write_rejected, write_table
from ..core.labels import is_within
from ..core.progress import say, track
from ..core.variants import REAL
from ..io.read import SUFFIX
from ..io.write import MANIFEST
from ..similarity.nearest_structures import Search
from ..store.layout import Entry
from ..store.read import Store
from ..store.write import write_store
from .inputs import Found, Sample, prepare, read_domains, read_samples
from .metrics import novelty
from .metrics.classifier import EmbeddingPair, read_features
from .metrics.metric import ALL, SCORE_COLUMNS, Better, ScoreRow, generator, mean_estimate
from .metrics.novelty import RealDomains, find_nearest
from .score import (
    STRUCTURE_COLUMNS,
    evaluate_nearest,
    evaluate_structures,
    read_held_out,
    stand_ins,
    structure_table,
    write_scores,
)

SAMPLE_COLUMNS = ("id", "file", "model", "chain", "label", "length", "atoms", "duplicate_of")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+){0,7}")  # of a classification, or user-defined
RESERVED = (ALL, "worst_decile")  # folds of the score table that are not classes
LARGEST_RADIUS = 320.0  # Å from the centre, the most that a store holds
NEEDS_BACKBONE = frozenset(
    (
        *("physically_valid", "overlaps", "bond_rmsz", "angle_rmsz", "ramachandran_favoured", "ramachandran_outlier"),
        *("helix", "strand", "wasserstein_helix", "wasserstein_strand"),
    )
)
NEEDS_TRAINING = frozenset(("training_tm", "training_tm_matched", "memorisation_ratio"))
NEEDS_CLASS = frozenset(("nearest_same_class", *(metric.name for metric in (*novelty.COVERAGE, *novelty.RECALL))))
NEEDS_MEMBERS = frozenset(
    ("cov_r", "mat_r", "cov_p", "mat_p", "wasserstein_helix", "wasserstein_strand", "wasserstein_rg")
)


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Samples with their labels, the domains with which they are compared, and what was left out.

    `lost` are the classes of rejected structures, `named` all classes in the table of labels; `duplicates` maps each
    sample to the first one with the same coordinates, if that is another sample.
    """

    found: Found
    domains: RealDomains
    lost: Sequence[str]
    named: Sequence[str]
    duplicates: Mapping[str, str]


def read_set(
    samples: Path,
    reference: Path,
    splits: Path | None,
    labels: Path | None,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
) -> SampleSet:
    """Read samples, labels and the reference, whose domains all count as held out if `splits` is None.

    `labels` is a table with the columns `label` and `id` (that of a sample, or a file's name without suffix) or `file`
    (below the folder); a folder that we wrote has its own. `exclude` and `include` are those of `read_samples`.
    `UserError` if a table has another format or the reference has no domains to compare with.
    """
    labels = labels or _manifest(samples)
    table = _read_labels(labels) if labels else {}
    domains = read_domains(reference, splits) if splits else _all_held_out(reference)
    if not domains.held_out:
        where = f"{splits}: expected domains of the split `test`" if splits else f"{reference}: expected domains"
        raise UserError(f"{where}, found none; there is nothing to compare the samples with")
    found = read_samples(samples, {domain.id for domain in [*domains.held_out, *domains.training]}, exclude, include)
    labelled = [_labelled(sample, table) for sample in found.samples] if labels else found.samples
    if labels:
        _say_unlabelled(labelled, labels)
    for label in {sample.structure.label for sample in labelled} - {""}:
        _check_label(label, samples)
    lost = [_label_of(table, row["domain_id"]) for row in found.rejected]
    return SampleSet(Found(labelled, found.rejected), domains, lost, sorted(set(table.values())), duplicates(labelled))


def _manifest(samples: Path) -> Path | None:
    """The table of a folder of samples that we wrote; None if the folder is not one, or has no labels."""
    path = samples / MANIFEST
    if not path.is_file():
        return None
    with open(path, encoding="utf-8", errors="replace") as handle:
        if not handle.readline().startswith("id\tfile\tlength\t"):
            return None
    return path if any(row.get("label") for row in read_table(path)) else None


def _all_held_out(reference: Path) -> RealDomains:
    """All domains of a store, as held-out domains."""
    with Store(reference) as store:
        members = [
            prepare(store, name, str(store.fact(name, "label", "")))
            for name in track(store.ids, "reference", len(store.ids), "domains")
        ]
    return RealDomains(members, [], {}, {}, {})


def _read_labels(path: Path) -> dict[str, str]:
    """Label by id or file, if not empty; `UserError` if the table has neither column or a label is not a code."""
    rows = read_table(path, ("label",))
    columns = [name for name in ("id", "file") if rows and name in rows[0]]
    if rows and not columns:
        raise UserError(f"{path}: expected the columns `id label` or `file label`, found {', '.join(rows[0])}")
    table: dict[str, str] = {}
    for row in rows:
        label = row["label"].strip()
        if label:
            _check_label(label, path)
        for name in columns:
            if row[name] and label and table.setdefault(row[name], label) != label:
                raise UserError(f"{path}: {row[name]!r} stands there with two labels, {table[row[name]]} and {label}")
    return table


def _check_label(label: str, where: Path) -> None:
    if label in RESERVED or not LABEL.fullmatch(label):
        raise UserError(f"{where}: expected labels such as 3, 3.40 or c.37.1, got {label[:40]!r}")


def _labelled(sample: Sample, table: Mapping[str, str]) -> Sample:
    """The sample with its label from the table, empty if there is none."""
    label = _label_of(table, sample.file, sample.backbone.id)
    return replace(sample, structure=replace(sample.structure, label=label))


def _label_of(table: Mapping[str, str], file: str, name: str = "") -> str:
    """Label of a sample by its id, its file below the folder, the file's name, or that without suffix."""
    base = file.rsplit("/", 1)[-1]
    keys = (name, file, base, SUFFIX.sub("", file), SUFFIX.sub("", base))
    return next((table[key] for key in keys if key in table), "")


def _say_unlabelled(samples: Sequence[Sample], labels: Path) -> None:
    without = [sample.backbone.id for sample in samples if not sample.structure.label]
    if without:
        say("score", f"{len(without)} of {len(samples)} samples have no label in {labels}, the first: {without[0]}")
    if samples and len(without) == len(samples):
        raise UserError(f"{labels}: expected ids or files of the samples, such as {without[0]!r}; none of it is there")


def duplicates(samples: Sequence[Sample]) -> dict[str, str]:
    """For each sample that repeats earlier coordinates, the id of the first sample with these coordinates."""
    first: dict[bytes, str] = {}
    ids = [
        (sample.backbone.id, first.setdefault(sample.backbone.coords.tobytes(), sample.backbone.id))
        for sample in samples
    ]
    return {name: other for name, other in ids if name != other}


def write_set(samples: SampleSet, output: Path, name: str, seed: int) -> list[str]:
    """Write `samples.tsv`, `rejected.tsv` and `samples.h5` into the folder `output`; return the ids in the store.

    `UserError`, after the tables are written, if no sample can be used.
    """
    output.mkdir(parents=True, exist_ok=True)
    found, rejected = samples.found.samples, samples.found.rejected
    write_rejected(output / "rejected.tsv", rejected)
    write_table(output / "samples.tsv", SAMPLE_COLUMNS, (_sample_row(sample, samples.duplicates) for sample in found))
    if not found:
        first = f"; the first: {rejected[0]['domain_id']}: {rejected[0]['detail']}" if rejected else ""
        raise UserError(f"{output / 'rejected.tsv'}: none of {len(rejected)} structures can be used{first}")
    if rejected:
        say(
            "score",
            f"{len(rejected)} of {len(rejected) + len(found)} structures cannot be used: {output / 'rejected.tsv'}",
        )
    kept = [sample for sample in found if _fits_a_store(sample)]
    if len(kept) < len(found):
        say("score", f"{len(found) - len(kept)} samples reach farther than a store holds: not in samples.h5")
    entries = (_entry(sample, {"label": sample.structure.label, "variant": name, "seed": seed}) for sample in kept)
    write_store(output / "samples.h5", entries, kind="samples")
    return [sample.backbone.id for sample in kept]


def _fits_a_store(sample: Sample) -> bool:
    atoms = sample.structure.coords.reshape(-1, 3)
    atoms = atoms[np.isfinite(atoms).all(axis=1)]
    return bool(np.abs(atoms - atoms.mean(axis=0)).max() < LARGEST_RADIUS)


def _entry(sample: Sample, facts: Mapping[str, str | int]) -> Entry:
    return Entry(sample.backbone, facts)


def _sample_row(sample: Sample, duplicates: Mapping[str, str]) -> dict[str, object]:
    structure = sample.structure
    row: dict[str, object] = {name: getattr(sample, name) for name in ("file", "model", "chain", "atoms")}
    row |= {"id": structure.id, "label": structure.label, "length": len(structure)}
    return row | {"duplicate_of": duplicates.get(structure.id, "")}


def read_set_embeddings(samples: SampleSet, own: Path, real: Path) -> EmbeddingPair:
    """Embeddings of the samples (NaN if absent), from the file `own`, and of the held-out domains, from `real`."""
    names = [sample.backbone.id for sample in samples.found.samples]
    return EmbeddingPair(read_features(own).of(names, all_there=False), read_held_out(real, samples.domains))


def score_set(
    samples: SampleSet,
    output: Path,
    name: str,
    seed: int,
    settings: ScoreSettings,
    embeddings: EmbeddingPair | None = None,
) -> None:
    """Write `scores.tsv` and `structures.tsv` of a set into the folder `output`, each whole or not at all."""
    structures = [sample.structure for sample in samples.found.samples]
    evaluation = evaluate_structures(structures, samples.domains, settings, embeddings)
    rows = [*_count_rows(samples, settings), *(_explained(row, samples) for row in evaluation.rows)]
    table = structure_table(structures, "sample", evaluation.values, evaluation.nearest, evaluation.predictions)
    write_table(output / "structures.tsv", STRUCTURE_COLUMNS, table)
    write_table(output / "scores.tsv", SCORE_COLUMNS, (row.cells(name, str(seed)) for row in rows))
    say(
        "score",
        f"{len(structures)} samples beside {len(samples.domains.held_out)} held-out domains: {output / 'scores.tsv'}",
    )


def score_stand_ins(domains: RealDomains, settings: ScoreSettings, output: Path) -> None:
    """Write `scores.tsv` and `structures.tsv` of real domains evaluated as samples: the row `real` of a set.

    They are validation domains of the split, or else training domains, or else domains of the reference itself, each
    without itself and its superfamily (that of the split, or else its label of four levels) as neighbours. Metrics
    based on the fold classifier have no number.
    """
    if not any(domains.superfamily.values()):
        known = [*domains.held_out, *domains.training, *domains.validation]
        domains = replace(domains, superfamily={each.id: each.label for each in known if each.label.count(".") >= 3})
    structures = stand_ins(domains.validation or domains.training or domains.held_out, settings)
    search = Search(settings.neighbours)
    nearest = find_nearest(structures, domains, search, settings, domains.unrelated)
    found = evaluate_nearest(structures, nearest, domains, search, settings, None, domains.unrelated)
    table = structure_table(structures, REAL, found.values, found.nearest)
    write_scores(output, {REAL: found.rows}, "", table)


def _count_rows(samples: SampleSet, settings: ScoreSettings) -> list[ScoreRow]:
    """Share of the structures that could be used, and of those that repeat an earlier one, over all and per class."""
    found = samples.found.samples
    labels = np.array([sample.structure.label for sample in found] + list(samples.lost), object)
    usable = np.repeat([1.0, 0.0], [len(found), len(samples.lost)])
    repeated = np.array([float(sample.backbone.id in samples.duplicates) for sample in found])
    rows = []
    for fold in (ALL, *sorted({*samples.named, *labels.tolist()} - {""})):
        chosen = labels == fold if fold != ALL else np.ones(len(labels), bool)
        parts: tuple[tuple[str, Better, np.ndarray], ...] = (
            ("readable", "high", usable[chosen]),
            ("repeated", "low", repeated[chosen[: len(found)]]),
        )
        for name, better, values in parts:
            estimate = mean_estimate(values, settings, generator(settings, name, fold))
            note = "" if len(values) else "no structure of the class"
            rows.append(ScoreRow(name, "share", better, fold, estimate, note=note))
    return rows


def _explained(row: ScoreRow, samples: SampleSet) -> ScoreRow:
    """The row with the reason why a number is absent, or over which part of the structures it is taken."""
    if row.note:
        return row
    inside = [s for s in samples.found.samples if row.fold in (ALL, s.structure.label)]
    alone = sum(sample.atoms == "CA alone" for sample in inside)
    labelled = any(sample.structure.label for sample in inside)
    members = any(row.fold == ALL or is_within(domain.label, row.fold) for domain in samples.domains.held_out)
    absent = np.isnan(row.estimate.value)
    if absent and row.metric in NEEDS_TRAINING and not samples.domains.training:
        note = "no training domains are known: give --splits"
    elif absent and row.metric in NEEDS_CLASS and not labelled:
        note = "no target class was given: give --targets"
    elif absent and row.metric in NEEDS_MEMBERS and not members:
        note = "no held-out domain of the class"
    elif alone and row.metric in NEEDS_BACKBONE:
        note = f"needs N, C and O; {alone} of {len(inside)} samples are CA alone"
    else:
        note = ""
    return replace(row, note=note)
