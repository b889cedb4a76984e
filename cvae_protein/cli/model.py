"""Commands that train models and sample from them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config.settings import SampleSettings
from ..core.errors import StructureError, UserError
from ..core.programs import TORCHRUN
from ..core.progress import say
from ..core.signals import heeded
from .options import (
    Batch,
    Checkpoint,
    DecoderGiven,
    Depth,
    Given,
    ModelGiven,
    Output,
    RefineGiven,
    Seed,
    Splits,
    Stored,
    UsageError,
    app,
    batch_of,
    settings_of,
)
from .outputs import (
    CHECKPOINT,
    EACH,
    EACH_FILES,
    SAMPLES,
    STRUCTURE_FILES,
    folder,
    hdf5,
    json_with,
    recorded,
    table,
    tensors,
    writes,
)
from .outputs import Output as Written

if TYPE_CHECKING:
    from ..model.batch import DomainSet

CODES = "codes.safetensors"  # for trained variants only; the package's model and second levels have none
MODEL_FILES = {
    "spec.json": json_with("variant"),
    "weights.safetensors": tensors,
    "history.tsv": table("step", "seconds"),
    CODES: tensors,
}
DRAWN = {
    **{f"{name}.h5": hdf5("kind", "samples") for name in ("samples", "raw")},
    **{f"{name}.h5": hdf5("kind", "reconstructions") for name in ("reconstructions", "swapped")},
}
DEFAULT = SampleSettings()
STEP = folder({**DRAWN, "latents.h5": hdf5("logvar"), **EACH_FILES}, optional=["*.pdb", "*.cif"])
BATCH = folder({name: DRAWN[name] for name in ("samples.h5", "raw.h5")})
STRUCTURES = {".h5": SAMPLES, **STRUCTURE_FILES}


@app.command()
@writes(output=folder(MODEL_FILES, optional=[CODES]), checkpoint=CHECKPOINT)
def train(
    variant: Annotated[str, typer.Option(help="`refiner`, `decoder`, or a variant, such as concat.")],
    store: Stored,
    splits: Splits,
    output: Output,
    seed: Seed = 0,
    depth: Depth = 1,
    checkpoint: Checkpoint = None,
    trained: Annotated[
        Path | None,
        typer.Option(help="For a variant that is a view of another: folder of that one, whose weights it takes."),
    ] = None,
    settings: Given = "",
    model_settings: ModelGiven = "",
    refine_settings: RefineGiven = "",
    decoder_settings: DecoderGiven = "",
) -> None:
    """Train one model; its folder contains spec.json, weights.safetensors, history.tsv and codes.safetensors.

    \b
    Example:
      cvae-protein train --variant concat --store domains.h5 --splits splits.tsv \\
          --settings '{"steps": 4000, "learning_rate": 0.001}' -o models/concat/seed0

    Loss terms are in nats per structure, RMSD in Å. With --checkpoint, the same command resumes after an interruption.
    """
    from ..training.gpu_slots import take

    if TORCHRUN not in os.environ:  # otherwise `launch` has assigned the GPUs of all processes
        take(1)
    from ..training.train import train as run

    own, model = settings_of("train", settings), settings_of("model", model_settings, settings)
    section, given = ("decoder", decoder_settings) if variant == "decoder" else ("refine", refine_settings)
    refine = settings_of(section, given, settings)
    run(store, splits, variant, seed, output, model, own, refine, depth, checkpoint=checkpoint, trained=trained)


@app.command(context_settings={"ignore_unknown_options": True})
def launch(
    processes: Annotated[int, typer.Option(min=1, help="Number of processes, each with its own GPU if there are any.")],
    command: Annotated[
        list[str], typer.Argument(help="Command that each process runs, such as `cvae-protein train ...`.")
    ],
) -> None:
    """Run a training as several processes on this machine, which share every batch (torchrun).

    \b
    Example:
      cvae-protein launch --processes 4 cvae-protein train --variant concat --store domains.h5 --splits splits.tsv -o x

    Each process takes a GPU that is not in use by another training of yours, unless CUDA_VISIBLE_DEVICES is set.
    """
    from ..training.gpu_slots import take

    beside = Path(sys.executable).with_name("torchrun")
    program = str(beside) if beside.is_file() else shutil.which("torchrun")
    if program is None:
        raise UserError("launch: expected the program torchrun, which comes with torch; it is not on PATH")
    take(processes, inherited=True)
    handed_on = (signal.SIGINT, signal.SIGQUIT, *heeded())
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", ",".join(each.name for each in handed_on))  # read by torchrun
    # Standalone means this machine only, so that its host name need not resolve.
    os.execv(
        program,
        [program, "--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}", "--no-python", *command],
    )


def _drawn(given: Mapping[str, Any]) -> dict[Path, Written]:
    """Outputs of `sample`: the folder of a run's step, or a file (for XTC, also its topology)."""
    output = given["output"]
    if not (given["fold"] or given["around"]):
        return {output: STEP if given["splits"] else BATCH}
    if not output.suffix:
        return {output: EACH}
    files = [output, output.with_suffix(".pdb")] if output.suffix == ".xtc" else [output]
    return {path: STRUCTURES.get(path.suffix, Written(recorded)) for path in files}


@app.command()
@writes(_drawn)
def sample(
    model: Annotated[str, typer.Option(help="Folder of a trained model, or `pretrained`, the model of the package.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder, for one PDB file per sample and a table; or an .h5, .pdb, .cif or .xtc file.",
        ),
    ],
    seed: Seed = 0,
    refiner: Annotated[
        Path | None,
        typer.Option(help="Folder of a second level, or `refiner` or `decoder` for the one that belongs to the model."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Store of domains, for --around or to reconstruct held-out ones.")
    ] = None,
    splits: Annotated[Path | None, typer.Option(help="Table written by `split`.")] = None,
    fold: Annotated[
        list[str] | None, typer.Option(help="Fold class to sample, one that the model knows, such as 2; repeatable.")
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(
            metavar="L|LOW-HIGH",
            help="Residues per sample: a number (repeatable), or a range to draw from.",
            show_default="drawn from the lengths of the fold's training domains",
        ),
    ] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Allow lengths that no training domain of the fold has.")
    ] = False,
    valid: Annotated[
        bool,
        typer.Option("--valid", help="With --fold: draw until --number are physically valid, and report the yield."),
    ] = False,
    number: Annotated[
        int | None,
        typer.Option("--number", "-n", min=1, help="Samples per fold class.", show_default=str(DEFAULT.per_class)),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the latent draw, relative to the prior.", show_default=str(DEFAULT.temperature)
        ),
    ] = None,
    around: Annotated[
        str | None,
        typer.Option(help="Structure file, or domain of --store, around which to sample; --fold changes its label."),
    ] = None,
    spread: Annotated[
        float | None,
        typer.Option(help="With --around: target mean RMSD to the structure in Å, instead of --temperature."),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Leading dimensions of each code to keep; the second level samples the rest.",
            show_default="all",
        ),
    ] = None,
    noise_kept: Annotated[
        float,
        typer.Option(
            "--keep-noise",
            min=0,
            max=1,
            help="With --around and a decoder: fraction of the decoder's noise that is taken from the structure.",
        ),
    ] = 0.0,
    guidance: Annotated[
        float | None,
        typer.Option(help="Classifier-free guidance by the label; 1 = as trained.", show_default=str(DEFAULT.guidance)),
    ] = None,
    depth: Annotated[
        int,
        typer.Option(
            min=1, max=4, help="With --splits: label levels to sample by, at most those that the model knows."
        ),
    ] = 4,
    batch: Batch = "0/1",
    drawn: Annotated[
        list[Path] | None,
        typer.Option(help="With --splits: folder of a batch of these samples; repeat for all, in order."),
    ] = None,
    format: Annotated[
        str, typer.Option(help="Format of the files in a folder: pdb, or cif, for coordinates of any size.")
    ] = "pdb",
    settings: Given = "",
) -> None:
    """Sample backbones: of chosen fold classes, around a domain, or as a step of a run, with reconstructions and codes.

    \b
    Example:
      cvae-protein sample --model pretrained --fold 2.60.40 --length 110 -n 20 -o drawn/
      cvae-protein sample --model pretrained --fold 1 --fold 3 --length 80-120 -n 4 --valid -o valid/
      cvae-protein sample --model models/concat/seed0 --fold 2 --length 110 -n 20 --temperature 0.8 --seed 1 -o x.pdb
      cvae-protein sample --model pretrained --around structures/1ubi.cif.gz -n 50 --spread 2 -o y.xtc
      cvae-protein sample --model models/concat/seed0 --around 1ubqA00 --store domains.h5 -n 50 --temperature 1 -o y.xtc
      cvae-protein sample --model models/concat/seed0 --around 1ubqA00 --store domains.h5 --fold 1 --keep 16 -o z.pdb
      cvae-protein sample --model models/concat/seed0 --store domains.h5 --splits splits.tsv -o samples/concat/seed0
      cvae-protein sample --model pretrained --fold 2 -n 10000 --batch 3/20 -o part3.h5

    Lengths are in residues, coordinates in Å. Batches that `merge` has joined equal the samples of one whole draw.
    Without --fold, --around and --splits, a batch belongs to a step of a run: a folder to be given as --drawn.
    """
    from ..model.registry import resolve
    from ..sampling.sample import parse_lengths

    given = {"per_class": number, "temperature": temperature, "guidance": guidance, "numbers": keep}
    merged = asdict(settings_of("sample", settings)) | {key: value for key, value in given.items() if value is not None}
    own = settings_of("sample", json.dumps(merged))
    folder, refiner = resolve(Path(model), refiner)
    if around and fold and len(fold) > 1:
        raise UsageError(f"sample --around {around}: expected one --fold or none, got {len(fold)}")
    of_folds = {"length": length, "extrapolate": extrapolate, "valid": valid}
    of_around = {"spread": spread, "keep-noise": noise_kept}
    if around:
        _refuse("--around", **of_folds, drawn=drawn)
    elif fold:
        _refuse("--fold", **of_around, store=store, splits=splits, drawn=drawn)
    else:
        _refuse("neither --fold nor --around", **of_around, **of_folds, drawn=None if splits else drawn)
    lengths = parse_lengths(length) if length else None
    _check_form(output, format, len(set(lengths)) == 1 if lengths else bool(around), fold or around)
    draw = _Draw(folder, refiner, own, seed, output, format, batch_of(batch))
    if around:
        if spread is not None and (temperature is not None or keep is not None):
            raise UsageError("sample --spread: expected no --temperature and no --keep, which are of codes drawn anew")
        _sample_around(draw, around, store, splits, fold[0] if fold else None, spread, noise_kept)
    elif fold:
        (_sample_valid if valid else _sample_folds)(draw, fold, lengths, extrapolate)
    elif store is not None and splits is not None:
        _sample_heldout(draw, store, splits, depth, drawn or ())
    elif store is None and splits is None and draw.share != WHOLE:
        _sample_batch(draw, depth)
    else:
        raise UsageError("sample: expected --fold, --around, or --store and --splits, or a --batch of the last")


WHOLE = (0, 1)  # the share that is the whole draw


@dataclass(frozen=True)
class _Draw:
    """Arguments common to all forms of `sample`; `share` is counted from 0, as `--batch`."""

    model: Path
    refiner: Path
    settings: SampleSettings
    seed: int
    output: Path
    format: str
    share: tuple[int, int]

    @property
    def parts(self) -> Path:
        """Folder for finished parts of an unfinished draw."""
        return self.output.with_name(f".{self.output.name}.parts")


def _sample_folds(draw: _Draw, folds: Sequence[str], lengths: Sequence[int] | None, extrapolate: bool) -> None:
    """Draw samples of fold classes."""
    from ..sampling.sample import sample_folds

    ask = partial(sample_folds, draw.model, draw.refiner, folds, lengths, draw.settings, draw.seed)
    _write(draw, partial(ask, extrapolate=extrapolate, batch=draw.share, parts=draw.parts))


def _sample_valid(draw: _Draw, folds: Sequence[str], lengths: Sequence[int] | None, extrapolate: bool) -> None:
    """Draw a given number of physically valid samples of fold classes."""
    from ..sampling.sample import sample_valid
    from ..score.metrics.physical_validity import is_valid

    if draw.share != WHOLE:
        raise UsageError("sample --valid: expected no --batch, since how many have to be drawn is not known")
    ask = partial(sample_valid, draw.model, draw.refiner, folds, lengths, draw.settings, draw.seed)
    _write(draw, partial(ask, extrapolate=extrapolate, is_valid=is_valid))


def _sample_around(
    draw: _Draw,
    around: str,
    store: Path | None,
    splits: Path | None,
    fold: str | None,
    spread: float | None,
    noise_kept: float,
) -> None:
    """Draw conformations around a structure: a file, or a domain of a store."""
    from ..model.batch import read_domain
    from ..sampling.sample import sample_around

    domain = _first_chain(Path(around)) if store is None else read_domain(store, splits, around)
    ask = partial(sample_around, draw.model, draw.refiner, domain, draw.settings, draw.seed)
    chosen = partial(ask, fold=fold, spread=spread, noise_kept=noise_kept)
    _write(draw, partial(chosen, batch=draw.share, parts=draw.parts))


def _sample_heldout(draw: _Draw, store: Path, splits: Path, depth: int, drawn: Sequence[Path]) -> None:
    """The step of a run: stores of the learning side and one PDB file per sample; either all or none."""
    from ..core.files import atomic_path
    from ..io.write import write_each
    from ..sampling.sample import sample_heldout
    from ..store.read import each_with_facts

    if draw.share != WHOLE:
        raise UsageError("sample --batch: expected no --store and --splits, which are for the step as a whole")
    with atomic_path(draw.output) as folder:
        sample_heldout(
            draw.model, draw.refiner, store, splits, draw.settings, draw.seed, folder, depth, drawn, draw.parts
        )
        write_each(each_with_facts(folder / "samples.h5"), folder)


def _sample_batch(draw: _Draw, depth: int) -> None:
    """Draw a share of the samples of a run's step, to be joined by `_sample_heldout`."""
    from ..sampling.sample import sample_batch

    sample_batch(draw.model, draw.refiner, draw.settings, draw.seed, draw.output, depth, draw.share)


def _first_chain(path: Path) -> DomainSet:
    """The first chain of a structure file, in its first model, as an unlabelled domain."""
    from ..io.read import extract_domain, read_structure
    from ..model.batch import one_domain

    if not path.is_file():
        raise UserError(f"sample --around {path}: expected a structure file, or --store, which holds the domain")
    try:
        structure = read_structure(path)
        backbone = extract_domain(structure, structure.chains[0], "", path.name.split(".")[0])
    except (StructureError, IndexError) as error:
        raise UserError(f"{path}: expected a structure with a protein chain, {error}") from error
    if len(structure.chains) > 1:
        say("sample", f"{path}: chain {structure.chains[0]} of {', '.join(structure.chains)} is taken")
    return one_domain(backbone.coords[0], backbone.id, "")


def _refuse(form: str, **others: object) -> None:
    """Raise `UserError` if an option was given that this form of `sample` does not use."""
    if unused := [f"--{name}" for name, value in others.items() if value]:
        raise UsageError(f"sample with {form}: expected no {' and no '.join(unused)}, which it does not use")


def _check_form(output: Path, format: str, one_length: bool, chosen: object) -> None:
    """Raise `UsageError`, before anything is drawn, if the requested file cannot hold the samples."""
    if output.suffix and format != "pdb":
        raise UsageError("sample --format: expected a folder as --output; a file says by its suffix what it is")
    if chosen and output.suffix in (".pdb", ".cif", ".xtc") and not one_length:
        raise UsageError(
            f"sample -o {output}: a file holds samples of one length; give one --length, or a folder such as "
            f"-o {output.with_suffix('')}/ for a file a sample"
        )


def _write(draw: _Draw, ask: Callable[[Path], None]) -> None:
    """Write the samples that `ask` puts into a store: as that store, as one structure file, or as a folder."""
    if draw.output.suffix == ".h5":
        ask(draw.output)
        return
    from ..core.files import atomic_path
    from ..io.write import check_format, export, write_each
    from ..store.read import each_with_facts, read_backbones

    if draw.output.suffix:
        check_format(draw.output)
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch) / "samples.h5"
        ask(drawn)
        if draw.output.suffix:
            export(read_backbones(drawn), draw.output)
            return
        with atomic_path(draw.output) as made:
            write_each(each_with_facts(drawn), made, draw.format)


CLASSIFIER_FILES = {
    "spec.json": json_with("temperatures"),
    "weights.safetensors": tensors,
    "history.tsv": table("step", "seconds"),
    "classifier.tsv": table("split", "level", "labels"),
    "confusion.tsv": table("split", "level", "label"),
}


@app.command()
@writes(output=folder(CLASSIFIER_FILES), checkpoint=CHECKPOINT)
def train_classifier(
    store: Stored,
    splits: Splits,
    output: Output,
    checkpoint: Checkpoint = None,
    settings: Given = "",
) -> None:
    """Train the fold classifier, which predicts class, architecture and topology, on the training split only.

    \b
    Example:
      cvae-protein train-classifier --store domains.h5 --splits splits.tsv -o models/classifier

    The folder contains spec.json, weights.safetensors, history.tsv, classifier.tsv (held-out accuracy and calibration)
    and confusion.tsv.
    """
    from ..training.fold_classifier import train_classifier as run

    run(store, splits, output, settings_of("classifier", settings), checkpoint)


def _embedded(given: Mapping[str, Any]) -> dict[Path, Written]:
    """Output: a folder with one file for each store."""
    return {given["output"]: folder({path.name: hdf5("feature") for path in given["stores"]})}


@app.command()
@writes(_embedded)
def embed(
    stores: Annotated[list[Path], typer.Argument(help="Stores of structures (.h5): domains or samples.")],
    output: Output,
    classifier: Annotated[Path, typer.Option(help="Folder of a trained fold classifier.")],
) -> None:
    """Run the fold classifier on structures; `score` uses its features and probabilities to compare sets.

    \b
    Example:
      cvae-protein embed domains.h5 --classifier models/classifier -o features/real
      cvae-protein embed samples/concat/seed0/samples.h5 samples/concat/seed0/raw.h5 --classifier models/classifier -o f

    The folder contains one file per store, with the same name.
    """
    from ..model.fold_classifier import embed as run

    run(classifier, stores, output)
