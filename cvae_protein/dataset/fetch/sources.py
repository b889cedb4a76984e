"""Sources of entry files: embedded folder, mirror, archive or URL template; and obsolete entries."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

from ...config.settings import FetchSettings
from ...core.errors import StructureError, UserError
from ...core.files import sha256
from ...core.progress import say
from ...io.read import EXTENDED, STRUCTURE_FILE, SUFFIX, check_structure, ids_of_files, is_code, spellings
from .download import Downloader, check_address, kept_file
from .lockfile import EntryFile

CIF_NAMES = (
    "{}.cif.gz",
    "{}.cif",
    "{}.mmcif.gz",
    "{}.mmcif",
    "{}_updated.cif.gz",
    "{}_updated.cif",
)  # the last one is PDBe's
BINARY_NAMES = ("{}.bcif.gz", "{}.bcif")
PDB_NAMES = ("{}.pdb", "{}.pdb.gz", "{}.ent", "{}.ent.gz", "pdb{}.ent.gz", "pdb{}.ent")
ARCHIVES = {
    "rcsb": {
        "cif": "https://files.rcsb.org/download/{PDB_ID}.cif.gz",
        "bcif": "https://models.rcsb.org/{pdb_id}.bcif.gz",
    },
    "pdbe": {
        "cif": "https://www.ebi.ac.uk/pdbe/entry-files/download/{pdb_id}.cif.gz",
        "bcif": "https://www.ebi.ac.uk/pdbe/entry-files/download/{pdb_id}.bcif",
    },
}
"""Address of an entry by archive and format; https://www.rcsb.org/docs/programmatic-access/file-download-services."""
ALPHAFOLD = "https://alphafold.ebi.ac.uk/files/{{pdb_id}}-model_v{version}.{format}"
"""Address of a model by version and format; https://alphafold.ebi.ac.uk/download."""
ACCESSION = re.compile(  # of UniProt; see https://www.uniprot.org/help/accession_numbers
    r"(?:AF-)?([OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2})(?:-F(\d{1,3}))?(?:-model_v\d+)?",
    re.IGNORECASE,
)
MODEL_FILE = re.compile(r"(af-.+-f\d+)-model_v(\d+)\.(?:cif|bcif|pdb)(?:\.gz)?")
FIELDS = ("pdb_id", "PDB_ID", "middle", "domain_id")
KNOWN = "in braces may stand pdb_id, PDB_ID (in capitals), middle (its second and third character), domain_id"


class Source(Protocol):
    """A place that may have the file of an entry or, if it is `per_domain`, of one domain."""

    @property
    def name(self) -> str:
        """Name as in the settings."""

    @property
    def per_domain(self) -> bool:
        """Whether each file contains one domain."""

    @property
    def remote(self) -> bool:
        """Whether the source is accessed over the network."""

    async def get(self, pdb_id: str, domain_id: str, downloader: Downloader) -> EntryFile:
        """The file; `StructureError` if it cannot be obtained. The ids are safe (`files.unsafe`)."""


def _middle(pdb_id: str) -> str:
    """Folder of an entry in the wwPDB's divided layout, `ab` for 1abc and pdb_00001abc; empty if it has none."""
    middle = pdb_id[-3:-1] if EXTENDED.fullmatch(pdb_id.lower()) else pdb_id[1:3]
    return middle if len(pdb_id) > 3 and middle.isalnum() else ""


def _cases(name: str) -> tuple[str, str, str]:
    return name, name.lower(), name.upper()


VERSION = re.compile(
    r"(pdb_[0-9a-z]{8})_xyz(?:_v(\d+)-(\d+))?\.cif(?:\.gz)?"
)  # file names in the wwPDB's later archives


@dataclass(frozen=True)
class Folder:
    """A read-only folder of files: in the divided layout, flat, or in subfolders with any names."""

    name: str
    path: Path
    names: tuple[str, ...]
    per_domain: bool = False
    remote: bool = False
    listed: dict[Path, dict[str, list[str]]] = field(default_factory=dict, compare=False)

    def places(self, spelling: str) -> Iterator[Path]:
        """Folders that may contain an entry, in the wwPDB's layouts: divided, or one folder per entry."""
        for middle in dict.fromkeys((_middle(spelling), _middle(spelling).lower())):
            yield self.path / middle
            if EXTENDED.fullmatch(spelling):
                for above in ("entries", "data/entries", ""):
                    own = self.path / above / middle / spelling
                    yield from (own / "structures", own)
        yield self.path

    def candidates(self, pdb_id: str) -> Iterator[Path]:
        """Possible paths of an entry: by its name as given, in lower case, in upper case, then in any case.

        A PDB code is looked for in its short and its extended form; subfolders with other names are searched last.
        """
        names = [(cased, place) for name in spellings(pdb_id) for cased in _cases(name) for place in self.places(cased)]
        names = list(dict.fromkeys(names))
        for spelling, place in names:
            yield from (place / name.format(spelling) for name in self.names)
        for spelling, place in names:
            there = self._listing(place)
            for name in self.names:
                found = there.get(name.format(spelling).lower(), [])
                if len(found) > 1:
                    raise StructureError("not_found", f"{place}: {', '.join(sorted(found))} differ in capitals alone")
                yield from (place / one for one in found)
            versions = [match for name in there if (match := VERSION.fullmatch(name)) and match[1] == spelling.lower()]
            for match in sorted(versions, key=lambda match: (int(match[2] or 0), int(match[3] or 0)), reverse=True):
                yield place / there[match[0]][0]
            models = [match for name in there if (match := MODEL_FILE.fullmatch(name)) and match[1] == spelling.lower()]
            for match in sorted(models, key=lambda match: int(match[2]), reverse=True):
                yield place / there[match[0]][0]
        for name in (name.format(spelling).lower() for spelling in spellings(pdb_id) for name in self.names):
            if len(paths := self._deeper.get(name, [])) > 1:
                raise StructureError("not_found", f"{', '.join(map(str, paths))}: expected one file of that name")
            yield from paths
        yield from self._renamed.get(pdb_id, [])

    @cached_property
    def _deeper(self) -> dict[str, list[Path]]:
        """Files in subfolders, by lower-case name."""
        found: dict[str, list[Path]] = {}
        for place in sorted(self.path.iterdir()) if self.path.is_dir() else ():
            if place.name.startswith(".") or not place.is_dir() or not os.access(place, os.R_OK | os.X_OK):
                continue
            for name in sorted(os.listdir(place)):
                found.setdefault(name.lower(), []).append(place / name)
        return found

    @cached_property
    def _renamed(self) -> dict[str, list[Path]]:
        """Files here and in subfolders whose name differs from their id, by that id."""
        endings = tuple(name.removeprefix("{}") for name in self.names)
        flat = [self.path / name for names in self._listing(self.path).values() for name in names]
        there = (*flat, *(path for paths in self._deeper.values() for path in paths))
        named = [(path, STRUCTURE_FILE.fullmatch(path.name)) for path in there if path.name.lower().endswith(endings)]
        files = [(path, match[1]) for path, match in named if match]
        found: dict[str, list[Path]] = {}
        for (path, name), own in zip(files, ids_of_files(self.path, files), strict=True):
            if own != name:
                found.setdefault(own, []).append(path)
        return found

    def _listing(self, place: Path) -> dict[str, list[str]]:
        """File names in a folder, by lower-case name; read once."""
        if place not in self.listed:
            self.listed[place] = {}
            for name in os.listdir(place) if place.is_dir() else ():
                self.listed[place].setdefault(name.lower(), []).append(name)
        return self.listed[place]

    async def get(self, pdb_id: str, domain_id: str, downloader: Downloader) -> EntryFile:
        """The first existing file that is not empty; codes not_found or empty_file."""
        return await asyncio.to_thread(self._find, pdb_id)

    def _find(self, pdb_id: str) -> EntryFile:
        empty = None
        for path in self.candidates(pdb_id):
            if path.is_file():
                status = path.stat()
                if status.st_size:
                    changed = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds")
                    try:
                        return EntryFile(pdb_id, self.name, path, sha256(path), status.st_size, changed)
                    except OSError as error:
                        raise StructureError("unreadable", f"{path}: {error.strerror or error}") from error
                empty = path
        if empty is not None:
            raise StructureError("empty_file", f"{empty}: the file has no bytes")
        missing = "" if self.path.is_dir() else " (no such folder)"
        raise StructureError("not_found", f"{pdb_id} is not in {self.path}{missing}")


@dataclass(frozen=True)
class Site:
    """URLs made from a template; downloads are kept in the divided layout below the folder `cache`.

    A site of a PDB `archive` has only PDB entries, and each file names its entry. The same holds for a site of
    `models`, which has those of the AlphaFold database, named `AF-ACCESSION-F1`.
    """

    name: str
    template: str
    cache: Path
    most_bytes: int
    archive: bool = False
    models: bool = False
    remote: bool = True

    @property
    def per_domain(self) -> bool:
        """Whether each file contains one domain."""
        return "domain_id" in _fields(self.template)

    async def get(self, pdb_id: str, domain_id: str, downloader: Downloader) -> EntryFile:
        """The downloaded or cached file; codes as in `Downloader.file`."""
        given = pdb_id
        if self.archive:
            if not is_code(pdb_id):
                raise StructureError("not_found", f"{pdb_id} is no code of the PDB, {self.name} was not asked")
            pdb_id = next((name for name in spellings(pdb_id) if len(name) == 4), pdb_id)
        if self.models:
            if not (match := ACCESSION.fullmatch(pdb_id)):
                raise StructureError("not_found", f"{pdb_id} is no accession of UniProt, {self.name} was not asked")
            pdb_id = f"AF-{match[1].upper()}-F{match[2] or 1}"
        values = {"pdb_id": pdb_id, "PDB_ID": pdb_id.upper(), "middle": _middle(pdb_id).lower(), "domain_id": domain_id}
        url = self.template.format_map({key: quote(value, safe="") for key, value in values.items()})
        path = self.cache / _middle(pdb_id).lower() / self._file_name(domain_id if self.per_domain else pdb_id)
        check = partial(check_structure, name=pdb_id, most_bytes=self.most_bytes, certain=self.archive or self.models)
        receipt, fresh = await downloader.file(url, path, check, downloader.settings.revalidate)
        own = domain_id if self.per_domain else ""
        size, date = receipt.bytes, receipt.date
        return EntryFile(given, self.name, path, receipt.sha256, size, date, receipt.url, "", own, fresh)

    def _file_name(self, name: str) -> str:
        """A file name that differs on every file system, even for names that differ only in case."""
        suffix = SUFFIX.search(urlsplit(self.template).path)
        unique = "" if name == name.lower() else f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return f"{name}{unique}{suffix[0] if suffix else ''}"


def _fields(template: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]


def _embedded(name: str, settings: FetchSettings, embedded: Path) -> Source:
    return Folder(name, embedded, CIF_NAMES[:1])


def _archive(name: str, settings: FetchSettings, embedded: Path) -> Source:
    return Site(name, ARCHIVES[name][settings.format], Path(settings.cache, name), _most_bytes(settings), archive=True)


def _alphafold(name: str, settings: FetchSettings, embedded: Path) -> Source:
    """The AlphaFold database; its version is part of the cache folder and of the URL, which the lock file records."""
    template = ALPHAFOLD.format(version=settings.afdb_version, format=settings.format)
    return Site(
        name, template, Path(settings.cache, f"{name}_v{settings.afdb_version}"), _most_bytes(settings), models=True
    )


def _template(name: str, settings: FetchSettings, embedded: Path) -> Source:
    """A user's site; `UserError` if the URL is invalid or the same for all, or if an id determines the host."""
    try:
        fields = set(_fields(name))
        example = name.format_map(dict.fromkeys(FIELDS, "x"))
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(f"fetch.sources: {name}: {error!r} in braces; {KNOWN}") from error
    if not fields & {"pdb_id", "PDB_ID", "domain_id"} or "{" in name.split("://")[1].split("/")[0]:
        wanted = "https://host/{pdb_id}.cif.gz or https://host/{domain_id}.pdb"
        raise UserError(f"fetch.sources: expected an address such as {wanted}, got {name}; {KNOWN}")
    check_address(example, "fetch.sources")
    host = re.sub(r"[^a-z0-9.-]", "_", urlsplit(example).netloc.lower())
    folder = f"{host}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Site(name, name, Path(settings.cache, folder), _most_bytes(settings))


def _mirror(name: str, settings: FetchSettings, embedded: Path) -> Source:
    """A user's folder; `UserError` if it does not exist."""
    if not Path(name).is_dir():
        known = ", ".join(SOURCES)
        raise UserError(
            f"fetch.sources: expected {known}, a folder or a URL with {{pdb_id}}, found no folder at {name}"
        )
    structures = (CIF_NAMES, BINARY_NAMES) if settings.format == "cif" else (BINARY_NAMES, CIF_NAMES)
    return Folder(name, Path(name), (*structures[0], *structures[1], *PDB_NAMES))


def _most_bytes(settings: FetchSettings) -> int:
    return int(settings.max_megabytes * 1e6)


SOURCES: dict[str, Callable[[str, FetchSettings, Path], Source]] = {
    "embedded": _embedded, "rcsb": _archive, "pdbe": _archive, "afdb": _alphafold,
}  # fmt: skip
"""Named sources, each a function (name, settings, embedded folder) -> `Source`."""


def sources_of(settings: FetchSettings, embedded: Path) -> list[Source]:
    """The configured sources in order; `UserError` if one is impossible."""
    found = []
    for name in settings.sources:
        kind = SOURCES.get(name) or (_template if "://" in name else _mirror)
        found.append(kind(name, settings, embedded))
    return found


MARK = "OBSLTE"


def read_obsolete(path: Path) -> dict[str, list[str]]:
    """Successors by obsolete id, both in lower case; an empty list if an entry was withdrawn.

    A line is `OBSLTE 18-JUL-84 1HHB 2HHB 3HHB 4HHB`: mark, date, id, successors.
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
    """The list of obsolete entries, read on first use: a local file, or a download revalidated in every run.

    If `connect` is false, for example because all sources are folders, no server is contacted.
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
        """The entries that superseded an entry, empty if it was withdrawn; None if it is not in the list."""
        async with self._lock:
            if self._list is None:
                self._list = await self._read()
        return next((found for name in spellings(pdb_id.lower()) if (found := self._list.get(name)) is not None), None)

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
