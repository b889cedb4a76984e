"""Print what planning and starting jobs cost at 1,000 to 1,000,000 domains.

    python benchmarks/scaling.py [--domains 1000 10000 100000] [--output benchmarks/results/scaling.tsv]

A table of so many domains is made up, and `snakemake --dry-run` plans the whole run of it with the default settings:
the jobs, the processor's time and the peak memory of Snakemake. Then what Snakemake spends on a job that does nothing,
and what a job that featurizes spends before its first domain. Times are the processor's, which other work disturbs less
than the wall's; planning uses one core, so that on a quiet machine both are alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import NamedTuple

import yaml

from cvae_protein.core.files import read_table, write_table

ROOT = Path(__file__).parents[1]
COLUMNS = ("what", "unit", "domains", "value", "goal", "machine", "date")
GOALS = {"plan": 5.0, "memory": 500.0, "jobs": 500.0, "overhead": 0.02}
NOTHING = """
rule all:
    input: expand("{number}", number=range(COUNT))
rule one:
    output: "{number}"
    shell: "touch {output}"
"""
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Cost(NamedTuple):
    """What a process took: seconds of the processor and of the wall, and MB at the peak."""

    cpu: float
    wall: float
    memory: float
    said: str


def cost_of(command: list[str], folder: Path) -> Cost:
    """Run a command with all its children and measure it."""
    with tempfile.TemporaryFile("w+") as said:
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        begin = os.times().elapsed
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall = os.times().elapsed - begin
        said.seek(0)
        text = said.read()
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{text[-3000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1e3, text)


def write_domains(path: Path, count: int) -> None:
    """A table of made-up domains, of the codes and lengths of the embedded ones."""
    known = read_table(ROOT / "data/domains.tsv")
    columns = ("domain_id", "pdb_id", "chain", "residue_range", "cath", "n_residues")
    rows = []
    for number in range(count):
        code = "".join(LETTERS[number // 36**place % 36] for place in (2, 1, 0))
        pdb_id = f"{1 + number // 36**3 % 9}{code}"
        like = known[number % len(known)]
        row = (f"d{number:07d}", pdb_id, "A", "", like["cath"], like["n_residues"])
        rows.append(dict(zip(columns, row, strict=True)))
    write_table(path, columns, rows)


def plan(count: int, rounds: int) -> tuple[Cost, int]:
    """The median cost of planning a run of `count` domains, and the number of its jobs."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_domains(folder / "domains.tsv", count)
        given = {"results": str(folder / "results"), "labels": {"table": str(folder / "domains.tsv")}}
        (folder / "config.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--configfile"]
        costs = [cost_of([*command, str(folder / "config.yaml")], ROOT) for _ in range(rounds)]
    jobs = int(re.findall(r"^total\s+(\d+)", costs[0].said, re.M)[-1])
    return sorted(costs, key=lambda cost: cost.cpu)[rounds // 2], jobs


def seconds_a_job(count: int = 200) -> float:
    """CPU seconds that Snakemake spends on one job that does nothing, its shell included."""
    spent = []
    for number in (count, 1):
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "Snakefile").write_text(NOTHING.replace("COUNT", str(number)), encoding="utf-8")
            command = [sys.executable, "-m", "snakemake", "--cores", "1", "--scheduler", "greedy", "--quiet", "all"]
            spent.append(cost_of(command, Path(scratch)).cpu)
    return (spent[0] - spent[1]) / (count - 1)


def seconds_to_start(rounds: int) -> float:
    """CPU seconds of a featurizing job before its first domain."""
    command = [
        sys.executable,
        "-c",
        "import cvae_protein.commands, cvae_protein.config.load, cvae_protein.dataset.featurize",
    ]
    return statistics.median(cost_of(command, ROOT).cpu for _ in range(rounds))


def milliseconds_a_domain() -> float:
    """CPU milliseconds to featurize a domain, as `benchmarks/featurize.py` last measured them."""
    rows = read_table(ROOT / "benchmarks/results/featurize.tsv", ["what", "ours"])
    return next(float(row["ours"]) for row in rows if row["what"] == "CPU ms a domain")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/scaling.tsv")
    options = parser.parse_args()
    job, start, each = seconds_a_job(), seconds_to_start(options.rounds), milliseconds_a_domain() / 1e3
    found: list[tuple[str, str, object, float, object]] = [
        ("scheduling a job", "CPU s", "", job, ""),
        ("start of a featurizing job", "CPU s", "", start, ""),
    ]
    for count in options.domains:
        cost, jobs = plan(count, options.rounds)
        batches = min(400, -(-count // 150))
        work = start + count / batches * each
        found += [
            ("plan", "CPU s", count, cost.cpu, GOALS["plan"] if count == 100_000 else ""),
            ("plan", "wall s", count, cost.wall, ""),
            ("plan, peak memory", "MB", count, cost.memory, GOALS["memory"] if count == 100_000 else ""),
            ("jobs", "", count, jobs, GOALS["jobs"]),
            ("scheduling over a featurizing job", "share", count, job / work, GOALS["overhead"]),
            ("start over a featurizing job", "share", count, start / work, ""),
        ]
    origin = (f"{platform.machine()}, {os.cpu_count()} cores", date.today().isoformat())
    rows = [dict(zip(COLUMNS, (w, u, n, f"{v:.4g}", g, *origin), strict=True)) for w, u, n, v, g in found]
    write_table(options.output, COLUMNS, rows)
    for row in rows:
        print(f"{row['what']:<36}{row['domains']!s:>9}  {row['value']:>8} {row['unit']}")


if __name__ == "__main__":
    main()
