"""Calls of other programs, such as git or Slurm's, with a time limit, since some never answer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError
from .progress import say

LONGEST = 60.0  # seconds; a busy Slurm can take a while to answer


def ask(*command: str, without: tuple[str, ...] = (), longest: float = 0.0) -> subprocess.CompletedProcess[str]:
    """Run a program and return its output; `UserError` if it cannot be started or does not finish in time.

    without : environment variables to remove
    longest : time limit in seconds, instead of `LONGEST`
    """
    longest = longest or LONGEST
    kept: Mapping[str, str] = {name: value for name, value in os.environ.items() if name not in without}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=longest, env=kept
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{' '.join(command)}: no answer within {longest:.0f} s") from error
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be started ({error.strerror})") from error


def settle_cache() -> None:
    """Move Snakemake's cache below the working folder if the one in the home folder is not writable."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    try:
        (usual / "snakemake").mkdir(parents=True, exist_ok=True)
        usable = os.access(usual / "snakemake", os.W_OK | os.X_OK)
    except OSError:
        usable = False
    if not usable:
        os.environ["XDG_CACHE_HOME"] = str(Path(".snakemake/cache").absolute())
        say("run", f"{usual}: cannot be written to; Snakemake's cache lies in {os.environ['XDG_CACHE_HOME']}")


TORCHRUN = "TORCHELASTIC_RUN_ID"  # set by torchrun, which `launch` uses, for its processes


def is_first() -> bool:
    """Whether this process is the one that writes: the only one, or the first of a training with several.

    `RANK` alone does not tell: other launchers set it too, such as that of the job in which a shell was opened, without
    dividing our work.
    """
    return TORCHRUN not in os.environ or os.environ.get("RANK", "0") == "0"


def said_gpus(count: object) -> str:
    """`1 GPU` or `2 GPUs`."""
    return f"{count} GPU" if str(count) == "1" else f"{count} GPUs"


GPU = re.compile(r"GPU \d+: .*\(UUID: (GPU-[\w-]+)\)")
PART = re.compile(r"\s+MIG .*\(UUID: (MIG-[\w/-]+)\)")


def listed_gpus() -> list[str]:
    """Names of this machine's GPUs as CUDA expects them, such as `GPU-5e…`; of a MIG-partitioned GPU, its instances.

    They are what `nvidia-smi` lists, not all of which a program may be able to use. Empty if it does not answer.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = ask(program, "-L")
    except UserError as error:
        say("gpu", f"{error}; goes on as if there were no GPU")
        return []
    names: list[tuple[str, list[str]]] = []
    for line in listed.stdout.splitlines() if listed.returncode == 0 else []:
        if found := GPU.match(line):
            names.append((found[1], []))
        elif names and (found := PART.match(line)):
            names[-1][1].append(found[1])
    return [name for whole, parts in names for name in (parts or [whole])]
