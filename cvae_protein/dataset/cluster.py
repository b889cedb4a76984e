"""Clusters of similar sequences (MMseqs2 or k-mers) and, if nothing labels the domains, of similar structures."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config.settings import ClusterSettings
from ..core.errors import UserError
from ..core.files import write_table
from ..core.programs import ask
from ..core.progress import say, track
from ..similarity.nearest_structures import ALIGNED, DomainTrace, Library, ranked, tm_align_score
from ..similarity.screen import Shape
from ..similarity.sequences import COVERAGE, E_VALUE, Words, aligned_identity
from ..similarity.tm_score import SAME_FOLD
from ..store.read import Store

COLUMNS = ("domain_id", "sequence_cluster", "structure_cluster", "method")
PROGRAM = "mmseqs"
SENSITIVITY = 7.5  # of MMseqs2's prefilter; the maximum of its usual range
HITS = 10_000  # aligned per sequence; MMseqs2's default for clustering, 20, splits large families
SHORTEST = 14  # known residues; MMseqs2 fails without one this long, and shorter ones cannot exceed chance
TRIED = 24  # representatives with most word hits to which our own clustering aligns a sequence


def read_sequences(store: Path) -> dict[str, str]:
    """Sequence of each domain of a store, one letter per residue, `X` where unknown."""
    with Store(store) as opened:
        return {name: opened.sequence(name) for name in opened.ids}


def sequence_clusters(sequences: Mapping[str, str], settings: ClusterSettings) -> tuple[dict[str, str], str]:
    """Representative of each domain (a domain id), and the method in words, with its version.

    The result does not depend on the order of `sequences`. Raises `UserError` if MMseqs2 is required and absent, or
    fails.
    """
    program = shutil.which(PROGRAM)
    if settings.method == "mmseqs" and program is None:
        raise UserError("cluster.method mmseqs: expected the program mmseqs on the PATH; install MMseqs2 or set kmer")
    # Identical sequences are merged first; sequences of equal length are sorted alphabetically.
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
    """Index of each sequence's representative; `sequences` are distinct and sorted from longest to shortest."""
    words, residues = Words(sequences), sum(map(len, sequences))
    owner: list[int] = []
    for number, sequence in track(enumerate(sequences), "cluster", len(sequences), "sequences"):
        best, found = identity, number
        for other in words.top_hits(number, TRIED):
            share = aligned_identity(sequence, sequences[other], residues)
            if share >= best and (share > best or found == number):
                best, found = share, other
        owner.append(found)
        if found == number:
            words.add(number)
    return owner


def _by_mmseqs(program: str, sequences: Sequence[str], identity: float) -> list[int]:
    """As `_by_words`, using MMseqs2 (Steinegger & Söding (2017), doi:10.1038/nbt.3988)."""
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
        _printed(subprocess.run(command, capture_output=True, text=True, errors="replace", check=False))
        owner = list(range(len(sequences)))
        for line in Path(folder, "found_cluster.tsv").read_text().splitlines():
            representative, member = line.split("\t")
            owner[int(member)] = int(representative)
    return owner


def _printed(run: subprocess.CompletedProcess[str]) -> str:
    """The output of a program; `UserError` with its last line if it failed."""
    if run.returncode:
        lines = (run.stderr.strip() or run.stdout.strip() or "no message").splitlines()
        raise UserError(
            f"{run.args[0]} failed with exit code {run.returncode}: {lines[-1]}; or set cluster.method: kmer"
        )
    return run.stdout


def _version(program: str) -> str:
    return re.sub(r"\s+", " ", _printed(ask(program, "version")).strip()) or "of unknown version"


def write_clusters(output: Path, sequence: Mapping[str, str], structure: Mapping[str, str], method: str) -> None:
    """Write `clusters.tsv`: one row per domain; `structure` may be empty."""
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


METHOD = f"TM-align {SAME_FOLD} of the longer"


def find_folds(store: Path, sequence_cluster: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Class of each domain (`F1` is the largest) and the method in words; `sequence_cluster` names representatives.

    Classes are numbered by number of domains; among equals, the one with the longest representative comes first.
    """
    structures = _representatives(store, set(sequence_cluster.values()))
    founder = fold_classes(structures)
    sizes = Counter(founder[sequence_cluster[name]] for name in sequence_cluster)
    founders = dict.fromkeys(founder.values())  # in order of founding, longest first
    ranked = sorted(founders, key=lambda name: -sizes[name])
    names = {name: f"F{rank}" for rank, name in enumerate(ranked, 1)}
    say("cluster", f"{len(names)} fold classes; the largest has {max(sizes.values(), default=0)} domains")
    return {name: names[founder[representative]] for name, representative in sequence_cluster.items()}, METHOD


def _representatives(store: Path, names: set[str]) -> list[DomainTrace]:
    """CA traces of domains of a store, as library structures."""
    with Store(store) as opened:
        return [DomainTrace.of(name, "", opened.coords(opened.rows(name)[0])) for name in opened.ids if name in names]


def fold_classes(structures: list[DomainTrace]) -> dict[str, str]:
    """Id of the founder of each structure's class, by id; independent of the order of `structures`."""
    ordered = sorted(structures, key=lambda structure: (-len(structure.ca), structure.id))
    library = Library(ordered)
    seen: set[str] = set()
    found: dict[str, str] = {}
    for structure in track(ordered, "cluster", len(ordered), "structures"):
        match = best_match(structure, library, seen)
        found[structure.id] = found[match] if match else structure.id
        seen.add(structure.id)
    return found


def best_match(query: DomainTrace, library: Library, seen: set[str]) -> str:
    """The structure in `seen`, all longer, with the highest TM-score of at least 0.5; empty if there is none."""
    near = library.candidates(query, lambda structure: structure.id in seen)
    # Normalising by the longer one lowers a score by about the ratio of the lengths.
    best, name = SAME_FOLD, ""
    for index, estimate in ranked(Shape.of(query.ca), library, near, len(query.ca) / library.lengths[near])[:ALIGNED]:
        if estimate + library.margin < best:
            break
        target = library.structures[index]
        score = min(tm_align_score(query.ca, target.ca))
        if score >= best and (score > best or not name):
            best, name = score, target.id
    return name
