"""Print whether every CA line of the mmCIF files of some mirrors is accounted for by what was read.

    PYTHONPATH=tests/property:tests python experiments/account.py [FOLDER ...]

Lines are counted by `tests/property/test_account.py`, which looks at the text alone. Folders are by default the mirrors
in ../shared, where there are any. Ends with exit code 1 where CA lines are lost.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from test_account import counted

from cvae_protein.core.errors import StructureError
from cvae_protein.core.structure import CA
from cvae_protein.io.read import read_structure

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Read all files and print one line, after one for each file with a difference."""
    folders = [Path(name) for name in sys.argv[1:]] or sorted((ROOT.parent / "shared").glob("*/mirror"))
    lost = lines = without = 0
    files = [path for folder in folders for path in sorted(folder.rglob("*.cif.gz"))]
    for path in files:
        number, residues = counted(path)
        try:
            found = read_structure(path)
        except StructureError as error:
            print(f"{path.name}: {error}")
            continue
        stored = int(np.isfinite(found.coords[:, CA, 0]).sum())
        lines += number
        without += len(residues) - stored
        if stored + found.alternates + found.ligands != number:
            lost += 1
            print(
                f"{path.name}: {number} lines, {stored} stored, {found.alternates} alternates, {found.ligands} ligands"
            )
    print(f"{len(files)} files, {lines} CA lines, {without} of them without a position, {lost} files that lose some")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
