"""Print, and write to benchmarks/results/score.tsv, how fast structures are compared, beside TM-align and TM-score.

    python benchmarks/score.py [results/benchmark] [--queries 50] [--pairs 200] [--program 20] [--seed 0]

The folder holds a finished run. Queries are held-out domains (without their relatives) and samples, half each;
for each the search and the exhaustive alignment of all held-out domains of like length by tmtools take turns in one
process. A query counts as found where its TM-score is within 0.001 of the exhaustive best. Reconstructions and unlike
chains cut to one length are scored as pairs of corresponding residues, beside the program TMscore where it is found
(started once a pair: its start and the reading of two files are part of its time). The time of 1,000 samples is that of
the sampled queries against held-out and training domains, multiplied: an extrapolation. All times are of the processor,
those of programs with what starting them takes, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import platform
import resource
import shutil
import statistics
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from crosschecks import program_score

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.core.files import write_table
from cvae_protein.core.progress import say, track
from cvae_protein.score.inputs import read_domains, read_pairs, read_structures
from cvae_protein.score.metrics.metric import PreparedStructure
from cvae_protein.score.metrics.novelty import RealDomains
from cvae_protein.similarity.nearest_structures import LENGTH_SHARE, LENGTH_WINDOW, Library, Search, tm_align_score
from cvae_protein.similarity.tm_score import tm_scores

OUTPUT = Path(__file__).parents[1] / "benchmarks/results/score.tsv"
COLUMNS = ("what", "n", "ours", "peer_name", "peer", "unit", "ratio", "recall", "worst_miss", "machine", "date")
FOUND = 1e-3  # TM-score that the found neighbour may lie below the exhaustive best


def row(what: str, n: int, ours: float, peer_name: str, peer: float, unit: str, **more: str) -> dict[str, object]:
    """A line of the table; times, so that the ratio is the peer's over ours."""
    return {
        **{"what": what, "n": n, "ours": f"{ours:.4g}", "peer_name": peer_name, "unit": unit},
        **({"peer": f"{peer:.4g}", "ratio": f"{peer / ours:.3g}"} if peer == peer else {}),
        **{"machine": platform.processor() or platform.machine(), "date": f"{datetime.now(UTC):%Y-%m-%d}"},
        **more,
    }


def children() -> float:
    """CPU seconds of the programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def like_length(
    query: PreparedStructure, library: Library, domains: RealDomains, real: bool
) -> list[PreparedStructure]:
    """What the exhaustive way aligns: every structure that the search could name."""
    reach = max(LENGTH_WINDOW, LENGTH_SHARE * len(query.ca))
    return [
        other
        for other in library.structures
        if abs(len(other.ca) - len(query.ca)) <= reach and not (real and domains.related(query.id, other.id))
    ]


def searched(
    queries: list[tuple[bool, PreparedStructure]], domains: RealDomains, program: int
) -> tuple[list[dict[str, object]], list[float]]:
    """Rows of the search, and its CPU seconds a query."""
    library, neighbours = Library(domains.held_out), ScoreSettings().neighbours
    ours, theirs, missed, started = [], [], [], []
    for number, (real, query) in enumerate(track(queries, "search", len(queries), "queries")):
        targets = like_length(query, library, domains, real)
        if not targets:
            continue
        allowed = partial(lambda query, other: not domains.related(query.id, other.id), query) if real else None
        begun = time.process_time()
        hit = Search(neighbours).nearest(query, library, allowed)
        found = time.process_time()
        best = max(tm_align_score(query.ca, other.ca)[0] for other in targets)
        ours.append(found - begun)
        theirs.append(time.process_time() - found)
        missed.append(best - hit.tm)
        if number < program and shutil.which("TMalign"):
            clock = children()
            program_score("TMalign", query.ca, targets[number % len(targets)].ca, "TM-score=")
            started.append((children() - clock) * len(targets) / ours[-1])
    recall = f"{np.mean(np.array(missed) <= FOUND):.3f}"
    peer = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
    say("score", f"median ratio of a query {peer:.2f}, ratio of the sums {sum(theirs) / sum(ours):.2f}")
    figures = {"recall": recall, "worst_miss": f"{max(missed):.4f}"}
    rows = [
        row(
            *("nearest held-out structure, a query", len(ours), float(np.mean(ours)), "tmtools, all of like length"),
            *(float(np.mean(theirs)), "CPU s"),
            **figures,
        )
    ]
    if started:
        mean = float(np.mean(ours))
        peer = statistics.median(started) * mean
        rows.append(
            row(rows[0]["what"], len(started), mean, "program TMalign, one pair x all", peer, "CPU s")  # type: ignore[arg-type]
        )
    return rows, ours


def same_length(folder: Path, domains: RealDomains, count: int, random: np.random.Generator) -> list[dict[str, object]]:
    """Rows of the TM-score of corresponding residues, all pairs at once and beside the program."""
    files = sorted(folder.glob("samples/*/seed*/reconstructions.h5"))
    rebuilt = [pair for path in files for pair in read_pairs(path, domains.held_out)]
    chosen = [rebuilt[index] for index in random.permutation(len(rebuilt))[: count // 2].tolist()]
    like = [(np.round(a, 3), np.round(b, 3)) for a, b in (pair.atoms(1, 2) for pair in chosen)]
    others = [like[index][1] for index in random.permutation(len(like)).tolist()]
    cut = [min(len(pair[1]), len(other)) for pair, other in zip(like, others, strict=True)]
    unlike = [(p[1][:size], other[:size]) for p, other, size in zip(like, others, cut, strict=True)]
    rows = []
    for what, traces in (("reconstructions", like), ("unlike chains", unlike)):
        begun = time.process_time()
        found = tm_scores(traces)
        ours = (time.process_time() - begun) / len(traces)
        name = f"same-length TM-score, {what}, a pair"
        if shutil.which("TMscore") is None:
            rows.append(row(name, len(traces), ours, "program TMscore (absent)", float("nan"), "CPU s"))
            continue
        seconds, said = [], []
        for pair in track(traces, "TMscore", len(traces), "pairs"):
            begun = children()
            said.append(program_score("TMscore", *pair, "TM-score  "))
            seconds.append(children() - begun)
        worst = f"{max(0.0, float((np.array(said) - found).max())):.4f}"
        peer = statistics.median(seconds)
        rows.append(row(name, len(traces), ours, "program TMscore, started a pair", peer, "CPU s", worst_miss=worst))
    return rows


def thousand(samples: list[PreparedStructure], domains: RealDomains, held_out: float) -> dict[str, object]:
    """CPU minutes of the neighbours of 1,000 samples, from those of some."""
    library, search = Library(domains.training), Search(ScoreSettings().neighbours)
    begun = time.process_time()
    search.all(samples, library, "training neighbours")
    each = held_out + (time.process_time() - begun) / len(samples)
    return row(
        "1,000 samples, held-out and training neighbours",
        len(samples),
        each * 1000 / 60,
        "",
        float("nan"),
        "CPU min, extrapolated",
    )


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results/benchmark"))
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--program", type=int, default=20, help="queries with a pair aligned by the program TMalign")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    domains = read_domains(given.results / "domains.h5", given.results / "splits.tsv")
    files = sorted(given.results.glob("samples/*/seed*/samples.h5"))
    drawn = [structure for path in files for structure in read_structures(path)]
    half = given.queries // 2
    real = [domains.held_out[index] for index in random.permutation(len(domains.held_out))[:half].tolist()]
    made = [drawn[index] for index in random.permutation(len(drawn))[: given.queries - half].tolist()]
    queries = [*((True, each) for each in real), *((False, each) for each in made)]
    rows, seconds = searched(queries, domains, given.program)
    rows += same_length(given.results, domains, given.pairs, random)
    rows.append(thousand(made, domains, float(np.mean(seconds))))
    write_table(OUTPUT, COLUMNS, ({name: each.get(name) for name in COLUMNS} for each in rows))
    for each in rows:
        print("\t".join(str(each.get(name, "")) for name in COLUMNS))


if __name__ == "__main__":
    main()
