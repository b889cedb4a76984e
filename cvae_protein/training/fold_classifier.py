"""Training of the fold classifier, its calibration and its checks on held-out domains."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config.settings import ClassifierSettings, TrainSettings
from ..core import pretrained
from ..core.errors import UserError
from ..core.files import atomic_path, owned, sha256, write_table
from ..core.labels import depth_of, truncate
from ..core.progress import Progress, say
from ..core.structure import CA
from ..model.batch import DomainSet, read_split
from ..model.device import name_of, pick_device
from ..model.fold_classifier import (
    ClassifierSpec,
    FoldClassifier,
    deepest_label_loss,
    describe_traces,
    load_classifier,
)
from ..model.spec import save_tensors
from .checkpoint import TrainingState
from .distributed import Ranks
from .loop import Losses, Task, minimise

TEMPERATURES = np.geomspace(0.3, 6.0, 61)
BINS = 10
NORMAL = 1.959964  # half-width, in standard deviations, of the central 95 % of a normal distribution


@torch.no_grad()
def fit_temperatures(classifier: FoldClassifier, features: Tensor, labels: Tensor) -> tuple[float, ...]:
    """The temperature of each level, coarse to fine, that maximises the probability of held-out labels (B, levels).

    Guo et al. 2017, arXiv:1706.04599, by grid search. 1 for a level at which no label is known.
    """
    found = [1.0] * labels.shape[1]
    for level in range(labels.shape[1]):
        known = labels[:, level] > 0
        if not known.any():
            continue
        losses = []
        for temperature in TEMPERATURES.tolist():
            tried = (*found[:level], temperature, *found[level + 1 :])
            predicted = classifier.posterior(features[known], tried)[level]
            losses.append(-float(predicted.gather(1, labels[known, level : level + 1] - 1).mean()))
        found[level] = float(TEMPERATURES[int(np.argmin(losses))])
    return tuple(found)


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Expected calibration error of the likeliest label: mean |accuracy - confidence| over bins of equal width.

    `confidence` (n,) in 0 to 1, `correct` (n,) 0 or 1; bins are weighted by their sample counts (Naeini et al. 2015).
    Biased upwards if bins hold few samples; NaN without samples.
    """
    if not len(confidence):
        return math.nan
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(correct[place == k].mean() - confidence[place == k].mean()) * (place == k).mean() for k in set(place)]
    return float(sum(gaps))


def wilson(successes: int, count: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson 1927); NaN if `count` is 0."""
    if not count:
        return math.nan, math.nan
    share, spread = successes / count, NORMAL * NORMAL / count
    centre = (share + spread / 2) / (1 + spread)
    half = NORMAL / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return centre - half, centre + half


SPLITS: tuple[str, ...] = ("train", "validation", "test")
SMOOTH = 12  # residues over which the smooth part of the noise is averaged
TRIMMED = 0.1  # largest fraction of the chain that is cut from each end
EMA, WEIGHT_DECAY = 0.99, 0.1
CLASSIFIER_COLUMNS = ("split", "level", "labels", "n", "accuracy", "low", "high", "ece", "temperature")
CONFUSION_COLUMNS = ("split", "level", "label", "predicted", "n", "share")


def train_classifier(
    store: Path, splits: Path, output: Path, settings: ClassifierSettings, checkpoint: Path | None = None
) -> None:
    """Train the fold classifier and write `output` with spec.json, weights.safetensors and three tables.

    history.tsv is the training history, classifier.tsv the accuracy and calibration on domains not trained on, and
    confusion.tsv the predictions for these. `checkpoint` is a file for resuming; it is removed at the end. If
    `settings.start` asks for it, the package's fold classifier is used unchanged.
    """
    with owned(output):
        read = read_split(store, splits)
        by_split = {split: read[split].first_conformations() for split in SPLITS if split in read}
        origin = {"store": sha256(store), "splits": sha256(splits), "torch": torch.__version__}
        device = pick_device("train-classifier")
        seen = {
            split: describe_traces([c[:, CA] for c in domains.coords], device) for split, domains in by_split.items()
        }
        if settings.start:
            classifier = _take(settings.start, origin)
            rows = [{"step": 0, "seconds": 0.0} | _validate(classifier, by_split, seen, torch.device("cpu"))]
        else:
            classifier, rows = _train(by_split, seen, settings, origin, checkpoint, device)
        embedded = {split: _features(classifier, described) for split, described in seen.items()}
        with atomic_path(output) as folder:
            folder.mkdir()
            spec = replace(classifier.spec, origin=classifier.spec.origin | {"device": name_of(device)})
            (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")
            save_tensors(folder / "weights.safetensors", classifier.state_dict())
            write_table(folder / "history.tsv", list(rows[0]), rows)
            _write_checks(folder, classifier, by_split, embedded)
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)


def _take(start: str, origin: dict[str, Any]) -> FoldClassifier:
    """The package's fold classifier, with its own temperatures."""
    folder = pretrained.package_model(start) / "classifier"
    classifier, name = load_classifier(folder), pretrained.version()
    facts = {"name": name, "weights": sha256(folder / "weights.safetensors")}
    classifier.spec = replace(classifier.spec, origin=origin | {"start": facts})
    say("train-classifier", f"takes the fold classifier of {name} as it is")
    return classifier


def _train(
    by_split: dict[str, DomainSet],
    seen: dict[str, Tensor],
    settings: ClassifierSettings,
    origin: dict[str, Any],
    checkpoint: Path | None,
    device: torch.device,
) -> tuple[FoldClassifier, list[dict[str, float]]]:
    """A fold classifier trained on the training domains and calibrated on those of `validation`, and its history."""
    vocabulary = _vocabulary(by_split["train"], settings.levels)
    spec = ClassifierSpec(settings, settings.seed, vocabulary, (1.0,) * len(vocabulary), origin)
    torch.manual_seed(settings.seed)
    classifier = FoldClassifier(spec)
    rows = _fit(classifier, by_split, seen, settings, checkpoint, device)
    embedded = _features(classifier, seen["train"])
    classifier.centre.copy_(embedded.mean(0))
    classifier.scale.copy_(embedded.std(0, correction=0).clamp(min=1e-3))
    if "validation" in by_split:
        labels = _label_ids(spec, by_split["validation"])
        temperatures = fit_temperatures(classifier, _features(classifier, seen["validation"]), labels)
        classifier.spec = replace(spec, temperatures=temperatures)
    else:
        say("train-classifier", "no validation split: its probabilities are not calibrated")
    return classifier, rows


def _vocabulary(domains: DomainSet, levels: int) -> tuple[tuple[str, ...], ...]:
    """The training labels of each level, down to the deepest that occurs; `UserError` if there are none."""
    labels = set(filter(None, domains.labels))
    found = [
        sorted({truncate(one, level) for one in labels if depth_of(one) >= level}) for level in range(1, levels + 1)
    ]
    if not found[0]:
        raise UserError(
            "train-classifier: expected labelled training domains, found none; it has nothing to tell apart"
        )
    return tuple(tuple(names) for names in found if names)


def _label_ids(spec: ClassifierSpec, domains: DomainSet) -> Tensor:
    """Label ids (D, levels), 0 for a label absent from training."""
    return torch.tensor([spec.label_ids(label) for label in domains.labels]).reshape(len(domains), -1)


def _fit(
    classifier: FoldClassifier,
    by_split: dict[str, DomainSet],
    seen: dict[str, Tensor],
    settings: ClassifierSettings,
    checkpoint: Path | None,
    device: torch.device,
) -> list[dict[str, float]]:
    """Train the network with the common training loop; rare superfamilies are oversampled."""
    domains = by_split["train"]
    labels = _label_ids(classifier.spec, domains)
    generator, rng = torch.Generator().manual_seed(settings.seed), np.random.default_rng(settings.seed)
    described = augmented(domains, settings, rng, device).to(device)  # (copies, D, INPUTS)
    classifier.middle.copy_(described.mean((0, 1)))
    classifier.spread.copy_(described.std((0, 1), correction=0).clamp(min=1e-3))
    classifier.to(device)
    members = Counter(domains.labels)
    chance = np.array([members[label] ** -0.5 for label in domains.labels])
    chance /= chance.sum()

    def losses(step: int, ranks: Ranks) -> tuple[Losses, float]:
        rows = rng.choice(len(domains), settings.batch_size, p=chance)[ranks.rows]
        versions = rng.integers(len(described), size=settings.batch_size)[ranks.rows]
        predicted = classifier(described[versions, rows])
        loss = deepest_label_loss(predicted, labels[rows].to(device))
        return {"cross_entropy": (loss, 1.0)}, len(rows) / settings.batch_size

    optimizer = torch.optim.AdamW(
        classifier.parameters(), settings.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )
    task = Task(
        stage="train classifier",
        module=classifier,
        losses=losses,
        watch=lambda: _validate(classifier, by_split, seen, device),
        score=lambda row: row.get("validation_cross_entropy", -row["step"]),
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        identity={"spec": classifier.spec.to_json()},
        seed=settings.seed,
        checkpoint=checkpoint,
    )
    state = TrainingState(classifier.named_parameters(), optimizer, generator, rng)
    rows = minimise(task, state, TrainSettings(steps=settings.steps, ema=EMA))
    classifier.cpu()
    return rows


@torch.no_grad()
def _validate(
    classifier: FoldClassifier, by_split: dict[str, DomainSet], seen: dict[str, Tensor], device: torch.device
) -> dict[str, float]:
    """Cross-entropy, and accuracy at each level, on the validation domains, if there are any."""
    if "validation" not in by_split:
        return {}
    found = [p.cpu() for p in classifier(seen["validation"].to(device))]
    known = _label_ids(classifier.spec, by_split["validation"])
    right = {
        f"validation_accuracy_level{level}": float((p.argmax(1) + 1 == known[:, level - 1]).float().mean())
        for level, p in enumerate(found, 1)
    }
    return {"validation_cross_entropy": float(deepest_label_loss(found, known))} | right


def augmented(
    domains: DomainSet, settings: ClassifierSettings, rng: np.random.Generator, device: torch.device
) -> Tensor:
    """The descriptors (`describe_traces`) of perturbed copies of all domains (copies, D, INPUTS)."""
    progress = Progress("fold classifier looks", settings.augmentations, "copies of the training domains")
    found = []
    for _ in range(settings.augmentations):
        found.append(describe_traces([perturb(c[:, CA], settings.jitter, rng) for c in domains.coords], device))
        progress.advance()
    return torch.stack(found).nan_to_num()


def perturb(trace: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """A CA trace (L, 3) with noise, rough to `jitter` Å, smooth to twice that, and up to a tenth cut off each end."""
    most = int(TRIMMED * len(trace))
    start, stop = rng.integers(most + 1), len(trace) - rng.integers(most + 1)
    trace = trace[start:stop]
    rough, smooth = jitter * rng.random(2)
    noise = rng.standard_normal(trace.shape)
    window = np.ones(SMOOTH) / SMOOTH**0.5
    waves = rng.standard_normal((len(trace) + SMOOTH - 1, 3))
    slow = np.stack([np.convolve(waves[:, k], window, "valid") for k in range(3)], axis=1)
    return (trace + rough * noise + 2 * smooth * slow).astype(np.float32)


@torch.no_grad()
def _features(classifier: FoldClassifier, described: Tensor) -> Tensor:
    """Features (D, F), before standardisation, of descriptors made by `describe_traces`."""
    return classifier.features(described.to(classifier.centre.device)).cpu()


def _write_checks(
    folder: Path, classifier: FoldClassifier, by_split: dict[str, DomainSet], seen: dict[str, Tensor]
) -> None:
    """Write classifier.tsv and confusion.tsv for the splits that are not trained on."""
    checks: list[dict[str, object]] = []
    taken: list[dict[str, object]] = []
    for split in ("validation", "test"):
        if split in by_split:
            for level, predicted in enumerate(classifier.posterior(seen[split]), 1):
                checks += _check(classifier.spec, by_split[split], split, level, predicted.exp().detach().numpy())
                taken += _confusion(classifier.spec, by_split[split], split, level, predicted.argmax(1).tolist())
    write_table(folder / "classifier.tsv", CLASSIFIER_COLUMNS, checks)
    write_table(folder / "confusion.tsv", CONFUSION_COLUMNS, taken)
    for row in checks:
        if row["split"] == "test":
            words = f"accuracy {row['accuracy']} on {row['n']} held-out domains ({row['labels']} labels)"
            say("train-classifier", f"level {row['level']}: {words}, calibration error {row['ece']}")


def _check(
    spec: ClassifierSpec, domains: DomainSet, split: str, level: int, p: np.ndarray
) -> Iterable[dict[str, object]]:
    """Accuracy and calibration error at a level: for all domains, and for those whose label occurs in training."""
    known = _label_ids(spec, domains)[:, level - 1].numpy()
    deep = np.array([depth_of(label) >= level for label in domains.labels], bool)
    correct, confidence = (p.argmax(1) + 1 == known).astype(float), p.max(1)
    for name, chosen in (("all", deep), ("trained", known > 0)):
        count, right = int(chosen.sum()), int(correct[chosen].sum())
        low, high = wilson(right, count)
        share, error = right / count if count else np.nan, calibration_error(confidence[chosen], correct[chosen])
        numbers = (share, low, high, error)
        figures = dict(zip(("accuracy", "low", "high", "ece"), (f"{x:.4f}" for x in numbers), strict=True))
        head = {"split": split, "level": level, "labels": name, "n": count}
        yield head | figures | {"temperature": f"{spec.temperatures[level - 1]:.4g}"}


def _confusion(
    spec: ClassifierSpec, domains: DomainSet, split: str, level: int, predicted: list[int]
) -> Iterable[dict[str, object]]:
    """How often each label of the vocabulary is predicted for each label of the domains; only pairs that occur."""
    own = [truncate(label, level) for label in domains.labels if depth_of(label) >= level]
    kept = [name for name, label in zip(predicted, domains.labels, strict=True) if depth_of(label) >= level]
    totals = Counter(own)
    pairs = Counter((label, spec.vocabulary[level - 1][name]) for label, name in zip(own, kept, strict=True))
    for (label, name), count in sorted(pairs.items()):
        share = f"{count / totals[label]:.4f}"
        yield {"split": split, "level": level, "label": label, "predicted": name, "n": count, "share": share}
