"""Print, and write to benchmarks/results/store.tsv, how the store compares with other ways to keep domains.

    python benchmarks/store.py [STORE] [--domains 4000] [--rounds 5]

The same domains go into the store, into an HDF5 file with a group a domain (float32, gzip 4), and into a compressed npz
file a domain. Domains of STORE (default: the store of the benchmark run, else of the default run, else random ones) are
repeated under new names until there are enough. Ours and the peers take turns in every round; the table has medians.
Times are of the CPU, which other programs on the machine change less; all files lie in the page cache.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import h5py
import numpy as np

from cvae_protein.core.files import write_table
from cvae_protein.core.secondary_structure import secondary_structure
from cvae_protein.core.structure import Backbone
from cvae_protein.model.batch import read_split
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import Store
from cvae_protein.store.verify import verify_store
from cvae_protein.store.write import merge_stores, write_store

ROOT = Path(__file__).parents[1]
CANDIDATES = (ROOT / "results/benchmark/domains.h5", ROOT / "results/domains.h5")
OUTPUT = ROOT / "benchmarks/results/store.tsv"
COLUMNS = ("what", "unit", "ours", "peer_name", "peer", "ratio", "goal", "machine", "date")
PEERS = 1500  # of the domains, for the peers; more would take minutes and tell nothing more


@dataclass(frozen=True)
class Row:
    """A line of the table: what ours and a peer reached, and by what factor ours should win, where there is a goal."""

    what: str
    unit: str
    ours: float
    peer_name: str
    peer: float
    more_is_better: bool
    goal: str = ""

    def cells(self) -> dict[str, object]:
        """The row as `write_table` takes it."""
        ratio = self.ours / self.peer if self.more_is_better else self.peer / self.ours
        return {
            **{"what": self.what, "unit": self.unit, "peer_name": self.peer_name, "goal": self.goal},
            **{"ours": f"{self.ours:.4g}", "peer": f"{self.peer:.4g}", "ratio": f"{ratio:.3g}"},
            **{"machine": platform.processor() or platform.machine(), "date": f"{datetime.now(UTC):%Y-%m-%d}"},
        }


def random_entries(count: int) -> Iterator[Entry]:
    """Domains of random places, where no store is at hand."""
    rng = np.random.default_rng(0)
    for number in range(count):
        length = int(rng.integers(40, 200))
        coords = np.cumsum(rng.normal(0, 2.2, (1, length, 1, 3)), axis=1) + rng.normal(0, 1, (1, length, 5, 3))
        letters = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), length))
        made = Backbone(f"r{number}", letters, coords, tuple(map(str, range(1, length + 1))))
        yield Entry(made, {"label": "1.10.8.10"})


def entries(store: Path | None, count: int) -> list[Entry]:
    """`count` domains with names of their own, those of a store repeated."""
    if store is None:
        return list(random_entries(count))
    with Store(store) as opened:
        some = list(opened.entries())
    return [
        replace(entry, backbone=replace(entry.backbone, id=f"d{number}"))
        for number, entry in enumerate(islice(cycle(some), count))
    ]


def write_groups(path: Path, domains: list[Entry]) -> None:
    """The peer: an HDF5 group a domain, float32, gzip level 4."""
    with h5py.File(path, "w") as file:
        for entry in domains:
            group = file.create_group(entry.backbone.id)
            options = {"compression": "gzip", "compression_opts": 4}
            group.create_dataset("coords", data=entry.backbone.coords[0], **options)
            group.attrs["sequence"], group.attrs["ss"] = entry.backbone.sequence, secondary_structure(entry.backbone)[0]
            group.attrs["residue_ids"] = ",".join(entry.backbone.residue_ids)
            group.attrs.update(entry.facts)


def write_npz(folder: Path, domains: list[Entry]) -> None:
    """The peer: a compressed npz file a domain."""
    folder.mkdir(exist_ok=True)
    for entry in domains:
        np.savez_compressed(
            folder / f"{entry.backbone.id}.npz",
            coords=entry.backbone.coords[0],
            text=np.array(
                [entry.backbone.sequence, secondary_structure(entry.backbone)[0], ",".join(entry.backbone.residue_ids)]
            ),
            facts=np.array([str(value) for value in entry.facts.values()]),
        )


def seconds(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Median CPU time of each work in seconds; they take turns, and a first round does not count."""
    took: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, times in zip(works, took, strict=True):
            started = time.process_time()
            work()
            if number:
                times.append(time.process_time() - started)
    return [statistics.median(times) for times in took]


def writing(folder: Path, domains: list[Entry], rounds: int) -> list[Row]:
    """Times to write and to merge, and sizes."""
    few = domains[:PEERS]
    ours, groups, npz, merged = seconds(
        rounds,
        lambda: write_store(folder / "ours.h5", domains),
        lambda: write_groups(folder / "groups.h5", few),
        lambda: write_npz(folder / "npz", few),
        lambda: merge_stores([folder / "ours.h5"], folder / "merged.h5"),
    )
    columns, label = ("domain_id", "split", "label"), {"split": "train", "label": "1.10.8.10"}
    write_table(folder / "splits.tsv", columns, ({"domain_id": entry.backbone.id, **label} for entry in domains))
    write_store(folder / "blosc.h5", domains, compression="blosc-lz4")
    verified, loaded, loaded_blosc, written_blosc = seconds(
        rounds,
        lambda: verify_store(folder / "ours.h5"),
        lambda: read_split(folder / "ours.h5", folder / "splits.tsv"),
        lambda: read_split(folder / "blosc.h5", folder / "splits.tsv"),
        lambda: write_store(folder / "blosc.h5", domains, compression="blosc-lz4"),
    )
    size_blosc = (folder / "blosc.h5").stat().st_size / sum(len(e.backbone) * e.backbone.models for e in domains)
    residues = sum(len(entry.backbone) * entry.backbone.models for entry in domains)
    size = (folder / "ours.h5").stat().st_size / residues
    size_groups = (folder / "groups.h5").stat().st_size / sum(len(e.backbone) for e in few)
    size_npz = sum(path.stat().st_size for path in (folder / "npz").iterdir()) / sum(len(e.backbone) for e in few)
    rate, rate_groups, rate_npz = len(domains) / ours, len(few) / groups, len(few) / npz
    return [
        Row("write", "domains/s", rate, "HDF5, a group a domain", rate_groups, True),
        Row("write", "domains/s", rate, "npz, a file a domain", rate_npz, True),
        Row("size", "bytes/residue", size, "HDF5, a group a domain", size_groups, False),
        Row("size", "bytes/residue", size, "npz, a file a domain", size_npz, False),
        Row("write", "domains/s", rate, "ours by blosc-lz4", len(domains) / written_blosc, True),
        Row("size", "bytes/residue", size, "ours by blosc-lz4", size_blosc, False),
        Row(f"load {len(domains)} domains for training", "s", loaded, "ours by blosc-lz4", loaded_blosc, False),
        Row("merge", "domains/s", len(domains) / merged, "our own write", rate, True),
        Row("verify", "domains/s", len(domains) / verified, "our own write", rate, True),
    ]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", type=Path, default=next((p for p in CANDIDATES if p.is_file()), None))
    parser.add_argument("--domains", type=int, default=15_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    domains = entries(given.store, given.domains)
    residues = sum(len(entry.backbone) for entry in domains)
    print(f"{len(domains)} domains, {residues} residues, from {given.store or 'random chains'}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = writing(Path(folder), domains, given.rounds)
    cells = [row.cells() for row in rows]
    write_table(OUTPUT, COLUMNS, cells)
    for row in cells:
        print("\t".join(str(row[name]) for name in COLUMNS))


if __name__ == "__main__":
    main()
