"""Print, and write to benchmarks/results/nearest.tsv, how often and how fast the nearest structure is found.

    python benchmarks/nearest.py [results/benchmark] [--library 400] [--queries 150] [--large 11000] [--seed 0]

The folder holds a finished run. The library is so many held-out domains, and beyond their number training domains as
well. Queries are held-out domains beyond them, then validation domains (both without their relatives), and samples, as
many of each. Each query is aligned with every structure of like length by tmtools, which takes long: what is known lies
in results/bench_nearest, so that a run goes on where an earlier one ended, and a few queries can be added at a time. A
query counts as found where the TM-score of its neighbour is within 0.001 of the exhaustive best. Recall is given with
its 95 % interval (Wilson), and against the number of structures that are aligned.

In a large library, of held-out and training domains, speed alone is measured. What the exhaustive search takes is
extrapolated from a sample of its pairs, which are aligned right after ours, so that both see the machine alike. All
times are of the processor, without what compiling takes the first time; the ratio is the median over queries.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.core.files import atomic_path, read_table, write_table
from cvae_protein.core.progress import track
from cvae_protein.score.inputs import read_domains, read_structures
from cvae_protein.score.metrics.metric import PreparedStructure
from cvae_protein.score.metrics.novelty import RealDomains
from cvae_protein.similarity.nearest_structures import (
    LENGTH_SHARE,
    LENGTH_WINDOW,
    Hit,
    Library,
    Search,
    Trace,
    ranked,
    tm_align_score,
)
from cvae_protein.similarity.screen import Shape

OUTPUT = Path(__file__).parents[1] / "benchmarks/results/nearest.tsv"
COLUMNS = ("what", "n", "unit", "ours", "peer_name", "peer", "ratio", "goal", "machine", "date")
FOUND = 1e-3  # TM-score that the found neighbour may lie below the exhaustive best
RECALL_GOAL = 0.97
SPEED_GOALS = ((400, 10), (11_000, 40))  # structures of the library, times the exhaustive search
MINUTES_GOAL = 10  # of two cores, for 1,000 samples in the large library
LARGE_QUERIES = 8  # samples searched for in it
TIMED = 16  # pairs of each query by which the exhaustive search is timed
ALIGNED = (1, 2, 3, 4, 6, 8, 10, 16, 32, 48)  # of the curve


@dataclass(frozen=True)
class Outcome:
    """What both searches made of a query: TM-scores of the ranked, found and best; CPU seconds of ours and all."""

    kind: str
    compared: int
    ranked: list[float]
    found: float
    best: float
    ours: float
    exhaustive: float


Drawn = TypeVar("Drawn")


def drawn(members: Sequence[Drawn], count: int, random: np.random.Generator) -> list[Drawn]:
    """Up to `count` of them in random order."""
    return [members[index] for index in random.permutation(len(members))[:count].tolist()]


def exhaustive(query: Trace, targets: Sequence[Trace], file: Path) -> np.ndarray:
    """TM-score with each target (T,), from the table `file` where it is there."""
    names = [target.id for target in targets]
    if file.is_file():
        rows = read_table(file, ("target", "tm"))
        if [row["target"] for row in rows] == names:
            return np.array([float(row["tm"]) for row in rows])
    found = [tm_align_score(query.ca, target.ca)[0] for target in targets]
    write_table(
        file, ("target", "tm"), [{"target": name, "tm": f"{tm:.6f}"} for name, tm in zip(names, found, strict=True)]
    )
    return np.array(found)


def like_length(query: Trace, library: Library) -> list[Trace]:
    """The structures of a library that are near enough to the query in length."""
    reach = max(LENGTH_WINDOW, LENGTH_SHARE * len(query.ca))
    return [other for other in library.structures if abs(len(other.ca) - len(query.ca)) <= reach]


Allowed = Callable[[Trace], bool] | None


def searched(
    query: Trace, library: Library, allowed: Allowed, targets: Sequence[Trace], random: np.random.Generator
) -> tuple[Hit, float, float]:
    """What our search finds, its CPU seconds, and those of aligning all `targets`, extrapolated from a few."""
    begun = time.process_time()
    hit = Search(ScoreSettings().neighbours).nearest(query, library, allowed)
    ours = time.process_time() - begun
    begun = time.process_time()
    sample = drawn(targets, TIMED, random)
    for target in sample:
        tm_align_score(query.ca, target.ca)
    return hit, ours, (time.process_time() - begun) / len(sample) * len(targets)


def outcome(
    kind: str,
    query: PreparedStructure,
    library: Library,
    domains: RealDomains,
    cache: Path,
    random: np.random.Generator,
) -> Outcome | None:
    """Both searches of one query; None where nothing is of like length."""
    allowed = partial(domains.unrelated, query) if kind == "real domains" else None
    targets = [other for other in like_length(query, library) if allowed is None or allowed(other)]
    if not targets:
        return None
    tm = exhaustive(query, targets, cache / f"{len(library)}_{query.id}.tsv")
    hit, ours, seconds = searched(query, library, allowed, targets, random)
    ranking = ranked(Shape.of(query.ca), library, library.candidates(query, allowed))
    known = dict(zip((target.id for target in targets), tm.tolist(), strict=True))
    order = [known[library.structures[index].id] for index, _ in ranking]
    return Outcome(kind, len(targets), order, hit.tm, float(tm.max()), ours, seconds)


def wilson(hits: int, count: int) -> str:
    """95 % interval of a share in words."""
    share, z = hits / count, 1.96
    middle, half = share + z * z / (2 * count), z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low, high = ((middle + sign * half) / (1 + z * z / count) for sign in (-1, 1))
    return f"{low:.3f} to {high:.3f}"


def measured(n: int) -> dict[str, object]:
    """What every row says of its measurement."""
    machine, date = platform.processor() or platform.machine(), f"{datetime.now(UTC):%Y-%m-%d}"
    return {"n": n, "machine": machine, "date": date}


def speed_row(library: int, seconds: Sequence[tuple[float, float]]) -> dict[str, object]:
    """CPU seconds of each query, ours and the exhaustive search's."""
    ours, theirs = np.array(seconds).T
    goal = max((value for size, value in SPEED_GOALS if library >= size), default="")
    return measured(len(seconds)) | {
        "what": f"nearest of a library of {library}, a query",
        "unit": "CPU s",
        "ours": f"{ours.mean():.3f}",
        "peer_name": f"tmtools, all of like length, extrapolated from {TIMED} pairs a query",
        "peer": f"{theirs.mean():.3f}",
        "ratio": f"{statistics.median((theirs / ours).tolist()):.1f}",
        "goal": goal,
    }


def large_rows(queries: Sequence[Trace], library: Library, random: np.random.Generator) -> list[dict[str, object]]:
    """Speed in a large library, and what 1,000 samples take."""
    seconds = [
        searched(query, library, None, like_length(query, library), random)[1:]
        for query in track(queries, "large", len(queries), "queries")
    ]
    minutes = 1000 * np.mean([ours for ours, _ in seconds]) / 60 / 2
    what = f"nearest of a library of {len(library)}, 1,000 samples"
    thousand = {"what": what, "unit": "minutes of 2 cores, extrapolated"}
    return [
        speed_row(len(library), seconds),
        measured(len(seconds)) | thousand | {"ours": f"{minutes:.1f}", "goal": MINUTES_GOAL},
    ]


def rows_of(outcomes: Sequence[Outcome], library: int) -> list[dict[str, object]]:
    """The table: speed, recall of each kind of query, and recall against what is aligned."""
    common, what = measured(len(outcomes)), f"nearest of a library of {library}"
    rows = [speed_row(library, [(each.ours, each.exhaustive) for each in outcomes])]
    for kind in dict.fromkeys(each.kind for each in outcomes):
        own = [each for each in outcomes if each.kind == kind]
        missed = np.array([each.best - each.found for each in own])
        hits = int((missed <= FOUND).sum())
        recall = {"what": f"{what}, recall, {kind}", "unit": "share", "ours": f"{hits / len(own):.3f}"}
        said = {"peer_name": f"95 % interval {wilson(hits, len(own))}", "goal": RECALL_GOAL}
        worst = {"what": f"{what}, worst miss, {kind}", "unit": "TM-score", "ours": f"{max(0, missed.max()):.4f}"}
        rows += [common | {"n": len(own)} | recall | said, common | {"n": len(own)} | worst]
    for count in ALIGNED:
        hits = sum(each.best - max(each.ranked[:count]) <= FOUND for each in outcomes)
        recall = {"what": f"{what}, recall where {count} of the ranked are aligned", "unit": "share"}
        rows.append(common | recall | {"ours": f"{hits / len(outcomes):.3f}"})
    return rows


def main() -> None:
    """Search both ways, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results/benchmark"))
    parser.add_argument("--library", type=int, default=400)
    parser.add_argument("--queries", type=int, default=150, help="of each kind")
    parser.add_argument("--large", type=int, default=11_000, help="structures of the large library, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    domains = read_domains(given.results / "domains.h5", given.results / "splits.tsv")
    samples = [s for path in sorted(given.results.glob("samples/*/seed*/samples.h5")) for s in read_structures(path)]
    members = [*drawn(domains.held_out, given.large, random), *drawn(domains.training, given.large, random)]
    library = Library(members[: given.library])
    spare = [*members[given.library : len(domains.held_out)], *drawn(domains.validation, given.queries, random)]
    real, made = spare[: given.queries], drawn(samples, given.queries, random)
    pairs = [
        pair for both in zip(real, made, strict=False) for pair in zip(("real domains", "samples"), both, strict=True)
    ]
    Search(1).nearest(made[0], library)  # compiles, where this installation has not yet
    cache = given.results / "bench_nearest"
    cache.mkdir(exist_ok=True)
    found = [
        outcome(kind, query, library, domains, cache, random)
        for kind, query in track(pairs, "search", len(pairs), "queries")
    ]
    rows = rows_of([each for each in found if each], len(library))
    if len(members) > given.library:
        rows += large_rows(made[:LARGE_QUERIES], Library(members[: given.large]), random)
    with atomic_path(given.output) as temporary:
        write_table(temporary, COLUMNS, (dict.fromkeys(COLUMNS, "") | row for row in rows))
    print(given.output.read_text())


if __name__ == "__main__":
    main()
