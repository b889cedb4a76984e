"""The report written when the program itself fails: a small file with what is needed to fix the defect, to be sent."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

LIBRARIES = ("numpy", "torch", "h5py", "gemmi", "safetensors", "scipy", "typer", "snakemake")
VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID")
LONGEST = 100_000  # characters of a configuration file that are copied


def write_report(arguments: Sequence[str], error: BaseException) -> Path | None:
    """Write the report of a defect to this or the temporary folder; returns its path, None if neither is writable."""
    text = "\n".join(_lines(arguments, error)) + "\n"
    name = f"cvae-protein-defect-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        try:
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return folder / name
    return None


def _lines(arguments: Sequence[str], error: BaseException) -> Iterator[str]:
    from .. import __version__
    from ..runs.manifest import commit

    found, why = commit()
    yield f"cvae_protein {__version__}, commit {found or f'unknown ({why})'}"
    yield f"Python {sys.version.split()[0]}, {platform.platform()}"
    yield ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    yield from (f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ)
    yield f"command: {' '.join(map(repr, arguments))}"
    yield "".join(traceback.format_exception(error)).rstrip()
    for path in map(Path, arguments):
        if path.suffix in (".yaml", ".yml") and path.is_file():
            yield f"--- {path}"
            yield path.read_text(encoding="utf-8", errors="replace")[:LONGEST]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
