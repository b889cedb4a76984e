"""Which domains have like sequences: clusters by MMseqs2 where it is installed, else by a clustering of our own.

Both take the sequences longest first; each joins the cluster of a longer representative to which it is alike, or founds
one. Alike are two sequences whose best local alignment has at least the configured identity over its columns, covers
80 % of the shorter one, and is not expected by chance (E-value 0.001).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config.settings import ClusterSettings
from ..core.errors import UserError
from ..core.files import write_table
from ..core.progress import Progress, say
from ..similarity.sequences import COVERAGE, E_VALUE, Aligner, Words
from ..store.read import Store

COLUMNS = ("domain_id", "sequence_cluster", "structure_cluster", "method")
PROGRAM = "mmseqs"
SENSITIVITY = 7.5  # of its search for pairs to be aligned; the highest of its usual range
HITS = 10_000  # of a sequence that it aligns; its default for clustering, 20, cuts large families into many clusters
SHORTEST = 14  # known residues; where no sequence has as many it fails, and shorter ones are like nothing by chance
TRIED = 24  # representatives with the most word hits that a sequence is aligned with, in our own clustering


def read_sequences(store: Path) -> dict[str, str]:
    """Sequence of each domain of a store, one letter a residue, `X` where unknown."""
    with Store(store) as opened:
        return {name: "".join(opened.text(opened.rows(name)[0], "sequence")) for name in opened.ids}


def sequence_clusters(sequences: Mapping[str, str], settings: ClusterSettings) -> tuple[dict[str, str], str]:
    """Representative of each domain, itself a domain id, and the method in words, with its version.

    The order of `sequences` has no say. Raises `UserError` where MMseqs2 is asked for and absent, or fails.
    """
    program = shutil.which(PROGRAM)
    if settings.method == "mmseqs" and program is None:
        raise UserError("cluster.method mmseqs: expected the program mmseqs on the PATH; install MMseqs2 or set kmer")
    # Identical sequences go together at once; of equal length, the alphabet decides.
    first = {sequence: name for name, sequence in sorted(sequences.items(), reverse=True)}
    unique = sorted(first, key=lambda sequence: (-len(sequence), sequence))
    if settings.method != "kmer" and program is not None:
        owner = _by_mmseqs(program, unique, settings.identity)
        method = f"mmseqs {_version(program)}"
    else:
        if settings.method == "auto":
            say("cluster", "MMseqs2 is not installed; sequences are clustered by words of 3 letters, which finds less")
        owner = _by_words(unique, settings.identity)
        method = "kmer"
    representative = {sequence: first[unique[owner[number]]] for number, sequence in enumerate(unique)}
    clusters = {name: representative[sequence] for name, sequence in sequences.items()}
    say("cluster", f"{len(set(clusters.values()))} sequence clusters of {len(clusters)} domains ({method})")
    return clusters, f"{method} identity {settings.identity} coverage {COVERAGE}"


def _by_words(sequences: Sequence[str], identity: float) -> list[int]:
    """Number of each sequence's representative; `sequences` are unlike and the longest comes first."""
    words, aligner = Words(sequences), Aligner(sum(map(len, sequences)))
    progress = Progress("cluster", len(sequences), "sequences")
    owner: list[int] = []
    for number, sequence in enumerate(sequences):
        best, found = identity, number
        for other in words.likest(number, TRIED):
            share = aligner.identity(sequence, sequences[other])
            if share >= best and (share > best or found == number):
                best, found = share, other
        owner.append(found)
        if found == number:
            words.add(number)
        progress.advance()
    return owner


def _by_mmseqs(program: str, sequences: Sequence[str], identity: float) -> list[int]:
    """As `_by_words`, by MMseqs2 (Steinegger & Söding (2017), doi:10.1038/nbt.3988)."""
    with tempfile.TemporaryDirectory(prefix="cvae-protein-cluster-") as folder:
        fasta = Path(folder, "sequences.fasta")
        long = [n for n, sequence in enumerate(sequences) if len(sequence) - sequence.count("X") >= SHORTEST]
        if not long:
            return list(range(len(sequences)))
        fasta.write_text("".join(f">{number}\n{sequences[number]}\n" for number in long))
        command = [program, "easy-cluster", str(fasta), str(Path(folder, "found")), str(Path(folder, "scratch"))]
        command += ["--min-seq-id", str(identity), "-c", str(COVERAGE), "--cov-mode", "1", "-e", str(E_VALUE)]
        command += ["--alignment-mode", "3", "--cluster-mode", "2", "--single-step-clustering", "1"]
        command += ["-s", str(SENSITIVITY), "--max-seqs", str(HITS), "--threads", "1"]
        _run(command)
        owner = list(range(len(sequences)))
        for line in Path(folder, "found_cluster.tsv").read_text().splitlines():
            representative, member = line.split("\t")
            owner[int(member)] = int(representative)
    return owner


def _run(command: Sequence[str]) -> str:
    """What a program prints; `UserError` with its last line where it fails."""
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if run.returncode:
        lines = (run.stderr.strip() or run.stdout.strip() or "no message").splitlines()
        raise UserError(
            f"{command[0]} failed with exit code {run.returncode}: {lines[-1]}; or set cluster.method: kmer"
        )
    return run.stdout


def _version(program: str) -> str:
    return re.sub(r"\s+", " ", _run([program, "version"]).strip()) or "of unknown version"


def write_clusters(output: Path, sequence: Mapping[str, str], structure: Mapping[str, str], method: str) -> None:
    """Write `clusters.tsv`: a row a domain; `structure` may be empty."""
    rows = (
        {
            "domain_id": name,
            "sequence_cluster": cluster,
            "structure_cluster": structure.get(name, ""),
            "method": method,
        }
        for name, cluster in sequence.items()
    )
    write_table(output, COLUMNS, rows)
