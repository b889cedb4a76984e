"""From entry files to one shard of the store: backbone, torsions, secondary structure and facts of each domain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import mdtraj
import numpy as np
from scipy.spatial import cKDTree

from ..errors import StructureError
from ..files import read_table
from ..geometry import torsions
from ..progress import Progress, say
from ..settings import FeaturizeSettings, LabelSettings
from ..structure import Backbone
from .labels import COLUMNS, rejection, write_rejected
from .parse import Structure, extract_domain, read_structure
from .store import MISSING, RESOLUTION, Entry, write_store

ANGSTROM_IN_NM = 0.1  # mdtraj counts in nanometres
CLOSEST_ATOMS = 0.5  # Å; two atoms of one conformation that lie closer coincide
LARGEST_COORDINATE = 9999.999  # Å; what the PDB format can hold
LARGEST_RADIUS = -MISSING * RESOLUTION - 1  # Å; what the store can hold
SCRATCH_NAMES = {"P": "PRO", "G": "GLY"}  # the residue types that DSSP tells apart


def secondary_structure(backbone: Backbone) -> tuple[str, ...]:
    """DSSP letters `H B E G I T S -` of every model, a string of length L each; `?` where a backbone atom is missing.

    Assigned by mdtraj (Kabsch & Sander (1983) Biopolymers 22, 2577); no hydrogen bond pattern runs across a break.
    """
    complete = np.flatnonzero(backbone.complete)
    letters = np.full((backbone.models, len(backbone)), "?")
    if not len(complete):
        return tuple("".join(row) for row in letters)
    topology = mdtraj.Topology()
    broken = np.flatnonzero(backbone.breaks)
    piece = np.searchsorted(broken, complete)
    chain = None
    for index, residue in enumerate(complete):
        if chain is None or piece[index] != piece[index - 1] or residue != complete[index - 1] + 1:
            chain = topology.add_chain()
        placed = topology.add_residue(SCRATCH_NAMES.get(backbone.sequence[residue], "ALA"), chain)
        for name in ("N", "CA", "C", "O"):
            topology.add_atom(name, mdtraj.element.carbon, placed)  # DSSP looks at names, not at elements
    positions = backbone.coords[:, complete, :4].reshape(backbone.models, -1, 3)
    assigned = mdtraj.compute_dssp(mdtraj.Trajectory(positions * ANGSTROM_IN_NM, topology), simplified=False)
    letters[:, complete] = np.where(assigned == " ", "-", assigned)
    return tuple("".join(row) for row in letters)


def check_geometry(backbone: Backbone) -> None:
    """Raise `StructureError("bad_geometry")` where coordinates are infinite, absurd, too far apart or coincide."""
    for number, model in enumerate(backbone.coords.reshape(backbone.models, -1, 3), 1):
        where = f"{backbone.id}, model {number}"
        if np.isinf(model).any() or np.abs(model[np.isfinite(model)]).max(initial=0) > LARGEST_COORDINATE:
            raise StructureError("bad_geometry", f"{where}: a coordinate is not within ±{LARGEST_COORDINATE:.0f} Å")
        atoms = model[np.isfinite(model).all(-1)].astype(np.float64)
        radius = np.abs(atoms - atoms.mean(axis=0)).max(initial=0) if len(atoms) else 0.0
        if radius > LARGEST_RADIUS:
            raise StructureError("bad_geometry", f"{where}: an atom is {radius:.0f} Å from the centre")
        if close := len(cKDTree(atoms).query_pairs(CLOSEST_ATOMS)) if len(atoms) else 0:
            raise StructureError("bad_geometry", f"{where}: {close} pairs of atoms closer than {CLOSEST_ATOMS} Å")


def check_quality(backbone: Backbone, settings: FeaturizeSettings, labels: LabelSettings) -> None:
    """Raise `StructureError` where the structure is too short, too long, too incomplete or geometrically impossible.

    The minimum counts residues with N, CA, C and O in every model, the maximum counts all residues.
    """
    complete, length = int(backbone.complete.sum()), len(backbone)
    if not complete:
        raise StructureError("no_complete_residue", f"{backbone.id}: none of {length} residues has N, CA, C and O")
    if complete < labels.min_length:
        raise StructureError("too_short", f"{complete} complete residues, the minimum is {labels.min_length}")
    if length > labels.max_length:
        raise StructureError("too_long", f"{length} residues, the maximum is {labels.max_length}")
    if length - complete > settings.max_missing * length:
        raise StructureError(
            "incomplete",
            f"{length - complete} of {length} residues lack N, CA, C or O; at most {settings.max_missing:.0%}",
        )
    check_geometry(backbone)


def _resolution(text: str, structure: Structure) -> float:
    try:
        return float(text)
    except ValueError:
        return structure.resolution


def make_entry(
    structure: Structure,
    row: Mapping[str, str],
    file: Mapping[str, str],
    settings: FeaturizeSettings,
    labels: LabelSettings,
) -> Entry:
    """What the store holds of the domain `row` (columns of `domains.tsv`) of a file (columns of `entries.tsv`).

    Raises `StructureError` where the domain is not in the structure or fails a check.
    """
    backbone = extract_domain(structure, row["chain"], row["residue_range"], row["domain_id"])
    check_quality(backbone, settings, labels)
    if backbone.models < len(structure.models):
        left_out = len(structure.models) - backbone.models
        say("featurize", f"{backbone.id}: {left_out} of {len(structure.models)} models have other residues, left out")
    facts = {
        **{name: row[name] for name in ("label", "cath", "scope", "role", "group")},
        "resolution": _resolution(row["resolution"], structure),
        "method": row["method"] or structure.method,
        "source": file["source"],
        "source_hash": file["sha256"],
        "breaks": int(backbone.breaks.sum()),
        "missing": len(backbone) - int(backbone.complete.sum()),
    }
    return Entry(backbone, torsions(backbone.coords, backbone.breaks), secondary_structure(backbone), facts)


def _guarded(function, *arguments):  # type: ignore[no-untyped-def]
    """`function(*arguments)`; what a library raises on one structure becomes a `StructureError` with its text."""
    try:
        return function(*arguments)
    except (StructureError, MemoryError):
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise StructureError("not_a_structure", f"{function.__name__} failed with {text}") from error


def _featurize_file(
    rows: Iterable[tuple[int, Mapping[str, str]]],
    file: Mapping[str, str],
    settings: FeaturizeSettings,
    labels: LabelSettings,
) -> Iterator[tuple[int, Entry | dict[str, str]]]:
    """Position and entry, or row of `rejected.tsv`, of each domain of one file, which is read once."""
    failed: StructureError | None = None
    structure = None
    try:
        structure = _guarded(read_structure, Path(file["path"]))
    except StructureError as error:
        failed = error
    for position, row in rows:
        try:
            if failed is not None:
                raise failed
            yield position, _guarded(make_entry, structure, row, file, settings, labels)
        except StructureError as error:
            yield position, rejection(row["domain_id"], file["path"], error)


def featurize_rows(
    rows: Iterable[Mapping[str, str]],
    files: Mapping[str, Mapping[str, str]],
    settings: FeaturizeSettings,
    labels: LabelSettings,
    stage: str,
) -> tuple[list[Entry], list[dict[str, str]]]:
    """Entries and rejections, each in the order of `rows`; `files` gives the row of `entries.tsv` of a pdb_id.

    Domains whose pdb_id has no file were rejected when the file was looked for, and are passed over.
    """
    of_file: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
    for position, row in enumerate(rows):
        if row["pdb_id"] in files:
            of_file.setdefault(row["pdb_id"], []).append((position, row))
    progress = Progress(stage, sum(map(len, of_file.values())), "domains")
    results: dict[int, Entry | dict[str, str]] = {}
    for pdb_id, members in of_file.items():
        for position, result in _featurize_file(members, files[pdb_id], settings, labels):
            results[position] = result
            progress.advance()
    ordered = [results[position] for position in sorted(results)]
    return [r for r in ordered if isinstance(r, Entry)], [r for r in ordered if isinstance(r, dict)]


def featurize(
    domains: Path,
    entries: Path,
    settings: FeaturizeSettings,
    labels: LabelSettings,
    batch: tuple[int, int],
    output: Path,
    rejected: Path,
) -> int:
    """Write one shard of the store with the rows `batch[0]::batch[1]` of `domains`, those that fail to `rejected`.

    `domains` and `entries` are `domains.tsv` and `entries.tsv`; `batch` is a 0-based index and the number of batches.
    Returns the number of domains written. A structure that cannot be used never stops the batch.
    """
    index, count = batch
    if not 0 <= index < count:
        raise ValueError(f"batch: expected an index from 0 to {count - 1} of {count}, got {index}")
    rows = read_table(domains, COLUMNS)[index::count]
    files = {row["pdb_id"]: row for row in read_table(entries, ("pdb_id", "source", "path", "sha256"))}
    stored, dropped = featurize_rows(rows, files, settings, labels, f"featurize {index + 1}/{count}")
    write_store(output, stored, compression=settings.compression)
    write_rejected(rejected, dropped)
    return len(stored)
