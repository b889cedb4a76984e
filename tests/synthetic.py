"""Structure files made to order: an ideal helix written as PDB lines, with whatever oddity a test needs."""

import gzip
from pathlib import Path

import gemmi
import numpy as np
from Bio.PDB import MMCIFParser

DATA = Path(__file__).parents[0] / "data"
NAMES = ("N", "CA", "C", "O", "CB")
BONDS = {"N": (1.329, 116.2), "CA": (1.458, 121.7), "C": (1.525, 111.0)}  # Å to the atom before, degrees


def place(a, b, c, bond, angle, torsion):
    """The point d at a distance from c, with the angle b-c-d and the dihedral a-b-c-d in degrees."""
    angle, torsion = np.radians(angle), np.radians(torsion)
    forward = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, forward)
    normal /= np.linalg.norm(normal)
    local = np.array([-np.cos(angle), np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion)])
    return c + bond * (local[0] * forward + local[1] * np.cross(normal, forward) + local[2] * normal)


def helix(length, phi=-57.0, psi=-47.0, omega=180.0):
    """Ideal backbone with CB (L, 5, 3) in Å, of constant torsions in degrees."""
    chain = [np.array([0.0, 0, 0]), np.array([1.458, 0, 0]), np.array([2.0, 1.42, 0])]
    for _ in range(length):
        for name, torsion in (("N", psi), ("CA", omega), ("C", phi)):
            bond, angle = BONDS[name]
            chain.append(place(*chain[-3:], bond, angle, torsion))
    trace = np.array(chain).reshape(-1, 3, 3)
    coords = np.full((length, 5, 3), np.nan)
    for index in range(length):
        n, ca, c = trace[index]
        coords[index, :3] = trace[index]
        coords[index, 3] = place(n, ca, c, 1.231, 120.1, psi + 180)
        coords[index, 4] = place(c, n, ca, 1.53, 110.4, -122.6)
    return coords


def line(name, residue, chain, number, xyz, *, insertion="", altloc="", occupancy=1.0, hetero=False, serial=1):
    """One ATOM or HETATM line of the PDB format."""
    record = "HETATM" if hetero else "ATOM"
    x, y, z = xyz
    return (
        f"{record:<6}{serial:>5}  {name:<3}{altloc or ' '}{residue:>3} {chain}{number:>4}{insertion or ' '}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{10.0:6.2f}          {name[0]:>2}"
    )


def residue_lines(coords, residue="ALA", chain="A", number=1, atoms=NAMES, **options):
    """Lines of one residue's atoms, of coordinates (5, 3)."""
    wanted = [name for name in atoms if not (residue == "GLY" and name == "CB")]
    return [line(name, residue, chain, number, coords[NAMES.index(name)], **options) for name in wanted]


def chain_lines(coords, residues=None, chain="A", numbers=None, insertions=None, **options):
    """Lines of a whole chain with TER at its end; residues are numbered from 1 unless told."""
    length = len(coords)
    residues = residues or ["ALA"] * length
    numbers = list(numbers or range(1, length + 1))
    insertions = insertions or [""] * length
    lines = []
    for index in range(length):
        lines += residue_lines(
            coords[index], residues[index], chain, numbers[index], insertion=insertions[index], **options
        )
    return [*lines, "TER"]


def write(path, lines):
    """Write PDB lines as the format that the name of `path` asks for, and return the path."""
    text = "\n".join([*lines, "END", ""])
    name = path.name.removesuffix(".gz")
    if name.endswith((".cif", ".mmcif")):
        structure = gemmi.read_pdb_string(text)
        structure.setup_entities()
        text = structure.make_mmcif_document().as_string()
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    return path


def biopython_chain(path, folder, chain="A"):
    """Biopython's own reading of a chain in an mmCIF file, given the group_PDB column that Biopython insists on."""
    text = gzip.decompress(path.read_bytes()).decode()
    if "_atom_site.group_PDB" not in text:
        head, rows = text.split("_atom_site.id\n")
        rows = ["ATOM " + row if row[:1].isdigit() else row for row in rows.split("loop_")[0].splitlines()]
        text = "\n".join([head + "_atom_site.group_PDB\n_atom_site.id", *rows, ""])
    copy = folder / "biopython.cif"
    copy.write_text(text)
    return MMCIFParser(QUIET=True).get_structure("x", copy)[0][chain]


def random_sequence(length, seed):
    """One-letter codes of `length` residues."""
    return "".join(np.random.default_rng(seed).choice(list("ACDEFGHIKLMNPQRSTVWY"), length))
