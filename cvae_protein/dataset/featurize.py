"""From a structure file to a store entry: domain, quality checks, facts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ..config.settings import FeaturizeSettings, LabelSettings
from ..core.errors import StructureError, UserError, rejection
from ..core.files import read_table, sha256, write_rejected
from ..core.progress import say, track
from ..core.structure import Backbone
from ..io.read import (
    LARGEST_COORDINATE,
    Names,
    conformers,
    extract_domain,
    guarded,
    read_confidence,
    read_structure,
    structure_files,
    unused,
)
from ..io.residues import ParsedStructure
from ..io.trajectory import read_trajectory
from ..io.write import MANIFEST
from ..store.layout import MISSING, RESIDUE_ID_BYTES, RESOLUTION, Entry
from ..store.write import write_store
from .ensembles import in_order, joined
from .fetch.lockfile import key_of, read_entries
from .formats import REQUIRED
from .select import COLUMNS, domain_row

CLOSEST_ATOMS = 0.5  # Å; atoms of a conformation that are closer coincide
LARGEST_RADIUS = -MISSING * RESOLUTION - 1  # Å; the limit of the store


def check_geometry(backbone: Backbone) -> None:
    """Raise `StructureError("bad_geometry")` if coordinates are infinite, absurd, too far apart or coincide."""
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
    """Raise `StructureError` if the structure is too short, too long, too incomplete or geometrically impossible.

    The minimum length counts residues with N, CA, C and O in every model; the maximum counts all residues.
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
    if len(longest := max(backbone.residue_ids, key=len)) > RESIDUE_ID_BYTES:
        raise StructureError("not_a_structure", f"residue number {longest} has more than {RESIDUE_ID_BYTES} characters")
    check_geometry(backbone)


Result = Entry | dict[str, str]  # a domain's store entry, or a row of rejected.tsv
MOST_WAITING = 1000  # domains read before their turn with others of their file; limits memory
LONGEST_NAME, LONGEST_CHAIN = 60, 12  # characters of the file and chain name used in an id


def _resolution(text: str, structure: ParsedStructure) -> float:
    try:
        return float(text)
    except ValueError:
        return structure.resolution


def make_entry(
    structure: ParsedStructure,
    row: Mapping[str, str],
    file: Mapping[str, str],
    settings: FeaturizeSettings,
    labels: LabelSettings,
) -> Entry:
    """The store entry for the domain `row` (columns of `domains.tsv`) in a file (columns of `entries.tsv`).

    Raises `StructureError` if the domain is not in the structure or fails a check.
    """
    numbering = row.get("numbering") or "author"
    backbone = extract_domain(
        structure, row["chain"], row["residue_range"], row["domain_id"], numbering, _models(row, structure)
    )
    if settings.min_plddt:
        _check_confidence(backbone, Path(file["path"]), settings.min_plddt)
    if settings.stride > 1:
        backbone = replace(backbone, coords=backbone.coords[:: settings.stride])
    return entry_of(backbone, {**row, **_facts(structure, row)}, file, settings, labels)


def _models(row: Mapping[str, str], structure: ParsedStructure) -> list[int]:
    """The models that a row refers to, by default all. Raises `StructureError("model_not_found")`."""
    wanted = [int(number) for number in row.get("models", "").split(",") if number]
    if absent := set(wanted).difference(structure.models):
        known = ", ".join(map(str, structure.models[:10]))
        raise StructureError("model_not_found", f"{structure.name}: no model {min(absent)}; it has {known}")
    return wanted or structure.models


def _check_confidence(backbone: Backbone, path: Path, least: float) -> None:
    known = read_confidence(path)
    values = [known[name] for name in backbone.residue_ids if name in known]
    if values and (mean := sum(values) / len(values)) < least:
        raise StructureError(
            "low_confidence", f"mean pLDDT {mean:.1f} of {len(values)} residues, the minimum is {least}"
        )


def _facts(structure: ParsedStructure, row: Mapping[str, str]) -> dict[str, Any]:
    """Resolution and method from the row, or else from the file."""
    return {"resolution": _resolution(row["resolution"], structure), "method": row["method"] or structure.method}


def entry_of(
    backbone: Backbone,
    row: Mapping[str, Any],
    file: Mapping[str, str],
    settings: FeaturizeSettings,
    labels: LabelSettings,
) -> Entry:
    """The store entry for a domain read from a file; `StructureError` if it fails a check."""
    check_quality(backbone, settings, labels)
    facts: dict[str, str | float | int] = {
        **{name: row[name] for name in ("label", "cath", "scope", "role", "group")},
        "superfamily": row.get("superfamily", ""),
        "resolution": row["resolution"],
        "method": row["method"],
        "source": file["source"],
        "source_hash": file["sha256"],
        "breaks": int(backbone.breaks.sum()),
        "missing": len(backbone) - int(backbone.complete.sum()),
    }
    return Entry(backbone, facts)


def _featurize_file(
    rows: Iterable[tuple[int, Mapping[str, str]]],
    file: Mapping[str, str],
    settings: FeaturizeSettings,
    labels: LabelSettings,
) -> Iterator[tuple[int, list[Result]]]:
    """For each domain of one file, which is read once: its position, and its entry or rejections."""
    try:
        structure = guarded(read_structure, Path(file["path"]))
    except StructureError as failed:
        for position, row in rows:
            yield position, [rejection(row["domain_id"], file["path"], failed)]
        return
    for position, row in rows:
        results: list[Result] = []
        try:
            results.append(entry := guarded(make_entry, structure, row, file, settings, labels))
            if others := len(_models(row, structure)[:: settings.stride]) - entry.backbone.models:
                said = f"{others} of {len(structure.models)} models have other residues than the first and are left out"
                raise StructureError("other_models", said)
        except StructureError as error:
            results.append(rejection(row["domain_id"], file["path"], error))
        yield position, results


def featurize_rows(
    rows: Iterable[Mapping[str, str]],
    files: Mapping[str, Mapping[str, str]],
    settings: FeaturizeSettings,
    labels: LabelSettings,
    stage: str,
) -> Iterator[Result]:
    """Entry, or rows of `rejected.tsv`, for each of `rows` in order; `files` comes from `read_entries`.

    A file is read once for all its domains, unless more than `MOST_WAITING` results would have to wait for their turn.
    Domains without a file, which were rejected when it was looked for, are skipped.
    """
    of_file: dict[str, deque[tuple[int, Mapping[str, str]]]] = {}
    order = []
    seen: set[str] = set()
    for position, row in enumerate(rows):
        if row["domain_id"] in seen:
            yield rejection(
                row["domain_id"], stage, StructureError("duplicate_id", "an earlier row has this domain_id")
            )
            continue
        seen.add(row["domain_id"])
        if key := key_of(row, files):
            of_file.setdefault(key, deque()).append((position, row))
            order.append((position, key))
    waiting: dict[int, list[Result]] = {}
    for position, key in track(order, stage, len(order), "domains"):
        if position not in waiting:
            members = of_file[key]
            taken = [members.popleft() for _ in range(min(len(members), 1 + MOST_WAITING - len(waiting)))]
            waiting.update(_featurize_file(taken, files[key], settings, labels))
        yield from waiting.pop(position)


def _write(
    results: Iterable[Result], rejections: list[dict[str, str]], output: Path, rejected: Path, compression: str
) -> int:
    """Write entries to a store as they arrive, then all rejections; returns the number of domains."""
    count = 0

    def entries() -> Iterator[Entry]:
        nonlocal count
        for result in results:
            if isinstance(result, Entry):
                count += 1
                yield result
            else:
                rejections.append(result)

    write_store(output, entries(), compression=compression)
    write_rejected(rejected, rejections)
    return count


def featurize(
    domains: Path,
    entries: Path,
    settings: FeaturizeSettings,
    labels: LabelSettings,
    batch: tuple[int, int],
    output: Path,
    rejected: Path,
) -> int:
    """Write a shard of the store from the rows `batch[0]::batch[1]` of `domains`, and those that fail to `rejected`.

    `domains` and `entries` are `domains.tsv` and `entries.tsv`; `batch` is a 0-based index and the number of batches.
    Returns the number of domains written. An unusable structure never stops the batch.
    """
    index, count = batch
    if not 0 <= index < count:
        raise ValueError(f"batch: expected an index from 0 to {count - 1} of {count}, got {index}")
    rows = read_table(domains, [name for name in COLUMNS if name != "superfamily"])[index::count]
    files = read_entries(entries)
    results = featurize_rows(rows, files, settings, labels, f"featurize {index + 1}/{count}")
    return _write(results, [], output, rejected, settings.compression)


def _structure_files(source: Path) -> dict[str, dict[str, str]]:
    """Rows of `entries.tsv`, without hashes, for the structure files at or below `source`, by safe and unique name.

    The column `name` is the file's own name, with any characters and length, and need not be unique.
    """
    if not (source.is_file() or source.is_dir()):
        there = "a pipe or device, which cannot be read twice" if source.exists() else "nothing there"
        raise UserError(f"{source}: expected a structure file or a folder of them, found {there}")
    found = structure_files(source)
    files: dict[str, dict[str, str]] = {}
    for path, given in found:
        if given or path == source:
            name = unused((given or path.name)[:LONGEST_NAME], files, "structure")
            files[name] = {"pdb_id": name, "source": source.name, "path": str(path), "name": given or path.name}
    if not files:
        raise UserError(f"{source}: no file there ends in .pdb, .ent, .cif, .mmcif or .bcif, with or without .gz")
    if others := sum(not given and path != source and path.name != MANIFEST for path, given in found):
        say("featurize", f"{others} files in {source} do not end like a structure file, passed over")
    return files


def _whole_chains(files: Mapping[str, Mapping[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """A row of `domains.tsv` for each protein chain of the files, and rejections for what belongs to no chain.

    Models in which a chain has different residues become another domain, with their numbers in a column `models`.

    An unreadable file gets a row without a chain, which is later rejected with the cause.
    """
    rows: dict[str, dict[str, str]] = {}
    dropped = []
    for name, file in files.items():
        chains, structure = [""], None
        try:
            structure = guarded(read_structure, Path(file["path"]))
            chains = structure.chains
            if structure.left_out:
                dropped.append(rejection(name, file["path"], structure.left_out))
        except StructureError:
            pass  # reported by the row without a chain
        for chain in chains:
            for models in conformers(structure, chain) if structure and len(structure.models) > 1 else [[]]:
                domain_id = unused(f"{name}_{chain[:LONGEST_CHAIN]}" if chain else name, rows, "structure")
                row = {"domain_id": domain_id, "pdb_id": name, "chain": chain, "role": "unique"}
                row["models"] = ",".join(map(str, models))
                rows[domain_id] = dict.fromkeys(COLUMNS, "") | row
    return list(rows.values()), dropped


def _table_rows(
    table: Path, files: Mapping[str, Mapping[str, str]], labels: LabelSettings
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows of a user's domain table in the columns of `domains.tsv`, and rejections of unusable ones.

    In a table of ensembles (see `ensembles`), rows may share a `domain_id` and have a column `model`.
    """
    kept: list[dict[str, str]] = []
    seen: set[str] = set()
    dropped = []
    named: dict[str, list[str]] = {}
    for key, file in files.items():
        named.setdefault(file["name"], []).append(key)
    names = Names([*named, *files])
    rows = read_table(table, REQUIRED)
    of_ensembles = bool(rows) and "model" in rows[0]
    for row in rows:
        try:
            checked = domain_row(row, labels)
            if checked["domain_id"] in seen and not of_ensembles:
                raise StructureError("duplicate_id", "an earlier row has the same domain_id")
            seen.add(checked["domain_id"])
            model = row.get("model", "").strip()
            if model and not model.isdecimal():
                raise StructureError("bad_row", f"model: expected a number or nothing, got {model!r}")
            name = names.of(row["pdb_id"].strip())
            if len(found := named.get(name, [name])) > 1:
                paths = ", ".join(files[key]["path"] for key in found)
                raise StructureError("not_found", f"{len(found)} files are named {name}: {paths}")
            kept.append({**checked, "pdb_id": found[0], "models": model})
        except StructureError as error:
            dropped.append(rejection(row["domain_id"], table, error))
    return in_order(kept) if of_ensembles else kept, dropped


def featurize_trajectory(
    source: Path,
    topology: Path,
    settings: FeaturizeSettings,
    labels: LabelSettings,
    output: Path,
    rejected: Path,
) -> int:
    """Write a store with each protein chain of a trajectory, one conformer per `settings.stride` frames.

    Returns the number of domains written. Raises `UserError` like `read_trajectory`.
    """
    file = {"source": source.name, "sha256": sha256(source)}
    name = unused(source.stem[:LONGEST_NAME], (), "trajectory")
    try:
        chains, lost = read_trajectory(source, topology, settings.stride)
    except StructureError as error:
        return _write([rejection(name, source, error)], [], output, rejected, settings.compression)
    ids: list[str] = []
    results: list[Result] = [rejection(name, source, StructureError("truncated", lost))] if lost else []
    for chain, backbone in chains:
        ids.append(unused(f"{name}_{chain[:LONGEST_CHAIN]}" if chain else name, ids, "trajectory"))
        row = dict.fromkeys(COLUMNS, "") | {"role": "unique", "resolution": math.nan, "method": "simulation"}
        try:
            results.append(guarded(entry_of, replace(backbone, id=ids[-1]), row, file, settings, labels))
        except StructureError as error:
            results.append(rejection(ids[-1], source, error))
    return _write(results, [], output, rejected, settings.compression)


def _hash(path: str) -> str:
    """SHA-256 of a file; empty if it cannot be read, in which case its domains will be rejected."""
    try:
        return sha256(path)
    except OSError:
        return ""


def featurize_folder(
    source: Path,
    settings: FeaturizeSettings,
    labels: LabelSettings,
    output: Path,
    rejected: Path,
    domains: Path | None = None,
) -> int:
    """Write a store of the structure files at or below `source`, and those that fail to `rejected`.

    With a domain table: its domains, each from the file named by its pdb_id, with conformers under one id if the table
    has a column `model`. Without: every whole protein chain, with the id FILE_CHAIN and no label. Returns the number of
    domains written; `UserError` if there is no structure file.
    """
    source = Path(source)
    files = _structure_files(source)
    rows, dropped = _whole_chains(files) if domains is None else _table_rows(domains, files, labels)
    used = {row["pdb_id"] for row in rows}
    hashed = {name: {**file, "sha256": _hash(file["path"])} for name, file in files.items() if name in used}
    results = joined(featurize_rows(rows, hashed, settings, labels, "featurize"))
    return _write(results, dropped, output, rejected, settings.compression)
