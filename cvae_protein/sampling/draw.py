"""A draw of any size: blocks of samples determined by their place alone, stored in parts until it is complete."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..core.errors import UserError
from ..core.files import atomic_path, owned
from ..core.progress import Progress, say
from ..store.read import Store
from ..store.write import merge_stores, write_store
from .reconstruct import sample_entry
from .sampler import at_once

Facts = Mapping[str, str | float | int]  # columns of a store that all of its samples share
FIRST, USUAL = 16, 32  # samples in each of a name's first two blocks, and in all others: larger ones gain little
PART = {"cpu": 2, "cuda": 64}  # blocks stored together
UNIT = {"cpu": 1, "cuda": 64}  # blocks computed together


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples: names, the target label of each, and coordinates (L, 5, 3) in Å before and after relaxation."""

    names: list[str]
    labels: list[str]
    raw: list[np.ndarray]
    relaxed: list[np.ndarray]

    def take(self, rows: Sequence[int]) -> Samples:
        """Some of the samples, in that order."""
        columns = (self.names, self.labels, self.raw, self.relaxed)
        return Samples(*([column[row] for row in rows] for column in columns))  # type: ignore[arg-type]

    @staticmethod
    def joined(parts: Sequence[Samples]) -> Samples:
        """The samples of all parts, in order."""
        return Samples(
            [name for part in parts for name in part.names],
            [label for part in parts for label in part.labels],
            [coords for part in parts for coords in part.raw],
            [coords for part in parts for coords in part.relaxed],
        )


class Block(NamedTuple):
    """Samples of a fold, or around a domain, from number `start` on, of which the first `wanted` are requested.

    All `size` samples are always computed together, from the random numbers of `origin`: the other samples in a batch
    affect how sums are rounded, so this keeps a sample the same to the last bit however many are requested.
    """

    name: str
    start: int
    size: int
    wanted: int
    origin: tuple[int, int, int]

    @property
    def generator(self) -> torch.Generator:
        """A new generator of the block's random numbers."""
        state = np.random.SeedSequence(self.origin).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0]))


def blocks_of(names: Sequence[str], count: int, seed: int) -> list[Block]:
    """The blocks that make up `count` samples of each name; repeated names count once."""
    found = []
    for name in dict.fromkeys(names):
        start = 0
        while start < count:
            size = FIRST if start < 2 * FIRST else USUAL
            found.append(Block(name, start, size, min(size, count - start), (seed, zlib.crc32(name.encode()), start)))
            start += size
    return found


@dataclass(frozen=True, eq=False)
class Draw:
    """Samples to be drawn.

    make : computes the samples of some blocks
    facts : columns of the store
    origin : all that determines a sample besides its block, for `of.json`: parts of another draw are not reused
    """

    make: Callable[[Sequence[Block]], Samples]
    blocks: Sequence[Block]
    device: torch.device
    facts: Facts
    origin: Mapping[str, Any]
    stage: str

    def batch(self, number: int, count: int) -> Draw:
        """Batch `number`, counted from 0, of `count`: consecutive blocks; all batches together are the whole draw."""
        start, stop = (len(self.blocks) * each // count for each in (number, number + 1))
        return replace(self, blocks=self.blocks[start:stop])

    def __len__(self) -> int:
        """Number of samples requested."""
        return sum(block.wanted for block in self.blocks)

    def samples(self) -> Samples:
        """All samples of the draw, in memory."""
        return Samples.joined(list(self._made(self.blocks)))

    def write(self, output: Path, raw: Path | None, parts: Path) -> None:
        """Write a store of relaxed samples, and one of unrelaxed samples if `raw` is given.

        If a larger draw is interrupted, its finished parts stay in the folder `parts`, and the same draw resumes there.
        """
        size = PART[self.device.type]
        if len(self.blocks) <= size:
            self._store(self.samples(), output, raw)
            return
        files = {start: parts / f"{start:08d}.h5" for start in range(0, len(self.blocks), size)}
        pieces = {start: self.blocks[start : start + size] for start in files}
        self._begin(parts, raw is not None)
        missing = [start for start, file in files.items() if not file.is_file()]
        kept = sum(block.wanted for start in files if start not in missing for block in pieces[start])
        try:
            with owned(parts / "draw"), closing(self._made([b for start in missing for b in pieces[start]])) as made:
                progress = Progress(self.stage, len(self), "structures", kept)
                for start in missing:
                    samples = Samples.joined(list(islice(made, len(self._units(pieces[start])))))
                    self._store(samples, files[start], _unrelaxed(files[start]) if raw else None)
                    progress.advance(len(samples.names))
                merge_stores(list(files.values()), output)
                if raw:
                    merge_stores([_unrelaxed(file) for file in files.values()], raw)
                shutil.rmtree(parts)
        except (SystemExit, KeyboardInterrupt):
            kept = sum(block.wanted for start, file in files.items() if file.is_file() for block in pieces[start])
            say(
                "sample",
                f"stopped; {kept} of {len(self)} samples are kept in {parts}: the same command goes on from there",
            )
            raise

    def check_drawn(self, store: Path) -> None:
        """`UserError` if a store holds other samples than these."""
        expected = [name for block in self.blocks for name in names_of(block, self.facts)]
        with Store(store) as file:
            weights = {str(file.fact(name, "weights", "")) for name in file.ids[:1]}
            if file.ids != expected or weights - {self.facts["weights"]}:
                raise UserError(
                    f"{store}: expected the {len(expected)} samples that this model and these settings draw, "
                    f"{expected[0]} to {expected[-1]}; found {len(file.ids)} of others; draw its batches again"
                )

    def _made(self, blocks: Sequence[Block]) -> Generator[Samples]:
        """Samples of units of blocks, in order."""
        return at_once(self.make, self.device, self._units(blocks))

    def _units(self, blocks: Sequence[Block]) -> list[Sequence[Block]]:
        """Groups of blocks that are computed together; each lies within one part."""
        size = UNIT[self.device.type]
        return [blocks[start : start + size] for start in range(0, len(blocks), size)]

    def _store(self, samples: Samples, output: Path, raw: Path | None) -> None:
        """Write the stores of some samples, the relaxed ones last: if these exist, so do the others."""
        for path, coords in ((raw, samples.raw), (output, samples.relaxed)):
            if path is not None:
                rows = zip(samples.names, samples.labels, coords, strict=True)
                entries = (sample_entry(name, c, {"label": label, **self.facts}) for name, label, c in rows)
                write_store(path, entries, kind="samples")

    def _begin(self, parts: Path, raw: bool) -> None:
        """Prepare the folder for the parts; those of another draw are removed, with a message."""
        record, origin = (
            parts / "of.json",
            {**self.origin, "blocks": self.blocks, "part": PART[self.device.type], "raw": raw},
        )
        if parts.is_dir() and any(parts.iterdir()):
            before = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
            if before == json.loads(json.dumps(origin)):
                say("sample", f"goes on from the parts in {parts}")
                return
            say("sample", f"{parts}: holds parts of another draw; they are removed")
            shutil.rmtree(parts)
        parts.mkdir(parents=True, exist_ok=True)
        with atomic_path(record) as temporary:
            temporary.write_text(json.dumps(origin), encoding="utf-8")


def names_of(block: Block, facts: Facts) -> list[str]:
    """Ids of the requested samples of a block: variant, seed of the training, name, seed of the draw, number."""
    numbers = range(block.start, block.start + block.wanted)
    return [f"{facts['variant']}-{facts['seed']}-{block.name}-{block.origin[0]}-{number:04d}" for number in numbers]


def _unrelaxed(part: Path) -> Path:
    return part.with_suffix(".raw.h5")
