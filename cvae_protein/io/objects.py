"""In-memory structures of other packages: biotite, mdtraj and Biopython, each imported only where used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.errors import StructureError
from ..core.structure import ATOMS, Backbone
from .read import extract_domain
from .residues import METHODS, UNKNOWN_ENTITY, AtomTable, ParsedStructure, group_residues
from .write import CHAIN, residue_name, residue_number

NANOMETRE = 10.0  # Å
FRAMES_AT_ONCE = 200  # of a trajectory, to limit memory
HIGHEST_INSERTION = 26  # residues with the same number, distinguished by insertion codes A to Z
LEVELS: Mapping[str, Callable[[Any], list]] = {"S": list, "M": lambda model: [model], "C": lambda chain: [[chain]]}
"""Levels of Biopython's entities that are taken -> the models of one, each with its chains."""
PLACE = {name: index for index, name in enumerate(ATOMS)}


def backbone_of(structure: Any, chain: str = "", residue_range: str = "", name: str = "structure") -> Backbone:
    """The `Backbone` of a chain or residue range of an in-memory structure; models and frames become conformations.

    Parameters
    ----------
    structure : a biotite `AtomArray` or `AtomArrayStack` (Å), an mdtraj `Trajectory` (nm), or a Biopython `Structure`,
        `Model` or `Chain` (Å); a `Backbone` is returned as it is
    chain : its name; may be omitted if only one chain is protein
    residue_range : such as `5-100,120-200`, by residue numbers; empty for the whole chain
    name : id of the result

    Residues are interpreted as in files: one alternative location, modified amino acids included, ligands left out. A
    `Trajectory` has no insertion codes: consecutive residues with the same number get the letters A, B, …. Models whose
    residues differ from the first model's are left out. Raises `StructureError` like `extract_domain`, and `TypeError`
    for any other object.
    """
    if isinstance(structure, Backbone):
        return structure
    parts = [_extracted(group_residues(table, name), chain, residue_range, name) for table in _tables(structure, name)]
    return replace(parts[0], coords=np.concatenate([part.coords for part in parts]))


def _extracted(parsed: ParsedStructure, chain: str, residue_range: str, name: str) -> Backbone:
    if not chain and len(parsed.chains) > 1:
        raise StructureError("chain_not_found", f"{name}: expected the name of one of {', '.join(parsed.chains)}")
    return extract_domain(parsed, chain, residue_range, name)


def chains_of(structure: Any) -> list[str]:
    """Names of the chains of an in-memory structure that contain protein, in its order."""
    name = "structure"
    return group_residues(next(_tables(structure, name)), name).chains


def to_biotite(backbone: Backbone) -> Any:
    """A biotite `AtomArray`, or an `AtomArrayStack` for several conformations; chain A, Å.

    An atom missing in one conformation is NaN there; an atom missing in all is left out.
    """
    from biotite.structure import AtomArray, from_template

    present = np.isfinite(backbone.coords).all(axis=-1).any(axis=0)
    residue, atom = np.nonzero(present)
    ids = [residue_number(text) for text in backbone.residue_ids]
    atoms = AtomArray(len(residue))
    atoms.coord = backbone.coords[0, present]
    atoms.chain_id[:] = CHAIN
    atoms.res_id = np.array([number for number, _ in ids], int)[residue]
    atoms.ins_code = np.array([letter.strip() for _, letter in ids], "U1")[residue]
    atoms.res_name = np.array([residue_name(letter) for letter in backbone.sequence], "U5")[residue]
    atoms.atom_name = np.array(ATOMS, "U6")[atom]
    atoms.element = np.array([name[0] for name in ATOMS], "U2")[atom]
    return atoms if backbone.models == 1 else from_template(atoms, backbone.coords[:, present])


def to_mdtraj(backbone: Backbone) -> Any:
    """An mdtraj `Trajectory` with one frame per conformation; chain A, nm; mdtraj has no insertion codes.

    Atoms missing in one conformation are left out of all.
    """
    import mdtraj

    present = np.isfinite(backbone.coords).all(axis=(0, -1))
    topology = mdtraj.Topology()
    chain = topology.add_chain(CHAIN)
    for letter, text, own in zip(backbone.sequence, backbone.residue_ids, present, strict=True):
        residue = topology.add_residue(residue_name(letter), chain, resSeq=residue_number(text)[0])
        for name in np.array(ATOMS)[own].tolist():
            topology.add_atom(name, mdtraj.element.get_by_symbol(name[0]), residue)
    topology.create_standard_bonds()
    return mdtraj.Trajectory(backbone.coords[:, present] / NANOMETRE, topology)


def to_biopython(backbone: Backbone) -> Any:
    """A `Bio.PDB` `Structure` with one model per conformation; chain A, Å; missing atoms are left out."""
    from Bio.PDB.StructureBuilder import StructureBuilder

    builder = StructureBuilder()
    builder.init_structure(backbone.id)
    for index, model in enumerate(backbone.coords):
        builder.init_model(index, index + 1)
        builder.init_chain(CHAIN)
        builder.init_seg("    ")
        for letter, text, atoms in zip(backbone.sequence, backbone.residue_ids, model, strict=True):
            builder.init_residue(residue_name(letter), " ", *residue_number(text))
            for name, position in zip(ATOMS, atoms, strict=True):
                if np.isfinite(position).all():
                    builder.init_atom(name, position, 0.0, 1.0, " ", f" {name:<3}", element=name[0])
    return builder.get_structure()


def _tables(structure: Any, name: str) -> Iterator[AtomTable]:
    """Backbone atoms of an in-memory structure; many frames are split into several tables."""
    packages = {base.__module__.split(".")[0] for base in type(structure).__mro__}
    if "biotite" in packages and hasattr(structure, "atom_name"):
        yield from _of_biotite(structure)
    elif "mdtraj" in packages and hasattr(structure, "topology"):
        yield from _of_mdtraj(structure, name)
    elif "Bio" in packages and getattr(structure, "level", "") in LEVELS:
        yield _of_biopython(structure)
    else:
        raise TypeError(
            "expected an AtomArray or AtomArrayStack of biotite, a Trajectory of mdtraj, or a Structure, Model or "
            f"Chain of Biopython, got {type(structure).__module__}.{type(structure).__name__}"
        )


def _of_biotite(atoms: Any) -> Iterator[AtomTable]:
    found, kind = backbone_atoms(atoms.atom_name)
    given = atoms.get_annotation_categories()
    columns = {
        "chain": atoms.chain_id[found],
        "number": atoms.res_id[found],
        "insertion": [ord(letter or "\0") for letter in atoms.ins_code[found].tolist()],
        "residue": atoms.res_name[found],
        "altloc": _altlocs(atoms.altloc_id[found].tolist()) if "altloc_id" in given else 0,
        "occupancy": atoms.occupancy[found] if "occupancy" in given else 1.0,
        "hetero": atoms.hetero[found],
    }
    coords = atoms.coord[None] if atoms.coord.ndim == 2 else atoms.coord
    for frames in _parts(coords):
        yield _table(kind, frames[:, found], columns, dict.fromkeys(atoms.chain_id.tolist()))


def _altlocs(letters: Iterable[str]) -> list[int]:
    """Alternative locations as bytes, 0 where there is none."""
    return [0 if letter in ("", " ", ".", "?") else ord(letter[0]) for letter in letters]


def _of_mdtraj(trajectory: Any, name: str) -> Iterator[AtomTable]:
    topology = trajectory.topology
    atoms = list(topology.atoms)
    found, kind = backbone_atoms(np.array([atom.name for atom in atoms], "U6"))
    names = [chain.chain_id or _letter(chain.index) for chain in topology.chains]
    insertion: list[int] = []
    before, same = None, 0
    for residue in topology.residues:
        key = (residue.chain.index, residue.resSeq)
        same = same + 1 if key == before else 0
        before = key
        if same > HIGHEST_INSERTION:
            raise StructureError("not_a_structure", f"{name}: {same + 1} residues have the number {residue.resSeq}")
        insertion.append(ord("A") + same - 1 if same else 0)
    behind = {chain.index for chain in topology.chains if names.index(names[chain.index]) < chain.index}  # after a TER
    ligands = {
        residue.index
        for index in behind
        for residue in topology.chain(index).residues
        if {"N", "C"} <= {atom.name for atom in residue.atoms}  # their bonds decide whether they continue the chain
    }
    residues = [atoms[index].residue for index in found.tolist()]
    columns = {
        "chain": np.array([names[residue.chain.index] for residue in residues], "U8"),
        "number": [residue.resSeq for residue in residues],
        "insertion": [insertion[residue.index] for residue in residues],
        "residue": np.array([residue.name for residue in residues], "U8"),
        "altloc": 0,
        "occupancy": 1.0,
        "hetero": [residue.index in ligands for residue in residues],
    }
    for frames in _parts(trajectory.xyz):
        yield _table(kind, frames[:, found] * NANOMETRE, columns, dict.fromkeys(names))


def _letter(index: int) -> str:
    """Name for the chain `index` if it has none: A to Z, then AA, AB, …."""
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def _of_biopython(entity: Any) -> AtomTable:
    models = LEVELS[entity.level](entity)
    atoms = [
        (number, chain, residue, atom)
        for number, model in enumerate(models, 1)
        for chain in model
        for residue in chain.get_unpacked_list()
        for atom in residue.get_unpacked_list()
        if atom.name in PLACE
    ]
    header = getattr(entity, "header", None) or {}
    method = str(header.get("structure_method") or "")
    columns = {
        "chain": np.array([str(chain.id).strip() for _, chain, _, _ in atoms], "U8"),
        "number": [residue.id[1] for _, _, residue, _ in atoms],
        "insertion": [ord(residue.id[2].strip() or "\0") for _, _, residue, _ in atoms],
        "residue": np.array([residue.resname.strip() for _, _, residue, _ in atoms], "U8"),
        "altloc": _altlocs(atom.altloc for _, _, _, atom in atoms),
        "occupancy": [1.0 if atom.occupancy is None else atom.occupancy for _, _, _, atom in atoms],
        "hetero": [residue.id[0].strip() != "" for _, _, residue, _ in atoms],
    }
    kind = np.array([PLACE[atom.name] for _, _, _, atom in atoms], np.int8)
    coords = np.array([atom.coord for _, _, _, atom in atoms]).reshape(1, -1, 3)
    return replace(
        _table(kind, coords, columns, dict.fromkeys(str(chain.id).strip() for chain in models[0])),
        model=np.array([number for number, _, _, _ in atoms], np.int32),
        resolution=float(header.get("resolution") or "nan"),
        method=METHODS.get(method.upper(), method),
    )


def backbone_atoms(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which atoms belong to the backbone (A,), and their indices in `structure.ATOMS`."""
    kind = np.full(len(names), -1, np.int8)
    for place, name in enumerate(ATOMS):
        kind[names == name] = place
    found = np.flatnonzero(kind >= 0)
    return found, kind[found]


def _parts(coords: np.ndarray) -> Iterator[np.ndarray]:
    """Frames (F, A, 3) in batches that fit in memory."""
    for first in range(0, len(coords), FRAMES_AT_ONCE):
        yield coords[first : first + FRAMES_AT_ONCE]


def _table(kind: np.ndarray, frames: np.ndarray, columns: Mapping[str, Any], chains: Iterable[str]) -> AtomTable:
    """The atoms of all frames (F, A, 3) in Å, each frame a model; all have the same columns (A,), or scalars.

    An atom without a position in a frame is left out there.
    """
    models, atoms = frames.shape[:2]
    there = np.isfinite(frames).all(axis=-1).ravel()

    def each(values: Any, dtype: Any) -> np.ndarray:
        column = np.asarray(values)
        column = np.char.encode(column, "utf-8") if column.dtype.kind == "U" else column
        return np.tile(np.broadcast_to(column.astype(dtype), atoms), models)[there]

    return AtomTable(
        model=np.repeat(np.arange(1, models + 1, dtype=np.int32), atoms)[there],
        chain=each(columns["chain"], _width(columns["chain"])),
        subchain=each(b"", "S8"),
        number=each(columns["number"], np.int32),
        label_number=each(0, np.int32),
        insertion=each(columns["insertion"], np.uint8),
        residue=each(columns["residue"], "S8"),
        atom=each(kind, np.int8),
        altloc=each(columns["altloc"], np.uint8),
        entity=each(UNKNOWN_ENTITY, int),
        hetero=each(columns["hetero"], bool),
        occupancy=each(columns["occupancy"], np.float32),
        position=frames.reshape(-1, 3)[there].astype(np.float64),
        chains=tuple(chains),
        resolution=float("nan"),
        method="",
    )


def _width(names: np.ndarray) -> str:
    """Data type for a column of names as UTF-8, at least eight bytes."""
    return f"S{max([8, *(len(name.encode()) for name in set(names.tolist()))])}"
