"""What the oracle saw of structures, as `cvae-protein embed` wrote it: features and the probability of each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from ..core.errors import UserError


@dataclass(frozen=True, eq=False)
class Features:
    """Features of structures.

    `ids` and `labels` (n), `values` (n, F) standardised over the training domains; a level of the label each:
    `names` the labels that the oracle knows and `posteriors` (n, labels) their probabilities. NaN where a structure
    could not be seen.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    values: np.ndarray
    names: tuple[tuple[str, ...], ...]
    posteriors: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def levels(self) -> int:
        """Levels of the label that the oracle tells."""
        return len(self.names)

    @cached_property
    def seen(self) -> np.ndarray:
        """Whether each structure could be seen (n,)."""
        return np.isfinite(self.values).all(axis=1)

    @cached_property
    def likeliest(self) -> tuple[tuple[str, ...], ...]:
        """The likeliest label of each structure at each level, levels x n; empty where it could not be seen."""
        found = []
        for names, p in zip(self.names, self.posteriors, strict=True):
            best = np.argmax(np.nan_to_num(p, nan=-1.0), axis=1) if len(p) else np.zeros(0, int)
            found.append(tuple(names[k] if ok else "" for k, ok in zip(best.tolist(), self.seen.tolist(), strict=True)))
        return tuple(found)

    def probability(self, row: int, label: str) -> float:
        """Probability of a label for one structure; NaN for a label that the oracle does not know."""
        level = label.count(".") + 1
        if level > self.levels or label not in self.names[level - 1]:
            return float("nan")
        return float(self.posteriors[level - 1][row, self.names[level - 1].index(label)])

    def take(self, rows: Sequence[int] | np.ndarray) -> Features:
        """Some of the structures, in that order."""
        rows = np.asarray(rows, int)
        return Features(
            tuple(self.ids[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            self.values[rows],
            self.names,
            tuple(p[rows] for p in self.posteriors),
        )

    def of(self, ids: Sequence[str]) -> Features:
        """The structures of these ids, in their order; `UserError` where one is absent."""
        place = {name: row for row, name in enumerate(self.ids)}
        if missing := [name for name in ids if name not in place]:
            raise UserError(
                f"features: expected every structure that is scored, found none of {missing[0]!r}; embed again"
            )
        return self.take([place[name] for name in ids])


@dataclass(frozen=True, eq=False)
class Sight:
    """Features of the structures that are judged, in their order, and of the held-out domains, in theirs.

    `superfamily` names that of a real domain: those of one are no independent witnesses.
    """

    own: Features
    held_out: Features
    superfamily: Mapping[str, str] = field(default_factory=dict)

    def witnesses(self, features: Features) -> np.ndarray:
        """For each structure what it is one witness of: its superfamily, or itself (n,)."""
        return np.array([self.superfamily.get(name) or name for name in features.ids], object)


def read_features(path: Path) -> Features:
    """The features of a file; `UserError` where it is absent or of another form."""
    if not path.is_file():
        raise UserError(f"{path}: expected the features that `cvae-protein embed` writes, found no file there")
    try:
        with h5py.File(path, "r") as file:
            ids, labels = (tuple(str(text) for text in file[name].asstr()[:]) for name in ("id", "label"))
            levels = sorted((name for name in file if name.startswith("level")), key=lambda name: int(name[5:]))
            names = tuple(tuple(str(text) for text in file[level].attrs["labels"]) for level in levels)
            posteriors = tuple(np.asarray(file[level][:], float) for level in levels)
            return Features(ids, labels, np.asarray(file["feature"][:], float), names, posteriors)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a readable file of features ({error})") from error
