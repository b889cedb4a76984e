"""The device on which a network computes: the first GPU, else the CPU; a message says which."""

from __future__ import annotations

import os
import warnings

import torch

from ..core.programs import listed_gpus, said_gpus
from ..core.progress import say

ASKED = "CVAE_PROTEIN_GPUS"  # set by the workflow for its training runs: the number of GPUs they are to use
NONE = ("", "-1", "NoDevFiles", "none", "void")  # values of `CUDA_VISIBLE_DEVICES` that hide all GPUs


def pick_device(stage: str) -> torch.device:
    """The first GPU if torch can use one, else the CPU; a message says which, and why if a GPU was expected."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        has_one = torch.cuda.is_available()
    device = torch.device("cuda" if has_one else "cpu")
    expected = "" if has_one else _expected()
    why = f"; {str(caught[0].message).splitlines()[0]}" if caught else ""
    said = f", although {expected}: torch {torch.__version__} can use none{why}" if expected else ""
    say(stage, f"computes on the {'GPU ' if has_one else ''}{name_of(device).replace('cpu', 'CPU')}{said}")
    return device


def name_of(device: torch.device) -> str:
    """The name of a device in a record: the GPU's model, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _expected() -> str:
    """Why a GPU was expected; empty if none was."""
    if os.environ.get(ASKED, "0") not in ("", "0"):
        return f"the run asks for {said_gpus(os.environ[ASKED])}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return "" if visible in NONE else f"CUDA_VISIBLE_DEVICES is {visible}"
    return f"nvidia-smi lists {said_gpus(len(names))}" if (names := listed_gpus()) else ""
