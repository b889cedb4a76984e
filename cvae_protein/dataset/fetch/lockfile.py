"""Which file holds which entry: `entries.tsv`, and `sources.lock.tsv`, to which a later run can be held."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ...core.errors import UserError
from ...core.files import read_table, write_table

COLUMNS = ("pdb_id", "source", "path", "sha256", "bytes", "url", "superseded_by", "domain_id")
LOCK_COLUMNS = ("pdb_id", "source", "url", "sha256", "bytes", "date", "domain_id")
NAMED_AT_MOST = 10  # ids in an error message


@dataclass(frozen=True)
class EntryFile:
    """One file of an entry, or of one of its domains if `domain_id` is not empty, and where it came from.

    `url` is the address that answered, empty for a local file; `date` (UTC) is the time of the download, or of the last
    change of a local file; `superseded_by` is the entry in the file if `pdb_id` is obsolete; `fresh` means that it was
    downloaded in this run.
    """

    pdb_id: str
    source: str
    path: Path
    sha256: str
    bytes: int
    date: str
    url: str = ""
    superseded_by: str = ""
    domain_id: str = ""
    fresh: bool = False


def _key(pdb_id: str, domain_id: str) -> str:
    return f"{pdb_id}/{domain_id}" if domain_id else pdb_id  # ids contain no slash


def write_entries(path: Path, entries: Iterable[EntryFile]) -> None:
    """Write `entries.tsv`."""
    write_table(path, COLUMNS, map(asdict, entries))


def read_entries(path: Path) -> dict[str, dict[str, str]]:
    """Rows of `entries.tsv` by the key that `key_of` finds; `UserError` if it is not such a table."""
    rows = read_table(path, COLUMNS[:4])
    return {_key(row["pdb_id"], row.get("domain_id", "")): row for row in rows}


def key_of(domain: Mapping[str, str], files: Container[str]) -> str | None:
    """Key in `files` of the file for a domain (a row of `domains.tsv`): its own, else its entry's; None if neither."""
    keys = (_key(domain["pdb_id"], domain["domain_id"]), domain["pdb_id"])
    return next((key for key in keys if key in files), None)


def write_lock(path: Path, entries: Iterable[EntryFile]) -> None:
    """Write `sources.lock.tsv`: hash, size, source, URL and date of every file."""
    write_table(path, LOCK_COLUMNS, map(asdict, entries))


def check_lock(path: Path, entries: Iterable[EntryFile]) -> None:
    """Raise `UserError`, with the ids, if `entries` are not byte for byte the files recorded in `path`.

    Files may come from other sources than in the lock file; only their bytes count.
    """
    locked = {
        _key(row["pdb_id"], row.get("domain_id", "")): row["sha256"] for row in read_table(path, LOCK_COLUMNS[:5])
    }
    came = {_key(entry.pdb_id, entry.domain_id): entry.sha256 for entry in entries}
    changed = [key for key in came if key in locked and came[key] != locked[key]]
    kinds = {
        "differ": changed,
        "are not in the lock file": [key for key in came if key not in locked],
        "are in the lock file and were not found": [key for key in locked if key not in came],
    }
    said = [f"{len(keys)} {kind} ({_named(keys)})" for kind, keys in kinds.items() if keys]
    if said:
        advice = "fetch without fetch.locked to accept them"
        raise UserError(f"{path}: expected the same files as when it was written: {'; '.join(said)}; {advice}")


def _named(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED_AT_MOST} more" if len(keys) > NAMED_AT_MOST else ""
    return ", ".join(sorted(keys)[:NAMED_AT_MOST]) + more
