"""Print whether every CA line of PDB and mmCIF files is accounted for by what was read.

    PYTHONPATH=tests python experiments/account.py [--every 1] [FOLDER ...]

Lines are counted by `tests/ca_lines.py`, which looks at the text alone. Of files in the folders that are named, no line
of a standard amino acid may be lost. Without any it is the mirrors of the archive in ../shared, where there are such:
there lines of polymers have to be just as many as are stored or of another conformer. Ends with exit code 1 where some
are lost.
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
    """Read all files and print one line, after one for each file with a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--every", type=int, default=1, help="read one file of so many")
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
