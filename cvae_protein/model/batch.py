"""Domains as batches: read from the store, cropped, sorted by length, padded; work is split if memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..core.errors import UserError
from ..core.files import read_table
from ..core.progress import say
from ..core.structure import CA, Backbone, C, O
from ..store.read import Store
from .spec import Spec

FEWEST_CA = 5  # residues that a single structure needs
RESIDUES_AT_ONCE = 8192  # padded residues of a batch outside training; memory grows with it


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded structures: `coords` (B, L, 5, 3) Å with zeros where missing, `mask` (B, L), `labels` (B, levels)."""

    coords: Tensor
    mask: Tensor
    labels: Tensor

    @property
    def lengths(self) -> Tensor:
        """Residues of each structure (B,)."""
        return self.mask.sum(1)

    @property
    def ca(self) -> Tensor:
        """CA traces (B, L, 3) in Å."""
        return self.coords[:, :, CA]

    @property
    def carbonyl(self) -> Tensor:
        """Unit vectors from C to O (B, L, 3), zeros where either is missing."""
        bond = self.coords[:, :, O] - self.coords[:, :, C]
        length = bond.norm(dim=-1, keepdim=True)
        return torch.where((length > 0.5) & (length < 2.0), bond / length.clamp(min=1e-3), 0.0)

    def part(self, rows: slice) -> Batch:
        """Some of the structures."""
        return Batch(self.coords[rows], self.mask[rows], self.labels[rows])

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        return Batch(self.coords.to(device), self.mask.to(device), self.labels.to(device))


def pad(coords: Sequence[np.ndarray], labels: Sequence[Sequence[int]]) -> Batch:
    """A batch of structures (L_i, 5, 3) in Å and their label ids, padded to the longest."""
    lengths = [len(c) for c in coords]
    padded = np.zeros((len(coords), max(lengths), 5, 3), np.float32)
    for row, c in enumerate(coords):
        padded[row, : len(c)] = np.nan_to_num(c)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Batch(torch.from_numpy(padded), mask, torch.tensor(labels, dtype=torch.long).reshape(len(coords), -1))


@dataclass(frozen=True, eq=False)
class DomainSet:
    """Domains of one split in memory: one entry per conformation.

    `coords` each (L_i, 5, 3) in Å, `ids` and `labels` (dotted), `weights` = 1 / conformations of the domain,
    or that multiplied by how often it is to be drawn.
    """

    coords: tuple[np.ndarray, ...]
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.coords)

    def first_conformations(self) -> DomainSet:
        """The domains with their first conformation alone."""
        keep = [i for i, name in enumerate(self.ids) if i == 0 or name != self.ids[i - 1]]
        return replace(self.take(keep), weights=np.ones(len(keep)))

    def take(self, rows: Sequence[int] | np.ndarray) -> DomainSet:
        """Some of the conformations, in that order."""
        coords, ids, labels = zip(*((self.coords[i], self.ids[i], self.labels[i]) for i in rows), strict=True)
        return DomainSet(coords, ids, labels, self.weights[np.asarray(rows)])

    def with_crops_of(self, others: DomainSet | None) -> DomainSet:
        """These domains, then `others`, which are too long to be used whole and whose crops have no labels."""
        if others is None:
            return self
        return DomainSet(
            self.coords + others.coords,
            self.ids + others.ids,
            self.labels + ("",) * len(others),
            np.concatenate([self.weights, others.weights]),
        )

    @property
    def lengths(self) -> np.ndarray:
        """Residues of each conformation (D,)."""
        return np.array([len(c) for c in self.coords])

    def label_ids(self, spec: Spec) -> Tensor:
        """Label ids of each conformation (D, levels)."""
        return torch.tensor([spec.label_ids(label) for label in self.labels]).reshape(len(self), -1)

    def batch(self, spec: Spec, rows: Sequence[int] | np.ndarray | None = None) -> Batch:
        """The structures `rows` (default: all), whole and unchanged."""
        rows = range(len(self)) if rows is None else rows
        return pad([self.coords[i] for i in rows], [spec.label_ids(self.labels[i]) for i in rows])


def by_length(lengths: Sequence[int] | np.ndarray, residues: int = RESIDUES_AT_ONCE) -> Iterator[np.ndarray]:
    """Rows of similar length, in batches of at most `residues` padded residues (at least one row), shortest first."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * int(lengths[order[stop]]) <= residues:
            stop += 1
        yield order[start:stop]
        start = stop


def read_split(store_path: Path, splits_path: Path, balanced: bool = False) -> dict[str, DomainSet]:
    """The domains of each split except `excluded`, with their labels in the table of splits.

    Residues without CA are left out of a structure. If `balanced`, training domains have the weights of the table, so
    that superfamilies are drawn equally often. Raises `UserError` if a domain of the store is not in the table or none
    is left to train on.
    """
    columns = ("domain_id", "split", "label", *(("weight",) if balanced else ()))
    table = list(read_table(splits_path, columns))
    assigned = {row["domain_id"]: (row["split"], row["label"]) for row in table}
    weights = {row["domain_id"]: float(row["weight"]) for row in table if row["weight"]} if balanced else {}
    found: dict[str, list[tuple[np.ndarray, str, str, float]]] = {}
    with Store(store_path) as store:
        for name in store.ids:
            split, label = assigned.get(name, ("", ""))
            if not split:
                raise UserError(f"{splits_path}: no row for {name!r}, which is in {store_path}; split again")
            if split == "excluded":
                continue
            rows = store.rows(name)
            for row in rows:
                found.setdefault(split, []).append(
                    (with_ca(store.coords(row)), name, label, weights.get(name, 1.0) / len(rows))
                )
    if not found.get("train"):
        raise UserError(f"{splits_path}: no domain of the split `train`; nothing to learn from")
    columns_of = {split: zip(*items, strict=True) for split, items in found.items()}
    return {split: DomainSet(c, ids, labels, np.array(w)) for split, (c, ids, labels, w) in columns_of.items()}


def read_domain(store_path: Path, splits_path: Path | None, name: str) -> DomainSet:
    """One domain of a store in its first conformation; residues without CA are left out.

    Its label is that of the table of splits or, without one, of the store.
    """
    with Store(store_path) as store:
        coords, label = store.coords(store.rows(name)[0]), str(store.fact(name, "label"))
    if splits_path is not None:
        labels = {row["domain_id"]: row["label"] for row in read_table(splits_path, ("domain_id", "label"))}
        label = labels.get(name, label)
    return one_domain(coords, name, label)


def one_domain(coords: np.ndarray, name: str, label: str) -> DomainSet:
    """The domain of coordinates (L, 5, 3) in Å; residues without CA are left out, and at least five must remain."""
    coords = with_ca(coords)
    if len(coords) < FEWEST_CA:
        raise UserError(f"{name}: expected {FEWEST_CA} residues with CA or more, found {len(coords)}")
    return DomainSet((coords - coords[:, CA].mean(axis=0),), (name,), (label,), np.ones(1))


def with_ca(coords: np.ndarray) -> np.ndarray:
    """The residues (L, 5, 3) that have a CA."""
    return coords[np.isfinite(coords[:, CA]).all(-1)]


def pad_traces(traces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Tensors (L_i, 3) as one batch (B, L, 3), zeros in the padding, and its mask (B, L)."""
    lengths = torch.tensor([len(trace) for trace in traces], device=traces[0].device)
    batch = pad_sequence(list(traces), batch_first=True)
    return batch, torch.arange(batch.shape[1], device=batch.device) < lengths[:, None]


def training_batch(domains: DomainSet, spec: Spec, crops: np.ndarray, jitter: float, rng: np.random.Generator) -> Batch:
    """Training structures from `crops` (B, 3), given as row, start and stop; all are jittered by `jitter` Å.

    A crop is not a member of its domain's fold: its label is hidden (0), so that a class is learnt from whole domains.
    """
    coords, labels = [], []
    for row, start, stop in crops.tolist():
        c, ids = domains.coords[row][start:stop], spec.label_ids(domains.labels[row])
        coords.append(c + jitter * rng.standard_normal(c.shape, np.float32) if jitter else c)
        labels.append(ids if stop - start == len(domains.coords[row]) else [0] * len(ids))
    return pad(coords, labels)


def hide_labels(labels: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Label ids (B, levels) with some hidden: at each level a `share` of structures loses that and all finer ones."""
    hidden = np.cumsum(rng.random(labels.shape) < share, axis=1) > 0
    return labels.masked_fill(torch.from_numpy(hidden), 0)


def as_backbone(name: str, coords: np.ndarray) -> Backbone:
    """A `Backbone` of poly-alanine from modelled coordinates (L, 5, 3) in Å."""
    length = len(coords)
    return Backbone(name, "A" * length, coords[None], tuple(str(i + 1) for i in range(length)))


SHORTEST_CROP = 40  # residues


def crop(
    lengths: np.ndarray, share: float, rng: np.random.Generator, longest: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop (B,) of a crop of each chain of `lengths` (B,) residues: a `share` is cropped, others stay whole.

    A chain of more than `longest` residues is always cropped, to at most that many.
    """
    longest = int(lengths.max(initial=0)) if longest is None else longest
    is_cut = (lengths > SHORTEST_CROP) & (rng.random(len(lengths)) < share) | (lengths > longest)
    shortest = min(SHORTEST_CROP, longest)
    drawn = rng.integers(shortest, np.maximum(np.minimum(lengths, longest + 1), shortest + 1))
    size = np.where(is_cut, drawn, lengths)
    start = rng.integers(0, lengths - size + 1)
    return start, start + size


class LengthBuckets:
    """Batches of crops of similar length.

    `pool` batches are drawn at once, each structure independently by its `chance`; they are cropped (see `crop`),
    sorted by length and returned in random order. Every structure drawn is used exactly once, so that a domain is used
    as often as its chance says, whatever its length: only the composition of batches depends on length.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        chance: np.ndarray,
        size: int,
        crop: float,
        pool: int,
        rng: np.random.Generator,
        longest: int | None = None,
    ) -> None:
        self.lengths, self.chance, self.size, self.crop, self.pool, self.rng = lengths, chance, size, crop, pool, rng
        self.longest = longest
        self.waiting = np.zeros((0, size, 3), np.int64)

    def draw(self) -> np.ndarray:
        """The next batch: row, start and stop of each crop (B, 3)."""
        if not len(self.waiting):
            rows = self.rng.choice(len(self.lengths), self.pool * self.size, p=self.chance)
            start, stop = crop(self.lengths[rows], self.crop, self.rng, self.longest)
            order = np.argsort(stop - start, kind="stable")
            crops = np.stack([rows, start, stop], axis=1)[order]
            self.waiting = self.rng.permutation(crops.reshape(self.pool, self.size, 3))
        batch, self.waiting = self.waiting[0], self.waiting[1:]
        return batch


Result = TypeVar("Result")
ERRORS = (MemoryError, RuntimeError)  # torch.OutOfMemoryError is a RuntimeError
SAID_BY_TORCH = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; torch has an error type of its own only for GPUs."""
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in said for words in SAID_BY_TORCH)


def free_memory() -> None:
    """Release torch's cached memory; call it after the `except` block, since an error keeps its frames' tensors."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_pieces(work: Callable[[np.ndarray], Result], rows: np.ndarray, stage: str) -> list[tuple[np.ndarray, Result]]:
    """`rows` with the result of `work` for them, at once if memory suffices, else in halves.

    Noise that `work` draws for all of its rows together is different in pieces. `UserError` if memory does not suffice
    for one row.
    """
    try:
        return [(rows, work(rows))]
    except ERRORS as error:
        if not is_out_of_memory(error):
            raise
        if len(rows) == 1:
            raise UserError(f"{stage}: memory does not suffice for one structure; use a machine with more") from error
    free_memory()
    half = len(rows) // 2
    say(stage, f"memory does not suffice for {len(rows)} structures at once; going on with {half}")
    return in_pieces(work, rows[:half], stage) + in_pieces(work, rows[half:], stage)
