"""Which entries the archive has withdrawn, and what superseded them: the wwPDB's list `obsolete.dat`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..config.settings import FetchSettings
from ..core.errors import StructureError, UserError
from ..core.progress import say
from .address import check_address
from .cache import kept_file
from .fetch.download import Downloader

MARK = "OBSLTE"


def read_obsolete(path: Path) -> dict[str, list[str]]:
    """Successors by obsolete id, both in small letters; none where an entry was withdrawn.

    A line is `OBSLTE    18-JUL-84 1HHB     2HHB 3HHB 4HHB`: mark, date, id, successors.
    """
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.lower().split()
        if len(words) >= 3 and words[0] == MARK.lower():
            found.setdefault(words[2], []).extend(words[3:])
    return found


def _check(path: Path) -> None:
    if MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise StructureError("bad_download", f"no line of it begins with {MARK}")


class Obsolete:
    """The list, read when it is first asked: a local file, or a download that is revalidated in every run.

    With `connect` false no server is asked, as where all sources are folders.
    """

    def __init__(self, settings: FetchSettings, downloader: Downloader, connect: bool) -> None:
        self._place, self._downloader, self._connect = settings.obsolete, downloader, connect
        self._cached = Path(settings.cache, "wwpdb", "obsolete.dat")
        self._lock = asyncio.Lock()
        self._list: dict[str, list[str]] | None = None
        if "://" in self._place:
            check_address(self._place, "fetch.obsolete")
        elif self._place and not Path(self._place).is_file():
            raise UserError(f"fetch.obsolete: expected a URL or a file, found no file at {self._place}")

    async def successors(self, pdb_id: str) -> list[str] | None:
        """What superseded an entry, empty where it was withdrawn; None where the list does not have it."""
        async with self._lock:
            if self._list is None:
                self._list = await self._read()
        return self._list.get(pdb_id.lower())

    async def _read(self) -> dict[str, list[str]]:
        if "://" not in self._place:
            return read_obsolete(Path(self._place)) if self._place else {}
        if not self._connect:
            return {}
        try:
            await self._downloader.file(self._place, self._cached, _check, revalidate=True)
        except StructureError as error:
            older = kept_file(self._cached, self._place)
            instead = "an earlier copy is used" if older else "superseded entries stay not found"
            say("fetch", f"the list of obsolete entries cannot be had ({error}); {instead}")
            if not older:
                return {}
        return read_obsolete(self._cached)
