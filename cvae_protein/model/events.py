"""Curves of a training for TensorBoard, where that is installed; history.tsv has the same numbers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class Events(Protocol):
    """What takes the rows of a history."""

    def add(self, row: Mapping[str, float]) -> None:
        """Take a row that has a `step`."""


class _Silent:
    def add(self, row: Mapping[str, float]) -> None:
        """Nothing is written."""


class _Written:
    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, row: Mapping[str, float]) -> None:
        """Every number of the row as a scalar of that step."""
        for name, value in row.items():
            if name not in ("step", "best"):
                self.writer.add_scalar(name, value, int(row["step"]))
        self.writer.flush()


@contextmanager
def events(checkpoint: Path | None, step: int) -> Iterator[Events]:
    """Event files in the folder `NAME.events` beside a checkpoint `NAME.safetensors`; rows after `step` are void.

    Nothing is written where there is no checkpoint or TensorBoard is not installed.
    """
    if checkpoint is None or importlib.util.find_spec("tensorboard") is None:
        yield _Silent()
        return
    written = _Written(checkpoint.with_suffix(".events"), step)
    try:
        yield written
    finally:
        written.writer.close()
