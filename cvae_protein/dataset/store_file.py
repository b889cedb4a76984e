"""A new HDF5 file that is whole or absent, also on a full disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from ..core.files import atomic_path


class _Disk(io.FileIO):
    """A file in which HDF5 never meets an error: the first is kept, and what cannot be written stays in memory.

    HDF5 does not survive that its own writing fails: it cannot close the file, and crashes when it is unloaded, or
    where it reads what it takes for written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None
        self.unwritten: list[tuple[int, bytes]] = []  # place and content, in order

    def write(self, data: Any) -> int:
        """Write all of `data`, a buffer."""
        place, whole = self.tell(), memoryview(data).cast("B")
        left = whole
        try:
            while len(left) and self.error is None:
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self.error = error
        if self.error is not None:
            self.unwritten.append((place, whole.tobytes()))
            super().seek(place + len(whole))
        return len(whole)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, with zeros where nothing was written."""
        place, view = self.tell(), memoryview(buffer).cast("B")
        if self.error is None:
            return super().readinto(view) or 0
        count = super().readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        for start, content in self.unwritten:
            first, last = max(start, place), min(start + len(content), place + len(view))
            if first < last:
                view[first - place : last - place] = content[first - start : last - start]
        return len(view)

    def seek(self, place: int, origin: int = io.SEEK_SET) -> int:
        """Go to a place; the end is that of what should have been written."""
        if origin == io.SEEK_END and self.unwritten:
            end = max(super().seek(0, io.SEEK_END), *(start + len(content) for start, content in self.unwritten))
            return super().seek(end + place)
        return super().seek(place, origin)

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
    with atomic_path(path) as temporary, _Disk(temporary) as disk:
        try:
            with h5py.File(disk, "w", **options) as file:
                file.disk = disk
                yield file
        except Exception:
            if disk.error is None:
                raise
        if disk.error is not None:
            raise OSError(disk.error.errno, disk.error.strerror, str(path)) from disk.error


def check_room(file: h5py.File) -> None:
    """Raise `OSError` where a file of `new_file` could not be written so far, so that no more is held in memory."""
    disk = getattr(file, "disk", None)
    if disk is not None and disk.error is not None:
        raise disk.error
