"""What other tools do of the work of `featurize`, for `benchmarks/featurize.py` to time and to compare."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import gemmi
import mdtraj
import numpy as np
from Bio.PDB.MMCIFParser import FastMMCIFParser

from cvae_protein.core.errors import StructureError
from cvae_protein.core.structure import ATOMS, Backbone
from cvae_protein.io.mmcif import read_blocks
from cvae_protein.io.residues import group_residues

LETTERS = "ACDEFGHIKLMNPQRSTVWYX"
NAMES = gemmi.expand_one_letter_sequence(LETTERS, gemmi.ResidueKind.AA)
THREE = dict(zip(LETTERS, NAMES, strict=True))
SIZES = dict(zip(NAMES, (5, 6, 8, 9, 11, 4, 10, 8, 9, 8, 8, 8, 7, 9, 11, 6, 7, 7, 14, 12, 5), strict=True))  # atoms
SIDE_CHAIN = ("CG", "CD", "NE", "CZ", "OH", "NH1", "NH2", "CE2", "CH2")


def archive_copy(path: Path, folder: Path, whole: bool) -> Path:
    """The file as the archive lays it out: a column group_PDB, columns of one width, a `#` behind every category.

    With `whole`, each residue has as many atoms as its type has, of made-up places: what a reader has to pass over.
    """
    text = gzip.decompress(path.read_bytes()).decode().replace("\n\n", "\n#\n") + "#\n"
    lines = text.split("\n")
    tags = [index for index, line in enumerate(lines) if line.startswith("_atom_site.")]
    end = next(index for index in range(tags[-1] + 1, len(lines)) if lines[index][:1] in ("#", "_", "", "l"))
    names = [lines[index].split(".")[1] for index in tags]
    atom, residue, east = (names.index(name) for name in ("label_atom_id", "label_comp_id", "Cartn_x"))
    rows = []
    for line in lines[tags[-1] + 1 : end]:
        rows.append(cells := line.split())
        if whole and cells[atom] == "CB":
            for number, name in enumerate(SIDE_CHAIN[: SIZES.get(cells[residue], 8) - 5], 1):
                place = f"{float(cells[east]) + number:.3f}"
                rows.append([*cells[:atom], name, *cells[atom + 1 : east], place, *cells[east + 1 :]])
    head = lines[: tags[0]] + [lines[index] for index in tags]
    if "group_PDB" not in names:
        head.insert(tags[0], "_atom_site.group_PDB")
        rows = [["ATOM", *cells] for cells in rows]
    widths = [max(map(len, column)) + 1 for column in zip(*rows, strict=True)]
    body = ["".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in rows]
    copy = folder / f"{'whole' if whole else 'lean'}-{path.name}"
    copy.write_bytes(gzip.compress("\n".join([*head, *body, *lines[end:]]).encode(), mtime=0))
    return copy


def fast_mmcif_parser(path: Path) -> list:
    """Biopython: coordinates of the backbone of every residue."""
    with gzip.open(path, "rt") as handle:
        structure = FastMMCIFParser(QUIET=True).get_structure("x", handle)
    return [[residue[name].coord for name in ATOMS if name in residue] for residue in structure.get_residues()]


def flat_structure(path: Path) -> object:
    """gemmi: the flat arrays of all atoms, before any is told from another."""
    document = gemmi.cif.read_string(gzip.decompress(path.read_bytes()))
    return gemmi.FlatStructure(gemmi.make_structure_from_block(document[0]))


def read_whole(data: bytes) -> object:
    """The same result by the reader of all forms, on gemmi's table, or the reason why not."""
    try:
        return group_residues(read_blocks(data, "x"), "x")
    except StructureError as error:
        return error.code


def mdtraj_dssp(backbone: Backbone) -> np.ndarray:
    """mdtraj's public function, with the topology that it wants."""
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for letter in backbone.sequence:
        residue = topology.add_residue("PRO" if letter == "P" else "ALA", chain)
        for name in ATOMS[:4]:
            topology.add_atom(name, mdtraj.element.carbon, residue)
    positions = backbone.coords[:, :, :4].reshape(backbone.models, -1, 3) / 10
    return mdtraj.compute_dssp(mdtraj.Trajectory(positions, topology), simplified=False)


def mkdssp(backbone: Backbone, folder: Path) -> str:
    """DSSP letters of a chain without gaps by mkdssp, which wants SEQRES and CRYST1 in place; empty if it fails."""
    names, length = [THREE[letter] for letter in backbone.sequence], len(backbone)
    lines = ["HEADER    PROTEIN                                 01-JAN-00   1ABC"]
    for number, first in enumerate(range(0, length, 13), 1):
        lines.append(f"SEQRES {number:>3} A {length:>4}  {' '.join(names[first : first + 13])}")
    lines.append("CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1")
    serial = 0
    for index, name in enumerate(names):
        for atom, (x, y, z) in zip(ATOMS, backbone.coords[0, index].tolist(), strict=True):
            if x == x:
                serial += 1
                place = f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {atom[0]}"
                lines.append(f"ATOM  {serial:>5}  {atom:<3} {name} A{index + 1:>4}    {place}  ")
    lines += [f"TER   {serial + 1:>5}      {names[-1]} A{length:>4}", "END", ""]
    (folder / "x.pdb").write_text("\n".join(lines))
    command = ["mkdssp", "--output-format", "dssp", str(folder / "x.pdb"), str(folder / "x.dssp")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return ""
    table = (folder / "x.dssp").read_text().splitlines()
    start = next(number for number, line in enumerate(table) if line.startswith("  #  RESIDUE"))
    return "".join(line[16].replace(" ", "-") for line in table[start + 1 :] if line[13] != "!")
