"""Structures of sequences by ESMFold (Lin et al. 2023, doi:10.1126/science.ade2574), through the package transformers.

    python -m cvae_protein.designability.esmfold SEQUENCES.fasta FOLDER [--model facebook/esmfold_v1]

Writes FOLDER/NAME.pdb for each sequence of the FASTA file, shortest first; existing files are not predicted again.
Any program that does the same can be used as predictor. The model is a name known to transformers, or a folder;
nothing is downloaded if `HF_HUB_OFFLINE` is set.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from ..core.errors import UserError
from ..core.files import atomic_path
from ..core.progress import track

MODEL = "facebook/esmfold_v1"


def load(model: str, device: str) -> Any:
    """Load ESMFold; `UserError` if transformers or the weights are absent."""
    try:
        from transformers import EsmForProteinFolding
    except ImportError as error:
        raise UserError(f"transformers is not installed ({error}): pip install transformers") from error
    try:
        network = EsmForProteinFolding.from_pretrained(model)
    except OSError as error:
        raise UserError(f"{model}: expected the files of ESMFold ({str(error).splitlines()[0]})") from error
    if device != "cpu":
        network.esm = network.esm.half()
    return network.to(device).eval()


def read_fasta(path: Path) -> dict[str, str]:
    """Sequence by name; the name ends at the first space."""
    found: dict[str, str] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(">"):
            name = line[1:].split(maxsplit=1)[0]
            found[name] = ""
        elif line.strip():
            found[name] += line.strip()
    return found


def main() -> None:
    """Read sequences, write structures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default=MODEL)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    wanted = {n: s for n, s in read_fasta(given.sequences).items() if not (given.output / f"{n}.pdb").is_file()}
    if not wanted:
        return
    network = load(given.model, "cuda" if torch.cuda.is_available() else "cpu")
    for name in track(sorted(wanted, key=lambda name: len(wanted[name])), "esmfold", len(wanted), "sequences"):
        with atomic_path(given.output / f"{name}.pdb") as temporary:
            temporary.write_text(network.infer_pdb(wanted[name]), encoding="utf-8")  # pLDDT as B-factors


if __name__ == "__main__":
    main()
