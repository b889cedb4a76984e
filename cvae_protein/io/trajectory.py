"""Molecular dynamics trajectories: the backbone atoms of their frames, read in parts."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import StructureError, UserError
from ..core.files import read_unpacked
from ..core.structure import Backbone
from .objects import FRAMES_AT_ONCE, backbone_atoms, backbone_of, chains_of
from .read import LARGEST_FILE

READERS = {".xtc": "XTCFile", ".trr": "TRRFile", ".dcd": "DCDFile", ".nc": "NetCDFFile"}
"""Ending of a trajectory -> its reader in the module of that name of `biotite.structure.io`."""
MODULES = {"NetCDFFile": "netcdf"}
ENDINGS = {".ent": ".pdb", ".mmcif": ".cif"}  # topology suffixes -> the standard suffix of the format


def is_trajectory(path: Path) -> bool:
    """Whether a file has the suffix of a trajectory."""
    return path.suffix.lower() in READERS


def read_trajectory(path: Path, topology: Path, stride: int = 1) -> tuple[list[tuple[str, Backbone]], str]:
    """Name and backbone of each protein chain, with every `stride`-th frame as a conformation; and what was lost.

    `topology` is a PDB, mmCIF, BinaryCIF or GRO file with the same atoms in the same order. A chain that crosses the
    boundary of a periodic box is made whole. The text of what was lost is empty unless the file ends inside a frame;
    that frame and anything after it are not read. Raises `UserError` if either file is missing or unreadable, or if
    they differ in their number of atoms, and `StructureError` if there is no protein.
    """
    template = _read_topology(topology)
    found, _ = backbone_atoms(template.atom_name)
    template = template[found]
    parts: list[np.ndarray] = []
    lost, count = "", 0
    frames = _frames(path, found, topology)
    while True:
        try:
            coords, box = next(frames)
        except StopIteration:
            break
        except StructureError as error:
            if error.code != "truncated" or not parts:
                raise
            lost = f"{error.detail}; {count} whole frames are read"
            break
        chosen = slice(-count % stride, None, stride)
        count += len(coords)
        coords = coords[chosen]
        if box is not None:
            coords = _made_whole(coords, box[chosen], template.chain_id)
        parts.append(coords)
    if not parts:
        raise UserError(f"{path}: expected frames, found none")
    from biotite.structure import from_template

    whole = from_template(template, np.concatenate(parts))
    return [(chain, backbone_of(whole, chain, name=path.stem)) for chain in chains_of(whole)], lost


def _read_topology(path: Path) -> Any:
    from biotite.structure import AtomArray
    from biotite.structure.io import load_structure

    if not path.is_file():
        raise UserError(f"--topology: expected a PDB, mmCIF or GRO file, found no file at {path}")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    try:
        with tempfile.TemporaryDirectory() as folder:  # biotite chooses by suffix and knows only a few, uncompressed
            plain = Path(folder) / f"topology{ENDINGS.get(suffix, suffix)}"
            plain.write_bytes(read_unpacked(path, LARGEST_FILE))
            atoms = load_structure(plain, **({} if suffix == ".gro" else {"model": 1, "altloc": "all"}))
    except Exception as error:  # libraries may raise anything for arbitrary bytes
        raise UserError(f"{path}: not readable as a topology ({type(error).__name__}: {error})") from error
    return atoms if isinstance(atoms, AtomArray) else atoms[0]


def _frames(path: Path, atoms: np.ndarray, topology: Path) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Coordinates (F, A, 3) in Å and boxes (F, 3, 3) for `atoms`, some frames at a time."""
    if not path.is_file():
        raise UserError(f"{path}: expected a trajectory, found no file there")
    reader = READERS[path.suffix.lower()]
    module = importlib.import_module(f"biotite.structure.io.{MODULES.get(reader, path.suffix.lower()[1:])}")
    kind = getattr(module, reader)
    total = len(_read_topology(topology))
    try:
        first = next(kind.read_iter(path, stop=1), None)
        if first is not None and len(first[0]) != total:
            raise UserError(f"{path}: {len(first[0])} atoms a frame, and {total} in {topology}; give its own topology")
        for coords, box, _ in kind.read_iter(path, atom_i=atoms, stack_size=FRAMES_AT_ONCE):
            yield coords, box
    except UserError:
        raise
    except Exception as error:  # likewise
        raise StructureError("truncated", f"{path.name}: not readable as a trajectory to its end ({error})") from error


def _made_whole(coords: np.ndarray, box: np.ndarray, chains: np.ndarray) -> np.ndarray:
    """Rejoin chains cut by the box in frames where neighbouring atoms are more than half a box edge apart."""
    from biotite.structure import remove_pbc_from_coord

    edge = np.linalg.norm(box, axis=-1).min(axis=-1)
    whole = coords.copy()
    for chain in dict.fromkeys(chains.tolist()):
        own = chains == chain
        steps = np.linalg.norm(np.diff(coords[:, own], axis=1), axis=-1).max(axis=1, initial=0)
        cut = np.flatnonzero((edge > 0) & (steps > edge / 2))
        if len(cut):
            whole[np.ix_(cut, np.flatnonzero(own))] = remove_pbc_from_coord(
                coords[np.ix_(cut, np.flatnonzero(own))], box[cut]
            )
    return whole
