"""Print, and write to benchmarks/results/featurize.tsv, how fast structure files become features, beside other tools.

    python benchmarks/featurize.py [--data FOLDER] [--files 40] [--rounds 5] [--check]

FOLDER holds `domains.tsv` and the files in a folder `mirror` or `embedded`; by default ../shared/benchmark where it is,
else data. Times are CPU seconds with those of child processes, medians of rounds in which ours and the peers take turns
on the same files. `--check` only compares the fast reader with that of all forms on every file. The files at hand hold
the backbone alone: what is compared are copies in the layout of the archive, with as many atoms as the residues have,
and without.
mkdssp is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import gzip
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from featurize_peers import archive_copy, fast_mmcif_parser, flat_structure, mdtraj_dssp, mkdssp, read_whole

from cvae_protein.config.settings import FeaturizeSettings, LabelSettings
from cvae_protein.core.errors import StructureError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.progress import say, track
from cvae_protein.core.secondary_structure import secondary_structure
from cvae_protein.core.structure import Backbone
from cvae_protein.dataset.featurize import featurize
from cvae_protein.dataset.select import COLUMNS as DOMAIN_COLUMNS
from cvae_protein.io.mmcif import read_columns
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.io.residues import group_residues

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT.parent / "shared/benchmark", ROOT / "data")
OUTPUT = ROOT / "benchmarks/results/featurize.tsv"
COLUMNS = ("what", "unit", "ours", "peer_name", "peer", "ratio", "goal", "machine", "date")
LABELS = LabelSettings(min_length=20, max_length=4096)
MANY, MORE = 1000, 10_000  # domains, for how the time grows
DSSP_CHAINS, DSSP_TIMED = 60, 6  # chains that mkdssp judges, and those among them that are timed in every round
STATES = {**dict.fromkeys("HGI", "H"), **dict.fromkeys("EB", "E")}


def row(what: str, unit: str, ours: float, peer: float, peer_name: str, goal: str = "", more: bool = True) -> dict:
    """A line of the table; the ratio says by what factor ours is better. A ratio of nothing is empty."""
    ratio = (ours / peer if more else peer / ours) if peer else float("nan")
    return {
        **{"what": what, "unit": unit, "peer_name": peer_name, "goal": goal, "ours": f"{ours:.4g}"},
        **{"peer": f"{peer:.4g}" if peer else "", "ratio": f"{ratio:.3g}" if peer else ""},
        **{"machine": platform.processor() or platform.machine(), "date": f"{datetime.now(UTC):%Y-%m-%d}"},
    }


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process and of the children that it waited for."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    work()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))


def rates(works: dict[str, Callable[[], object]], count: dict[str, int], rounds: int) -> dict[str, float]:
    """Units a CPU second of each work, which does `count` of them: medians of rounds in which they take turns."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(rounds + 1):
        for name, work in works.items():
            seconds = cpu_seconds(work)
            if round_:  # the first loads libraries
                found[name].append(count[name] / max(seconds, 1e-9))
    return {name: statistics.median(values) for name, values in found.items()}


def check(files: Sequence[Path]) -> int:
    """How many files the fast reader gives otherwise than that of all forms; says how many it read at all."""
    fast = wrong = 0
    for path in track(files, "check", len(files), "files"):
        data = gzip.decompress(path.read_bytes())
        atoms = read_columns(data)
        if atoms is None:
            continue
        fast += 1
        try:
            found: object = group_residues(atoms, "x")
        except StructureError as error:
            found = error.code
        expected = read_whole(data)
        if isinstance(found, str) or isinstance(expected, str):
            same = found == expected
        else:
            same = all(
                np.array_equal(a, b, equal_nan=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a == b or a != a
                for a, b in ((getattr(found, f.name), getattr(expected, f.name)) for f in fields(found))  # type: ignore[arg-type]
            )
        if not same:
            wrong += 1
            say("check", f"{path}: not what the reader of all forms gives")
    say("check", f"{len(files)} files, {fast} read fast, {wrong} otherwise")
    return wrong


def parsing(files: Sequence[Path], folder: Path, rounds: int, whole: bool) -> list[dict]:
    """From the packed file to the backbone."""
    copies = [archive_copy(path, folder, whole) for path in files]
    few = copies[: max(1, len(copies) // 4)]  # for the slow peer
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: [read_structure(path) for path in copies],
        "gemmi, FlatStructure alone": lambda: [flat_structure(path) for path in copies],
        "reader of all forms": lambda: [read_whole(gzip.decompress(path.read_bytes())) for path in copies],
        "ours, few": lambda: [read_structure(path) for path in few],
        "Biopython FastMMCIFParser": lambda: [fast_mmcif_parser(path) for path in few],
    }
    counts = [len(copies)] * 3 + [len(few)] * 2
    found = rates(works, dict(zip(works, counts, strict=True)), rounds)
    what, unit = f"cif.gz to backbone, {'whole residues' if whole else 'backbone alone'}", "files/CPU s"
    flat, same, fast = (name for name in works if "ours" not in name)
    return [
        row(what, unit, found["ours"], found[flat], flat, "2"),
        row(what, unit, found["ours"], found[same], same, "2"),
        row(what, unit, found["ours, few"], found[fast], fast, "20"),
    ]


def judging(chains: Sequence[Backbone], folder: Path, rounds: int) -> list[dict]:
    """Secondary structure: speed beside mdtraj's public function and mkdssp, and agreement with mkdssp."""
    timed = chains[:DSSP_TIMED]
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: [secondary_structure(chain) for chain in chains],
        "mdtraj.compute_dssp": lambda: [mdtraj_dssp(chain) for chain in chains],
    }
    count = dict.fromkeys(works, len(chains))
    installed = shutil.which("mkdssp") is not None
    if installed:
        works["mkdssp"] = lambda: [mkdssp(chain, folder) for chain in timed]
        count["mkdssp"] = len(timed)
    found = rates(works, count, rounds)
    table = [
        row("secondary structure", "chains/CPU s", found["ours"], found[name], name) for name in works if name != "ours"
    ]
    if installed:
        pairs = [(secondary_structure(chain)[0], mkdssp(chain, folder)) for chain in chains]
        judged = [pair for pair in pairs if len(pair[0]) == len(pair[1])]
        same = sum(STATES.get(a, "-") == STATES.get(b, "-") for pair in judged for a, b in zip(*pair, strict=True))
        total = sum(len(pair[0]) for pair in judged)
        say("benchmark", f"mkdssp judged {len(judged)} of {len(pairs)} chains, {total} residues")
        table.append(row("Q3 against mkdssp", "share", same / total, 1.0, "mkdssp itself", "0.995"))
    return table


def written(folder: Path, rows: Sequence[dict], paths: dict[str, Path], copies: int, name: str) -> Path:
    """A folder with domains.tsv and entries.tsv of `copies` domains: `rows`, repeated under new names of their own."""
    made = folder / name
    made.mkdir()
    domains, entries = [], {}
    for number in range(copies):
        one, turn = rows[number % len(rows)], number // len(rows)
        pdb_id = f"{one['pdb_id']}r{turn}"
        domains.append({**dict.fromkeys(DOMAIN_COLUMNS, ""), **one, "domain_id": f"d{number}", "pdb_id": pdb_id})
        path = paths[one["pdb_id"]]
        entries[pdb_id] = {"pdb_id": pdb_id, "source": "mirror", "path": path, "sha256": "0" * 64, "bytes": 1}
    write_table(made / "domains.tsv", DOMAIN_COLUMNS, domains)
    write_table(made / "entries.tsv", ("pdb_id", "source", "path", "sha256", "bytes"), entries.values())
    return made


def run(made: Path, batch: tuple[int, int] = (0, 1)) -> int:
    """The whole step in this process."""
    files = (made / "domains.tsv", made / "entries.tsv")
    outputs = (made / f"{batch[0]}.h5", made / f"{batch[0]}.tsv")
    return featurize(*files, FeaturizeSettings(max_missing=1), LABELS, batch, *outputs)


def processes(made: Path, count: int) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and the largest memory in MB of the whole step in `count` processes of its command."""
    program = (
        "import resource, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import featurize as f;"
        "f.run(Path(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])));"
        "own = resource.getrusage(resource.RUSAGE_SELF);"
        "print(own.ru_utime + own.ru_stime, own.ru_maxrss / (1e6 if sys.platform == 'darwin' else 1e3))"
    )
    started = time.perf_counter()
    arguments = [sys.executable, "-c", program, str(Path(__file__).parent), str(made)]
    running = [
        subprocess.Popen([*arguments, str(index), str(count)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for index in range(count)
    ]
    said = [process.communicate()[0].split() for process in running]
    wall = time.perf_counter() - started
    return wall, sum(float(cpu) for cpu, _ in said), max(float(memory) for _, memory in said)


def whole_step(rows: Sequence[dict], paths: dict[str, Path], folder: Path, rounds: int) -> list[dict]:
    """Parsing, secondary structure, torsions, checks and the store, beside Biopython and mkdssp on the same domains."""
    timed = rows[:DSSP_TIMED]
    made = written(folder, rows, paths, len(rows), "whole")
    copies = {one["pdb_id"]: archive_copy(paths[one["pdb_id"]], folder, whole=True) for one in timed}
    backbones = [
        extract_domain(read_structure(paths[one["pdb_id"]]), one["chain"], one["residue_range"], "x") for one in timed
    ]

    def peer() -> None:
        for one, backbone in zip(timed, backbones, strict=True):
            fast_mmcif_parser(copies[one["pdb_id"]])
            mkdssp(backbone, folder)

    if shutil.which("mkdssp") is None:
        return []
    small = written(folder, timed, {**paths, **copies}, len(timed) * 20, "small")  # the peer's files, many times
    found = rates(
        {"ours": lambda: run(made), "ours, same files": lambda: run(small), "peer": peer},
        {"ours": len(rows), "ours, same files": len(timed) * 20, "peer": len(timed)},
        rounds,
    )
    name, unit = "Biopython FastMMCIFParser + mkdssp", "domains/CPU s"
    say("benchmark", f"whole step: {1000 / found['ours']:.2f} ms of CPU a domain")
    return [row("whole step", unit, found["ours, same files"], found["peer"], name, "50")]


def scaling(rows: Sequence[dict], paths: dict[str, Path], folder: Path) -> list[dict]:
    """All domains on two processes, and how time and memory grow with their number."""
    wall, cpu, _ = processes(written(folder, rows, paths, len(rows), "all"), 2)
    table = [
        row(f"{len(rows)} domains on 2 processes", "s (wall)", wall, 60.0, "goal", "1", more=False),
        row(f"{len(rows)} domains on 2 processes", "CPU s", cpu, 0, ""),
    ]
    few, many = (processes(written(folder, rows, paths, count, f"{count}"), 1) for count in (MANY, MORE))
    each = [1000 * few[1] / MANY, 1000 * many[1] / MORE]
    table.append(row("CPU ms a domain", f"{MORE} domains", each[1], each[0], f"{MANY} domains", "0.9", more=False))
    table.append(row("peak memory of a worker", f"MB, {MORE} domains", many[2], 500.0, "goal", "1", more=False))
    return table


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=next(path for path in FOLDERS if path.is_dir()))
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    files = sorted(path for name in ("mirror", "embedded") for path in (given.data / name).glob("*/*.cif.gz"))
    if given.check:
        return 1 if check(files) else 0
    paths = {path.name.removesuffix(".cif.gz"): path for path in files}
    kept = ("domain_id", "pdb_id", "chain", "residue_range")
    rows = [{key: one[key] for key in kept} for one in read_table(given.data / "domains.tsv") if one["pdb_id"] in paths]
    mixed = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))]
    chains = []
    for one in mixed[: 2 * DSSP_CHAINS]:
        domain = extract_domain(read_structure(paths[one["pdb_id"]]), one["chain"], one["residue_range"], "x")
        if domain.complete.all() and not domain.breaks.any():
            chains.append(domain.model(0))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        some = sorted({paths[one["pdb_id"]] for one in mixed[: given.files]})
        table = parsing(some, folder, given.rounds, whole=True) + parsing(some, folder, given.rounds, whole=False)
        table += judging(chains[:DSSP_CHAINS], folder, given.rounds)
        table += whole_step(mixed[: 10 * given.files], paths, folder, given.rounds)
        table += scaling(rows, paths, folder)
    for line in table:
        print("\t".join(str(line[name]) for name in COLUMNS), flush=True)
    write_table(OUTPUT, COLUMNS, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
