"""Print how long a cath-domain-list takes to be read and selected, and how much memory it needs.

    python benchmarks/select_domains.py [--rows 500000] [--sample LIST] [--settings JSON]

The list is a sample of a genuine one, by default ../shared/benchmark/tables/cath-domain-list.sample.txt, repeated
under new ids; without such a file, one is made of the codes and lengths of data/domains.tsv. `labels` runs as a process
of its own, whose time and peak memory include the start of Python. The processor's time is less noisy than the wall's
where the machine has other work.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from cvae_protein.core.files import read_table

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT.parent / "shared/benchmark/tables/cath-domain-list.sample.txt"
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


def sample_rows(path: Path) -> list[list[str]]:
    """Columns 2 to 12 of each line of a domain list, or such columns made of the project's own domains."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        return [line.split()[1:] for line in lines if line and not line.startswith("#")]
    rows = read_table(ROOT / "data/domains.tsv", ["cath", "n_residues"])
    whole = [row for row in rows if row["cath"].count(".") == 3]
    return [
        [*row["cath"].split("."), *(str(number) for number in (index, 1, 1, 1, 1)), row["n_residues"], "2.000"]
        for index, row in enumerate(whole, 1)
    ]


def new_ids(count: int) -> list[str]:
    """Different CATH ids of whole chains: 1000A00, 1001A00, ..."""
    ids = []
    for number in range(count):
        rest, last = divmod(number, 36)
        rest, third = divmod(rest, 36)
        first, second = divmod(rest, 36)
        ids.append(f"{first % 9 + 1}{LETTERS[second]}{LETTERS[third]}{LETTERS[last]}{chr(65 + first // 9)}00")
    return ids


def main() -> None:
    """Make the list, select from it and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--sample", type=Path, default=SAMPLE)
    parser.add_argument("--settings", default='{"classes": [], "redundancy": "none"}', help="of the stage, as JSON")
    given = parser.parse_args()
    rows = sample_rows(given.sample)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "cath-domain-list.txt")
        lines = zip(new_ids(given.rows), islice(cycle(rows), given.rows), strict=True)
        table.write_text("".join(f"{name} {' '.join(cells)}\n" for name, cells in lines), encoding="utf-8")
        settings = json.dumps({**json.loads(given.settings), "table": str(table)})
        files = ("--output", f"{folder}/domains.tsv", "--rejected", f"{folder}/rejected.tsv")
        command = [sys.executable, "-m", "cvae_protein.cli.main", "select", "--settings", settings, *files]
        started = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT)
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor, memory = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024  # kB on Linux
    print(
        f"{given.rows} rows of {len(rows)} different ones: {seconds:.1f} s ({processor:.1f} s of the processor), "
        f"peak memory {memory:.0f} MB"
    )


if __name__ == "__main__":
    main()
