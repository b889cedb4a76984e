"""From domains to the entry files that hold them, looked for in each configured source in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import StructureError, UserError
from ..files import read_table, sha256, write_table
from ..progress import say, track
from ..settings import FetchSettings
from .labels import REQUIRED, is_safe_id, rejection, write_rejected

COLUMNS = ("pdb_id", "source", "path", "sha256", "bytes")
FLAT_NAMES = (
    "{}.cif.gz", "{}.cif", "{}.mmcif.gz", "{}.mmcif", "{}.pdb", "{}.pdb.gz", "{}.ent", "{}.ent.gz",
    "pdb{}.ent.gz", "pdb{}.ent",
)  # fmt: skip


def _candidates(folder: Path, pdb_id: str, names: tuple[str, ...]) -> Iterator[Path]:
    """Where an entry may lie: in the wwPDB's divided layout (`ab/1abc.cif.gz`) first, then in the folder itself."""
    for spelling in dict.fromkeys((pdb_id, pdb_id.lower(), pdb_id.upper())):
        places = [folder / spelling[1:3], folder / spelling[1:3].lower(), folder] if len(spelling) > 3 else [folder]
        for place in dict.fromkeys(places):
            for name in names:
                yield place / name.format(spelling)


def find_embedded(folder: Path, pdb_id: str) -> Iterator[Path]:
    """Candidate files in the folder that comes with the project."""
    return _candidates(folder, pdb_id, FLAT_NAMES[:1])


def find_in_mirror(folder: Path, pdb_id: str) -> Iterator[Path]:
    """Candidate files in a mirror folder, divided or flat, PDB or mmCIF, compressed or not."""
    return _candidates(folder, pdb_id, FLAT_NAMES)


SOURCES: dict[str, Callable[[Path, str], Iterator[Path]]] = {"embedded": find_embedded, "mirror": find_in_mirror}
"""Kinds of source, each a function (folder, pdb_id) -> candidate files."""


def _sources(settings: FetchSettings, embedded: Path) -> list[tuple[str, str, Path]]:
    """Name, kind and folder of each configured source; `UserError` where a mirror is not a folder."""
    found = []
    for name in settings.sources:
        kind, folder = ("embedded", embedded) if name == "embedded" else ("mirror", Path(name))
        if kind == "mirror" and not folder.is_dir():
            raise UserError(f"fetch.sources: expected `embedded` or a folder, found no folder at {name}")
        found.append((name, kind, folder))
    return found


def _find(pdb_id: str, sources: list[tuple[str, str, Path]]) -> dict[str, object]:
    """The row of `entries.tsv` of one entry; `StructureError` with the code not_found, empty_file or bad_id."""
    if not is_safe_id(pdb_id):
        raise StructureError("bad_id", f"pdb_id {pdb_id!r}: expected letters, digits and ._+- only")
    empty = None
    for name, kind, folder in sources:
        for path in SOURCES[kind](folder, pdb_id):
            if not path.is_file():
                continue
            if size := path.stat().st_size:
                return {"pdb_id": pdb_id, "source": name, "path": path, "sha256": sha256(path), "bytes": size}
            empty = path
    if empty is not None:
        raise StructureError("empty_file", f"{empty}: the file has no bytes")
    places = ", ".join(f"{folder}{'' if folder.is_dir() else ' (no such folder)'}" for _, _, folder in sources)
    raise StructureError("not_found", f"{pdb_id} is not in {places}")


def fetch_entries(domains: Path, settings: FetchSettings, embedded: Path, output: Path, rejected: Path) -> int:
    """Find the file of every entry that `domains` (a `domains.tsv`) names and write `entries.tsv` to `output`.

    `embedded` is the folder of the source of that name. Domains whose entry is in no source go to `rejected`. Returns
    the number of entries found. Raises `UserError` where a configured mirror is not a folder.
    """
    of_entry: dict[str, list[str]] = {}
    for row in read_table(domains, REQUIRED):
        of_entry.setdefault(row["pdb_id"], []).append(row["domain_id"])
    sources = _sources(settings, Path(embedded))
    entries, dropped = [], []
    for pdb_id in track(sorted(of_entry), "fetch", len(of_entry), "entries"):
        try:
            entries.append(_find(pdb_id, sources))
        except StructureError as error:
            dropped += [rejection(domain_id, ", ".join(settings.sources), error) for domain_id in of_entry[pdb_id]]
    write_table(output, COLUMNS, entries)
    write_rejected(rejected, dropped)
    say("fetch", f"{len(entries)} of {len(of_entry)} entries found; {len(dropped)} domains without their entry")
    return len(entries)
