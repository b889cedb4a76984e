"""Finds the entry files of domains, trying each configured source in turn."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...config.settings import FetchSettings
from ...core.errors import StructureError, UserError, rejection
from ...core.files import read_table, unsafe, write_rejected
from ...core.progress import Progress, say
from ..formats import REQUIRED
from .download import Downloader
from .lockfile import EntryFile, check_lock, write_entries, write_lock
from .sources import Obsolete, Source, sources_of

MAY_PASS = ("connection", "timeout", "http_error")  # reasons that may be temporary
MOST_SUCCESSIONS = 5  # maximum number of successors tried


@dataclass
class Result:
    """What was found for one entry: its files, and the errors for domains without one."""

    files: list[EntryFile] = field(default_factory=list)
    failed: dict[str, StructureError] = field(default_factory=dict)


def _first_reason(errors: list[StructureError]) -> StructureError:
    """One error for all sources: the first code other than not_found, and every source's message."""
    code = next((error.code for error in errors if error.code != "not_found"), "not_found")
    return StructureError(code, "; ".join(error.detail for error in errors))


async def _look(pdb_id: str, domain_ids: list[str], sources: list[Source], downloader: Downloader) -> Result:
    """Try the sources in turn until every domain has a file: its own or its entry's."""
    result = Result()
    errors: dict[str, list[StructureError]] = {domain_id: [] for domain_id in domain_ids}
    for source in sources:
        groups = [[domain_id] for domain_id in errors] if source.per_domain else [list(errors)] if errors else []
        for group in groups:
            try:
                result.files.append(await source.get(pdb_id, group[0], downloader))
            except StructureError as error:
                for domain_id in group:
                    errors[domain_id].append(error)
            else:
                for domain_id in group:
                    del errors[domain_id]
    result.failed = {domain_id: _first_reason(said) for domain_id, said in errors.items()}
    return result


async def _find(
    pdb_id: str, domain_ids: list[str], sources: list[Source], obsolete: Obsolete, downloader: Downloader
) -> Result:
    """The files of an entry or, if no source has it, of those that superseded it."""
    if strange := [name for name in (pdb_id, *domain_ids) if unsafe(name)]:
        error = StructureError("bad_id", f"id {strange[0]!r}: {unsafe(strange[0])}")
        return Result(failed=dict.fromkeys(domain_ids, error))
    result = await _look(pdb_id, domain_ids, sources, downloader)
    missing = [name for name, error in result.failed.items() if error.code in ("not_found", "offline")]
    if not missing or (successors := await obsolete.successors(pdb_id)) is None:
        return result
    files, reason = await _find_successor(pdb_id, successors, sources, obsolete, downloader)
    found = [replace(file, pdb_id=pdb_id, superseded_by=file.pdb_id) for file in files]
    failed = {name: error for name, error in result.failed.items() if name not in missing}
    return Result([*result.files, *found], failed | (dict.fromkeys(missing, reason) if reason else {}))


async def _find_successor(
    pdb_id: str, successors: list[str], sources: list[Source], obsolete: Obsolete, downloader: Downloader
) -> tuple[list[EntryFile], StructureError | None]:
    """The file of the first successor that has one; if none has, the reason."""
    whole = [source for source in sources if not source.per_domain]
    waiting, seen, errors = list(successors), {pdb_id.lower()}, []
    while waiting and len(seen) <= MOST_SUCCESSIONS:
        successor = waiting.pop(0)
        if successor in seen or unsafe(successor):
            continue
        seen.add(successor)
        found = await _look(successor, [successor], whole, downloader)
        if found.files:
            say("fetch", f"{pdb_id} is obsolete, {successor} superseded it and is used")
            return found.files, None
        errors.append(found.failed[successor])
        waiting += await obsolete.successors(successor) or []
    code = _first_reason(errors).code
    fate = f"was superseded by {', '.join(successors)}" if successors else "was withdrawn"
    detail = "; ".join([f"{pdb_id} {fate}", *(error.detail for error in errors)])
    return [], StructureError("obsolete" if code == "not_found" else code, detail)


async def _find_all(of_entry: dict[str, list[str]], settings: FetchSettings, embedded: Path) -> dict[str, Result]:
    """The results for all entries, as many at a time as the settings allow connections."""
    sources = sources_of(settings, embedded)
    results: dict[str, Result] = {}
    waiting = iter(sorted(of_entry))
    progress, start = Progress("fetch", len(of_entry), "entries"), time.monotonic()
    async with Downloader(settings) as downloader:
        obsolete = Obsolete(settings, downloader, any(source.remote for source in sources))

        async def work() -> None:
            for pdb_id in waiting:
                results[pdb_id] = await _find(pdb_id, of_entry[pdb_id], sources, obsolete, downloader)
                rate = downloader.received / 1e6 / max(time.monotonic() - start, 1e-3)
                progress.advance(1, f"{rate:.2f} MB/s" if downloader.received else "")

        await asyncio.gather(*(work() for _ in range(settings.connections)))
    return results


def _summary(files: list[EntryFile]) -> list[str]:
    """One line per source: files, their size, and how much was downloaded in this run."""
    lines = []
    for name in dict.fromkeys(file.source for file in files):
        own = [file for file in files if file.source == name]
        line = f"{name}: {len(own)} files, {sum(file.bytes for file in own) / 1e6:.2f} MB"
        if own[0].url:
            fresh = [file.bytes for file in own if file.fresh]
            line += f", of which {len(fresh)} downloaded now ({sum(fresh) / 1e6:.2f} MB)"
        lines.append(line)
    return lines


def fetch_entries(
    domains: Path, settings: FetchSettings, embedded: Path, output: Path, rejected: Path, lock: Path | None = None
) -> int:
    """Find the files of the entries in `domains` (a `domains.tsv`); write `entries.tsv` and the lock file.

    `embedded` is the folder of the source of that name. Domains without a file go to `rejected`. Returns the number of
    files. Raises `UserError` if a source is impossible, if files differ from those of `settings.locked`, or if nothing
    at all is found for a reason that may be temporary; then nothing is written, but downloads are kept.
    """
    of_entry: dict[str, list[str]] = {}
    for row in read_table(domains, REQUIRED):
        of_entry.setdefault(row["pdb_id"], []).append(row["domain_id"])
    results = asyncio.run(_find_all(of_entry, settings, Path(embedded)))
    ordered = [results[pdb_id] for pdb_id in sorted(results)]
    files = [file for result in ordered for file in result.files]
    failed = {domain_id: error for result in ordered for domain_id, error in result.failed.items()}
    passing = [error for error in failed.values() if error.code in MAY_PASS]
    if passing and not files:
        raise UserError(f"fetch: nothing was found; {len(passing)} failures may pass, the first is {passing[0]}")
    if settings.locked:
        check_lock(Path(settings.locked), files)
    if lock is not None:
        write_lock(lock, files)
    write_entries(output, files)
    write_rejected(rejected, (rejection(name, ", ".join(settings.sources), error) for name, error in failed.items()))
    for line in _summary(files):
        say("fetch", line)
    if passing:
        say(
            "fetch", f"{len(passing)} domains failed for reasons that may pass; the stage run again asks for them alone"
        )
    count = len(of_entry) - sum(not result.files for result in ordered)
    say("fetch", f"{count} of {len(of_entry)} entries found; {len(failed)} domains without a file")
    return len(files)
