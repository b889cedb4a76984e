"""Which structures a step trains on: drawn by chance, cut to stretches, and put beside others of like length."""

from __future__ import annotations

import numpy as np

SHORTEST_CROP = 40  # residues


def cut(
    lengths: np.ndarray, share: float, rng: np.random.Generator, longest: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop (B,) of a stretch of each chain of `lengths` (B,) residues: a `share` is cut, the others whole.

    A chain of more than `longest` residues is always cut, to at most so many.
    """
    longest = int(lengths.max(initial=0)) if longest is None else longest
    is_cut = (lengths > SHORTEST_CROP) & (rng.random(len(lengths)) < share) | (lengths > longest)
    shortest = min(SHORTEST_CROP, longest)
    drawn = rng.integers(shortest, np.maximum(np.minimum(lengths, longest + 1), shortest + 1))
    size = np.where(is_cut, drawn, lengths)
    start = rng.integers(0, lengths - size + 1)
    return start, start + size


class Buckets:
    """Batches of stretches of like length.

    `pool` batches are drawn at once, each structure independently by its `chance`; they are cut (see `cut`), sorted by
    length and dealt out in random order. Every structure that was drawn is used exactly once, so that a domain is used
    as often as its chance says, whatever its length: only who stands beside whom depends on it.
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
        """The next batch: row, start and stop of each stretch (B, 3)."""
        if not len(self.waiting):
            rows = self.rng.choice(len(self.lengths), self.pool * self.size, p=self.chance)
            start, stop = cut(self.lengths[rows], self.crop, self.rng, self.longest)
            order = np.argsort(stop - start, kind="stable")
            stretches = np.stack([rows, start, stop], axis=1)[order]
            self.waiting = self.rng.permutation(stretches.reshape(self.pool, self.size, 3))
        batch, self.waiting = self.waiting[0], self.waiting[1:]
        return batch
