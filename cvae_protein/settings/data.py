"""Which domains a run is about, and how they are held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .field import setting


@dataclass(frozen=True)
class LabelSettings:
    """Which domains, and which classification conditions the models."""

    table: str = setting("data/domains.tsv", "domain table, classification file or folder of structures", min_length=1)
    format: Literal[
        "auto",
        "table",
        "cath-domain-list",
        "cath-domain-boundaries",
        "cath-seqres-boundaries",
        "cath-daily",
        "cath-segments",
        "scope-cla",
        "scope-segments",
        "astral",
        "folder",
    ] = setting("auto", "format of `table`; `auto` tells it by the content")
    boundaries: str = setting(
        "", "file with the residue ranges of a `cath-domain-list`, such as cath-domain-boundaries"
    )
    include: str = setting("", "list of domain ids or FASTA file; domains that are not in it are left out")
    names: str = setting("", "file with the names of folds (cath-names, dir.des) for the report")
    scheme: Literal["cath", "scope", "cluster"] = setting(
        "cath",
        "fold labels: CATH or SCOPe codes of the table; `cluster` needs none and groups the structures themselves",
    )
    depth: int = setting(1, "label levels given to the models: 1 = class, 2 = architecture, 3 = topology", ge=1, le=4)
    classes: tuple[str, ...] = setting(("1", "2", "3"), "first-level classes to keep; empty keeps all")
    min_length: int = setting(40, "shortest domain, residues", ge=10, le=4096)
    max_length: int = setting(256, "longest domain, residues", ge=20, le=4096)
    max_resolution: float = setting(
        0.0, "coarsest resolution, Å; leaves out domains without one, such as NMR; 0 = no limit", ge=0, le=100
    )
    methods: tuple[str, ...] = setting((), "experimental methods to keep, such as X-ray, NMR, EM; empty keeps all")
    redundancy: Literal["none", "s35", "s60", "s95"] = setting(
        "none", "keep one domain, the best resolved, of each cluster that the table tells: at 35, 60 or 95 % identity"
    )
    max_per_superfamily: int = setting(0, "most domains of a superfamily, the best resolved ones; 0 = no limit", ge=0)
    min_members: int = setting(8, "fewest domains of a class at the first level", ge=1)


@dataclass(frozen=True)
class FetchSettings:
    """Where entry files come from."""

    sources: tuple[str, ...] = setting(
        ("embedded",),
        "tried in order: `embedded`, the path of a mirror folder, `rcsb`, `pdbe`, or a URL such as "
        "`https://host/{pdb_id}.cif.gz`",
        min_length=1,
    )
    format: Literal["cif", "bcif"] = setting("cif", "mmCIF or BinaryCIF, where a source has both")
    cache: str = setting(".cache", "folder of downloaded files; several runs may share it", min_length=1)
    offline: bool = setting(False, "never connect; what is not in the cache is rejected")
    revalidate: bool = setting(False, "ask servers whether files in the cache have changed")
    locked: str = setting("", "a kept sources.lock.tsv: files that differ from it stop the run; empty for none")
    obsolete: str = setting(
        "https://files.wwpdb.org/pub/pdb/data/status/obsolete.dat",
        "the wwPDB's list of superseded entries: URL or path; empty for none",
    )
    connections: int = setting(4, "downloads at once", ge=1, le=16)
    timeout: float = setting(30.0, "seconds without an answer, or of a trickle, after which a try is given up", gt=0)
    retries: int = setting(4, "further tries after a failure that may pass", ge=0, le=20)
    backoff: float = setting(1.0, "seconds before the first further try; doubled with each", ge=0, le=60)
    longest_wait: float = setting(120.0, "most seconds to wait before a try, also where a server asks for more", ge=0)
    max_megabytes: float = setting(1000.0, "largest file, packed or unpacked, in 10⁶ bytes", gt=0)


@dataclass(frozen=True)
class FeaturizeSettings:
    """How structure files become arrays."""

    batch_size: int = setting(150, "domains a job", ge=1, le=100_000)
    max_missing: float = setting(0.2, "largest share of residues that lack N, CA, C or O", ge=0, le=1)
    compression: Literal["blosc-lz4", "gzip"] = setting(
        "blosc-lz4", "of the HDF5 store; gzip where hdf5plugin is absent"
    )


@dataclass(frozen=True)
class ClusterSettings:
    """Which domains count as alike."""

    method: Literal["auto", "mmseqs", "kmer"] = setting(
        "auto", "of the sequence clusters: MMseqs2, our own search by words, or the former where it is installed"
    )
    identity: float = setting(0.35, "least share of equal residues within a sequence cluster", ge=0.2, le=1)


@dataclass(frozen=True)
class SplitSettings:
    """Which domains are held out."""

    scheme: Literal["sequence", "superfamily", "topology"] = setting(
        "superfamily",
        "what is held out: sequence clusters of trained superfamilies (S1), superfamilies of trained topologies (S2), "
        "or topologies, known by their architecture alone (S3)",
    )
    test: float = setting(0.2, "share of domains held out for scoring", gt=0, lt=0.9)
    validation: float = setting(0.1, "share of domains held out for watching the training", ge=0, lt=0.9)
    min_test: int = setting(2, "fewest held-out domains a class", ge=1)
    max_breaks: int = setting(0, "most chain breaks of a domain that trains or scores a model", ge=0)
    max_length: int = setting(
        0,
        "residues beyond which a domain trains by stretches alone and is never held out; 0 = no limit",
        ge=0,
        le=4096,
    )
    redundancy: int = setting(0, "most usable domains of a sequence cluster, the best resolved ones; 0 = all", ge=0)
    max_per_superfamily: int = setting(
        0, "most usable domains of a superfamily, of distinct sequence first; 0 = all", ge=0
    )
    seed: int = setting(0, "of the random choice of what is held out", ge=0)
