"""Sampling: trained model + fold class + length -> backbones; and reconstruction of held-out domains."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config.settings import SampleSettings
from ..core.errors import UserError
from ..core.files import atomic_path, sha256
from ..core.labels import depth_of, is_text_of, lineage
from ..core.progress import say
from ..core.structure import Backbone
from ..model.batch import DomainSet, as_backbone, read_split
from ..model.codes import kept_codes
from ..model.spec import Spec
from ..store.write import merge_stores, write_store
from .draw import USUAL, Block, Draw, Facts, Samples, blocks_of, names_of
from .motion import motions_around
from .reconstruct import sample_entry, write_latents, write_reconstructions
from .sampler import (
    INVERSION_STEPS,
    Sampler,
    at_once,
    complete,
    decode_all,
    draw_codes,
    load_sampler,
    noise_seeds,
    start_noise,
)

SHORTEST = 5  # residues; relaxation uses distances over four
MOST_BEYOND = 2  # longest length of a sample, relative to the longest training domain
ALIKE = 0.1  # standard deviation of the logarithm of lengths that count as similar
FEWEST_MEMBERS = 8  # training domains that a finer label needs to be drawn separately


def known_fold(spec: Spec, fold: str) -> str:
    """`fold`, or the nearest level above it that is known from training; `UserError` if there is none."""
    for name in lineage(fold)[::-1]:
        if spec.lengths.get(name):
            return name
    if named := [name for name in spec.lengths if is_text_of(fold, name)]:
        raise UserError(f"fold: {fold!r} has the code {named[0]} in the model; give that")
    known, finer = ", ".join(spec.vocabulary[0]), len(spec.lengths) - len(spec.vocabulary[0])
    more = f" or one of {finer} labels below them, which `cvae-protein info MODEL` lists" if finer else ""
    raise UserError(f"fold: expected one of {known}{more}, got {fold!r}")


def members_of(spec: Spec, fold: str) -> list[tuple[str, int]]:
    """The training members of a fold, or of its nearest known parent: the finest label of each, and its length.

    They come from the model's own training or, if only the model it started from knew the fold, from that model's.
    """
    fold = known_fold(spec, fold)
    known = [label for label, lengths in spec.lengths.items() if lengths]
    below = [
        label
        for label in known
        if lineage(label)[-2:-1] == [fold] and (label in spec.of_start) == (fold in spec.of_start)
    ]
    finer = [member for label in below for member in members_of(spec, label)]
    left = Counter(spec.lengths[fold]) - Counter(length for _, length in finer)
    own = left.elements() if finer else spec.lengths[fold]
    return [*finer, *((fold, length) for length in own)]


def choose_members(
    members: Sequence[tuple[str, int]], lengths: np.ndarray | None, count: int, rng: np.random.Generator
) -> tuple[list[str], np.ndarray]:
    """Labels and lengths (count,) of training members of a fold (`members_of`), drawn at random.

    A fold is the mixture of the labels below it, so finer labels are drawn as often as they occur in training. Given
    `lengths`, members are weighted by similarity in length, with a standard deviation of `ALIKE` in its logarithm.
    """
    labels, own = zip(*members, strict=True)
    if lengths is None:
        rows = rng.integers(0, len(own), count)
        return [labels[row] for row in rows], np.array(own)[rows]
    if len(set(labels)) == 1:
        return [labels[0]] * count, lengths
    far = np.log(np.array(own) / lengths[:, None]) / ALIKE
    chance = np.exp(0.5 * ((far**2).min(1, keepdims=True) - far**2))
    rows = (chance.cumsum(1) > rng.random((count, 1)) * chance.sum(1, keepdims=True)).argmax(1)
    return [labels[row] for row in rows], lengths


def parse_lengths(words: Sequence[str]) -> Sequence[int]:
    """Parse numbers of residues: `80-120` is a range, from which each sample draws one; otherwise a list of numbers."""
    if len(words) == 1 and (found := re.fullmatch(r"(\d+)-(\d+)", words[0].strip())):
        low, high = int(found[1]), int(found[2])
        if low <= high:
            return range(low, high + 1)
    if not all(word.strip().isascii() and word.strip().isdigit() for word in words):
        raise UserError(f"length: expected numbers of residues, or one range such as 80-120, got {' '.join(words)}")
    return [int(word) for word in words]


def check_asked(spec: Spec, folds: Sequence[str], lengths: Sequence[int] | None, extrapolate: bool = False) -> None:
    """`UserError` if a fold is unknown, or a length is one about which the model can know nothing.

    Lengths outside those of a fold's members are rejected as well, unless `extrapolate`; they are then only reported.
    """
    longest = MOST_BEYOND * max(max(members) for members in spec.lengths.values())
    for length in lengths or ():
        if not SHORTEST <= length <= longest:
            raise UserError(
                f"length: expected {SHORTEST} to {longest} residues, twice what the model has seen, got {length}"
            )
    for fold in folds:
        if (known := known_fold(spec, fold)) != fold:
            reason = "is unknown to the model" if depth_of(fold) <= spec.depth else "is finer than the model's labels"
            raise UserError(f"fold: {fold} {reason}; the nearest that it knows is {known}")
        low, high = min(members := spec.lengths[fold]), max(members)
        if not (beyond := [length for length in sorted(set(lengths or ())) if not low <= length <= high]):
            continue
        said = ", ".join(map(str, beyond)) if len(beyond) < 4 else f"{len(beyond)} from {beyond[0]} to {beyond[-1]}"
        have = f"the {len(members)} training domains of {fold} have {low} to {high}"
        if not extrapolate:
            raise UserError(f"length: {said} residues lie beyond what the model has seen: {have}; {EXTRAPOLATE}")
        say("sample", f"{said} residues lie beyond what the model has seen: {have}")


def check_kept(spec: Spec, kept: int) -> None:
    """`UserError` if a code does not have that many leading numbers to keep."""
    if isinstance(kept, bool) or not isinstance(kept, int | np.integer) or not 1 <= kept <= spec.model.latent:
        raise UserError(f"keep: expected 1 to {spec.model.latent} numbers of a code, got {kept!r}")


EXTRAPOLATE = "ask for other lengths, or for extrapolation (--extrapolate, extrapolate=True)"


def folds_to_draw(spec: Spec, depth: int) -> list[str]:
    """The labels of `depth` levels, or as many as the model knows, with at least `FEWEST_MEMBERS` training domains.

    A class without such labels is drawn itself. If the model started from another one, labels that only that one was
    trained on are left out.
    """
    folds: list[str] = []
    own = [[name for name in names if name not in spec.of_start] for names in spec.vocabulary[:depth]]
    for name in own[0]:
        finest = [label for label in own[-1] if label.startswith(f"{name}.")]
        folds += [label for label in finest if len(spec.lengths[label]) >= FEWEST_MEMBERS] or [name]
    return folds


def sample_folds(
    model: Path,
    refiner: Path,
    folds: Sequence[str],
    lengths: Sequence[int] | None,
    settings: SampleSettings,
    seed: int,
    output: Path,
    *,
    batch: tuple[int, int] = (0, 1),
    parts: Path | None = None,
    extrapolate: bool = False,
) -> None:
    """Write a store of `settings.per_class` relaxed samples of each fold; unrelaxed samples are not written.

    `lengths` are used in turn, or drawn if they are a range; without them, lengths are drawn from the fold's training
    members. `batch` selects a share of the draw: its number, counted from 0, and the number of shares. A larger draw is
    made in parts; if it is interrupted, finished parts stay in the folder `parts`, by default a hidden one beside the
    output, from which the same call resumes.
    """
    check_asked(Spec.read(model / "spec.json"), folds, lengths, extrapolate)
    _announce(len(set(folds)), settings.per_class)
    sampler = load_sampler(model, refiner)
    facts = draw_facts(sampler.spec, model, settings, seed)
    draw = draw_of_folds(sampler, folds, lengths, settings, seed, facts, origin_of(facts, refiner, settings))
    draw.batch(*batch).write(output, None, parts or parts_beside(output))


def _announce(folds: int, each: int) -> None:
    say("sample", f"{folds} classes × {each} = {folds * each} samples")


def sample_around(
    model: Path,
    refiner: Path,
    domain: DomainSet,
    settings: SampleSettings,
    seed: int,
    output: Path,
    *,
    fold: str | None = None,
    spread: float | None = None,
    noise_kept: float = 0.0,
    batch: tuple[int, int] = (0, 1),
    parts: Path | None = None,
) -> None:
    """Write a store of `settings.per_class` relaxed conformations of the one structure of `domain`.

    The label is `fold`, by default the domain's own; for `spread` and `noise_kept` see `draw_around`, for `batch` and
    `parts` see `sample_folds`. `UserError` if the model does not know the fold.
    """
    sampler = load_sampler(model, refiner)
    say_unknown_labels(sampler.spec, domain, domain.ids[0])
    label = domain.labels[0] if fold is None else fold
    if fold is not None:
        check_asked(sampler.spec, [fold], None)
    facts: Facts = draw_facts(sampler.spec, model, settings, seed)
    if spread is not None:
        facts = {**facts, "spread": spread}
    if noise_kept:
        facts = {**facts, "noise_kept": noise_kept}
    origin = origin_of(facts, refiner, settings)
    draw = draw_of_domain(sampler, domain, settings, seed, label, facts, origin, spread, noise_kept)
    draw.batch(*batch).write(output, None, parts or parts_beside(output))


def draw_around(
    sampler: Sampler,
    domain: DomainSet,
    settings: SampleSettings,
    seed: int,
    label: str | None = None,
    spread: float | None = None,
    noise_kept: float = 0.0,
) -> Samples:
    """`settings.per_class` conformations of the one structure of `domain` under `label`, by default its own, in memory.

    With a `spread`, the structure is moved along its soft motions to a mean RMSD of that many Å (see `motion`). Without
    one, codes are drawn from its posterior and decoded; `settings.temperature` scales the posterior's spread, and 0
    gives its mean, refined with different noise. If the second level is a decoder, a share `noise_kept` of the variance
    of that noise is the structure's own, found by inversion: with all of it, both levels of the structure are decoded
    again, under its own label or another one.
    """
    facts: Facts = {"variant": sampler.spec.variant, "seed": sampler.spec.seed}
    label = domain.labels[0] if label is None else label
    return draw_of_domain(sampler, domain, settings, seed, label, facts, {}, spread, noise_kept).samples()


def draw_of_domain(
    sampler: Sampler,
    domain: DomainSet,
    settings: SampleSettings,
    seed: int,
    label: str,
    facts: Facts,
    origin: Mapping[str, Any],
    spread: float | None = None,
    noise_kept: float = 0.0,
) -> Draw:
    """The draw of `settings.per_class` conformations of the one structure of `domain` under `label`."""
    if settings.numbers:
        check_kept(sampler.spec, settings.numbers)
    if not 0 <= noise_kept <= 1 or (noise_kept and spread is not None):
        raise UserError(f"noise kept: expected a share from 0 to 1, and no spread beside it, got {noise_kept}")
    spec, name, length = sampler.spec, domain.ids[0], len(domain.coords[0])
    settings, stage = replace(settings, code_error=0.0), f"sample around {name}"  # the codes are a structure's own
    if spread is not None:
        (motions,) = at_once(
            lambda one: motions_around(sampler, one, label, spread, settings, stage), sampler.device, [domain]
        )
    else:
        (posterior,) = at_once(sampler.infer, sampler.device, [domain])  # on one thread, which fixes its last bits
        width = settings.temperature * torch.exp(0.5 * posterior.logvar)
        if noise_kept:
            (own,) = sampler.infer_noise(domain, posterior.mean, settings.numbers)
            settings = replace(settings, refine_steps=INVERSION_STEPS)

    def make(blocks: Sequence[Block]) -> Samples:
        drawn, seeds = [], list[int]()
        for block in blocks:
            generator = block.generator
            drawn.append(torch.randn(block.size, spec.model.latent, generator=generator))
            seeds += noise_seeds(block.size, generator)
        noise, labels = torch.cat(drawn), [label] * len(seeds)
        origin = f"{spec.variant}-{spec.seed}-{seed}"
        numbers = (range(block.start, block.start + block.wanted) for block in blocks)
        names = [f"{name}-{origin}-{number:04d}" for wanted in numbers for number in wanted]
        if spread is not None:
            relaxed = motions.draw(sampler, noise, settings, stage)
            return _asked_for(blocks, names, labels, (relaxed, relaxed))
        ids, lengths = torch.tensor([spec.label_ids(label)] * len(noise)), torch.full((len(noise),), length)
        traces = sampler.decode(posterior.mean + width * noise, ids, lengths, settings.numbers)
        start = start_noise([length] * len(traces), seeds, settings.refine_noise)
        if noise_kept:
            start = [math.sqrt(noise_kept) * own + math.sqrt(1 - noise_kept) * new for new in start]
        return _asked_for(blocks, names, labels, complete_in_silence(sampler, traces, labels, settings, start))

    coordinates = hashlib.sha256(domain.coords[0].tobytes()).hexdigest()
    whole = {**origin, "domain": name, "label": label, "coordinates": coordinates, "spread": spread}
    whole["noise_kept"] = noise_kept
    return Draw(make, blocks_of([name], settings.per_class, seed), sampler.device, facts, whole, stage)


def draw_of_folds(
    sampler: Sampler,
    folds: Sequence[str],
    lengths: Sequence[int] | None,
    settings: SampleSettings,
    seed: int,
    facts: Facts,
    origin: Mapping[str, Any],
) -> Draw:
    """The draw of `settings.per_class` samples of each fold."""
    if settings.numbers:
        check_kept(sampler.spec, settings.numbers)
    members = {fold: members_of(sampler.spec, fold) for fold in dict.fromkeys(folds)}

    def make(blocks: Sequence[Block]) -> Samples:
        return draw_blocks(sampler, blocks, members, lengths, settings, facts)

    stage, whole = f"sample {sampler.spec.variant} seed {sampler.spec.seed}", {**origin, "lengths": repr(lengths)}
    return Draw(make, blocks_of(folds, settings.per_class, seed), sampler.device, facts, whole, stage)


def draw_blocks(
    sampler: Sampler,
    blocks: Sequence[Block],
    members: Mapping[str, Sequence[tuple[str, int]]],
    lengths: Sequence[int] | None,
    settings: SampleSettings,
    facts: Facts,
) -> Samples:
    """The samples of some blocks of folds with these `members`; only the requested ones are returned."""
    spec = sampler.spec
    labels, told, sizes, seeds, codes = list[str](), list[str](), list[int](), list[int](), list[Tensor]()
    for block in blocks:
        generator = block.generator
        rng, asked = np.random.default_rng(block.origin), None
        if isinstance(lengths, range):
            asked = rng.choice(lengths, block.size)
        elif lengths:
            asked = np.take(np.array(lengths), np.arange(block.start, block.start + block.size), mode="wrap")
        finest, chosen = choose_members(members[block.name], asked, block.size, rng)
        ids = torch.tensor([spec.label_ids(label) for label in finest])
        codes.append(draw_codes(sampler, ids, torch.from_numpy(chosen), settings, generator))
        seeds += noise_seeds(block.size, generator)
        sizes += chosen.tolist()
        labels += [block.name] * block.size
        told += finest
    ids = torch.tensor([spec.label_ids(label) for label in told])
    traces = decode_all(sampler.model, torch.cat(codes), ids, torch.tensor(sizes), settings.numbers)
    names = [name for block in blocks for name in names_of(block, facts)]
    noise = start_noise(sizes, seeds, settings.refine_noise)
    return _asked_for(blocks, names, labels, complete_in_silence(sampler, traces, told, settings, noise))


def complete_in_silence(
    sampler: Sampler, traces: Sequence[Tensor], labels: Sequence[str], settings: SampleSettings, noise: Sequence[Tensor]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """`complete` for a few of many samples, whose progress is reported elsewhere."""
    return complete(sampler, traces, labels, settings, noise, f"sample {sampler.spec.variant}", said=False)


def _asked_for(
    blocks: Sequence[Block],
    names: list[str],
    labels: Sequence[str],
    made: tuple[list[np.ndarray], list[np.ndarray]],
) -> Samples:
    """The requested samples, with `names`, among all labels and coordinates, raw and relaxed, made for `blocks`."""
    kept, place = list[int](), 0
    for block in blocks:
        kept += range(place, place + block.wanted)
        place += block.size
    raw, relaxed = ([coords[row] for row in kept] for coords in made)
    return Samples(names, [labels[row] for row in kept], raw, relaxed)


def draw_samples(
    sampler: Sampler, folds: Sequence[str], lengths: Sequence[int] | None, settings: SampleSettings, seed: int
) -> Samples:
    """`settings.per_class` samples of each fold, in memory; a smaller draw gives the first of them."""
    facts: Facts = {"variant": sampler.spec.variant, "seed": sampler.spec.seed}
    return draw_of_folds(sampler, folds, lengths, settings, seed, facts, {}).samples()


TRIES = 50  # most samples drawn to find the valid ones, as a multiple of those wanted


def draw_valid(
    sampler: Sampler,
    folds: Sequence[str],
    lengths: Sequence[int] | None,
    settings: SampleSettings,
    seed: int,
    is_valid: Callable[[Backbone], bool],
) -> Samples:
    """The first `settings.per_class` relaxed samples of each fold that are valid; reports how many were drawn.

    Names keep the place in the draw: samples of missing numbers were not valid. `UserError` if too few samples are.
    """
    wanted, kept = settings.per_class, list[Samples]()
    facts: Facts = {"variant": sampler.spec.variant, "seed": sampler.spec.seed}
    for fold in dict.fromkeys(folds):
        draw = draw_of_folds(sampler, [fold], lengths, replace(settings, per_class=TRIES * wanted), seed, facts, {})
        waiting = [block._replace(wanted=block.size) for block in draw.blocks]
        valid = tried = 0
        while valid < wanted:
            if not waiting:
                raise UserError(f"fold {fold}: {valid} of {tried} samples are physically valid, {wanted} are wanted")
            count = math.ceil((wanted - valid) / USUAL)
            drawn, waiting, rows = replace(draw, blocks=waiting[:count]).samples(), waiting[count:], []
            for row, relaxed in enumerate(drawn.relaxed):
                tried += 1
                if is_valid(as_backbone(drawn.names[row], relaxed)):
                    rows.append(row)
                    valid += 1
                if valid == wanted:
                    break
            kept.append(drawn.take(rows))
        say("sample", f"fold {fold}: {wanted} of {tried} samples are physically valid ({wanted / tried:.0%})")
    return Samples.joined(kept)


def sample_valid(
    model: Path,
    refiner: Path,
    folds: Sequence[str],
    lengths: Sequence[int] | None,
    settings: SampleSettings,
    seed: int,
    output: Path,
    is_valid: Callable[[Backbone], bool],
    *,
    extrapolate: bool = False,
) -> None:
    """Write a store of the samples of `draw_valid`."""
    check_asked(Spec.read(model / "spec.json"), folds, lengths, extrapolate)
    sampler = load_sampler(model, refiner)
    samples = draw_valid(sampler, folds, lengths, settings, seed, is_valid)
    facts = draw_facts(sampler.spec, model, settings, seed)
    rows = zip(samples.names, samples.labels, samples.relaxed, strict=True)
    entries = (sample_entry(name, coords, {"label": label, **facts}) for name, label, coords in rows)
    write_store(output, entries, kind="samples", chosen=True)


def parts_beside(output: Path) -> Path:
    """The folder beside an output for its parts, until it is complete."""
    return output.with_name(f".{output.name}.parts")


def origin_of(facts: Facts, refiner: Path, settings: SampleSettings) -> dict[str, Any]:
    """Everything that determines samples, besides their blocks."""
    own = asdict(replace(settings, batches=1))
    return {"draw": dict(facts), "settings": own, "refiner": sha256(refiner / "weights.safetensors")}


def draw_facts(spec: Spec, model: Path, settings: SampleSettings, seed: int) -> dict[str, str | float | int]:
    """The origin of a sample, as columns of its store: the model, including the hash of its weights, and the draw."""
    return {
        "variant": spec.variant,
        "seed": spec.seed,
        "draw_seed": seed,
        "temperature": settings.temperature,
        "guidance": settings.guidance,
        "prior": settings.prior,
        "weights": sha256(model / "weights.safetensors")[:16],
    }


def say_unknown_labels(spec: Spec, domains: DomainSet, where: Path | str) -> None:
    """Report how many domains are of a class absent from training, as under another labelling scheme."""
    unknown = [label for label in domains.labels if label and not spec.label_ids(label)[0]]
    if unknown:
        known = ", ".join(spec.vocabulary[0])
        said = f"{len(unknown)} of {len(domains)} domains are of classes unknown to the model, such as {unknown[0]}"
        say("sample", f"{where}: {said}; it knows {known} and takes them for unlabelled")


def say_other_training(spec: Spec, model: Path, refiner: Path, splits: Path) -> None:
    """Report if model or refiner was trained with another table of splits: it may know held-out domains."""
    here = sha256(splits)
    for folder, origin in ((model, spec.origin), (refiner, Spec.read(refiner / "spec.json").origin)):
        if origin.get("splits") != here:
            say(
                "sample", f"{folder}: trained by another table of splits than {splits}; it may know what that holds out"
            )


def sample_heldout(
    model: Path,
    refiner: Path,
    store: Path,
    splits: Path,
    settings: SampleSettings,
    seed: int,
    output: Path,
    depth: int,
    drawn: Sequence[Path] = (),
    parts: Path | None = None,
) -> None:
    """The workflow's step: write samples of all labels of `depth` levels, reconstructions of the split `test`, codes.

    Writes samples.h5, raw.h5, reconstructions.h5, swapped.h5 and latents.h5 into the folder `output`. `drawn` are the
    folders of all batches of the samples (`sample_batch`), if they were drawn before.
    """
    sampler = load_sampler(model, refiner)
    by_split = {split: domains.first_conformations() for split, domains in read_split(store, splits).items()}
    by_split.pop("crops", None)  # never seen whole
    if "test" not in by_split:
        raise UserError(f"{splits}: no domain of the split `test`; nothing to reconstruct")
    say_unknown_labels(sampler.spec, by_split["test"], splits)
    say_other_training(sampler.spec, model, refiner, splits)
    with atomic_path(output) as folder:
        folder.mkdir()
        kept = kept_codes(model, sampler.spec, store, splits)
        posteriors = {split: sampler.infer(domains, kept.get(split)) for split, domains in by_split.items()}
        write_latents(folder / "latents.h5", sampler, by_split, posteriors, settings, seed)
        write_reconstructions(folder, sampler, by_split["test"], posteriors["test"], settings, seed)
        draw = draw_of_step(sampler, model, refiner, settings, seed, depth)
        if drawn:
            for name in DRAWN:
                merge_stores([batch / name for batch in drawn], folder / name)
                draw.check_drawn(folder / name)
        else:
            draw.write(folder / "samples.h5", folder / "raw.h5", parts or parts_beside(output))


def draw_of_step(sampler: Sampler, model: Path, refiner: Path, settings: SampleSettings, seed: int, depth: int) -> Draw:
    """The draw of the samples of `sample_heldout`."""
    folds, facts = folds_to_draw(sampler.spec, depth), draw_facts(sampler.spec, model, settings, seed)
    settings = replace(settings, per_class=settings.of_each(len(folds)))
    _announce(len(folds), settings.per_class)
    return draw_of_folds(sampler, folds, None, settings, seed, facts, origin_of(facts, refiner, settings))


DRAWN = ("samples.h5", "raw.h5")  # files of a batch


def sample_batch(
    model: Path, refiner: Path, settings: SampleSettings, seed: int, output: Path, depth: int, batch: tuple[int, int]
) -> None:
    """Write a batch of the samples of `sample_heldout`: `samples.h5` and `raw.h5` in the folder `output`."""
    draw = draw_of_step(load_sampler(model, refiner), model, refiner, settings, seed, depth)
    with atomic_path(output) as folder:
        folder.mkdir()
        samples, raw = (folder / name for name in DRAWN)
        draw.batch(*batch).write(samples, raw, parts_beside(output))
