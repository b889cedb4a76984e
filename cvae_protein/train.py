"""Training: one loop for the refiner and for every variant; resumes where it was interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .files import atomic_path, owned, sha256, write_table
from .model import variants
from .model.batch import Batch, Domains, pick_device, read_split, training_batch
from .model.checkpoint import Training, save_tensors
from .model.cvae import CVAE, Output
from .model.degrade import crop_windows, degrade, fit_degrader
from .model.flow import CodeFlow
from .model.latent import AggregatePosterior, Gaussian
from .model.loop import Losses, Task, minimise
from .model.objective import further_terms
from .model.refiner import Refiner, random_rotations
from .model.spec import Spec
from .model.terms import TargetRate, WeightedTerm, evidence_terms, kl, reconstruction, squared_error
from .progress import say
from .settings import ModelSettings, RefineSettings, TrainSettings

CODES_A_STEP = 128
LINEAR_ROUNDS = 4  # times each domain, whole or cut, enters the principal components


def train(
    store: Path,
    splits: Path,
    variant: str,
    seed: int,
    output: Path,
    model: ModelSettings,
    train: TrainSettings,
    refine: RefineSettings,
    depth: int,
    checkpoint: Path | None = None,
) -> None:
    """Train `variant` (or `refiner`) and write `output` with spec.json, weights.safetensors and history.tsv.

    `checkpoint` is a file for resuming; it is removed at the end.
    """
    with owned(output):
        sides = read_split(store, splits)
        if variant in variants.names() and not variants.is_trained(variant):
            model = replace(model, inference_steps=0)  # a linear map's best code is known at once
        origin = {"store": sha256(store), "splits": sha256(splits), "train": asdict(train), "torch": torch.__version__}
        spec = make_spec(variant, seed, model, refine, depth, sides["train"], origin)
        torch.manual_seed(seed)  # dropout and initial weights
        run = _train_refiner if variant == "refiner" else _train_variant
        tensors, rows = run(spec, sides, train, checkpoint)
        with atomic_path(output) as folder:
            folder.mkdir()
            (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")
            save_tensors(folder / "weights.safetensors", tensors)
            write_table(folder / "history.tsv", list(rows[0]), rows)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)


def make_spec(
    variant: str,
    seed: int,
    model: ModelSettings,
    refine: RefineSettings,
    depth: int,
    domains: Domains,
    origin: dict,
) -> Spec:
    """The spec of a model of these domains: labels to `depth` levels and the lengths of each label's members."""
    lengths: dict[str, list[int]] = {}
    first = domains.first_conformations()
    for label, coords in zip(first.labels, first.coords, strict=True):
        parts = label.split(".") if label else []
        for level in range(1, min(depth, len(parts)) + 1):
            lengths.setdefault(".".join(parts[:level]), []).append(len(coords))
    vocabulary = tuple(tuple(sorted(label for label in lengths if label.count(".") == level)) for level in range(depth))
    members = {label: tuple(sorted(values)) for label, values in sorted(lengths.items())}
    return Spec(variant, seed, model, refine, vocabulary, members, origin)


def _train_variant(
    spec: Spec, sides: dict[str, Domains], settings: TrainSettings, checkpoint: Path | None
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Weights of a trained variant, its aggregate posterior beside it, and its history."""
    device = pick_device()
    module = variants.variant(spec.variant)
    model: CVAE = module.build(spec)
    domains = sides["train"]
    generator, rng = torch.Generator().manual_seed(spec.seed), np.random.default_rng(spec.seed)
    repeated = np.tile(np.arange(len(domains)), LINEAR_ROUNDS)
    augmented = training_batch(domains, spec, repeated, settings.crop, 0.0, rng)
    model.fit_linear(augmented, torch.from_numpy(domains.weights[repeated]).float())
    model.to(device)
    trained = variants.is_trained(spec.variant)
    if trained:
        terms = evidence_terms(settings) + further_terms(model, settings.terms, generator)
        if hasattr(module, "extra_terms"):
            terms += module.extra_terms(model, settings, generator)
        rows = _descend_terms(model, terms, sides, settings, generator, rng, checkpoint)
    else:
        rows = [{"step": 0, "seconds": 0.0} | observe(model.eval(), _whole(sides, spec, device))]
        seen = rows[0].get("validation_rmsd", math.nan)
        say(f"train {spec.variant}", f"fitted to {len(domains)} structures, validation RMSD {seen:.2f} Å")
    model.cpu()
    model.critics.clear()  # of the training, and no part of what it makes
    tensors = {f"cvae.{name}": value for name, value in model.state_dict().items()}
    return tensors | _fit_codes(model, domains, settings, with_flow=variants.has_flow(spec.variant)), rows


def _whole(sides: dict[str, Domains], spec: Spec, device: torch.device) -> dict[str, Batch]:
    """The domains of each split, whole and in their first conformation."""
    return {name: side.first_conformations().batch(spec).to(device) for name, side in sides.items()}


def _descend_terms(
    model: CVAE,
    terms: list[WeightedTerm],
    sides: dict[str, Domains],
    settings: TrainSettings,
    generator: torch.Generator,
    rng: np.random.Generator,
    checkpoint: Path | None,
) -> list[dict[str, float]]:
    """Train a variant on its terms and return its history."""
    spec, device = model.spec, next(model.parameters()).device
    sight = _whole(sides, spec, device)
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
    )
    controllers = [term.weight for term in terms if isinstance(term.weight, TargetRate)]
    task = Task(
        stage=f"train {spec.variant} seed {spec.seed}",
        module=model,
        losses=_variant_losses(model, terms, sides["train"], settings, generator, rng, device),
        watch=lambda: observe(model, sight),
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        identity={"spec": spec.to_json()},
        checkpoint=checkpoint,
    )
    return minimise(task, Training(model.named_parameters(), optimizer, generator, rng, controllers), settings)


def _fit_codes(model: CVAE, domains: Domains, settings: TrainSettings, with_flow: bool) -> dict[str, Tensor]:
    """Weights of the aggregate posterior of whole training domains: a Gaussian a class and, if asked for, a flow."""
    spec = model.spec
    generator, rng = torch.Generator().manual_seed(spec.seed), np.random.default_rng(spec.seed)
    posterior = model.infer_all(domains, spec.model.inference_steps)
    labels, lengths = domains.label_ids(spec), torch.from_numpy(domains.lengths)
    aggregate = AggregatePosterior(spec.model.latent, len(spec.vocabulary[0]))
    first = torch.tensor(sorted({name: row for row, name in reversed(list(enumerate(domains.ids)))}.values()))
    aggregate.fit(posterior.mean[first], posterior.logvar[first], labels[first, 0], lengths[first])
    tensors = {f"aggregate.{name}": value for name, value in aggregate.state_dict().items()}
    if not with_flow:
        return tensors
    flow = CodeFlow(spec)
    flow.whiten(posterior)
    chance = domains.weights / domains.weights.sum()

    def losses(step: int) -> Losses:
        rows = torch.from_numpy(rng.choice(len(domains), CODES_A_STEP, p=chance))
        z = Gaussian(posterior.mean[rows], posterior.logvar[rows]).sample(generator)
        told = hide_labels(labels[rows], settings.label_dropout, rng)
        return {"flow": (flow.loss(z, told, lengths[rows], generator), 1.0)}

    optimizer = torch.optim.AdamW(flow.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    stage = f"fit codes of {spec.variant} seed {spec.seed}"
    task = Task(stage, flow, losses, dict, settings.flow_steps, settings.learning_rate, {})
    minimise(task, Training(flow.named_parameters(), optimizer, generator, rng), settings)
    return tensors | {f"flow.{name}": value for name, value in flow.state_dict().items()}


def _variant_losses(
    model: CVAE,
    terms: list[WeightedTerm],
    domains: Domains,
    settings: TrainSettings,
    generator: torch.Generator,
    rng: np.random.Generator,
    device: torch.device,
) -> Callable[[int], Losses]:
    chance = domains.weights / domains.weights.sum()

    def losses(step: int) -> Losses:
        rows = rng.choice(len(domains), settings.batch_size, p=chance)
        batch = training_batch(domains, model.spec, rows, settings.crop, settings.jitter, rng)
        labels = hide_labels(batch.labels, settings.label_dropout, rng)
        batch = Batch(batch.coords, batch.mask, labels).to(device)
        output = model(batch, generator)
        found = {t.name: (t.term(batch, output), t.weight(step)) for t in terms}
        for t in terms:
            if t.observe is not None:
                t.observe(found[t.name][0].item())
        return found

    return losses


def hide_labels(labels: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Label ids (B, levels) with some unknown: at each level a `share` of structures loses it and all finer ones."""
    hidden = np.cumsum(rng.random(labels.shape) < share, axis=1) > 0
    return labels.masked_fill(torch.from_numpy(hidden), 0)


@torch.no_grad()
def observe(model: CVAE, sides: dict[str, Batch]) -> dict[str, float]:
    """Reconstruction and divergence in nats and RMSD of the smooth trace in Å by posterior means; active units.

    Columns of training domains have no prefix, those of the validation split the prefix `validation_`.
    """
    seen: dict[str, float] = {}
    for split, prefix in (("train", ""), ("validation", "validation_")):
        if split not in sides:
            continue
        batch = sides[split]
        coefficients, target = model.describe(batch)
        posterior = model.posterior(coefficients, batch.labels, batch.lengths)
        prior = model.prior(model.condition(batch.labels, batch.lengths))
        decoded = model.decode(posterior.mean, batch.labels, batch.mask)
        output = Output(posterior, prior, posterior.mean, target, decoded, model.log_sigma, model.blocks)
        name = prefix or "evaluated_"
        seen[f"{name}reconstruction"] = reconstruction(batch, output).item()
        seen[f"{name}kl"] = kl(batch, output).item()
        seen[f"{prefix}rmsd"] = (squared_error(batch, output) / batch.lengths).sqrt().mean().item()
        if not prefix and len(target) > 1:
            seen["active_units"] = (posterior.mean.var(0) > 0.01).sum().item()
    return seen


def _train_refiner(
    spec: Spec, sides: dict[str, Domains], settings: TrainSettings, checkpoint: Path | None
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Weights of the trained refiner and its history."""
    device = pick_device()
    refine, domains = spec.refine, sides["train"]
    generator, rng = torch.Generator().manual_seed(spec.seed), np.random.default_rng(spec.seed)
    net = Refiner(refine).to(device)
    linear = fit_degrader(domains, spec)
    chance = domains.weights * np.array([len(c) for c in domains.coords])
    chance /= chance.sum()

    def loss_of(side: Domains, rows: np.ndarray, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        batch = side.batch(spec, rows)
        ca, carbonyl, trace = degrade(batch, linear, spec.model.coefficients, rng, generator)
        turn = random_rotations(len(ca), generator)
        parts = (ca @ turn, carbonyl @ turn, trace @ turn)
        ca, carbonyl, trace, mask = crop_windows(*parts, batch.mask, refine.crop, rng)
        return net.loss(ca.to(device), carbonyl.to(device), trace.to(device), mask.to(device), generator)

    def losses(step: int) -> Losses:
        rows = rng.choice(len(domains), refine.batch_size, p=chance)
        return {"flow": (loss_of(domains, rows, rng, generator), 1.0)}

    def watch() -> dict[str, float]:
        side = sides.get("validation", domains)
        fixed = np.random.default_rng(0)
        rows = np.arange(len(side))[:64]
        return {"validation_flow": loss_of(side, rows, fixed, torch.Generator().manual_seed(0)).item()}

    optimizer = torch.optim.AdamW(net.parameters(), refine.learning_rate, weight_decay=0.01, betas=(0.9, 0.99))
    identity = {"spec": spec.to_json()}
    stage = f"train refiner seed {spec.seed}"
    task = Task(stage, net, losses, watch, refine.steps, refine.learning_rate, identity, checkpoint)
    rows = minimise(task, Training(net.named_parameters(), optimizer, generator, rng), settings)
    return {f"refiner.{name}": value for name, value in net.cpu().state_dict().items()}, rows
