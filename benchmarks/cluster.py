"""Print how good and how quick the clusters of a store are.

    python benchmarks/cluster.py [results/domains.h5] [--no-structures]

Sequence clusters by words and, where it is installed, by MMseqs2, each with its time and with the share of pairs in one
cluster that are of one CATH superfamily (as far as both are known); then how far the two agree. Fold classes found
from structures against CATH topologies: pairs of domains in one class that share a topology (precision), pairs of one
topology in one class (recall), and the adjusted Rand index; over all domains, and over one domain a sequence cluster.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path

from sklearn.metrics import adjusted_rand_score

from cvae_protein.config.settings import ClusterSettings
from cvae_protein.dataset.cluster import find_folds, read_sequences, sequence_clusters
from cvae_protein.store.read import Store


def pairs(labels: Iterable[Hashable]) -> int:
    """Number of pairs with the same label."""
    return sum(count * (count - 1) // 2 for count in Counter(labels).values())


def agreement(what: str, found: list[str], true: list[str]) -> None:
    """Print pair precision and recall of `found` against `true`, and the adjusted Rand index."""
    both = pairs(zip(found, true, strict=True))
    precision, recall = both / max(pairs(found), 1), both / max(pairs(true), 1)
    index = adjusted_rand_score(true, found)
    print(
        f"{what}\t{len(found)} domains\t{len(set(found))} and {len(set(true))} groups\t"
        f"precision {precision:.3f}\trecall {recall:.3f}\tadjusted Rand {index:.3f}",
        flush=True,
    )


def codes(store: Path, levels: int) -> dict[str, str]:
    """CATH code of each domain down to a level; domains without so deep a code are left out."""
    with Store(store) as opened:
        full = {name: str(opened.fact(name, "cath")).split(".") for name in opened.ids}
    return {name: ".".join(parts[:levels]) for name, parts in full.items() if len(parts) >= levels}


def elapsed(before: os.times_result) -> tuple[float, float]:
    """Wall and CPU seconds since `before`, with those of programs that were run and have ended."""
    now = os.times()
    return now.elapsed - before.elapsed, sum(now[:4]) - sum(before[:4])


def timed_clusters(store: Path, method: str) -> dict[str, str]:
    """Sequence clusters by a method; prints its wall and CPU time."""
    sequences = read_sequences(store)
    before = os.times()
    found, said = sequence_clusters(sequences, ClusterSettings(method=method))
    wall, cpu = elapsed(before)
    print(f"{said}\t{len(found)} domains\t{len(set(found.values()))} clusters\t{wall:.1f} s, {cpu:.1f} s of CPU")
    return found


def main() -> None:
    """Measure one store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", type=Path, default=Path("results/domains.h5"))
    parser.add_argument("--no-structures", action="store_true")
    given = parser.parse_args()
    superfamilies, topologies = codes(given.store, 4), codes(given.store, 3)
    by_words = timed_clusters(given.store, "kmer")
    known = list(superfamilies)
    families = [superfamilies[name] for name in known]
    agreement("kmer against CATH superfamilies", [by_words[name] for name in known], families)
    if shutil.which("mmseqs"):
        theirs = timed_clusters(given.store, "mmseqs")
        agreement("mmseqs against CATH superfamilies", [theirs[name] for name in known], families)
        agreement("kmer against mmseqs", list(by_words.values()), list(theirs.values()))
    if given.no_structures:
        return
    before = os.times()
    folds, said = find_folds(given.store, by_words)
    wall, cpu = elapsed(before)
    print(f"{said}\t{wall:.1f} s, {cpu:.1f} s of CPU")
    for what, names in (
        ("fold classes against CATH topologies, all domains", list(topologies)),
        ("fold classes against CATH topologies, one a sequence cluster", [n for n in topologies if by_words[n] == n]),
    ):
        agreement(what, [folds[name] for name in names], [topologies[name] for name in names])


if __name__ == "__main__":
    main()
