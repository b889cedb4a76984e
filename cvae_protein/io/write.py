"""Writes backbones in formats of other programs: PDB, mmCIF, and XTC with a topology."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import gemmi
import numpy as np

from ..core.errors import UserError
from ..core.files import atomic_path, write_table
from ..core.structure import ATOMS, Backbone

CHAIN = "A"
PDB_RANGE = (-999.0, 9999.0)  # Å; range that fits the eight columns of a PDB coordinate
PDB_LAST_RESIDUE = 9999
RESIDUE_ID = re.compile(r"(-?\d+)([A-Za-z]?)")
PROGRAM = {"_software.pdbx_ordinal": "1", "_software.name": "cvae_protein", "_software.classification": "other"}
GROUPS = gemmi.MmcifOutputGroups(True, auth_all=True, cell=False, symmetry=False)  # only what readers need
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_pdb(backbones: Sequence[Backbone], path: str | Path) -> None:
    """Write every conformation of `backbones` as a MODEL of one PDB file; chain A, Å, missing atoms left out.

    One remark per model names the structure. Raises `UserError` if coordinates or residue numbers exceed the format.
    """
    text = pdb_text(backbones, Path(path).stem)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def pdb_text(backbones: Sequence[Backbone], name: str = "", b_factors: np.ndarray | None = None) -> str:
    """The text that `write_pdb` writes; `b_factors` (L,) in Å² apply to every model, default 0."""
    structure = _structure(backbones, name)
    if b_factors is not None:
        for model in structure:
            for residue, b_factor in zip(model[0], b_factors.tolist(), strict=True):
                for atom in residue:
                    atom.b_iso = b_factor
    for backbone in backbones:
        _check_pdb_columns(backbone)
    names = [backbone.id for backbone in backbones for _ in range(backbone.models)]
    structure.raw_remarks = [f"REMARK 250 MODEL {number:>4} IS {name}"[:80] for number, name in enumerate(names, 1)]
    return structure.make_pdb_string(gemmi.PdbWriteOptions(cryst1_record=False))


def write_mmcif(backbones: Sequence[Backbone], path: str | Path) -> None:
    """Write every conformation of `backbones` as a model of one mmCIF file; chain A, Å, missing atoms left out."""
    structure = _structure(backbones, Path(path).stem)
    structure.setup_entities()
    document = structure.make_mmcif_document(GROUPS)
    block = document.sole_block()
    for index, (tag, value) in enumerate(PROGRAM.items(), 1):
        block.set_pair(tag, value)
        block.move_item(-1, index)
    with atomic_path(path) as temporary:
        document.write_file(str(temporary))


def write_xtc(backbones: Sequence[Backbone], path: str | Path) -> None:
    """Write every conformation of `backbones` as a frame of an XTC trajectory, and the first next to it as `.pdb`.

    XTC has a precision of 0.01 Å. All structures need the same number of residues; atoms missing in one frame are left
    out of all.
    """
    _nonempty(backbones)
    coords = np.concatenate([backbone.coords for backbone in backbones])  # (frame, L, 5, 3)
    present = np.isfinite(coords).all(axis=(0, 3))
    first = Backbone(
        backbones[0].id,
        _common_sequence(backbones),
        np.where(present[None, :, :, None], coords[:1], np.nan),
        tuple(str(number) for number in range(1, coords.shape[1] + 1)),
    )
    write_pdb([first], Path(path).with_suffix(".pdb"))
    from biotite.structure.io.xtc import XTCFile  # slow to import, and needed only for XTC

    frames = XTCFile()
    frames.set_coord(coords[:, present])
    with atomic_path(path) as temporary:
        frames.write(str(temporary))


def export(backbones: Sequence[Backbone], path: str | Path, format: str = "", *, by_length: bool = False) -> list[Path]:
    """Write `backbones` in a format (default: by the suffix of `path`) and return the files written.

    Several structures in one file are written as models or frames and must have the same length, since few programs
    read others. `by_length` writes one file per length, with `-L110` before the suffix. XTC comes with a topology
    (`.pdb`).
    """
    path = Path(path)
    _nonempty(backbones)
    write = WRITERS[check_format(path, format)]
    lengths = sorted({len(backbone) for backbone in backbones})
    if len(lengths) > 1 and not by_length:
        raise UserError(
            f"{path}: a file holds structures of one length, got {', '.join(map(str, lengths[:5]))} residues; give a "
            f"folder, for a file each, choose one length (--length), or write a file a length (--by-length)"
        )
    for length, target in _files(backbones, path, by_length):
        write([backbone for backbone in backbones if length in (None, len(backbone))], target)
    return targets(backbones, path, format, by_length=by_length)


def targets(backbones: Sequence[Backbone], path: Path, format: str = "", *, by_length: bool = False) -> list[Path]:
    """The files that `export` would write for the same arguments."""
    paths = [target for _, target in _files(backbones, path, by_length)]
    if check_format(path, format) != "xtc":
        return paths
    return [each for target in paths for each in (target, target.with_suffix(".pdb"))]


def _files(backbones: Sequence[Backbone], path: Path, by_length: bool) -> list[tuple[int | None, Path]]:
    """For each file, its path and its structures' number of residues (None if any)."""
    if not by_length:
        return [(None, path)]
    lengths = sorted(set(map(len, backbones)))
    return [(length, path.with_name(f"{path.stem}-L{length}{path.suffix}")) for length in lengths]


def check_format(path: Path, format: str = "") -> str:
    """`format`, or else the format given by the suffix of `path`; `UserError` if it is not one of `WRITERS`."""
    name = format or path.suffix.lstrip(".")
    if name not in WRITERS:
        raise UserError(f"{path}: expected one of the formats {', '.join(WRITERS)}, got {name!r}")
    return name


MANIFEST = "samples.tsv"  # table in a folder with one file per structure
FOLDER_FORMATS = ("pdb", "cif")
Facts = Mapping[str, object]


def write_each(structures: Iterable[tuple[Backbone, Facts]], folder: Path, format: str = "pdb") -> list[Path]:
    """Write one `{id}.pdb` (or `.cif`) per structure into a folder, and `samples.tsv`: `id file length` and facts.

    Holds one structure in memory at a time; returns the structure files. `UserError` if there is no structure, if two
    have the same id, or if an id cannot be used as a file name.
    """
    if format not in FOLDER_FORMATS:
        raise UserError(f"{folder}: expected files in one of the formats {', '.join(FOLDER_FORMATS)}, got {format!r}")
    rows: list[dict[str, object]] = []
    written: dict[Path, None] = {}
    for backbone, facts in structures:
        path = folder / f"{file_name(backbone.id)}.{format}"
        if path in written:
            raise UserError(f"{folder}: two structures have the id {backbone.id}; give each its own")
        WRITERS[format]([backbone], path)
        written[path] = None
        rows.append({"id": backbone.id, "file": path.name, "length": len(backbone), **facts})
    if not rows:
        raise UserError(f"{folder}: expected one structure or more, got none; see --fold and --length")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_table(folder / MANIFEST, columns, ({**dict.fromkeys(columns), **row} for row in rows))
    return list(written)


def file_name(label: str) -> str:
    """`label` itself if it can be a file name in any folder; `UserError` if it contains anything else."""
    if not FILE_NAME.fullmatch(label):
        raise UserError(f"label: expected letters, digits, '.', '_' and '-' that can name a file, got {label!r}")
    return label


WRITERS: dict[str, Callable[[Sequence[Backbone], Path], None]] = {
    "pdb": write_pdb,
    "cif": write_mmcif,
    "xtc": write_xtc,
}


def _structure(backbones: Sequence[Backbone], name: str) -> gemmi.Structure:
    """All conformations as models of a single gemmi structure."""
    _nonempty(backbones)
    structure = gemmi.Structure()
    structure.name = name
    for backbone in backbones:
        for index in range(backbone.models):
            model = gemmi.Model(len(structure) + 1)
            model.add_chain(_chain(backbone, index))
            structure.add_model(model)
    return structure


def _chain(backbone: Backbone, index: int) -> gemmi.Chain:
    """One conformation as a gemmi chain."""
    chain = gemmi.Chain(CHAIN)
    residues = zip(backbone.sequence, backbone.residue_ids, backbone.coords[index], strict=True)
    for label_seq, (letter, number, atoms) in enumerate(residues, 1):
        residue = gemmi.Residue()
        residue.name = residue_name(letter)
        residue.seqid = gemmi.SeqId(*residue_number(number))
        residue.het_flag, residue.label_seq, residue.subchain = "A", label_seq, CHAIN
        for name, position in zip(ATOMS, atoms.tolist(), strict=True):
            if np.isfinite(position).all():
                residue.add_atom(_atom(name, position))
        if len(residue):
            chain.add_residue(residue)
    return chain


def residue_name(letter: str) -> str:
    """Three-letter residue name; `UNK` for a letter without one."""
    return gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) or "UNK"


def residue_number(residue_id: str) -> tuple[int, str]:
    """Author number and insertion code (a space if none) of a residue id such as `52A`."""
    found = RESIDUE_ID.fullmatch(residue_id)
    if not found:
        raise UserError(f"residue id: expected a number and at most one letter, such as 52A, got {residue_id!r}")
    return int(found[1]), found[2] or " "


def _atom(name: str, position: list[float]) -> gemmi.Atom:
    atom = gemmi.Atom()
    atom.name = name
    atom.element = gemmi.Element(name[0])
    atom.b_iso = 0.0
    atom.pos = gemmi.Position(*position)
    return atom


def _check_pdb_columns(backbone: Backbone) -> None:
    """Raise `UserError` if a structure does not fit the columns of a PDB file."""
    finite = backbone.coords[np.isfinite(backbone.coords)]
    low, high = finite.min(initial=0.0), finite.max(initial=0.0)
    if low <= PDB_RANGE[0] or high >= PDB_RANGE[1]:
        raise UserError(
            f"{backbone.id}: a PDB file holds coordinates from {PDB_RANGE[0]:.0f} to {PDB_RANGE[1]:.0f} Å, "
            f"got {low:.0f} to {high:.0f} Å; write .cif instead"
        )
    last = max(residue_number(number)[0] for number in backbone.residue_ids)
    if last > PDB_LAST_RESIDUE:
        raise UserError(f"{backbone.id}: a PDB file numbers residues up to 9999, got {last}; write .cif instead")


def _common_sequence(backbones: Sequence[Backbone]) -> str:
    """The letters on which all sequences agree, `X` elsewhere."""
    columns = zip(*(backbone.sequence for backbone in backbones), strict=True)
    return "".join(letters[0] if len(set(letters)) == 1 else "X" for letters in columns)


def _nonempty(backbones: Sequence[Backbone]) -> None:
    if not any(len(backbone) for backbone in backbones):
        raise UserError("export: expected one structure or more, got none; see --fold and --length")
