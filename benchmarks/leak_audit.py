"""Print what the leak audit's shortcuts cost: its answers for some held-out domains beside those of all alignments.

    python benchmarks/leak_audit.py results/benchmark [--splits splits.tsv] [--domains 30] [--compared 30] [--seed 0]

The first `--compared` of the chosen held-out domains are aligned with every training domain, by TM-align and by
sequence. Printed are the share of those whose nearest the audit finds, the largest shortfall, the shares
above the audit's thresholds by both ways, and CPU seconds, those of the audit for every chosen domain. Thirty domains
compared with 1,300 take some five to ten minutes of one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from cvae_protein.core.progress import track
from cvae_protein.dataset.leak_audit import HELD_OUT, THRESHOLDS, HeldOutDomain, LeakAuditor, domains_by_split
from cvae_protein.similarity.nearest_structures import FEWEST, tm_align_score
from cvae_protein.similarity.sequences import identity

COLUMNS = ("max_tm", "max_identity")


def exhaustive(held: HeldOutDomain, training: list[HeldOutDomain]) -> dict[str, float]:
    """Highest TM-score and identity over all training domains."""
    own = held.structure.ca
    targets = [other.structure.ca for other in training if len(other.structure.ca) >= FEWEST]
    return {
        "max_tm": max(tm_align_score(own, target)[0] for target in targets),
        "max_identity": max(identity(held.sequence, other.sequence) for other in training),
    }


def main() -> None:
    """Audit some domains both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--splits", type=Path)
    parser.add_argument("--domains", type=int, default=30)
    parser.add_argument("--compared", type=int, default=30, help="of them, those that are aligned with all")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    by_split = domains_by_split(given.results / "domains.h5", given.splits or given.results / "splits.tsv")
    held, training = [one for split in HELD_OUT for one in by_split.get(split, [])], by_split["train"]
    chosen = np.random.default_rng(given.seed).permutation(len(held))[: given.domains]
    queries = [held[index] for index in chosen.tolist()]
    started = time.process_time()
    auditor = LeakAuditor.of(training)
    prepared = time.process_time()
    found = [auditor.row(one) for one in track(queries, "audit", len(queries), "domains")]
    audited = time.process_time()
    compared = queries[: given.compared]
    true = [exhaustive(one, training) for one in track(compared, "exhaustive", len(compared), "domains")]
    seconds = {
        "to prepare": prepared - started,
        "audit": audited - prepared,
        "all pairs": time.process_time() - audited,
    }
    print(f"{len(queries)} of {len(held)} held-out domains against {len(training)} training domains; CPU seconds:")
    print(f"all pairs of {len(compared)} of them alone")
    print(", ".join(f"{name} {value:.1f}" for name, value in seconds.items()))
    for column in COLUMNS if compared else ():
        ours = np.array([float(str(row[column] or 0)) for row in found[: len(compared)]])
        best = np.array([row[column] for row in true])
        missed = best - ours
        worst = queries[int(missed.argmax())].structure.id
        print(
            f"{column}\tnearest found {np.mean(missed < 1e-3):.0%}\tworst miss {missed.max():.3f} ({worst}: "
            f"{ours[missed.argmax()]:.3f} for {best[missed.argmax()]:.3f})\tmean miss {missed.mean():.4f}"
        )
        for limit in [limit for name, limit in THRESHOLDS if name == column]:
            over = best > limit
            caught = f"{np.mean(ours[over] > limit):.0%}" if over.any() else "-"
            print(f"{column} > {limit}\ttrue {over.sum()}\taudit {(ours > limit).sum()}\tcaught {caught}")


if __name__ == "__main__":
    main()
