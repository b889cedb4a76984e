"""Sampling: trained model + fold class + length -> backbones; and what a model makes of held-out domains."""

from __future__ import annotations

import json
import math
import re
import shutil
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config.settings import SampleSettings
from ..core.errors import UserError
from ..core.files import atomic_path, owned, sha256
from ..core.labels import truncate
from ..core.progress import Progress, say
from ..model.batch import DomainSet, read_domain, read_split
from ..model.spec import Spec
from ..store.write import merge_stores, write_store
from .reconstruct import sample_entry, write_latents, write_reconstructions
from .sampler import Sampler, at_once, complete, decode_all, draw_codes, load_sampler, noise_seeds

SHORTEST = 5  # residues; relaxation looks at distances over four
MOST_BEYOND = 2  # times the longest training domain that a sample may have
BLOCK = 32  # samples of a fold whose random numbers are drawn together
PART = {"cpu": 64, "cuda": 2048}  # samples of a larger draw that are made and kept together
FEWEST_MEMBERS = 8  # training domains of a finer label that is drawn for itself


def known_fold(spec: Spec, fold: str) -> str:
    """`fold`, or the nearest level above it that training knew; `UserError` where it knew none."""
    for level in range(fold.count(".") + 1, 0, -1):
        if spec.lengths.get(name := truncate(fold, level)):
            return name
    known, finer = ", ".join(spec.vocabulary[0]), len(spec.lengths) - len(spec.vocabulary[0])
    more = f" or one of {finer} labels below them, which `cvae-protein info MODEL` lists" if finer else ""
    raise UserError(f"fold: expected one of {known}{more}, got {fold!r}")


def choose_lengths(spec: Spec, fold: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths (count,) drawn from those of the fold's training members, or of its nearest known parent."""
    return rng.choice(np.array(spec.lengths[known_fold(spec, fold)]), count)


def parse_lengths(words: Sequence[str]) -> Sequence[int]:
    """Numbers of residues as they are written: `80-120` a range, of which each sample draws one, else numbers."""
    if len(words) == 1 and (found := re.fullmatch(r"(\d+)-(\d+)", words[0].strip())):
        low, high = int(found[1]), int(found[2])
        if low <= high:
            return range(low, high + 1)
    if not all(word.strip().isascii() and word.strip().isdigit() for word in words):
        raise UserError(f"length: expected numbers of residues, or one range such as 80-120, got {' '.join(words)}")
    return [int(word) for word in words]


def check_asked(spec: Spec, folds: Sequence[str], lengths: Sequence[int] | None, extrapolate: bool = False) -> None:
    """`UserError` where a fold is unknown, or a length one of which the model can know nothing.

    Lengths outside those of a fold's members are refused as well, unless `extrapolate`, which says which they are.
    """
    longest = MOST_BEYOND * max(max(members) for members in spec.lengths.values())
    for length in lengths or ():
        if not SHORTEST <= length <= longest:
            raise UserError(
                f"length: expected {SHORTEST} to {longest} residues, twice what the model has seen, got {length}"
            )
    for fold in folds:
        if (known := known_fold(spec, fold)) != fold:
            reason = "is unknown to the model" if fold.count(".") < spec.depth else "is finer than the model's labels"
            raise UserError(f"fold: {fold} {reason}; the nearest that it knows is {known}")
        low, high = min(members := spec.lengths[fold]), max(members)
        if not (beyond := [length for length in sorted(set(lengths or ())) if not low <= length <= high]):
            continue
        said = ", ".join(map(str, beyond)) if len(beyond) < 4 else f"{len(beyond)} from {beyond[0]} to {beyond[-1]}"
        have = f"the {len(members)} training domains of {fold} have {low} to {high}"
        if not extrapolate:
            raise UserError(f"length: {said} residues lie beyond what the model has seen: {have}; {EXTRAPOLATE}")
        say("sample", f"{said} residues lie beyond what the model has seen: {have}")


EXTRAPOLATE = "ask for other lengths, or for extrapolation (--extrapolate, extrapolate=True)"


def folds_to_draw(spec: Spec, depth: int) -> list[str]:
    """The labels of `depth` levels, or as many as the model knows, with at least `FEWEST_MEMBERS` training domains.

    A class that has none of them is drawn itself.
    """
    folds: list[str] = []
    for name in spec.vocabulary[0]:
        finest = [label for label in spec.vocabulary[:depth][-1] if label.startswith(f"{name}.")]
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
    parts: Path | None = None,
    extrapolate: bool = False,
) -> None:
    """Write a store of `settings.per_class` relaxed samples of each fold, and the unrelaxed ones nowhere.

    `lengths` are taken in turn, those of a range drawn; without them, lengths are drawn from the fold's training
    members. A larger draw is made
    in parts, as many at once as there are threads; what is made of it when it is cut off stays in the folder `parts`,
    by default a hidden one beside the output, from which the same call goes on.
    """
    check_asked(Spec.read(model / "spec.json"), folds, lengths, extrapolate)
    _announce(len(set(folds)), settings.per_class)
    sampler = load_sampler(model, refiner)
    facts = draw_facts(sampler.spec, model, settings, seed)
    blocks = blocks_of(folds, settings.per_class, seed)
    a_part = PART[sampler.device.type] // BLOCK
    if len(blocks) <= a_part:
        samples = draw_blocks(sampler, blocks, lengths, settings)
        _write(output, samples.relaxed, samples, facts)
        return
    parts = parts or output.with_name(f".{output.name}.parts")
    identity = {"draw": facts, "settings": asdict(settings), "lengths": repr(lengths), "folds": folds, "blocks": a_part}
    identity["refiner"] = sha256(refiner / "weights.safetensors")
    _begin_parts(parts, json.loads(json.dumps(identity)))
    count, total = 0, sum(block.size for block in blocks)

    def make(number: int) -> int:
        """One part, unless it is there; how many samples it has."""
        own = blocks[number : number + a_part]
        if not (path := parts / f"{number:08d}.h5").is_file():
            samples = draw_blocks(sampler, own, lengths, settings, said=False)
            _write(path, samples.relaxed, samples, facts)
        return sum(block.size for block in own)

    numbers = range(0, len(blocks), a_part)
    try:
        with owned(parts / "draw"):
            progress = Progress(f"sample {sampler.spec.variant} seed {sampler.spec.seed}", total, "structures")
            for size in at_once(make, sampler.device, numbers):
                count += size
                progress.advance(size)
            merge_stores([parts / f"{number:08d}.h5" for number in numbers], output, compression="gzip")
            shutil.rmtree(parts)
    except (SystemExit, KeyboardInterrupt):
        say("sample", f"stopped; {count} of {total} samples or more are kept in {parts}: the same command goes on")
        raise


def _announce(folds: int, each: int) -> None:
    say("sample", f"{folds} classes × {each} = {folds * each} samples")


def _begin_parts(parts: Path, identity: Mapping[str, Any]) -> None:
    """A folder for the parts of a draw; those of another draw are removed, which is said."""
    record = parts / "of.json"
    if parts.is_dir() and any(parts.iterdir()):
        before = json.loads(record.read_text(encoding="utf-8"))
        if before == identity:
            say("sample", f"goes on from the parts in {parts}")
            return
        say("sample", f"{parts}: holds parts of another draw; they are removed")
        shutil.rmtree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps(identity), encoding="utf-8")


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
    samples = draw_around(sampler, read_domain(store, splits, domain), settings, seed)
    _write(output, samples.relaxed, samples, draw_facts(sampler.spec, model, settings, seed))


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples: names, the target label of each, and coordinates (L, 5, 3) in Å before and after relaxation."""

    names: list[str]
    labels: list[str]
    raw: list[np.ndarray]
    relaxed: list[np.ndarray]


def draw_around(
    sampler: Sampler, domain: DomainSet, settings: SampleSettings, seed: int, label: str | None = None
) -> Samples:
    """`settings.per_class` conformations of the one structure of `domain`, drawn from its posterior.

    They are decoded under `label`, by default the structure's own.
    """
    spec, posterior, name = sampler.spec, sampler.infer(domain), domain.ids[0]
    label = domain.labels[0] if label is None else label
    count, length = settings.per_class, len(domain.coords[0])
    noise, seeds = [], list[int]()
    for block in blocks_of([name], count, seed):
        generator = block.generator
        noise.append(torch.randn(BLOCK, posterior.mean.shape[1], generator=generator)[: block.size])
        seeds += noise_seeds(BLOCK, generator)[: block.size]
    codes = posterior.mean + settings.temperature * torch.exp(0.5 * posterior.logvar) * torch.cat(noise)
    ids, labels = torch.tensor([spec.label_ids(label)] * count), [label] * count
    traces = sampler.decode(codes, ids, torch.full((count,), length), settings.numbers)
    raw, relaxed = complete(sampler, traces, labels, settings, seeds, f"sample around {name}")
    names = [f"{name}-{spec.variant}-{spec.seed}-{seed}-{index:04d}" for index in range(count)]
    return Samples(names, labels, raw, relaxed)


class Block(NamedTuple):
    """Samples `start` to `start + size` of a fold, or around a domain; their random numbers come from `origin`.

    Random numbers are drawn for a whole block, so that its first samples are the same however many are wanted.
    """

    name: str
    start: int
    size: int
    origin: tuple[int, int, int]

    @property
    def generator(self) -> torch.Generator:
        """A new generator of the block's random numbers."""
        state = np.random.SeedSequence(self.origin).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0]))


def blocks_of(names: Sequence[str], count: int, seed: int) -> list[Block]:
    """The blocks of `count` samples of each name, each name once."""
    return [
        Block(name, start, min(BLOCK, count - start), (seed, zlib.crc32(name.encode()), start // BLOCK))
        for name in dict.fromkeys(names)
        for start in range(0, count, BLOCK)
    ]


def draw_samples(
    sampler: Sampler, folds: Sequence[str], lengths: Sequence[int] | None, settings: SampleSettings, seed: int
) -> Samples:
    """`settings.per_class` samples of each fold; the first of them are those of a smaller draw, up to rounding."""
    return draw_blocks(sampler, blocks_of(folds, settings.per_class, seed), lengths, settings)


TRIES = 50  # draws of as many samples as are wanted, until those that are valid must have been found


def draw_valid(
    sampler: Sampler,
    folds: Sequence[str],
    lengths: Sequence[int] | None,
    settings: SampleSettings,
    seed: int,
    is_valid: Callable[[np.ndarray], bool],
) -> tuple[Samples, dict[str, int]]:
    """The first `settings.per_class` samples of each fold whose relaxed coordinates (L, 5, 3) are valid.

    With them, how many of each fold were drawn for that. Names keep the place in the draw, so that a number that is
    missing was not valid. `UserError` where too few of the samples are.
    """
    wanted, made, drawn_of = settings.per_class, Samples([], [], [], []), dict[str, int]()
    for fold in dict.fromkeys(folds):
        valid = tried = 0
        while valid < wanted:
            if tried >= TRIES * wanted:
                raise UserError(f"fold {fold}: {valid} of {tried} samples are physically valid, {wanted} are wanted")
            size = math.ceil((wanted - valid) / BLOCK) * BLOCK
            blocks = [block for block in blocks_of([fold], tried + size, seed) if block.start >= tried]
            drawn = draw_blocks(sampler, blocks, lengths, settings, said=False)
            for name, raw, relaxed in zip(drawn.names, drawn.raw, drawn.relaxed, strict=True):
                tried += 1
                if valid < wanted and is_valid(relaxed):
                    valid += 1
                    made.names.append(name)
                    made.labels.append(fold)
                    made.raw.append(raw)
                    made.relaxed.append(relaxed)
                if valid == wanted:
                    break
        drawn_of[fold] = tried
    return made, drawn_of


def draw_blocks(
    sampler: Sampler,
    blocks: Sequence[Block],
    lengths: Sequence[int] | None,
    settings: SampleSettings,
    said: bool = True,
) -> Samples:
    """The samples of some blocks; `said` is whether progress is."""
    spec = sampler.spec
    names, labels, sizes, seeds, codes = list[str](), list[str](), list[int](), list[int](), list[Tensor]()
    for block in blocks:
        fold, start, size, origin = block
        generator = block.generator
        chosen = choose_lengths(spec, fold, BLOCK, np.random.default_rng(origin))
        if isinstance(lengths, range):
            chosen = np.random.default_rng(origin).choice(lengths, BLOCK)
        elif lengths:
            chosen = np.take(np.array(lengths), np.arange(start, start + BLOCK), mode="wrap")
        asked = torch.tensor([spec.label_ids(fold)] * BLOCK)
        codes.append(draw_codes(sampler, asked, torch.from_numpy(chosen), settings, generator)[:size])
        seeds += noise_seeds(BLOCK, generator)[:size]
        sizes += chosen[:size].tolist()
        names += [f"{spec.variant}-{spec.seed}-{fold}-{origin[0]}-{start + index:04d}" for index in range(size)]
        labels += [fold] * size
    ids = torch.tensor([spec.label_ids(label) for label in labels])
    traces = decode_all(sampler.model, torch.cat(codes), ids, torch.tensor(sizes), settings.numbers)
    stage = f"sample {spec.variant} seed {spec.seed}"
    raw, relaxed = complete(sampler, traces, labels, settings, seeds, stage, said=said)
    return Samples(names, labels, raw, relaxed)


def draw_facts(spec: Spec, model: Path, settings: SampleSettings, seed: int) -> dict[str, str | float | int]:
    """What drew a sample, as columns of its store: the model, by the hash of its weights too, and the draw."""
    return {
        "variant": spec.variant,
        "seed": spec.seed,
        "draw_seed": seed,
        "temperature": settings.temperature,
        "guidance": settings.guidance,
        "prior": settings.prior,
        "weights": sha256(model / "weights.safetensors")[:16],
    }


def sample_heldout(
    model: Path,
    refiner: Path,
    store: Path,
    splits: Path,
    settings: SampleSettings,
    seed: int,
    output: Path,
    depth: int,
) -> None:
    """The workflow's step: samples of every label of `depth` levels, reconstructions of the split `test`, all codes.

    Writes samples.h5, raw.h5, reconstructions.h5, swapped.h5 and latents.h5 into the folder `output`.
    """
    sampler = load_sampler(model, refiner)
    spec = sampler.spec
    by_split = {split: domains.first_conformations() for split, domains in read_split(store, splits).items()}
    by_split.pop("crops", None)  # never seen whole
    if "test" not in by_split:
        raise UserError(f"{splits}: no domain of the split `test`; nothing to reconstruct")
    with atomic_path(output) as folder:
        folder.mkdir()
        posteriors = {split: sampler.infer(domains) for split, domains in by_split.items()}
        write_latents(folder / "latents.h5", sampler, by_split, posteriors, settings, seed)
        write_reconstructions(folder, sampler, by_split["test"], posteriors["test"], settings, seed)
        folds = folds_to_draw(spec, depth)
        settings = replace(settings, per_class=settings.of_each(len(folds)))
        _announce(len(folds), settings.per_class)
        samples = draw_samples(sampler, folds, None, settings, seed)
        facts = draw_facts(spec, model, settings, seed)
        _write(folder / "samples.h5", samples.relaxed, samples, facts)
        _write(folder / "raw.h5", samples.raw, samples, facts)


def _write(path: Path, coords: list[np.ndarray], samples: Samples, facts: Mapping[str, str | float | int]) -> None:
    rows = zip(samples.names, samples.labels, coords, strict=True)
    entries = [sample_entry(name, c, {"label": label, **facts}) for name, label, c in rows]
    write_store(path, entries, kind="samples")
