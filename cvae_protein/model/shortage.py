"""Where memory, of a GPU or of the machine, does not suffice: the same work in smaller pieces, and a line about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from ..core.errors import UserError
from ..core.progress import say

Result = TypeVar("Result")
ERRORS = (MemoryError, RuntimeError)  # torch.OutOfMemoryError is a RuntimeError
SAID_BY_TORCH = ("out of memory", "can't allocate memory", "not enough memory")


def is_shortage(error: BaseException) -> bool:
    """Whether an error is one of memory; torch has a type of its own for GPUs alone."""
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in said for words in SAID_BY_TORCH)


def free() -> None:
    """Give back what torch holds in store; after the `except` block, since an error holds the tensors of its frames."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_pieces(work: Callable[[np.ndarray], Result], rows: np.ndarray, stage: str) -> list[tuple[np.ndarray, Result]]:
    """`rows` with what `work` makes of them, at once if memory suffices, else in halves.

    Noise that `work` draws for all of its rows together is other noise in pieces. `UserError` where memory does not
    suffice for one row.
    """
    try:
        return [(rows, work(rows))]
    except ERRORS as error:
        if not is_shortage(error):
            raise
        if len(rows) == 1:
            raise UserError(f"{stage}: memory does not suffice for one structure; use a machine with more") from error
    free()
    half = len(rows) // 2
    say(stage, f"memory does not suffice for {len(rows)} structures at once; going on with {half}")
    return in_pieces(work, rows[:half], stage) + in_pieces(work, rows[half:], stage)
