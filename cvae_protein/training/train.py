"""Training of a variant: the training loop, then the priors fitted to its codes; resumes after an interruption."""

from __future__ import annotations

import math
import shutil
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config.settings import DecoderSettings, ModelSettings, RefineSettings, TrainSettings
from ..core import pretrained, variants
from ..core.errors import UserError
from ..core.files import atomic_path, owned, sha256, write_table
from ..core.labels import depth_of, lineage
from ..core.progress import say
from ..model import registry
from ..model.batch import Batch, DomainSet, LengthBuckets, crop, hide_labels, read_split, training_batch
from ..model.codes import FILE as CODES
from ..model.codes import CodeSet, write_codes
from ..model.cvae import CVAE
from ..model.device import name_of, pick_device
from ..model.losses.evidence_bound import TargetRate, WeightedTerm, evidence_terms
from ..model.losses.objective import further_terms
from ..model.spec import Spec, save_tensors
from .checkpoint import TrainingState
from .decoder import train_decoder
from .distributed import Ranks, join_processes, shared_noise
from .loop import Losses, Task, minimise
from .prior import fit_priors
from .refiner import train_refiner
from .second_level import MOST_LINEAR
from .start import Start, begin, tell_likeness
from .validation import eval_batches, selection_score, validate

SECOND_LEVELS = {"refiner": train_refiner, "decoder": train_decoder}
RISES = ("ramp", "cosine")  # kinds of a schedule
LINEAR_ROUNDS = 4  # times each domain, whole or cropped, enters the principal components


def train(
    store: Path,
    splits: Path,
    variant: str,
    seed: int,
    output: Path,
    model: ModelSettings,
    train: TrainSettings,
    refine: RefineSettings | DecoderSettings,
    depth: int,
    checkpoint: Path | None = None,
    trained: Path | None = None,
) -> None:
    """Train `variant`, or a second level (`refiner`, `decoder`) with its settings `refine`, and write `output`.

    The folder `output` gets spec.json, weights.safetensors, history.tsv and, for a variant, the codes of training and
    validation domains, which take long to infer and are needed again.

    The name `pretrained` stands for the trained model of the package, which is copied to be evaluated alongside the
    others.

    `checkpoint` is a file for resuming; it is removed at the end. If this variant is a view of another, `trained` is
    the folder of that one with the same seed, whose weights it takes; without it they are retrained to equal values.
    """
    with join_processes() as ranks, owned(output) if ranks.first else nullcontext():
        if max(train.batch_size, refine.batch_size) < ranks.count:
            raise UserError(f"train: {ranks.count} processes expect as many structures a step, or more")
        if trained is not None:
            if ranks.first:
                _take_weights(variant, seed, trained, store, splits, output)
            return
        by_split = read_split(store, splits, train.balance == "superfamilies")
        if variant == variants.PRETRAINED:
            if ranks.first:
                _copy_pretrained(by_split, output)
            return
        if not variants.find(variant).trained:
            model = replace(model, inference_steps=0)  # a linear map's best code needs no iterations
        start = refine.start if variant in SECOND_LEVELS else train.start if variants.find(variant).started else ""
        if pretrained.is_named(start) and variant != "refiner":  # the refiner uses no labels
            by_split, depth = tell_likeness(by_split, depth, f"train {variant} seed {seed}")
        origin = {"store": sha256(store), "splits": sha256(splits), "train": _facts(train), "torch": torch.__version__}
        spec = make_spec(variant, seed, model, refine, depth, by_split["train"], origin)
        if variants.find(variant).started and not start:
            raise UserError(
                f"train.start: expected `pretrained` or the folder of a trained model for {variant}, got ''"
            )
        begun: Start | None = None
        if start:
            spec, begun = begin(spec, start)
            steps = spec.refine.steps if variant in SECOND_LEVELS else train.steps
            how = f"trained on for {steps} steps; with an empty `start` a new one would be" if steps else "as it is"
            say(f"train {variant} seed {seed}", f"begins as {spec.origin['start']['name']}, {how}")
        torch.manual_seed(seed)  # dropout and initial weights
        device = pick_device(f"train {variant} seed {seed}")
        given = (spec, by_split, train, ranks, checkpoint, device, begun)
        codes: dict[str, CodeSet] | None = None
        if variant in SECOND_LEVELS:
            tensors, rows = SECOND_LEVELS[variant](*given)
        else:
            tensors, rows, codes = _train_variant(*given)
        if not ranks.first:
            return
        write_model(output, replace(spec, origin=spec.origin | {"device": name_of(device)}), tensors, rows, codes)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
            _beside(checkpoint).unlink(missing_ok=True)


def _beside(checkpoint: Path) -> Path:
    """The file beside a checkpoint in which a trained variant's codes are kept until its priors are fitted."""
    return checkpoint.with_suffix(".codes.safetensors")


def write_model(
    output: Path,
    spec: Spec,
    tensors: dict[str, Tensor],
    rows: list[dict[str, float]],
    codes: dict[str, CodeSet] | None = None,
) -> None:
    """Write the folder of a trained model: spec.json, weights.safetensors, history.tsv and, for a variant, codes."""
    with atomic_path(output) as folder:
        folder.mkdir()
        (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")
        save_tensors(folder / "weights.safetensors", tensors)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        write_table(folder / "history.tsv", columns, [dict.fromkeys(columns) | row for row in rows])
        if codes is not None:
            write_codes(folder / CODES, codes)


def _take_weights(variant: str, seed: int, trained: Path, store: Path, splits: Path, output: Path) -> None:
    """Write a view's folder: weights and history of the variant whose weights it shares, under its own name."""
    record, spec = variants.find(variant), Spec.read(trained / "spec.json")
    if not record.view:
        raise UserError(f"train --trained: {variant} is no view of another variant; it has weights of its own")
    if (spec.variant, spec.seed) != (record.shares, seed):
        given = f"{spec.variant} of seed {spec.seed}"
        raise UserError(f"train --trained: expected {record.shares} of seed {seed} in {trained}, got {given}")
    for name, path in (("store", store), ("splits", splits)):
        if spec.origin.get(name) != sha256(path):
            say(f"train {variant} seed {seed}", f"{trained}: was trained by another file than {path}")
    with atomic_path(output) as folder:
        folder.mkdir()
        (folder / "spec.json").write_text(replace(spec, variant=variant).to_json(), encoding="utf-8")
        for name in ("weights.safetensors", "history.tsv", CODES):
            if (trained / name).is_file() or name != CODES:
                shutil.copyfile(trained / name, folder / name)
    say(f"train {variant} seed {seed}", f"shares the weights of {trained}")


def _copy_pretrained(by_split: dict[str, DomainSet], output: Path) -> None:
    """Write the package's model as a trained model's folder; its history is its validation on this run's domains."""
    source = pretrained.package_model() / "model"
    device = pick_device(f"train {variants.PRETRAINED}")
    model = registry.load_model(source).to(device)
    rows = [{"step": 0, "seconds": 0.0} | validate(model, eval_batches(by_split, model.spec, device))]
    with atomic_path(output) as folder:
        folder.mkdir()
        for name in ("spec.json", "weights.safetensors"):
            shutil.copyfile(source / name, folder / name)
        write_table(folder / "history.tsv", list(rows[0]), rows)


def _facts(settings: TrainSettings) -> dict:
    """The settings on which the result depends; the starting weights are recorded separately."""
    facts = asdict(settings)
    del facts["processes"], facts["checkpoint_seconds"], facts["start"]
    return facts


def make_spec(
    variant: str,
    seed: int,
    model: ModelSettings,
    refine: RefineSettings | DecoderSettings,
    depth: int,
    domains: DomainSet,
    origin: dict,
) -> Spec:
    """The spec of a model of these domains: labels to `depth` levels and the lengths of each label's members."""
    lengths: dict[str, list[int]] = {}
    first = domains.first_conformations()
    for label, coords in zip(first.labels, first.coords, strict=True):
        for fold in lineage(label)[:depth]:
            lengths.setdefault(fold, []).append(len(coords))
    levels = range(1, depth + 1)
    vocabulary = tuple(tuple(sorted(fold for fold in lengths if depth_of(fold) == level)) for level in levels)
    members = {label: tuple(sorted(values)) for label, values in sorted(lengths.items())}
    return Spec(variant, seed, model, refine, vocabulary, members, origin)


def _train_variant(
    spec: Spec,
    by_split: dict[str, DomainSet],
    settings: TrainSettings,
    ranks: Ranks,
    checkpoint: Path | None,
    device: torch.device,
    begun: Start | None = None,
) -> tuple[dict[str, Tensor], list[dict[str, float]], dict[str, CodeSet]]:
    """Train a variant from `begun`, if any; returns its weights and those of its priors, its history and codes."""
    module = registry.variant(spec.variant)
    model: CVAE = module.build(spec)
    domains = by_split["train"]
    generator, rng = torch.Generator().manual_seed(spec.seed), np.random.default_rng(spec.seed)
    if begun:
        begun.load(model, "cvae.")
        # A rising weight protects untrained codes from collapse; trained ones no longer need it.
        settings = (
            replace(settings, kl=replace(settings.kl, kind="constant")) if settings.kl.kind in RISES else settings
        )
    else:
        _fit_linear(model, by_split, settings, rng)
    model.to(device)
    if variants.find(spec.variant).trained:
        terms = evidence_terms(settings) + further_terms(model, settings.terms, generator)
        if hasattr(module, "extra_terms"):
            terms += module.extra_terms(model, settings, generator)
        rows = minimise(*variant_task(model, terms, by_split, settings, generator, rng, ranks, checkpoint), settings)
    else:
        rows = [{"step": 0, "seconds": 0.0} | validate(model.eval(), eval_batches(by_split, spec, device))]
        seen = rows[0].get("validation_rmsd", math.nan)
        say(f"train {spec.variant}", f"fitted to {len(domains)} structures, validation RMSD {seen:.2f} Å")
    model.cpu()
    model.critics.clear()  # used in training only, not part of the trained model
    tensors = {f"cvae.{name}": value for name, value in model.state_dict().items()}
    inferred = _beside(checkpoint) if checkpoint and ranks.first else None
    priors, summary, codes = fit_priors(model, by_split, settings, begun, inferred)
    next((row for row in rows if row.get("best")), rows[-1]).update(summary)
    return tensors | priors, rows, codes


def _fit_linear(model: CVAE, by_split: dict[str, DomainSet], settings: TrainSettings, rng: np.random.Generator) -> None:
    """Initialise an untrained model with the principal components of whole and cropped training domains."""
    spec, domains = model.spec, by_split["train"]
    pool = domains.with_crops_of(by_split.get("crops"))
    repeated = np.tile(np.arange(len(pool)), LINEAR_ROUNDS)
    if len(repeated) > MOST_LINEAR:
        repeated = rng.choice(repeated, MOST_LINEAR, replace=False)
    crops = crop(pool.lengths[repeated], settings.crop, rng, int(domains.lengths.max()))
    augmented = training_batch(pool, spec, np.stack([repeated, *crops], axis=1), 0.0, rng)
    model.fit_linear(augmented, torch.from_numpy(pool.weights[repeated]).float())
    model.fit_components(domains.batch(spec), torch.from_numpy(domains.weights).float())


def variant_task(
    model: CVAE,
    terms: list[WeightedTerm],
    by_split: dict[str, DomainSet],
    settings: TrainSettings,
    generator: torch.Generator,
    rng: np.random.Generator,
    ranks: Ranks,
    checkpoint: Path | None,
) -> tuple[Task, TrainingState]:
    """The task of training a variant on its loss terms, and the initial training state."""
    spec, device = model.spec, next(model.parameters()).device
    longest, domains = int(by_split["train"].lengths.max()), by_split["train"].with_crops_of(by_split.get("crops"))
    evaluation = eval_batches(by_split, spec, device)
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99), fused=True
    )
    controllers = [term.weight for term in terms if isinstance(term.weight, TargetRate)]
    # Terms computed over a batch as a whole need it to be a sample of all lengths.
    pool = 1 if settings.free_bits or settings.terms.compare_structures else settings.bucket
    chance = domains.weights / domains.weights.sum()
    buckets = LengthBuckets(domains.lengths, chance, settings.batch_size, settings.crop, pool, rng, longest)

    def losses(step: int, ranks: Ranks) -> tuple[Losses, float]:
        whole = training_batch(domains, spec, buckets.draw(), settings.jitter, rng)
        labels = hide_labels(whole.labels, settings.label_dropout, rng)
        batch = Batch(whole.coords, whole.mask, labels).part(ranks.rows).to(device)
        with shared_noise(ranks, generator, len(whole.mask)):
            output = model(batch, generator)
            found = {t.name: (t.term(batch, output), t.weight(step)) for t in terms}
        return found, len(batch.mask) / len(whole.mask)

    def observe(found: dict[str, float]) -> None:
        for t in terms:
            if isinstance(t.weight, TargetRate):
                t.weight.observe(found[t.name])

    task = Task(
        stage=f"train {spec.variant} seed {spec.seed}",
        module=model,
        losses=losses,
        observe=observe,
        watch=lambda: validate(model, evaluation),
        score=selection_score(settings, evaluation),
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        identity={"spec": spec.to_json()},
        seed=spec.seed,
        checkpoint=checkpoint,
        ranks=ranks,
        structures=settings.batch_size,
        started="start" in spec.origin,
    )
    return task, TrainingState(model.named_parameters(), optimizer, generator, rng, controllers, buckets)
