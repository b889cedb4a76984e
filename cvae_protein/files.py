"""Files that are whole or absent: atomic writing, and tables as tab-separated text."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, else remove it.

    Works for a file and for a folder. The temporary name keeps the suffix, so that writers which look at it still work.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    temporary = scratch / path.name
    try:
        yield temporary
        if temporary.is_file():
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
        elif path.is_dir():
            os.replace(path, scratch / "replaced")
        os.replace(temporary, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def owned(path: str | Path) -> Iterator[None]:
    """Hold the lock file of an output while it is made; `UserError` where another process holds it.

    The lock goes with the process, also when it is killed; the empty file beside the output stays, since removing it
    would let a third process in.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with open(lock, "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{path}: another process is making it; wait for it or end it") from error
        yield


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write `rows` as tab-separated text with a header; tabs and newlines inside values become spaces."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        handle.write("\t".join(columns) + "\n")
        for row in rows:
            cells = ("" if row[name] is None else str(row[name]) for name in columns)
            handle.write("\t".join(" ".join(cell.split()) for cell in cells) + "\n")


def read_table(path: str | Path, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """Rows of a tab-separated file as dictionaries; `UserError` where a required column is absent or a row is short.

    Empty lines are passed over, and so is the byte order mark that spreadsheets write.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: expected a tab-separated table, found no file there")
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as handle:
        lines = (line.rstrip("\r\n").split("\t") for line in handle)
        header = next(lines, None)
        if header is None:
            raise UserError(f"{path}: expected a header line, the file is empty")
        if missing := [name for name in required if name not in header]:
            raise UserError(f"{path}: expected the columns {', '.join(required)}; {', '.join(missing)} not found")
        rows = []
        for number, cells in enumerate(lines, 2):
            if cells == [""]:
                continue
            if len(cells) != len(header):
                raise UserError(f"{path}, line {number}: expected {len(header)} columns, found {len(cells)}")
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
