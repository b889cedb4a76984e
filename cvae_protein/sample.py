"""Sampling: trained model + fold class + length -> backbones; and what a model makes of held-out domains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from .dataset.store import TEXT, Entry, write_store
from .errors import UserError
from .files import atomic_path
from .model.batch import Domains, as_backbone, read_domain, read_split
from .model.cvae import CVAE
from .model.relax import HELD
from .model.sampler import Sampler, complete, decode_all, draw_codes, load_sampler, other_class
from .model.spec import Spec
from .progress import say
from .settings import SampleSettings

FEWEST_MEMBERS = 8  # training domains of a finer label that is drawn for itself


def known_fold(spec: Spec, fold: str) -> str:
    """`fold`, or the nearest level above it that training knew; `UserError` where it knew none."""
    parts = fold.split(".")
    for level in range(len(parts), 0, -1):
        if spec.lengths.get(name := ".".join(parts[:level])):
            return name
    known = ", ".join(spec.lengths)
    raise UserError(f"fold: expected one of {known}, or a finer label of it, got {fold!r}")


def choose_lengths(spec: Spec, fold: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths (count,) drawn from those of the fold's training members, or of its nearest known parent."""
    return rng.choice(np.array(spec.lengths[known_fold(spec, fold)]), count)


def say_what_is_unknown(spec: Spec, folds: Sequence[str], lengths: Sequence[int] | None) -> None:
    """Say which folds give way to a level above them, and which lengths lie outside those of a fold's members."""
    for fold in folds:
        known = known_fold(spec, fold)
        members = spec.lengths[known]
        if known != fold:
            reason = "unknown to the model" if fold.count(".") < spec.depth else "finer than the model's labels"
            say("sample", f"fold {fold} is {reason}: {known} is drawn instead ({len(members)} training domains)")
        for length in sorted(set(lengths or ())):
            if not min(members) <= length <= max(members):
                have = f"the {len(members)} training domains of {known} have {min(members)} to {max(members)}"
                say("sample", f"{length} residues lie beyond what the model has seen: {have}")


def folds_to_draw(spec: Spec) -> list[str]:
    """The finest labels with at least `FEWEST_MEMBERS` training domains; a class that has none of them, itself."""
    folds: list[str] = []
    for name in spec.vocabulary[0]:
        finest = [label for label in spec.vocabulary[-1] if label.startswith(f"{name}.")]
        folds += [label for label in finest if len(spec.lengths[label]) >= FEWEST_MEMBERS] or [name]
    return folds


def sample_folds(
    model: Path,
    refiner: Path,
    folds: Sequence[str],
    lengths: Sequence[int] | None,
    number: int,
    settings: SampleSettings,
    seed: int,
    output: Path,
) -> None:
    """Write a store of `number` relaxed samples of each fold, and the unrelaxed ones nowhere.

    `lengths` are taken in turn; without them, lengths are drawn from the fold's training members.
    """
    sampler = load_sampler(model, refiner)
    say_what_is_unknown(sampler.spec, folds, lengths)
    drawn = draw(sampler, folds, lengths, number, settings, seed)
    _write(output, drawn.relaxed, drawn, sampler.spec)


def sample_around(
    model: Path,
    refiner: Path,
    store: Path,
    splits: Path | None,
    domain: str,
    settings: SampleSettings,
    seed: int,
    output: Path,
) -> None:
    """Write a store of `settings.per_class` relaxed conformations of one domain, drawn from its posterior.

    `settings.temperature` scales the posterior's spread; 0 gives its mean, refined with different noise. The label is
    that of the table of splits or, without one, of the store.
    """
    sampler = load_sampler(model, refiner)
    side = read_domain(store, splits, domain)
    posterior = sampler.infer(side)
    count, length = settings.per_class, len(side.coords[0])
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, posterior.mean.shape[1], generator=generator)
    codes = posterior.mean + settings.temperature * torch.exp(0.5 * posterior.logvar) * noise
    labels = side.label_ids(sampler.spec).expand(count, -1)
    traces = sampler.decode(codes, labels, torch.full((count,), length))
    raw, relaxed = complete(traces, sampler.refiner, settings, generator, f"sample around {domain}")
    names = [f"{domain}-{sampler.spec.variant}-{index:04d}" for index in range(count)]
    drawn = Drawn(names, [side.labels[0]] * count, raw, relaxed)
    _write(output, drawn.relaxed, drawn, sampler.spec)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Samples: names, the label asked for of each, and coordinates (L, 5, 3) in Å before and after relaxation."""

    names: list[str]
    labels: list[str]
    raw: list[np.ndarray]
    relaxed: list[np.ndarray]


def draw(
    sampler: Sampler,
    folds: Sequence[str],
    lengths: Sequence[int] | None,
    number: int,
    settings: SampleSettings,
    seed: int,
) -> Drawn:
    """`number` samples of each fold."""
    spec = sampler.spec
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    names, labels, sizes = [], [], []
    for fold in folds:
        chosen = choose_lengths(spec, fold, number, rng)
        if lengths:
            chosen = np.resize(np.array(lengths), number)
        for index, size in enumerate(chosen):
            names.append(f"{spec.variant}-{spec.seed}-{fold}-{index:04d}")
            labels.append(fold)
            sizes.append(int(size))
    ids = torch.tensor([spec.label_ids(label) for label in labels])
    residues = torch.tensor(sizes)
    codes = draw_codes(sampler, ids, residues, settings, generator)
    traces = decode_all(sampler.model, codes, ids, residues)
    stage = f"sample {spec.variant} seed {spec.seed}"
    raw, relaxed = complete(traces, sampler.refiner, settings, generator, stage)
    return Drawn(names, labels, raw, relaxed)


def sample_heldout(
    model: Path,
    refiner: Path,
    store: Path,
    splits: Path,
    settings: SampleSettings,
    seed: int,
    output: Path,
) -> None:
    """The workflow's step: samples of every fold class, reconstructions of the split `test`, codes of all.

    Writes samples.h5, raw.h5, reconstructions.h5 and latents.h5 into the folder `output`.
    """
    sampler = load_sampler(model, refiner)
    spec = sampler.spec
    sides = {split: side.first_conformations() for split, side in read_split(store, splits).items()}
    sides.pop("stretches", None)  # never seen whole
    if "test" not in sides:
        raise UserError(f"{splits}: no domain of the split `test`; nothing to reconstruct")
    with atomic_path(output) as folder:
        folder.mkdir()
        _write_latents(folder / "latents.h5", sampler, sides)
        _write_reconstructions(folder / "reconstructions.h5", sampler, sides["test"], settings, seed)
        drawn = draw(sampler, folds_to_draw(spec), None, settings.per_class, settings, seed)
        _write(folder / "samples.h5", drawn.relaxed, drawn, spec)
        _write(folder / "raw.h5", drawn.raw, drawn, spec)


def _entry(name: str, coords: np.ndarray, facts: dict) -> Entry:
    """A modelled structure for the store; torsions and secondary structure are the scoring side's."""
    length = len(coords)
    nothing = np.full((1, length, 3), np.nan, np.float32)
    return Entry(as_backbone(name, torch.from_numpy(coords)), nothing, ("?" * length,), facts)


def _write(path: Path, coords: list[np.ndarray], drawn: Drawn, spec: Spec) -> None:
    rows = zip(drawn.names, drawn.labels, coords, strict=True)
    facts = {"variant": spec.variant, "seed": spec.seed}
    entries = [_entry(name, c, {"label": label, **facts}) for name, label, c in rows]
    write_store(path, entries, compression="gzip", kind="samples")


@torch.no_grad()
def _write_latents(path: Path, sampler: Sampler, sides: dict[str, Domains]) -> None:
    """Posterior mean, log variance and divergence from the prior, a dimension at a time, of every domain."""
    parts: dict[str, list] = {"mean": [], "logvar": [], "kl": []}
    text: dict[str, list[str]] = {"id": [], "label": [], "split": []}
    for split, side in sides.items():
        posterior = sampler.infer(side)
        prior = sampler.prior(side.label_ids(sampler.spec), torch.from_numpy(side.lengths))
        values = (posterior.mean, posterior.logvar, posterior.kl(prior))
        for name, value in zip(parts, values, strict=True):
            parts[name].append(value.numpy())
        text["id"] += side.ids
        text["label"] += side.labels
        text["split"] += [split] * len(side)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["blocks"] = json.dumps(sampler.model.blocks)
        for name, arrays in parts.items():
            file[name] = np.concatenate(arrays)
        for name, words in text.items():
            file.create_dataset(name, data=np.array(words, object), dtype=TEXT)


@torch.no_grad()
def _write_reconstructions(path: Path, sampler: Sampler, side: Domains, settings: SampleSettings, seed: int) -> None:
    """Held-out domains from their posterior means, with the rate and with what another code or label would give."""
    model, spec = sampler.model, sampler.spec
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    posterior = sampler.infer(side)
    labels, lengths = side.label_ids(spec), torch.from_numpy(side.lengths)
    prior = sampler.prior(labels, lengths)
    own = sampler.decode(posterior.mean, labels, lengths)
    permuted = sampler.decode(posterior.mean[_permute(labels, rng)], labels, lengths)
    others = other_class(labels, len(spec.vocabulary[0]), generator)
    swapped = sampler.decode(posterior.mean, others, lengths)
    facts = {
        "rate": posterior.kl(prior).sum(-1),
        "trace_rmsd": heldout_rmsd(model, side, own),
        "permuted_rmsd": heldout_rmsd(model, side, permuted),
        "swapped_rmsd": heldout_rmsd(model, side, swapped),
    }
    stage = f"reconstruct {spec.variant} seed {spec.seed}"
    without_noise = replace(settings, refine_noise=0.0)  # the mean of both levels of latents
    _, relaxed = complete(own, sampler.refiner, without_noise, generator, stage, HELD)
    entries = [
        _entry(
            name,
            coords,
            {"label": label, "variant": spec.variant, "seed": spec.seed}
            | {key: float(values[row]) for key, values in facts.items()},
        )
        for row, (name, label, coords) in enumerate(zip(side.ids, side.labels, relaxed, strict=True))
    ]
    write_store(path, entries, compression="gzip", kind="reconstructions")


def heldout_rmsd(model: CVAE, side: Domains, made: Sequence[Tensor]) -> Tensor:
    """RMSD in Å of CA traces (L, 3), in the chain frame, to the domains they were made of (D,)."""
    errors = []
    for row, trace in enumerate(made):
        wanted = model.describe(side.batch(model.spec, [row]))[1][0]
        errors.append((wanted - trace).square().sum(-1).mean().sqrt())
    return torch.stack(errors)


def _permute(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """For each row another row of the same first-level class, at random; itself where it is alone (B,)."""
    chosen = torch.arange(len(labels))
    for label in labels[:, 0].unique():
        rows = torch.nonzero(labels[:, 0] == label)[:, 0].numpy()
        shuffled = rng.permutation(rows)
        chosen[shuffled] = torch.from_numpy(np.roll(shuffled, 1))
    return chosen
