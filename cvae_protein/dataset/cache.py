"""Downloaded files that are whole or absent, each with a receipt; a part of a file waits to be continued.

Beside `1abc.cif.gz` lies `.1abc.cif.gz.json`, the receipt. While it is downloaded there are `.1abc.cif.gz.part` and the
receipt of that part. Whoever writes a part holds its lock, so that several runs may share a folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from ..core.files import atomic_path, sha256

SECONDS_BETWEEN_LOOKS = 0.1  # at a lock that another process holds


@dataclass(frozen=True)
class Receipt:
    """Where the bytes of a file came from: `asked` is the address asked for, `url` the one that answered.

    `etag` and `modified` are the server's words for this version; `date` is that of the download, in UTC.
    """

    asked: str
    url: str
    etag: str = ""
    modified: str = ""
    date: str = ""
    sha256: str = ""
    bytes: int = 0

    @property
    def validator(self) -> str:
        """What `If-Range` may carry; empty where the server gave nothing that tells versions apart for certain."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


def _receipt_path(path: Path) -> Path:
    return path.with_name(f".{path.name.lstrip('.')}.json")


def part_path(path: Path) -> Path:
    """Where a file lies until it is whole and checked."""
    return path.with_name(f".{path.name}.part")


def read_receipt(path: Path, asked: str) -> Receipt | None:
    """The receipt of a file or part that was downloaded from `asked`; None where there is none that can be trusted."""
    try:
        receipt = Receipt(**json.loads(_receipt_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return receipt if receipt.asked == asked else None


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write the receipt of a file or part."""
    with atomic_path(_receipt_path(path)) as temporary:
        temporary.write_text(json.dumps(asdict(receipt)), encoding="utf-8")


def kept_file(path: Path, asked: str) -> Receipt | None:
    """The receipt of a whole file whose bytes are those that were downloaded from `asked`; else None."""
    receipt = read_receipt(path, asked)
    if receipt is None or not path.is_file() or path.stat().st_size != receipt.bytes:
        return None
    return receipt if sha256(path) == receipt.sha256 else None


def keep(path: Path, receipt: Receipt) -> None:
    """Give a checked part its name. A process that dies in between leaves a file that is downloaded again."""
    part = part_path(path)
    with open(part, "rb") as handle:
        os.fsync(handle.fileno())
    write_receipt(path, receipt)
    os.replace(part, path)
    _receipt_path(part).unlink(missing_ok=True)


@asynccontextmanager
async def locked_part(path: Path) -> AsyncIterator[IO[bytes]]:
    """The part of a file, open for appending and locked; waits while another process or task writes it."""
    part = part_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(part, "ab") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
                continue
            if not _is_still(part, handle):  # the former owner gave it its name, or removed it
                continue
            try:
                yield handle
            finally:
                handle.flush()
                if _is_still(part, handle) and not part.stat().st_size:
                    part.unlink()
                    _receipt_path(part).unlink(missing_ok=True)
            return


def _is_still(part: Path, handle: IO[bytes]) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(part))
    except FileNotFoundError:
        return False
