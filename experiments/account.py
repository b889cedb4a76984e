"""Check that every CA line of PDB and mmCIF files is accounted for by the reader, and print what is not.

    PYTHONPATH=tests python experiments/account.py [--every 1] [FOLDER ...]

Lines are counted by `tests/ca_lines.py`, which looks at the text alone. For the given folders, no line of a standard
amino acid may be lost. The default folders are the mirrors of the archive in ../shared, if there are any; for these,
the number of polymer lines must equal the number of CA that are stored or belong to another conformer. The exit code is
1 if any line is lost.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from ca_lines import ca_lines

from cvae_protein.core.errors import StructureError
from cvae_protein.core.structure import CA
from cvae_protein.io.read import read_structure, structure_files

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Read all files; print a line for each file with a difference and a summary line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--every", type=int, default=1, help="read every N-th file only")
    given = parser.parse_args()
    mirrors = sorted((ROOT.parent / "shared").glob("*/mirror"))
    folders = given.folders or mirrors
    lost = lines = without = ligands = 0
    refused: Counter[str] = Counter()
    files = [path for folder in folders for path, name in structure_files(folder) if name]
    for path in files[:: given.every]:
        try:
            found = read_structure(path)
        except StructureError as error:
            refused[error.code] += 1
            continue
        told = ca_lines(path.read_bytes(), of_polymers=folders is mirrors)
        stored = int(np.isfinite(found.coords[:, CA, 0]).sum())
        read = stored + found.alternates + (0 if folders is mirrors else found.ligands)
        lines += len(told)
        without += max(0, len(set(told)) - stored) if folders is mirrors else 0
        ligands += found.ligands
        if read < len(told) or (folders is mirrors and read > len(told)):
            lost += 1
            said = f"{stored} stored, {found.alternates} alternates, {found.ligands} ligands"
            print(f"{path.name}: {len(told)} lines, {said}")
    print(
        f"{len(files[:: given.every])} of {len(files)} files, {lines} CA lines, {without} of them without a position, "
        f"{ligands} of ligands, {lost} files that lose some; refused: {dict(refused)}"
    )
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
