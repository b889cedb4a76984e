"""Distance of held-out domains from training: the nearest training domain of each, by structure and by sequence."""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..core.files import owned, read_table, sha256, write_table
from ..core.labels import RUNGS
from ..core.progress import Progress, say
from ..similarity.nearest_structures import ALIGNED, FEWEST, DomainTrace, Search, SubstructureLibrary, tm_align_score
from ..similarity.sequences import Sequences
from ..store.read import Store

AUDIT_COLUMNS = (
    *("domain_id", "split", "label", "length", "max_tm", "tm_id", "max_identity", "identity_id", "bin"),
    "rung",
)
HELD_OUT = ("test", "validation")
TRAINED = ("train", "crops")
BINS = ((0.5, "tm_to_0.5"), (0.8, "tm_0.5_to_0.8"), (float("inf"), "tm_above_0.8"))
"""Upper limits of the highest TM-score to training, and the name of each bin."""
THRESHOLDS = (("max_tm", 0.5), ("max_tm", 0.8), ("max_identity", 0.3), ("max_identity", 0.9))
"""What the summary counts domains above."""
SAVED_EVERY = 20.0  # seconds


@dataclass(frozen=True, eq=False)
class HeldOutDomain:
    """A held-out domain: structure, sequence, split, and how new it is (`labels.RUNGS`)."""

    structure: DomainTrace
    sequence: str
    split: str
    rung: str = ""


@dataclass(frozen=True, eq=False)
class LeakAuditor:
    """The training domains, prepared for searches by structure and by sequence."""

    library: SubstructureLibrary
    sequences: Sequences
    position: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, training: Sequence[HeldOutDomain]) -> LeakAuditor:
        """The auditor for these training domains."""
        library = SubstructureLibrary([held.structure for held in training])
        names = [held.structure.id for held in training]
        position = {structure.id: index for index, structure in enumerate(library.structures)}
        return cls(library, Sequences(names, [held.sequence for held in training]), position)

    def row(self, held: HeldOutDomain) -> dict[str, object]:
        """The audit row of one held-out domain.

        The training domain nearest in sequence is aligned structurally too, so that a copy is found whatever its shape.
        """
        structure = held.structure
        identity_id, most = self.sequences.nearest(held.sequence)
        hit = Search(ALIGNED).nearest(structure, self.library)
        tm, tm_id = hit.tm, hit.id
        if identity_id in self.position and identity_id != tm_id and len(structure.ca) >= FEWEST:
            other = tm_align_score(structure.ca, self.library.structures[self.position[identity_id]].ca)[0]
            if not tm_id or other > tm:
                tm, tm_id = other, identity_id
        return {
            "domain_id": structure.id,
            "split": held.split,
            "label": structure.label,
            "length": len(structure),
            "max_tm": f"{tm:.4f}" if tm_id else "",
            "tm_id": tm_id,
            "max_identity": f"{most:.4f}",
            "identity_id": identity_id,
            "bin": tm_bin(tm) if tm_id else BINS[0][1],
            "rung": held.rung,
        }


def tm_bin(tm: float) -> str:
    """Name of the bin for a domain's highest TM-score to training."""
    return next(name for limit, name in BINS if tm <= limit)


def domains_by_split(store: Path, splits: Path) -> dict[str, list[HeldOutDomain]]:
    """Training and held-out domains by split, in table order, each in its first conformation."""
    by_split: dict[str, list[HeldOutDomain]] = {}
    with Store(store) as opened:
        for row in read_table(splits, ("domain_id", "split", "label")):
            if row["split"] in (*TRAINED, *HELD_OUT):
                backbone = opened.backbone(row["domain_id"])
                shape = DomainTrace.of(backbone.id, row["label"], backbone.coords[0])
                held = HeldOutDomain(shape, backbone.sequence, row["split"], row.get("rung", ""))
                by_split.setdefault(row["split"], []).append(held)
    return by_split


_AUDITOR: list[LeakAuditor] = []  # set in each worker process


def _start(auditor: LeakAuditor) -> None:
    _AUDITOR[:] = [auditor]


def _row(held: HeldOutDomain) -> dict[str, object]:
    return _AUDITOR[0].row(held)


def _rows(
    auditor: LeakAuditor, queries: Sequence[HeldOutDomain], jobs: int
) -> Generator[dict[str, object], None, None]:
    """Rows for the domains in order, computed by `jobs` processes."""
    if jobs == 1 or len(queries) < 2:
        yield from map(auditor.row, queries)
        return
    others = multiprocessing.active_children()  # of whoever called
    try:
        pool = ProcessPoolExecutor(min(jobs, len(queries)), initializer=_start, initargs=(auditor,))
    except (OSError, ImportError) as error:  # for example if a container's /dev/shm is absent or full
        say("leak-audit", f"several processes cannot share memory here ({error}); goes on with one")
        yield from map(auditor.row, queries)
        return
    try:
        yield from pool.map(_row, queries)
    except BaseException:  # an interruption too, which must not wait for the domains that are being searched
        for worker in set(multiprocessing.active_children()).difference(others):
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def audit(store: Path, splits: Path, output: Path, jobs: int = 1) -> list[Mapping[str, object]]:
    """Write the audit of a split to `output` and return its rows: one per domain of the splits test and validation.

    `max_tm` is the highest TM-score to a training domain (TM-align, normalised by the held-out domain), `max_identity`
    the highest `sequences.identity`; 1 is a copy. Rows do not depend on `jobs`, the number of processes. An interrupted
    audit of the same files resumes from a hidden table next to `output`. Raises `UserError` if there are no training or
    no held-out domains.
    """
    with owned(output):
        by_split = domains_by_split(store, splits)
        queries = [held for split in HELD_OUT for held in by_split.get(split, [])]
        trained = [domain for split in TRAINED for domain in by_split.get(split, [])]
        if not trained or not queries:
            raise UserError(f"{splits}: expected domains of the splits train and test or validation; split again")
        part = output.with_name(f".{output.name}.part")
        origin = hashlib.sha256((sha256(store) + sha256(splits)).encode()).hexdigest()
        done = _resumed(part, origin)
        left = [held for held in queries if held.structure.id not in done]
        _search(LeakAuditor.of(trained), left, jobs, done, part, origin)
        rows = [done[held.structure.id] for held in queries]
        write_table(output, AUDIT_COLUMNS, rows)
        part.unlink(missing_ok=True)
    for line in summary(rows):
        say("leak-audit", said(line))
    return rows


def _search(
    auditor: LeakAuditor,
    left: Sequence[HeldOutDomain],
    jobs: int,
    done: dict[str, Mapping[str, object]],
    part: Path,
    origin: str,
) -> None:
    """Add the rows of the domains `left` to `done`, saving all to `part` from time to time."""
    progress = Progress("leak-audit", len(done) + len(left), "held-out domains", done=len(done))
    saved = time.monotonic()
    with closing(_rows(auditor, left, jobs)) as rows:
        for row in rows:
            done[str(row["domain_id"])] = row
            progress.advance()
            if time.monotonic() - saved > SAVED_EVERY:
                write_table(part, (*AUDIT_COLUMNS, "origin"), ({**each, "origin": origin} for each in done.values()))
                saved = time.monotonic()


def _resumed(part: Path, origin: str) -> dict[str, Mapping[str, object]]:
    """Rows, by domain, of an interrupted audit of the same store and splits."""
    if not part.is_file():
        return {}
    try:
        rows = read_table(part, (*AUDIT_COLUMNS, "origin"))
    except UserError:  # written by another version
        return {}
    return {row["domain_id"]: row for row in rows if row["origin"] == origin}


@dataclass(frozen=True)
class Summary:
    """Number of held-out domains of a split, or of one rung of it, and the fraction above each of `THRESHOLDS`."""

    split: str
    rung: str  # empty for the whole split
    count: int
    shares: tuple[float, ...]


def summary(rows: Sequence[Mapping[str, object]]) -> list[Summary]:
    """Summaries of each split that has rows, each followed by those of its rungs if there are several."""
    found = []
    for split in HELD_OUT:
        within = [row for row in rows if row["split"] == split]
        several = len({row.get("rung", "") for row in within}) > 1
        for rung in ("", *RUNGS) if several else ("",):
            own = [row for row in within if rung in ("", row.get("rung", ""))]
            shares = (np.mean([float(str(row[name] or 0)) > limit for row in own]) for name, limit in THRESHOLDS if own)
            found += [Summary(split, rung, len(own), tuple(map(float, shares)))] if own else []
    return found


def said(line: Summary) -> str:
    """A summary as one line of text."""
    words = {"max_tm": "TM-score above {:.1f}", "max_identity": "identity above {:.0%}"}
    parts = (
        f"{words[column].format(limit)} {share:.1%}"
        for (column, limit), share in zip(THRESHOLDS, line.shares, strict=True)
    )
    of = f"{line.split}, {line.rung.replace('_', ' ')}" if line.rung else line.split
    return f"{line.count} domains of {of}, nearest training domain with {', '.join(parts)}"


def read_bins(path: Path) -> dict[str, str]:
    """The bin of each audited domain, by id."""
    return {row["domain_id"]: row["bin"] for row in read_table(path, AUDIT_COLUMNS)}
