"""Inputs of scoring: domains of a store, reconstructions, and structure files of any origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ..core.errors import StructureError, UserError, printable, rejection
from ..core.files import read_table, refuse_renamed
from ..core.progress import say, track
from ..core.structure import CA, LONGEST_PEPTIDE_BOND, Backbone, C, N, O
from ..io.read import LARGEST_COORDINATE, SUFFIX, guarded, read_structure, structure_files, unused
from ..io.residues import ParsedStructure
from ..io.trajectory import is_trajectory
from ..io.write import MANIFEST
from ..similarity.nearest_structures import FEWEST
from ..store.layout import RESIDUE_ID_BYTES
from ..store.read import Store
from .metrics.metric import PreparedStructure
from .metrics.novelty import RealDomains
from .metrics.reconstruction import Pair

SPLIT_COLUMNS = ("domain_id", "split", "label", "superfamily", "group")
RECORDED = ("rate", "trace_rmsd", "permuted_code_rmsd", "swapped_label_rmsd")


def prepare(store: Store, name: str, label: str) -> PreparedStructure:
    """The first model of a structure of a store, prepared for the metrics."""
    return PreparedStructure.of(store.backbone(name), label, store.ss(name)[0])


def read_domains(store: Path, splits: Path) -> RealDomains:
    """The test, training and validation domains; `UserError` where a domain of the table is not stored."""
    rows = read_table(splits, SPLIT_COLUMNS)
    with Store(store) as file:
        held_out, training, validation = (
            [prepare(file, row["domain_id"], row["label"]) for row in rows if row["split"] == split]
            for split in ("test", "train", "validation")
        )
    superfamily, group, cluster, rung = (
        {row["domain_id"]: row.get(name, "") for row in rows}
        for name in ("superfamily", "group", "sequence_cluster", "rung")
    )
    return RealDomains(held_out, training, superfamily, group, cluster, validation, rung)


def read_structures(path: Path) -> list[PreparedStructure]:
    """Every structure of a store of samples, in order."""
    with Store(path) as file:
        return [prepare(file, name, str(file.fact(name, "label"))) for name in file.ids]


def read_pairs(path: Path, references: Iterable[PreparedStructure]) -> list[Pair]:
    """Every reconstruction of a store with its held-out domain; `UserError` if that domain is unknown."""
    known = {reference.id: reference for reference in references}
    pairs = []
    with Store(path) as file:
        refuse_renamed(path, "column", file.columns)
        for name in file.ids:
            if name not in known:
                raise UserError(f"{path}: the reconstruction {name!r} is of no held-out domain of the store")
            facts = {column: float(file.fact(name, column)) for column in RECORDED if column in file.columns}
            pairs.append(Pair(prepare(file, name, str(file.fact(name, "label"))), known[name], facts))
    return pairs


LONGEST = 2000  # residues
LONGEST_ID = 60  # letters
OXYGEN_BOND = 1.231  # Å from C to O, Engh & Huber 1991


@dataclass(frozen=True, eq=False)
class Sample:
    """One structure as it was found.

    `file` is relative to the given folder, `model` is its number in the file, and `atoms` says which atoms the
    structure has: `backbone`, `backbone, O placed`, or `CA alone`.
    """

    structure: PreparedStructure
    backbone: Backbone
    file: str
    model: int
    chain: str
    atoms: str


@dataclass(frozen=True, eq=False)
class Found:
    """Samples, and rows of `rejected.tsv` for what could not be used."""

    samples: list[Sample]
    rejected: list[dict[str, str]]


NOT_DESIGNS = {
    "traj": "steps of a sampler, as RFdiffusion keeps them",
    "*_traj*.cif*": "steps of a sampler",
    "*_traj*.pdb*": "steps of a sampler, as RFdiffusion, FrameDiff and FrameFlow keep them",
    "sample_history": "steps of foldingdiff",
    "motif_pdbs": "motifs of Genie 2",
    "self_consistency": "copies and predictions of FrameDiff",
    "*Accepted/Ranked": "copies of BindCraft's accepted designs",
    "*Accepted/Animation": "pictures of BindCraft",
    "Trajectory": "steps of BindCraft",
    "Rejected": "designs that BindCraft rejected",
    "MPNN": "sequences and relaxed copies of BindCraft",
    "intermediate_designs*": "designs of BoltzGen before it has chosen",
    "intermediate_ranked_*_designs": "designs of BoltzGen before it has chosen",
}
"""Patterns of files and folders in which generators keep things other than designs, and what these are."""


def read_samples(
    source: Path, taken: Iterable[str] = (), exclude: Sequence[str] = (), include: Sequence[str] = ()
) -> Found:
    """Every protein chain of every model of the structure files at or below `source`, or every row of a store.

    An id is the path below the folder without its suffix, with chain and model if a file has several; ids differ from
    each other and from `taken`. What cannot be read is rejected, as are chains of fewer than five CA or more than 2,000
    residues; nothing is left out for its geometry. `UserError` if there is no such file at all.

    exclude : patterns of files and folders below the folder that are left out, such as `drafts` or `*_old.pdb`
    include : patterns of the only ones that are read; without any, matches of `NOT_DESIGNS` are left out as well
    """
    is_store = source.is_file() and source.suffix.lower() in (".h5", ".hdf5")
    read = _of_store(source) if is_store else _of_files(source, exclude, include)
    found = Found([], [])
    ids = set(taken)
    for file, sample in read:
        if isinstance(sample, StructureError):
            found.rejected.append({k: printable(v) for k, v in rejection(file, source, sample).items()})
            continue
        name = unused(sample.backbone.id[-LONGEST_ID:], ids, "sample")
        ids.add(name)
        named = replace(sample.backbone, id=name)
        found.samples.append(replace(sample, backbone=named, structure=replace(sample.structure, id=name)))
    if not is_store:
        _say_models(found.samples)
    return found


def _say_models(samples: Sequence[Sample]) -> None:
    """Say how many samples are models of one file, as the steps of a sampler's trajectory are."""
    models: dict[str, set[int]] = {}
    for sample in samples:
        models.setdefault(sample.file, set()).add(sample.model)
    several = {file for file, numbers in models.items() if len(numbers) > 1}
    if several:
        count = sum(sample.file in several for sample in samples)
        said = f"{len(several)} of {len(models)} files hold several models: {count} of {len(samples)} samples"
        say("samples", f"{said}; leave out trajectories with --exclude")


def _fits(path: Path, source: Path, patterns: Iterable[str]) -> bool:
    """Whether a file, by its name or path below `source`, or a folder above it fits a pattern."""
    below = path.relative_to(source)
    parts = [below, *below.parents[:-1]]
    wanted = [pattern.removeprefix("./").rstrip("/") for pattern in patterns]  # as a shell completes a folder
    return any(fnmatchcase(text, pattern) for part in parts for text in (str(part), part.name) for pattern in wanted)


def _files(source: Path, exclude: Sequence[str], include: Sequence[str]) -> list[Path]:
    """The structure files to be read; those left out are counted and reported."""
    shown = printable(str(source))
    if not (source.is_file() or source.is_dir()):
        what = "a pipe or device, which cannot be read twice" if source.exists() else "nothing there"
        raise UserError(f"{shown}: expected structures or a folder of them, found {what}")
    if source.is_file() and is_trajectory(source):
        raise UserError(
            f"{shown}: a trajectory; `featurize --input {shown} --topology FILE -o frames.h5 --rejected no.tsv` makes "
            "a store of its frames, which can be scored"
        )
    if source.is_file():
        return [source]
    below = [found for found in structure_files(source) if not found[0].name.startswith(".")]
    left_out = {pattern: f"fit --exclude {pattern}" for pattern in exclude}
    if include:
        fitting = [found for found in below if _fits(found[0], source, include)]
        say("samples", f"{len(fitting)} of {len(below)} files in {shown} fit --include")
        if not fitting:
            raise UserError(f"{shown}: none of its {len(below)} files fits --include {printable(' '.join(include))}")
        below = fitting
    else:
        left_out |= {pattern: f"are {what} ({pattern}); --include takes them" for pattern, what in NOT_DESIGNS.items()}
    there = below
    for pattern, why in left_out.items():
        kept = [found for found in below if not _fits(found[0], source, [pattern])]
        if len(kept) < len(below):
            say("samples", f"{len(below) - len(kept)} files in {shown} are left out: they {why}")
        elif pattern in exclude and not any(_fits(path, source, [pattern]) for path, _ in there):
            say("samples", f"no file in {shown} fits --exclude {pattern}")
        below = kept
    if there and not below:
        raise UserError(
            f"{shown}: all of its {len(there)} files are left out, by --exclude or as what is no design; "
            "--include '*' takes the latter"
        )
    paths = [path for path, name in below if name]
    if not paths:
        stores = ", ".join(path.name for path, _ in below if path.suffix == ".h5")
        other = f"; of its stores give one: {printable(stores)}" if stores else ""
        raise UserError(
            f"{printable(str(source))}: expected files that end in .pdb, .ent, .cif, .mmcif or .bcif, with or without "
            f".gz, found none among {len(below)}{other}"
        )
    if others := sum(not name and path.name != MANIFEST for path, name in below):
        say("samples", f"{others} files in {printable(str(source))} do not end like a structure file, passed over")
    return paths


def _of_files(
    source: Path, exclude: Sequence[str], include: Sequence[str]
) -> Iterator[tuple[str, Sample | StructureError]]:
    """File name and sample, or the error, of each chain and model."""
    paths = _files(source, exclude, include)
    for path in track(paths, "samples", len(paths), "files"):
        file = printable(path.name if path == source else path.relative_to(source).as_posix())
        try:
            yield from ((file, sample) for sample in _of_structure(guarded(read_structure, path), file))
        except StructureError as error:
            yield file, error


def _of_structure(structure: ParsedStructure, file: str) -> Iterator[Sample | StructureError]:
    if structure.left_out:
        yield structure.left_out
    models, several = structure.models, len(structure.chains) > 1
    for model in models:
        here = structure.model == model
        for chain in dict.fromkeys(structure.chain[here].tolist()):
            letters = chain.decode()
            parts = [SUFFIX.sub("", file), letters if several else "", f"m{model:04d}" if len(models) > 1 else ""]
            rows = np.flatnonzero(here & (structure.chain == chain))
            try:
                backbone = structure.backbone(rows[None], "_".join(part for part in parts if part))
                yield guarded(_sample, backbone, file, int(model), letters)
            except StructureError as error:
                yield StructureError(error.code, f"model {model}, chain {letters or 'without a name'}: {error.detail}")


def _of_store(path: Path) -> Iterator[tuple[str, Sample | StructureError]]:
    """Id and sample, or the error, of each row of a store; labels are those of the store."""
    with Store(path) as store:
        for name in track(store.ids, "samples", len(store.ids), "structures"):
            whole = store.backbone(name)
            label = str(store.fact(name, "label", ""))
            for index in range(whole.models):
                own = replace(whole.model(index), id=f"{name}_m{index + 1:04d}" if whole.models > 1 else name)
                try:
                    sample = guarded(_sample, own, path.name, index + 1, "")
                    yield name, replace(sample, structure=replace(sample.structure, label=label))
                except StructureError as error:
                    yield name, error


def _sample(backbone: Backbone, file: str, model: int, chain: str) -> Sample:
    """A sample of one conformation; `StructureError` if it is too short or too long to be evaluated."""
    coords = backbone.coords[0].astype(np.float64)
    absurd = ~(np.abs(coords) <= LARGEST_COORDINATE).all(axis=-1)  # NaN and infinite as well
    coords[absurd] = np.nan
    known = int(np.isfinite(coords[:, CA, 0]).sum())
    if known < FEWEST:
        raise StructureError(
            "too_short", f"{known} of {len(coords)} residues have a CA at a finite place; {FEWEST} need one"
        )
    if len(coords) > LONGEST:
        raise StructureError("too_long", f"{len(coords)} residues, the maximum is {LONGEST}")
    atoms = "backbone" if np.isfinite(coords[:, (N, C), 0]).all(axis=1).any() else "CA alone"
    placed = placed_oxygen(coords)
    if np.isfinite(placed).sum() > np.isfinite(coords).sum():
        atoms = "backbone, O placed"
    ids = backbone.residue_ids
    if max(map(len, ids)) > RESIDUE_ID_BYTES:
        ids = tuple(str(number) for number in range(1, len(ids) + 1))
    made = replace(backbone, coords=placed[None].astype(np.float32), residue_ids=ids)
    return Sample(PreparedStructure.of(made, ""), made, file, model, chain, atoms)


def placed_oxygen(coords: np.ndarray) -> np.ndarray:
    """Coordinates (L, 5, 3) in Å with missing carbonyl O placed, in residues that a peptide bond follows.

    O lies in the plane of CA, C and the next N, on the bisector of their angle, 1.231 Å from C: within 2° of the
    angles of Engh & Huber (1991). Samples with only N, CA and C can thus be assigned a secondary structure.
    """
    made = coords.copy()
    carbon, following = coords[:-1, C], coords[1:, N]
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.linalg.norm(following - carbon, axis=1, keepdims=True)
        along = (carbon - coords[:-1, CA]) / np.linalg.norm(carbon - coords[:-1, CA], axis=1, keepdims=True)
        half = along + (carbon - following) / apart
        oxygen = carbon + OXYGEN_BOND * half / np.linalg.norm(half, axis=1, keepdims=True)
    lacks = ~np.isfinite(coords[:-1, O]).all(axis=1) & np.isfinite(oxygen).all(axis=1)
    lacks &= (apart[:, 0] <= LONGEST_PEPTIDE_BOND) & np.isfinite(coords[:-1, N]).all(axis=1)
    made[:-1, O] = np.where(lacks[:, None], oxygen, coords[:-1, O])
    return made
