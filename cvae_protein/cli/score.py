"""Commands that score samples and write reports."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import UserError
from ..core.progress import say
from ..core.variants import REAL, REAL_ROWS
from .options import MODEL_SEED, Given, Output, UsageError, app, settings_of
from .outputs import PAGE, REJECTED, SAMPLES, SCORES, STRUCTURE_FILES, folder, table, writes
from .outputs import Output as Written


@app.command()
@writes(output=SCORES)
def sweep(
    tables: Annotated[list[Path], typer.Argument(help="Tables POINT/scores/VARIANT/SEED/scores.tsv of all points.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write.")],
) -> None:
    """Join the scores of a grid of settings into one table; each row begins with the settings of its point.

    \b
    Example:
      cvae-protein sweep results/sweep/*/scores/*/seed*/scores.tsv -o results/sweep.tsv

    `snakemake sweep` trains and scores the points of the configuration's `sweep`, then calls this command.
    """
    from ..runs.sweep import point_values
    from ..score.collect import collect_points

    collect_points({table: point_values(table.absolute().parents[3].name) for table in tables}, output)


SCORED = {"scores.tsv": SCORES.is_ours, "structures.tsv": table("id", "kind", "label", "length")}
EXTERNAL = {
    **SCORED,
    "samples.tsv": table("id", "file", "model", "chain"),
    "rejected.tsv": REJECTED.is_ours,
    "samples.h5": SAMPLES.is_ours,
}


def _scored(given: Mapping[str, Any]) -> dict[Path, Written]:
    """Outputs of `score`: a folder of tables, or one per set with their differences, and the page if requested."""
    own, output = given["output"], folder(EXTERNAL, ["samples.h5"])
    found = {given["report"]: PAGE} if given["report"] else {}
    if not given["reference"]:
        return found | {own: folder(SCORED)}
    if len(given["samples"] or ()) < 2:
        return found | {own: output}
    sets = {own / name: output for name in _set_names(given["samples"], given["variant"])}
    return found | sets | {own / "differences.tsv": Written(table("metric", "first", "second", "difference"))}


@app.command()
@writes(_scored)
def score(
    output: Output,
    store: Annotated[Path | None, typer.Option("--store", help="HDF5 store of domains written by `merge`.")] = None,
    splits: Annotated[Path | None, typer.Option("--splits", help="Table written by `split`.")] = None,
    samples: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder written by `sample`; with --reference: any folder or file of structures, repeatable."
        ),
    ] = None,
    variant: Annotated[str, typer.Option(help="Variant that drew the samples, to be recorded in the tables.")] = "",
    model_seed: Annotated[int, MODEL_SEED] = 0,
    audit: Annotated[
        Path | None,
        typer.Option(help="Table written by `leak-audit`, to score reconstructions by similarity to training too."),
    ] = None,
    features: Annotated[Path | None, typer.Option(help="Folder written by `embed` for the same files.")] = None,
    real_features: Annotated[Path | None, typer.Option(help="File written by `embed` for the store.")] = None,
    real: Annotated[bool, typer.Option("--real", help="Score real domains not used for training instead.")] = False,
    per_class: Annotated[
        int, typer.Option(help="With --real: real domains per class, as many as samples per class.", min=1)
    ] = 24,
    reference: Annotated[
        Path | None, typer.Option(help="Store with which samples of any origin are compared, instead of --store.")
    ] = None,
    targets: Annotated[
        Path | None, typer.Option(help="With --reference: table `id label` or `file label` of target classes.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            help="With --reference: files or folders to leave out, such as drafts or '*_old.pdb'; repeatable."
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(help="With --reference: take only these files or folders, even trajectories; repeatable."),
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="With --reference: folder of a trained fold classifier.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="With --reference: report page to write.")] = None,
    settings: Given = "",
) -> None:
    """Score samples and reconstructions, held-out real domains, or structures of any origin with the same metrics.

    \b
    Example:
      cvae-protein score --store domains.h5 --splits splits.tsv --samples samples/concat/seed0 --variant concat \\
          --features features/concat/seed0 --real-features features/real/domains.h5 -o scores/concat/seed0
      cvae-protein score --real --store domains.h5 --splits splits.tsv -o scores/real
      cvae-protein score --samples designs/ --reference domains.h5 --splits splits.tsv --targets targets.tsv \\
          --classifier models/classifier --report designs.html -o scores/designs
      cvae-protein score --samples ours/ --samples theirs/ --reference domains.h5 --report both.html -o scores/both

    With --reference, --samples is a store, or a folder or file of PDB, mmCIF or BinaryCIF (also .gz; each model and
    chain is a sample). If given several times, the sets are compared: each has its own folder below --output, and
    differences.tsv lists their differences with intervals. Without --splits, the whole reference counts as held out,
    and metrics that need training domains are undefined. Every row of scores.tsv states its unit and which direction
    is better.
    """
    from ..score.score import score_real, score_samples

    own = settings_of("score", settings)
    folders = samples or []
    if reference is not None:
        _refuse("--reference", store=store, audit=audit, features=features, real_features=real_features, real=real)
        if not folders:
            raise UsageError("score --reference: expected --samples, a folder or file of structures or a store")
        from ..api.score import set_embeddings
        from ..score.compare import write_differences
        from ..score.external import read_set, score_set, score_stand_ins, write_set

        names = _set_names(folders, variant)
        sets = {
            name: read_set(path, reference, splits, targets, exclude or (), include or ())
            for name, path in zip(names, folders, strict=True)
        }  # before the search, like everything that needs a file
        places = {name: output / name if len(names) > 1 else output for name in names}
        for name, given in sets.items():
            place = places[name]
            stored = write_set(given, place, name, model_seed)
            embeddings = (
                set_embeddings(given, classifier, reference, place / "samples.h5") if classifier and stored else None
            )
            score_set(given, place, name, model_seed, own, embeddings)
        if len(names) > 1:
            tables = {name: place / "structures.tsv" for name, place in places.items()}
            write_differences(tables, own, output / "differences.tsv")
        if report is not None:  # last, so that tables are kept if the page cannot be written
            with tempfile.TemporaryDirectory() as scratch:
                beside = Path(scratch) / "real"
                score_stand_ins(next(iter(sets.values())).domains, own, beside)
                _write_page(report, reference, splits, model_seed, places, beside)
        return
    _refuse("--store", targets=targets, exclude=exclude, include=include, classifier=classifier, report=report)
    if store is None or splits is None:
        raise UsageError("score: expected --store and --splits of a run, or --reference to score samples of any origin")
    if real:
        score_real(store, splits, own, output, real_features, per_class)
    elif len(folders) != 1 or not variant:
        raise UsageError("score: expected --samples, once, and --variant, or --real")
    else:
        score_samples(store, splits, folders[0], variant, model_seed, own, output, audit, features, real_features)


def _refuse(form: str, **others: object) -> None:
    """Raise `UserError` if an option was given that belongs to the other form of the command."""
    wrong = [f"--{name.replace('_', '-')}" for name, value in others.items() if value]
    if wrong:
        raise UsageError(
            f"score with {form}: expected none of {', '.join(wrong)}, which belong to the command's other form"
        )


DESIGNED = {"scores.tsv": SCORES.is_ours, "designs.tsv": table("id", "label", "length", "design_nll")}


@app.command()
@writes(output=folder(DESIGNED))
def designability(
    samples: Annotated[Path, typer.Option(help="Store of structures; with --splits, the store of the domains.")],
    output: Output,
    splits: Annotated[
        Path | None, typer.Option("--splits", help="Table of `split`, to assess its test domains.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of structures to assess, evenly spaced.")] = 100,
    variant: Annotated[str, typer.Option(help="Variant that drew the samples, to be recorded in the tables.")] = "real",
    model_seed: Annotated[int | None, MODEL_SEED] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps sequences and predictions; default: next to the output.")
    ] = None,
    settings: Given = "",
) -> None:
    """Design sequences for backbones, predict their structures, and report how many fold back.

    \b
    Example:
      cvae-protein designability --samples samples/concat/seed0/samples.h5 --variant concat --model-seed 0 -o designed
      cvae-protein designability --samples domains.h5 --splits splits.tsv \\
          --settings '{"predictor": "esmfold"}' -o designed-real

    Sequences are designed by ProteinMPNN (`make install-designer`). Without a predictor, only its likelihood and
    sequence recovery are reported, which do not measure designability. The same command resumes an interrupted run.
    """
    from ..config.load import section
    from ..score.designability import score_designs

    kept = cache or output.with_name(f"{output.name}.kept")
    own, scores = settings_of("design", settings), section("score", "{}")
    seed = "" if model_seed is None else str(model_seed)
    score_designs(samples, splits, limit, variant, seed, own, scores, output, kept)


@app.command()
@writes(output=SCORES)
def collect(
    tables: Annotated[list[Path], typer.Argument(help="Tables scores.tsv of all variants and seeds.")], output: Output
) -> None:
    """Join score tables into one.

    \b
    Example:
      cvae-protein collect scores/*/seed*/scores.tsv scores/real/scores.tsv -o scores.tsv
    """
    from ..score.collect import collect as run

    run(tables, output)


@app.command()
@writes(output=PAGE)
def report(
    results: Annotated[Path, typer.Option(help="Folder of a run.")],
    output: Output,
    variants: Annotated[str, typer.Option(help="Variants to show, separated by commas.")],
    seeds: Annotated[str, typer.Option(help="Seeds to show, separated by commas.")] = "0",
    settings: Given = "",
) -> None:
    """Write the report page of a run; it opens without a network.

    \b
    Example:
      cvae-protein report --results results --variants concat,pca --seeds 0,1 -o results/report.html
    """
    from ..report.page import write_report

    if not re.fullmatch(r"\d+(,\d+)*", seeds):
        raise UsageError(f"--seeds: expected whole numbers separated by commas, got {seeds!r}")
    _check_there(results, variants.split(","))
    write_report(results, settings_of("report", settings), variants.split(","), seeds.split(","), output)


def _check_there(results: Path, variants: list[str]) -> None:
    """Raise `UserError` if there is no run, or nothing of a variant in it."""
    if not results.is_dir():
        raise UserError(f"{results}: expected the folder of a run, found none")
    folders = [path for stage in ("models", "samples", "scores") for path in results.glob(f"{stage}/*")]
    there = {path.name for path in folders if path.is_dir()} - {"refiner", "classifier", "real"}
    if missing := [name for name in variants if name not in there]:
        known = ", ".join(sorted(there)) or "none"
        raise UserError(f"{results}: nothing of {', '.join(missing)} there; its variants are {known}")


@app.command()
@writes(output=SCORES)
def ensemble(
    samples: Annotated[Path, typer.Option(help="Store, file or folder with conformations of the domain.")],
    reference: Annotated[
        Path, typer.Option(help="Store with the domain and its other conformers; or a trajectory or file of models.")
    ],
    output: Output,
    domain: Annotated[
        str, typer.Option(help="Domain around which the samples were drawn; may be omitted if there is only one.")
    ] = "",
    topology: Annotated[Path | None, typer.Option(help="PDB, mmCIF or GRO file with the trajectory's atoms.")] = None,
    stride: Annotated[int, typer.Option(min=1, help="Take every n-th frame or model of the reference.")] = 1,
    variant: Annotated[
        str, typer.Option(help="Variant that drew the samples, to be recorded in the tables.")
    ] = "samples",
    model_seed: Annotated[int, MODEL_SEED] = 0,
    settings: Given = "",
) -> None:
    """Compare conformations drawn around one domain with its NMR models and other conformers in a store.

    \b
    Example:
      cvae-protein sample --model models/concat/seed0 --around 1ubqA00 --store domains.h5 -n 32 --temperature 1 -o y.h5
      cvae-protein ensemble --samples y.h5 --reference domains.h5 --domain 1ubqA00 -o ensemble.tsv

    \b
      cvae-protein ensemble --samples y.h5 --reference run.xtc --topology run.pdb --stride 10 -o ensemble.tsv

    Other conformers are domains of the same `group` or with nearly the same sequence, or the frames of a trajectory,
    the first of which stands for the domain itself. The table has the columns of scores.tsv.
    """
    from ..score.ensemble import score_ensemble

    own = settings_of("score", settings)
    with tempfile.TemporaryDirectory() as scratch:
        store = reference
        if reference.suffix.lower() not in (".h5", ".hdf5"):
            store = Path(scratch, "reference.h5")
            _store_frames(reference, topology, stride, store)
        score_ensemble(samples, store, domain or _sole(store, reference), variant, model_seed, own, output)


FLUCTUATIONS = {
    "rmsf.tsv": table("residue", "rmsf", "b_factor"),
    "mean.pdb": STRUCTURE_FILES[".pdb"].is_ours,
    "page.html": PAGE.is_ours,
}


@app.command()
@writes(output=folder(FLUCTUATIONS))
def rmsf(
    samples: Annotated[Path, typer.Option(help="Store, file or folder with conformations of one chain.")],
    output: Output,
) -> None:
    """Show which residues move: RMSF of conformations about their mean, as a table, as B-factors and on a page.

    \b
    Example:
      cvae-protein sample --model pretrained --around structures/1ubi.cif.gz -n 50 --spread 2 -o near.h5
      cvae-protein rmsf --samples near.h5 -o near/

    The folder contains rmsf.tsv (Å), mean.pdb (the mean structure with 8 pi^2 / 3 RMSF^2 as B-factors) and page.html,
    which shows both.
    """
    from ..report.fluctuations import write_fluctuations

    write_fluctuations(samples, output)


def _store_frames(source: Path, topology: Path | None, stride: int, store: Path) -> None:
    """Write a store from the frames of a trajectory, or from the models of structure files."""
    from ..config.settings import FeaturizeSettings, LabelSettings
    from ..core.files import read_table
    from ..dataset.featurize import featurize_folder, featurize_trajectory
    from ..io.trajectory import is_trajectory

    own, limits = FeaturizeSettings(stride=stride), LabelSettings(min_length=10, max_length=4096)
    rejected = store.with_suffix(".tsv")
    if is_trajectory(source) and topology is None:
        raise UserError(f"{source}: expected --topology, a PDB, mmCIF or GRO file of the trajectory's atoms")
    if topology is not None:
        count = featurize_trajectory(source, topology, own, limits, store, rejected)
    else:
        count = featurize_folder(source, own, limits, store, rejected)
    for row in read_table(rejected):
        say("ensemble", f"{row['domain_id']}: {row['detail']}")
    if not count:
        raise UserError(f"{source}: expected a protein chain with conformations, found none that can be used")


def _sole(store: Path, named: Path) -> str:
    """The only domain of a store."""
    from ..store.read import Store

    with Store(store) as opened:
        if len(opened.ids) == 1:
            return str(opened.ids[0])
        raise UserError(f"{named}: expected --domain, one of {', '.join(opened.ids[:20])}")


def _name(text: str) -> str:
    """`text` as the name of a variant."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:40].lstrip("._-") or "samples"


def _set_names(paths: Sequence[Path], variant: str) -> list[str]:
    """Unique names of the sets, from their folders or files; `--variant` can name only a single set."""
    if variant and len(paths) > 1:
        raise UsageError("score --variant: names one set; several are named by their folders")
    from ..io.read import unused

    names: list[str] = []
    for path in paths:
        name = _name(variant or path.resolve().name.split(".", 1)[0])
        names.append(unused(name, set(names) | set(REAL_ROWS), "samples"))
    return names


def _write_page(
    page: Path, reference: Path, splits: Path | None, seed: int, places: Mapping[str, Path], real: Path
) -> None:
    """The page of a run, made from a folder laid out like one, with only these sets and `real`."""
    from ..config.load import section
    from ..core.files import read_table, write_rejected
    from ..report.page import write_report
    from ..score.collect import collect

    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch)
        for stage in ("samples", "scores"):
            for name, place in places.items():
                (results / stage / name).mkdir(parents=True)
                (results / stage / name / f"seed{seed}").symlink_to(place.resolve(), target_is_directory=True)
        (results / "scores" / REAL).symlink_to(real.resolve(), target_is_directory=True)
        collect([*(place / "scores.tsv" for place in places.values()), real / "scores.tsv"], results / "scores.tsv")
        lost = [row for place in places.values() for row in read_table(place / "rejected.tsv")]
        write_rejected(results / "rejected.tsv", lost)
        differing = next(iter(places.values())).parent / "differences.tsv"
        if len(places) > 1:
            (results / differing.name).symlink_to(differing.resolve())
        beside = [reference.parent / "domains.tsv"] if (reference.parent / "domains.tsv").is_file() else []
        for file in (reference, *beside):
            (results / f"domains{file.suffix}").symlink_to(file.resolve())
        if splits is not None:
            (results / "splits.tsv").symlink_to(splits.resolve())
        try:
            write_report(results, section("report", "{}"), list(places), [str(seed)], page)
        except (UserError, OSError, KeyError, ValueError) as error:
            where = ", ".join(map(str, places.values()))
            raise UserError(f"{page}: the page cannot be written ({error}); the tables are in {where}") from error
    say("score", f"page {page}")


VERDICT_FLAGGED = 3


@app.command()
@writes(output=Written(table("variant", "seed", "verdict")))
def verdicts(
    scores: Annotated[Path, typer.Option("--scores", help="Table scores.tsv written by `score` or `collect`.")],
    output: Output,
    fail_on_verdict: Annotated[
        bool,
        typer.Option(
            "--fail-on-verdict", help="Exit with code 3 if one is flagged; those of pca and real do not count."
        ),
    ] = False,
    settings: Given = "",
) -> None:
    """Judge whether each model collapsed, leaks, ignores its label, repeats itself or copies its training data.

    \b
    Example:
      cvae-protein verdicts --scores scores.tsv -o verdicts.tsv
      cvae-protein verdicts --scores scores.tsv --settings '{"leak": 0.2}' --fail-on-verdict -o verdicts.tsv

    One row per variant, seed and verdict: its state (flagged, pass, unknown, not applicable), the evidence, the
    threshold and a remedy. The table is written before the exit code is decided. The rows `real` and `new_member` of
    the scores are the references of MODE-COLLAPSE and MEMORISATION, which are unknown without them.
    """
    from ..score.verdicts import write_verdicts

    flagged = write_verdicts(scores, settings_of("verdict", settings), output)
    if flagged and fail_on_verdict:
        said = ", ".join(f"{row['variant']} {row['seed']} {row['verdict']}" for row in flagged)
        say("verdicts", f"exit code {VERDICT_FLAGGED}, for these flagged: {said}")
        raise typer.Exit(VERDICT_FLAGGED)
