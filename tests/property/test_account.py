"""Every CA of a chain in a file is read, belongs to another conformer, or is counted as a ligand's: nothing is lost."""

import gzip
import shlex
from pathlib import Path

import numpy as np
import pytest

from cvae_protein.core.structure import CA
from cvae_protein.io.read import read_structure

ROOT = Path(__file__).parents[2]
EMBEDDED = sorted((ROOT / "data/embedded").glob("*/*.cif.gz"))
SMALL = sorted((ROOT / "tests/data").glob("*.cif.gz"))


def counted(path):
    """Lines of polymers named CA, and the residues they are of, by nothing but the text's lines."""
    tags, rows = [], []
    for text in gzip.decompress(path.read_bytes()).decode().splitlines():
        if text.startswith("_atom_site."):
            tags.append(text.split(".")[1].strip())
        elif tags and text[:1] not in "#_l":
            rows.append(shlex.split(text) if "'" in text or '"' in text else text.split())
        elif rows:
            break
    lines = [dict(zip(tags, row, strict=True)) for row in rows]
    alpha = [row for row in lines if row["label_atom_id"] == "CA" and row["label_seq_id"] not in ".?"]
    residue = ("pdbx_PDB_model_num", "auth_asym_id", "label_asym_id", "auth_seq_id", "pdbx_PDB_ins_code")
    return len(alpha), {tuple(row.get(tag, "?") for tag in residue) for row in alpha}


@pytest.mark.parametrize("part", range(4))
def test_every_ca_of_the_embedded_files_is_accounted_for(part):
    for path in [*EMBEDDED, *SMALL][part::4]:
        found = read_structure(path)
        stored = int(np.isfinite(found.coords[:, CA, 0]).sum())
        lines, residues = counted(path)
        assert stored == len(residues) > 0, path.name
        assert stored + found.alternates + found.ligands == lines, path.name
