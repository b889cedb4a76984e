"""Sharing of one machine's GPUs among training runs: one lock file per GPU, released when its holder ends.

A scheduler assigns GPUs to a job through `CUDA_VISIBLE_DEVICES`; without one, several training runs would all start on
the first GPU. Here each run takes GPUs that no other run of the same user holds, or waits for them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from ..core.errors import UserError
from ..core.files import take_lock
from ..core.programs import ask, listed_gpus, said_gpus
from ..core.progress import say

VISIBLE = "CUDA_VISIBLE_DEVICES"
SECONDS_BETWEEN_LOOKS = 1.0
_held: list[IO[str]] = []  # open for as long as this process lives: closing one would free its GPU


PROBE = "import torch; print(torch.__version__); print(torch.cuda.is_available())"


def unusable() -> str:
    """Why torch can use no GPU, empty if it can; tested in a separate process, since CUDA then fixes its devices."""
    asked = ask(sys.executable, "-c", PROBE, longest=600)  # torch alone takes a minute on a busy file system
    version, _, usable = asked.stdout.strip().partition("\n")
    why = asked.stderr.strip().splitlines()
    return "" if usable == "True" else f"torch {version}" + (f": {why[0]}" if why else "")


def take(count: int, inherited: bool = False) -> None:
    """Set `CUDA_VISIBLE_DEVICES` to `count` GPUs, held until this process ends; wait until that many are free.

    Nothing is taken if the variable is already set, by a scheduler or by hand, or if torch can use no GPU.
    With `inherited` the program that replaces this process through `exec` keeps holding them. `UserError` if the
    machine has fewer.
    """
    names = listed_gpus() if VISIBLE not in os.environ else []
    if not names:
        return
    if why := unusable():
        say("gpu", f"takes none of the {len(names)} that nvidia-smi lists, since torch cannot use them ({why})")
        return
    if count > len(names):
        raise UserError(
            f"expected {said_gpus(count)} for the training, this machine has {len(names)}; lower train.processes"
        )
    waits = False
    while len(found := _lock_free(names, count)) < count:
        if not waits:
            say("gpu", f"waits for {count} of {said_gpus(len(names))}; other trainings of yours have the rest")
        waits = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    for handle in found.values():
        os.set_inheritable(handle.fileno(), inherited)
    _held.extend(found.values())
    os.environ[VISIBLE] = ",".join(found)
    say("gpu", f"uses {os.environ[VISIBLE]}")


def _lock_free(names: list[str], count: int) -> dict[str, IO[str]]:
    """The lock files of `count` free GPUs; none if fewer are free, so that two processes never wait for each other."""
    folder = _folder()
    found: dict[str, IO[str]] = {}
    for name in names:
        handle = open(folder / name.replace("/", "_"), "a", encoding="utf-8")  # noqa: SIM115 - kept open
        if not take_lock(handle):
            handle.close()
            continue
        found[name] = handle
        if len(found) == count:
            return found
    for taken in found.values():
        taken.close()
    return {}


def _folder() -> Path:
    """This user's folder of lock files on this machine."""
    folder = Path(tempfile.gettempdir()) / f"cvae_protein-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder}: expected a folder of your own for the locks of GPUs; remove it, or set {VISIBLE}")
    return folder
