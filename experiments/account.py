"""Print whether every CA line of PDB and mmCIF files is accounted for by what was read.

    PYTHONPATH=tests python experiments/account.py [FOLDER ...]

Lines are counted by `tests/ca_lines.py`, which looks at the text alone: of the archive's files those of polymers, which
must be as many as are stored or of another conformer; of any file those of standard amino acids, of which none may be
lost. Folders are by default the mirrors in ../shared, where there are any. Ends with exit code 1 where lines are lost.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ca_lines import ca_lines

from cvae_protein.core.errors import StructureError
from cvae_protein.core.structure import CA
from cvae_protein.io.read import read_structure, structure_files

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Read all files and print one line, after one for each file with a difference."""
    folders = [Path(name) for name in sys.argv[1:]] or sorted((ROOT.parent / "shared").glob("*/mirror"))
    lost = lines = without = ligands = 0
    files = [path for folder in folders for path, name in structure_files(folder) if name]
    for path in files:
        of_polymers, standard = ca_lines(path.read_bytes(), of_polymers=True), ca_lines(path.read_bytes())
        try:
            found = read_structure(path)
        except StructureError as error:
            print(f"{path.name}: {error}")
            continue
        stored = int(np.isfinite(found.coords[:, CA, 0]).sum())
        lines += len(of_polymers or standard)
        without += max(0, len(set(of_polymers)) - stored)
        ligands += found.ligands
        said = f"{stored} stored, {found.alternates} alternates, {found.ligands} ligands"
        if of_polymers and stored + found.alternates != len(of_polymers):
            lost += 1
            print(f"{path.name}: {len(of_polymers)} lines of polymers, {said}")
        if stored + found.alternates + found.ligands < len(standard):
            lost += 1
            print(f"{path.name}: {len(standard)} lines of standard amino acids, {said}")
    print(
        f"{len(files)} files, {lines} CA lines, {without} of them without a position, {ligands} of ligands, "
        f"{lost} files that lose some"
    )
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
