"""A library in which a structure also finds the longer ones that hold its like as a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .metric import Judged
from .neighbours import Library, descriptor

SHORTEST, LONGEST = 0.5, 1.4  # whole structures of so many times the query's length are compared with it
GROWTH = 1.25  # from one length of windows to the next
FIRST = 32  # residues of the shortest windows
STEP = 0.25  # of a window's length, from one window to the next
SCREENED = 192  # structures that the filter leaves to the approximate alignment


class ContainingLibrary(Library):
    """Structures with the descriptors of their windows of about 32, 40, 50, 62, ... residues.

    TM-score normalised by the query cannot exceed the target's share of its length, so that targets of less than half
    of it are passed over.
    """

    def __init__(self, structures: Sequence[Judged]) -> None:
        super().__init__(structures)
        longest = int(self.lengths.max(initial=0))
        count = int(np.log(max(longest / FIRST, 1)) / np.log(GROWTH)) + 1
        self.sizes = np.round(FIRST * GROWTH ** np.arange(count)).astype(int)
        self.windows = [self._windows_of(int(size)) for size in self.sizes]

    def _windows_of(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Owner and descriptor of every window of `size` residues of the structures that are longer by a quarter."""
        owners, found = [], [np.zeros((0, self.descriptors.shape[1]), np.float32)]
        for index, structure in enumerate(self.structures):
            last = len(structure.ca) - size
            if len(structure.ca) < GROWTH * size:
                continue
            for start in sorted({*range(0, last, max(1, round(STEP * size))), last}):
                owners.append(index)
                found.append(descriptor(structure.ca[start : start + size])[None])
        return np.array(owners, int), np.concatenate(found)

    def like(self, query: Judged, allowed: Callable[[Judged], bool] | None = None) -> list[int]:
        """Indices of at most 192 structures, those of which the whole or a window has the likest distance map."""
        length, own = len(query.ca), descriptor(query.ca)
        difference = np.full(len(self), np.inf)
        whole = np.flatnonzero((self.lengths >= SHORTEST * length) & (self.lengths <= LONGEST * length))
        difference[whole] = np.abs(self.descriptors[whole] - own).sum(axis=1)
        owners, windows = self.windows[int(np.abs(np.log(self.sizes / length)).argmin())]
        np.minimum.at(difference, owners, np.abs(windows - own).sum(axis=1))
        order = [index for index in np.argsort(difference, kind="stable").tolist() if np.isfinite(difference[index])]
        if allowed is not None:
            order = [index for index in order if allowed(self.structures[index])]
        return order[:SCREENED]
