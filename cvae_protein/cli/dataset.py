"""Commands from classifications to a store of domains and its splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import UserError
from ..core.files import REJECTED_COLUMNS, read_table, write_rejected
from ..core.progress import say
from .options import (
    Batch,
    Domains,
    Given,
    LabelsGiven,
    Output,
    Rejected,
    Splits,
    Stored,
    UsageError,
    app,
    batch_of,
    paths_of,
    settings_of,
)
from .outputs import DOMAINS, EACH, REJECTED, SAMPLES, STRUCTURE_FILES, recorded, table, writes
from .outputs import Output as Written


def _exported(given: Mapping[str, Any]) -> dict[Path, Written]:
    """Folder or files of an export; the store determines which lengths there are."""
    from ..io.write import check_format, targets
    from ..store.read import read_backbones

    output, format = given["output"], given["format"]
    if not output.suffix:
        return {output: EACH}
    check_format(output, format)
    backbones = read_backbones(given["store"], given["fold"], given["length"]) if given["by_length"] else []
    paths = targets(backbones, output, format, by_length=given["by_length"])
    return {path: STRUCTURE_FILES.get(path.suffix, Written(recorded)) for path in paths}


@app.command()
@writes(_exported)
def export(
    store: Annotated[Path, typer.Option(help="HDF5 store of samples or domains.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder, for one file per structure and a table; or a .pdb, .cif or .xtc file."
        ),
    ],
    format: Annotated[
        str, typer.Option(help="pdb, cif or xtc; default: the suffix of the output, or pdb in a folder.")
    ] = "",
    fold: Annotated[str, typer.Option(help="Only this fold class, such as 2 or 3.40.")] = "",
    length: Annotated[int | None, typer.Option(min=1, help="Only structures with this number of residues.")] = None,
    by_length: Annotated[bool, typer.Option("--by-length", help="One file per length, named NAME-L110.")] = False,
) -> None:
    """Write stored structures as PDB, mmCIF, or XTC with a PDB topology.

    \b
    Example:
      cvae-protein export --store samples/concat/seed0/samples.h5 --fold 2 --format cif -o beta/
      cvae-protein export --store samples/concat/seed0/samples.h5 --fold 2 --length 110 -o beta.xtc

    Coordinates are in Å; XTC, which uses nm, keeps a precision of 0.01 Å. One file holds structures of one length.
    """
    from ..core.files import atomic_path
    from ..io.write import export as run
    from ..io.write import write_each
    from ..store.read import each_with_facts, read_backbones

    if not output.suffix:
        if by_length:
            raise UsageError("export --by-length: expected a file as --output; a folder has a file a structure")
        with atomic_path(output) as made:
            write_each(each_with_facts(store, fold, length), made, format or "pdb")
        return
    run(read_backbones(store, fold, length), output, format, by_length=by_length)


@app.command()
@writes(
    reads=lambda given: paths_of(settings_of("labels", given["settings"])),
    output=Written(table("domain_id", "pdb_id", "chain")),
    rejected=REJECTED,
)
def select(output: Output, rejected: Rejected, settings: Given = "") -> None:
    """Select domains from a table, a CATH or SCOPe file, or a folder of structures.

    \b
    Example:
      cvae-protein select --settings '{"table": "data/domains.tsv"}' -o domains.tsv --rejected rejected/select.tsv
      cvae-protein select -o domains.tsv --rejected rejected/select.tsv --settings '{"table": "cath-domain-list.txt",
          "boundaries": "cath-domain-boundaries.txt", "redundancy": "s35", "max_resolution": 2.5}'

    Lengths are in residues, resolutions in Å.
    """
    from ..dataset.select import select_domains

    select_domains(settings_of("labels", settings), output, rejected)


@app.command()
@writes(reads=lambda given: paths_of(settings_of("labels", given["settings"])), output=Written(table("code", "name")))
def fold_names(domains: Domains, output: Output, settings: Given = "") -> None:
    """Look up the names of the domains' folds, for the report.

    \b
    Example:
      cvae-protein fold-names --domains domains.tsv --settings '{"names": "cath-names.txt"}' -o fold_names.tsv

    Settings are those of the section `labels`.
    """
    from ..dataset.select import name_folds

    count = name_folds(domains, settings_of("labels", settings), output)
    say("fold-names", f"{count} names of folds")


@app.command()
@writes(
    reads=lambda given: paths_of(settings_of("fetch", given["settings"])),
    output=Written(table("pdb_id", "source", "path", "sha256")),
    rejected=REJECTED,
    lock=Written(table("pdb_id", "source", "url", "sha256")),
)
def fetch(
    domains: Domains,
    output: Output,
    rejected: Rejected,
    embedded: Annotated[Path, typer.Option(help="Folder of the embedded structures.")] = Path("data/embedded"),
    lock: Annotated[
        Path | None, typer.Option(help="Table to write: source, URL, hash, size and date of every file.")
    ] = None,
    locked: Annotated[
        Path | None, typer.Option(help="Such a table from an earlier run; a file that differs from it stops the run.")
    ] = None,
    settings: Given = "",
) -> None:
    """Find or download the structure file of every entry, and record its SHA-256.

    \b
    Example:
      cvae-protein fetch --domains domains.tsv --settings '{"sources": ["/my/mirror", "rcsb"]}' \\
          -o entries.tsv --rejected rejected/fetch.tsv --lock sources.lock.tsv
    """
    from dataclasses import replace

    from ..dataset.fetch.fetch import fetch_entries

    own = settings_of("fetch", settings)
    own = replace(own, locked=str(locked)) if locked else own
    fetch_entries(domains, own, embedded, output, rejected, lock=lock)


@app.command()
@writes(output=DOMAINS, rejected=REJECTED)
def featurize(
    output: Output,
    rejected: Rejected,
    domains: Annotated[Path | None, typer.Option(help="Table of domains written by `select`.")] = None,
    entries: Annotated[Path | None, typer.Option(help="Table written by `fetch`.")] = None,
    batch: Batch = "0/1",
    source: Annotated[
        Path | None,
        typer.Option("--input", help="Instead of --entries: a folder or file of structures, or a trajectory."),
    ] = None,
    topology: Annotated[
        Path | None, typer.Option(help="PDB, mmCIF or GRO file with the atoms of a trajectory (.xtc .trr .dcd .nc).")
    ] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Store every n-th model or frame.")] = None,
    settings: Given = "",
    label_settings: LabelsGiven = "",
) -> None:
    """Convert structure files to a store of backbones (Å, radians).

    \b
    Example:
      cvae-protein featurize --domains domains.tsv --entries entries.tsv --batch 0/4 \\
          -o shards/0.h5 --rejected rejected/0.tsv
      cvae-protein featurize --input my-structures/ -o mine.h5 --rejected mine-rejected.tsv
      cvae-protein featurize --input run.xtc --topology run.pdb --stride 10 -o run.h5 --rejected run-rejected.tsv

    Models of a file and frames of a trajectory are stored as conformers of one domain.
    """
    from dataclasses import replace

    from ..dataset.featurize import featurize as run
    from ..dataset.featurize import featurize_folder, featurize_trajectory
    from ..io.trajectory import is_trajectory

    own, limits = settings_of("featurize", settings), settings_of("labels", label_settings, settings)
    own = own if stride is None else replace(own, stride=stride)
    moving = source is not None and is_trajectory(source)
    if moving != (topology is not None):
        raise UserError("featurize: expected --topology with an --input that is a trajectory (.xtc .trr .dcd .nc)")
    if source is not None and topology is not None:
        featurize_trajectory(source, topology, own, limits, output, rejected)
    elif source is not None:
        featurize_folder(source, own, limits, output, rejected, domains=domains)
    elif domains is None or entries is None:
        raise UsageError("featurize: expected --domains and --entries, or --input")
    else:
        run(domains, entries, own, limits, batch_of(batch), output, rejected)


@app.command()
@writes(output=Written(lambda path: DOMAINS.is_ours(path) or SAMPLES.is_ours(path)), rejected=REJECTED)
def merge(
    parts: Annotated[list[Path], typer.Argument(help="Stores (.h5) and tables of rejected domains (.tsv), in order.")],
    output: Output,
    rejected: Rejected,
    settings: Annotated[
        str, typer.Option(metavar="JSON|FILE", help="Settings of section `featurize`: JSON or YAML file.")
    ] = "",
) -> None:
    """Join the stores of all batches into one, and likewise the tables of rejected domains.

    \b
    Example:
      cvae-protein merge shards/*.h5 rejected/*.tsv -o domains.h5 --rejected rejected.tsv
      cvae-protein merge draws/seed*.h5 -o samples.h5 --rejected none.tsv

    The second example joins samples drawn with different --seed; their ids and the column draw_seed contain the seed.
    """
    from ..core.errors import NOTES
    from ..store.write import merge_stores

    if strange := [str(path) for path in parts if path.suffix not in (".h5", ".tsv")]:
        raise UsageError(f"merge: expected .h5 stores and .tsv tables, got {', '.join(strange)}")
    tables = [path for path in parts if path.suffix == ".tsv"]
    rows = [row for path in tables for row in read_table(path, REJECTED_COLUMNS)]
    write_rejected(rejected, rows)
    compression = settings_of("featurize", settings).compression
    stores = [path for path in parts if path.suffix == ".h5"]
    count = merge_stores(stores, output, compression=compression, whole=True)
    notes = sum(row["reason"] in NOTES for row in rows)
    said = f", {notes} notes on what was kept" if notes else ""
    say("merge", f"{count} conformations kept, {len(rows) - notes} domains rejected{said} (reasons in {rejected})")


@app.command()
@writes(output=Written(table("domain_id", "split", "label", "superfamily")))
def split(
    store: Stored,
    output: Output,
    clusters: Annotated[
        Path | None, typer.Option(help="Table written by `cluster`: domains with similar sequences.")
    ] = None,
    settings: Given = "",
    label_settings: LabelsGiven = "",
) -> None:
    """Hold out sequence clusters, homologous superfamilies, whole topologies, or some of each, for validation and test.

    \b
    Example:
      cvae-protein split --store domains.h5 --settings '{"test": 0.2, "seed": 1}' -o splits.tsv
      cvae-protein split --store domains.h5 --clusters clusters.tsv --settings '{"scheme": "sequence"}' -o splits.tsv

    `test` and `validation` are fractions of the domains; the column `rung` says how new a domain is to training.
    """
    from ..dataset.split import split_domains

    labels = settings_of("labels", label_settings, settings)
    split_domains(store, settings_of("split", settings), output, labels, clusters)


@app.command()
@writes(output=Written(table("domain_id", "split", "label", "length", "max_tm")))
def leak_audit(
    store: Stored,
    splits: Splits,
    output: Output,
    jobs: Annotated[int, typer.Option(min=1, help="Parallel processes; their number does not change the result.")] = 1,
) -> None:
    """Find the training domain nearest to each held-out one, by structure and by sequence.

    \b
    Example:
      cvae-protein leak-audit --store domains.h5 --splits splits.tsv --jobs 4 -o leak_audit.tsv

    TM-scores are normalised by the length of the held-out domain; identity is relative to the shorter sequence.
    """
    from ..dataset.leak_audit import audit as run

    run(store, splits, output, jobs)


@app.command()
def verify(
    files: Annotated[list[Path], typer.Argument(help="Stores (.h5) of domains, samples or other structures.")],
) -> None:
    """Check stores against their checksums; exit code 1 unless all are intact.

    \b
    Example:
      cvae-protein verify results/domains.h5 results/samples/concat/seed0/samples.h5

    Lists each damaged block and the domains in it, which have to be featurized or sampled again.
    """
    from ..store.verify import verify_store

    wrong = []
    for path in files:
        try:
            verdict = verify_store(path)
        except UserError as error:
            typer.echo(str(error))
            wrong.append(path)
            continue
        for damage in verdict.damages:
            typer.echo(f"{path}: {damage}")
        if verdict.damages:
            wrong.append(path)
        else:
            typer.echo(f"{path}: whole, {verdict.conformations} conformations in {verdict.blocks} blocks")
    if wrong:
        raise UserError(f"verify: {len(wrong)} of {len(files)} stores are not known to be whole")


@app.command()
@writes(output=Written(table("domain_id", "sequence_cluster")))
def cluster(
    store: Stored,
    output: Output,
    scheme: Annotated[
        str, typer.Option(help="Source of the labels: cath, scope, own, none, or cluster (by structure).")
    ] = "cath",
    settings: Given = "",
) -> None:
    """Cluster domains by sequence and, with --scheme cluster, by structure.

    \b
    Example:
      cvae-protein cluster --store domains.h5 --settings '{"identity": 0.35}' -o clusters.tsv
      cvae-protein cluster --store domains.h5 --scheme cluster -o clusters.tsv

    Structures count as similar from a TM-score of 0.5, normalised by the longer one.
    """
    from ..dataset.cluster import find_folds, read_sequences, sequence_clusters, write_clusters

    if scheme not in ("cath", "scope", "own", "none", "cluster"):
        raise UsageError(f"--scheme: expected cath, scope, own, none or cluster, got {scheme!r}")
    sequence, method = sequence_clusters(read_sequences(store), settings_of("cluster", settings))
    structure: dict[str, str] = {}
    if scheme == "cluster":
        structure, folds = find_folds(store, sequence)
        method = f"{method}; {folds}"
    write_clusters(output, sequence, structure, method)
