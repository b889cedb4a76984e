"""Lines of CA in structure files, counted by nothing but their text: what a reader has to account for."""

import gzip
import io
import shlex

AMINO_ACIDS = {"ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE"}
AMINO_ACIDS |= {"LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL"}
USED = ("label_comp_id", "auth_comp_id", "label_seq_id", "label_atom_id", "auth_atom_id")
RESIDUE = ("pdbx_PDB_model_num", "auth_asym_id", "label_asym_id", "auth_seq_id", "pdbx_PDB_ins_code")


def ca_lines(data, of_polymers=False):
    """Model, chain and residue of each CA of a standard amino acid, of the bytes of a structure file, packed or not.

    `of_polymers` takes those of any residue that has a position in a polymer, as mmCIF says it, instead. Bytes that
    cannot be unpacked have no lines; the lines of BinaryCIF are the rows of its columns.
    """
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, ValueError):
            return []
    if b"dataBlocks" in data[:100]:
        return _of_binary(data, of_polymers)
    lines = data.decode("latin-1").splitlines()
    if any(line.startswith("_atom_site.") for line in lines):
        return _of_mmcif(lines, of_polymers)
    found, model = [], 0
    for line in lines:
        if line.startswith(("MODEL", "ENDMDL", "END")):
            model += 1
        elif (
            not of_polymers
            and line.startswith(("ATOM  ", "HETATM"))
            and line[12:16].strip() == "CA"
            and line[17:20] in AMINO_ACIDS
        ):
            found.append((model, line[21:22], line[22:27]))
    return found


def _of_mmcif(lines, of_polymers):
    found, tags, inside = [], [], False
    for line in lines:
        if line.startswith("_atom_site."):
            tags = [*([] if inside else tags), line.split()[0].split(".")[1]]
            inside = False
        elif tags and line[:1] not in ("#", "_", "l", ""):
            inside = True
            if "CA" in line:  # of few rows; the others take no time
                row = dict(zip(tags, _cells(line, len(tags)), strict=False))
                if _counts(row, of_polymers):
                    found.append(tuple(row.get(tag, "?") for tag in RESIDUE))
        elif inside:
            tags, inside = [], False
    return found


def _of_binary(data, of_polymers):
    from biotite.structure.io.pdbx import BinaryCIFFile

    found = []
    for block in BinaryCIFFile.read(io.BytesIO(data)).values():
        if "atom_site" in block:  # not in a dictionary of ligands
            atoms = block["atom_site"]
            columns = {tag: atoms[tag].as_array(str).tolist() for tag in {*RESIDUE, *USED} & set(atoms)}
            rows = (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
            found += [tuple(row.get(tag, "?") for tag in RESIDUE) for row in rows if _counts(row, of_polymers)]
    return found


def _counts(row, of_polymers):
    standard = row.get("label_comp_id", row.get("auth_comp_id")) in AMINO_ACIDS
    counts = row.get("label_seq_id", "?") not in (".", "?") if of_polymers else standard
    return counts and row.get("label_atom_id", row.get("auth_atom_id")) == "CA"


def _cells(line, count):
    cells = line.split()
    if "'" in line or '"' in line:
        try:
            cells = shlex.split(line)
        except ValueError:
            return []
    return cells if len(cells) == count else []
