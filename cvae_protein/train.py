"""Training: one loop for the refiner and for every variant; resumes where it was interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .files import atomic_path, sha256, write_table
from .model import variants
from .model.batch import Batch, Domains, read_split, training_batch
from .model.checkpoint import Training, save_tensors
from .model.cvae import CVAE, LinearMap, Output
from .model.latent import AggregatePosterior
from .model.refiner import Refiner, random_rotations
from .model.spec import Spec
from .model.terms import WeightedTerm, evidence_terms, kl, reconstruction, squared_error
from .model.trace import decode_trace, encode_trace
from .progress import Progress, say
from .settings import ModelSettings, RefineSettings, TrainSettings

WARM_UP = 100  # steps
GRADIENT_NORM = 1.0
Losses = dict[str, tuple[Tensor, float]]  # name -> value in nats a structure, weight


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
    sides = read_split(store, splits)
    origin = {"store": sha256(store), "splits": sha256(splits), "train": asdict(train), "torch": torch.__version__}
    spec = make_spec(variant, seed, model, refine, depth, sides["train"], origin)
    torch.manual_seed(seed)  # dropout and initial weights
    if variant == "refiner":
        tensors, rows = _train_refiner(spec, sides, train, checkpoint)
    else:
        tensors, rows = _train_variant(spec, sides, train, checkpoint)
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
    vocabulary = tuple(
        tuple(sorted(label for label in lengths if label.count(".") == level)) for level in range(depth)
    )
    members = {label: tuple(sorted(values)) for label, values in sorted(lengths.items())}
    return Spec(variant, seed, model, refine, vocabulary, members, origin)


def pick_device() -> torch.device:
    """The first GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def minimise(
    stage: str,
    module: nn.Module,
    losses: Callable[[int], Losses],
    watch: Callable[[], dict[str, float]],
    settings: TrainSettings,
    steps: int,
    learning_rate: float,
    state: Training,
    checkpoint: Path | None,
    identity: dict,
) -> list[dict[str, float]]:
    """The training loop: descend the weighted sum of `losses(step)`, keep averaged weights, record `watch()`.

    Leaves the averaged weights in `module` and returns the rows of the history.
    """
    if checkpoint is not None and state.restore(checkpoint, identity):
        say(stage, f"resumed at step {state.step} of {steps} from {checkpoint}")
    device = next(module.parameters()).device
    progress = Progress(stage, steps, "steps")
    progress.done = state.step
    started = saved = time.monotonic()
    before = state.seconds
    while state.step < steps:
        warm = min(1.0, (state.step + 1) / WARM_UP)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * state.step / steps)))
        module.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = losses(state.step)
        loss = sum(value * weight for value, weight in found.values())
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{stage}: the loss is {loss.item()} at step {state.step}")
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), GRADIENT_NORM)
        state.optimizer.step()
        decay = min(settings.ema, (state.step + 1) / (state.step + 10))
        with torch.no_grad():
            for name, p in state.parameters.items():
                state.averaged[name].lerp_(p, 1 - decay)
        state.step += 1
        state.seconds = before + time.monotonic() - started
        if state.step % settings.report_every == 0 or state.step == steps:
            row = {"step": state.step, "seconds": round(state.seconds, 2), "loss": loss.item()}
            row |= {name: value.item() for name, (value, _) in found.items()} | _with_averaged(module, state, watch)
            state.rows.append(row)
        progress.advance(note=_note(state.rows))
        if checkpoint is not None and time.monotonic() - saved > settings.checkpoint_seconds and state.step < steps:
            state.save(checkpoint, identity)
            saved = time.monotonic()
    with torch.no_grad():
        for name, p in state.parameters.items():
            p.copy_(state.averaged[name])
    module.eval()
    return state.rows


def _with_averaged(module: nn.Module, state: Training, watch: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What `watch` sees of the module with its averaged weights, in evaluation mode."""
    current = {name: p.detach().clone() for name, p in state.parameters.items()}
    with torch.no_grad():
        for name, p in state.parameters.items():
            p.copy_(state.averaged[name])
        module.eval()
        seen = watch()
        for name, p in state.parameters.items():
            p.copy_(current[name])
    return seen


def _note(rows: list[dict[str, float]]) -> str:
    if not rows:
        return ""
    shown = ("loss", "rmsd", "validation_rmsd", "kl", "active_units")
    return ", ".join(f"{name} {rows[-1][name]:.2f}" for name in shown if name in rows[-1])


def _train_variant(
    spec: Spec, sides: dict[str, Domains], settings: TrainSettings, checkpoint: Path | None
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Weights of a trained variant, its aggregate posterior beside it, and its history."""
    device = pick_device()
    module = variants.variant(spec.variant)
    model: CVAE = module.build(spec)
    domains = sides["train"]
    whole = domains.batch(spec)
    model.fit_linear(whole, torch.from_numpy(domains.weights).float())
    model.to(device)
    generator, rng = torch.Generator().manual_seed(spec.seed), np.random.default_rng(spec.seed)
    sight = {name: sides[name].first_conformations().batch(spec).to(device) for name in sides if len(sides[name])}
    stage = f"train {spec.variant} seed {spec.seed}"
    steps = settings.steps if getattr(module, "TRAINED", True) else 0
    if steps:
        extra = getattr(module, "extra_terms", lambda *_: [])(model, settings, generator)
        terms = evidence_terms(settings) + extra
        losses = _variant_losses(model, terms, domains, settings, generator, rng, device)
        optimizer = torch.optim.AdamW(
            model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
        )
        state = Training(model.named_parameters(), optimizer, generator, rng)
        identity = {"spec": spec.to_json()}
        rows = minimise(
            stage,
            model,
            losses,
            lambda: observe(model, sight),
            settings,
            steps,
            settings.learning_rate,
            state,
            checkpoint,
            identity,
        )
    else:
        model.eval()
        rows = [{"step": 0, "seconds": 0.0} | observe(model, sight)]
        say(stage, f"fitted to {len(domains)} structures, held-out RMSD {rows[0].get('validation_rmsd', math.nan):.2f} Å")
    model.cpu()
    aggregate = AggregatePosterior(spec.model.latent, len(spec.vocabulary[0]))
    first = domains.first_conformations().batch(spec)
    with torch.no_grad():
        posterior = model.posterior(model.describe(first), first.labels, first.lengths)
    aggregate.fit(posterior.mean, posterior.logvar, first.labels[:, 0], first.lengths)
    tensors = {f"cvae.{name}": value for name, value in model.state_dict().items()}
    return tensors | {f"aggregate.{name}": value for name, value in aggregate.state_dict().items()}, rows


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
        batch = hide_labels(batch, settings.label_dropout, rng).to(device)
        output = model(batch, generator)
        found = {t.name: (t.term(batch, output), t.weight(step)) for t in terms}
        for t in terms:
            if t.observe is not None:
                t.observe(found[t.name][0].item())
        return found

    return losses


def hide_labels(batch: Batch, share: float, rng: np.random.Generator) -> Batch:
    """The batch with labels set to unknown: at each level a `share` of structures loses it and all finer ones."""
    hidden = np.cumsum(rng.random(batch.labels.shape) < share, axis=1) > 0
    return Batch(batch.coords, batch.mask, batch.labels.masked_fill(torch.from_numpy(hidden), 0))


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
        target = model.describe(batch)
        posterior = model.posterior(target, batch.labels, batch.lengths)
        prior = model.prior(model.condition(batch.labels, batch.lengths))
        decoded = model.decode(posterior.mean, batch.labels, batch.lengths)
        output = Output(posterior, prior, posterior.mean, target, decoded, model.log_sigma, model.blocks)
        name = "evaluated_" if not prefix else prefix
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
    state = Training(net.named_parameters(), optimizer, generator, rng)
    identity = {"spec": spec.to_json()}
    stage = f"train refiner seed {spec.seed}"
    rows = minimise(
        stage, net, losses, watch, settings, refine.steps, refine.learning_rate, state, checkpoint, identity
    )
    return {f"refiner.{name}": value for name, value in net.cpu().state_dict().items()}, rows


def fit_degrader(domains: Domains, spec: Spec) -> LinearMap:
    """All principal components of the training coefficients, by which traces are made as coarse as a model's."""
    inputs = 3 * spec.model.coefficients
    linear = LinearMap(inputs, inputs)
    batch = domains.batch(spec)
    flat = encode_trace(batch.ca, batch.mask, spec.model.coefficients)[0].flatten(1)
    linear.fit(flat, torch.from_numpy(domains.weights).float())
    return linear


@torch.no_grad()
def degrade(
    batch: Batch, linear: LinearMap, count: int, rng: np.random.Generator, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """CA and carbonyl directions in the chain frame, and a trace of each as a model would give it (B, L, 3).

    The trace keeps a random number of principal components and its scores are jittered.
    """
    coefficients, frame = encode_trace(batch.ca, batch.mask, count)
    scores = linear.encode(coefficients.flatten(1) - linear.center)
    kept = torch.from_numpy(np.exp(rng.uniform(np.log(12), np.log(scores.shape[1]), len(scores))))
    amount = torch.from_numpy(rng.uniform(0, 0.3, len(scores))).float()
    scores = scores + amount[:, None] * torch.randn(scores.shape, generator=generator)
    scores = scores * (torch.arange(scores.shape[1]) < kept[:, None])
    coarse = (linear.center + linear.decode(scores)).view_as(coefficients)
    trace = decode_trace(coarse, batch.lengths, batch.mask.shape[1]) * batch.mask[..., None]
    weight = batch.mask[..., None].float()
    mean = (batch.ca * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    return (batch.ca - mean) @ frame * weight, batch.carbonyl @ frame, trace


def crop_windows(
    ca: Tensor, carbonyl: Tensor, trace: Tensor, mask: Tensor, size: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A random window of `size` residues of each structure, moved so that its trace is centred."""
    lengths = mask.sum(1).numpy()
    size = min(size, int(lengths.max()))
    start = torch.from_numpy(rng.integers(0, np.maximum(lengths - size, 0) + 1))
    index = start[:, None] + torch.arange(size)
    inside = index < mask.sum(1, keepdim=True)
    index = index.clamp(max=mask.shape[1] - 1)
    rows = torch.arange(len(ca))[:, None]
    ca, carbonyl, trace = ca[rows, index], carbonyl[rows, index], trace[rows, index]
    weight = inside[..., None].float()
    middle = (trace * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    return (ca - middle) * weight, carbonyl * weight, (trace - middle) * weight, inside
