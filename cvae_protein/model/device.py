"""Where a network computes: on the first GPU, else on the CPU, and in either case a line that says so."""

from __future__ import annotations

import os
import warnings

import torch

from ..core.programs import listed_gpus, said_gpus
from ..core.progress import say

ASKED = "CVAE_PROTEIN_GPUS"  # set by the workflow for its trainings: how many GPUs they are to have
NONE = ("", "-1", "NoDevFiles", "none", "void")  # values of `CUDA_VISIBLE_DEVICES` that are meant to show none


def pick_device(stage: str) -> torch.device:
    """The first GPU where torch can use one; said, with the reason where one was to be had."""
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
    """What a record says of a device: the GPU's model, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _expected() -> str:
    """Why a GPU was to be expected, empty where none was."""
    if os.environ.get(ASKED, "0") not in ("", "0"):
        return f"the run asks for {said_gpus(os.environ[ASKED])}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return "" if visible in NONE else f"CUDA_VISIBLE_DEVICES is {visible}"
    return f"nvidia-smi lists {said_gpus(len(names))}" if (names := listed_gpus()) else ""
