"""Print, and write to benchmarks/results/score.tsv, how fast structures are compared, beside TM-align and TM-score.

    python benchmarks/score.py [results/benchmark] [--queries 25] [--pairs 200] [--seed 0]

The folder holds a finished run. Reconstructions and unlike chains cut to one length are scored as pairs of
corresponding residues, beside the program TMscore where it is found (started once a pair: its start and the reading of
two files are part of its time). The time of 1,000 samples is that of the sampled queries against held-out and training
domains, multiplied: an extrapolation. All times are of the processor, those of programs with what starting them takes,
so that other work on the machine matters little. `benchmarks/nearest.py` has speed and recall of the search.
"""

from __future__ import annotations

import argparse
import platform
import resource
import shutil
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from crosschecks import program_score

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.core.files import write_table
from cvae_protein.core.progress import track
from cvae_protein.score.inputs import read_domains, read_pairs, read_structures
from cvae_protein.score.metrics.metric import PreparedStructure
from cvae_protein.score.metrics.novelty import RealDomains
from cvae_protein.similarity.nearest_structures import Library, Search
from cvae_protein.similarity.tm_score import tm_scores

OUTPUT = Path(__file__).parents[1] / "benchmarks/results/score.tsv"
COLUMNS = ("what", "n", "unit", "ours", "peer_name", "peer", "ratio", "goal", "machine", "date")
SAME_LENGTH_GOAL = "5"  # times the program TMscore


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
    tm_scores(like[:1])  # so that what is compiled is loaded, once a process
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
        worst = max(0.0, float((np.array(said) - found).max()))
        peer = statistics.median(seconds)
        rows.append(
            row(
                name,
                len(traces),
                ours,
                "program TMscore, started a pair",
                peer,
                "CPU s",
                goal=SAME_LENGTH_GOAL,
            )
        )
        missed = row(f"{name}, worst miss", len(traces), worst, "program TMscore", float("nan"), "TM-score")
        rows.append(missed)
    return rows


def thousand(samples: list[PreparedStructure], domains: RealDomains) -> dict[str, object]:
    """CPU minutes of the neighbours of 1,000 samples, from those of some."""
    libraries, search = [Library(domains.held_out), Library(domains.training)], Search(ScoreSettings().neighbours)
    begun = time.process_time()
    for library in libraries:
        search.all(samples, library, f"nearest of {len(library)}")
    minutes = (time.process_time() - begun) / len(samples) * 1000 / 60
    what = "1,000 samples, held-out and training neighbours"
    return row(what, len(samples), minutes, "", float("nan"), "CPU min, extrapolated", goal="20")


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results/benchmark"))
    parser.add_argument("--queries", type=int, default=25, help="samples whose neighbours are searched")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    domains = read_domains(given.results / "domains.h5", given.results / "splits.tsv")
    files = sorted(given.results.glob("samples/*/seed*/samples.h5"))
    drawn = [structure for path in files for structure in read_structures(path)]
    made = [drawn[index] for index in random.permutation(len(drawn))[: given.queries].tolist()]
    rows = [*same_length(given.results, domains, given.pairs, random), thousand(made, domains)]
    write_table(OUTPUT, COLUMNS, ({name: each.get(name) for name in COLUMNS} for each in rows))
    for each in rows:
        print("\t".join(str(each.get(name, "")) for name in COLUMNS))


if __name__ == "__main__":
    main()
