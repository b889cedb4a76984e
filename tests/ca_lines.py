"""Lines of CA in structure files, counted by nothing but their text: what a reader has to account for."""

import gzip
import shlex

AMINO_ACIDS = {"ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE"}
AMINO_ACIDS |= {"LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL"}
RESIDUE = ("pdbx_PDB_model_num", "auth_asym_id", "label_asym_id", "auth_seq_id", "pdbx_PDB_ins_code")


def ca_lines(data, of_polymers=False):
    """Model, chain and residue of each CA of a standard amino acid, of the bytes of a PDB or mmCIF file, packed or not.

    `of_polymers` takes those of any residue that has a position in a polymer, as mmCIF says it, instead. Bytes that
    cannot be unpacked, and BinaryCIF, have no lines.
    """
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, ValueError):
            return []
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
                standard = row.get("label_comp_id", row.get("auth_comp_id")) in AMINO_ACIDS
                counts = row.get("label_seq_id", "?") not in (".", "?") if of_polymers else standard
                if counts and row.get("label_atom_id", row.get("auth_atom_id")) == "CA":
                    found.append(tuple(row.get(tag, "?") for tag in RESIDUE))
        elif inside:
            tags, inside = [], False
    return found


def _cells(line, count):
    cells = line.split()
    if "'" in line or '"' in line:
        try:
            cells = shlex.split(line)
        except ValueError:
            return []
    return cells if len(cells) == count else []
