"""A new HDF5 file that is whole or absent, also on a full disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from ..files import atomic_path


class _Disk(io.FileIO):
    """A file in which HDF5 never meets an error: the first is kept in `error`, and later writing is let go.

    HDF5 does not survive that its own writing fails: it cannot close the file, and crashes when it is unloaded.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`, a buffer, unless something failed before."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while len(left) and self.error is None:
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the file's size."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def new_file(path: Path, **options: Any) -> Iterator[h5py.File]:
    """A new HDF5 file to be filled; it is at `path` when the block ends well. `OSError` where it cannot be written.

    options : of `h5py.File`
    """
    with atomic_path(path) as temporary, _Disk(temporary, "w+") as disk:
        try:
            with h5py.File(disk, "w", **options) as file:
                yield file
        except Exception:
            if disk.error is None:
                raise
        if disk.error is not None:
            raise OSError(disk.error.errno, disk.error.strerror, str(path)) from disk.error
