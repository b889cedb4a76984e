"""Which groups of relatives are held out: drawn class by class, so that training keeps what the scheme asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from ..config.settings import SplitSettings
from .homology import Component, Scheme


class Training:
    """How many training components each class has, and each name that a scheme wants kept, such as a topology."""

    def __init__(self, parts: Iterable[Component]) -> None:
        parts = list(parts)
        self.classes = Counter(name for part in parts for name in part.sizes)
        self.kept = Counter(name for part in parts for name in part.kept)
        self.relied: set[str] = set()

    def may_leave(self, part: Component, keep: bool) -> bool:
        """Whether a component may be held out.

        Never the last of a class, nor of a name that a held-out component relies on; with `keep` not the last of any
        of its names, nor one of unknown name.
        """
        needed = part.kept if keep else part.kept & self.relied
        named = not keep or "" not in needed
        return named and all(self.classes[n] > 1 for n in part.sizes) and all(self.kept[n] > 1 for n in needed)

    def leave(self, part: Component, split: str, keep: bool) -> None:
        """Move a component from training to `split`."""
        part.split = split
        self.classes.subtract(part.sizes.keys())
        self.kept.subtract(part.kept)
        if keep:
            self.relied |= part.kept


def _hold_out(
    parts: list[Component], training: Training, fold: str, goals: Mapping[str, int], strict: bool
) -> dict[str, int]:
    """Move components of the class `fold` from training to the splits of `goals` (domains); returns how many went.

    Components of which training keeps a relative go first (with `strict` they alone), each to the split that is
    furthest from its goal. One larger than half of a goal does not go there.
    """
    held = {split: sum(part.sizes[fold] for part in parts if part.split == split) for split in goals}
    for keep in (True,) if strict else (True, False):
        for part in parts:
            size = part.sizes[fold]
            if part.split != "train" or part.main_class != fold or not training.may_leave(part, keep):
                continue
            open_splits = [
                split for split, goal in goals.items() if size <= max(goal // 2, 1) and held[split] + size <= goal
            ]
            if open_splits:
                split = min(open_splits, key=lambda split: held[split] / goals[split])
                training.leave(part, split, keep)
                held[split] += size
    return held


def _fill(parts: list[Component], training: Training, fold: str, goal: int, held: int, least: int, strict: bool) -> int:
    """Move whole components of up to `goal` domains to the test until `least` are there; returns how many then are."""
    for part in parts:
        size = part.sizes[fold]
        fits = part.split != "test" and part.main_class == fold and held + size <= goal
        if held < least and fits and (part.split == "validation" or training.may_leave(part, strict)):
            if part.split == "train":
                training.leave(part, "test", strict)
            part.split = "test"
            held += size
    return held


def assign(parts: list[Component], settings: SplitSettings, scheme: Scheme) -> dict[str, str]:
    """Set `split` of every component, class by class; the order of candidates is drawn from `settings.seed`.

    Returns the classes that cannot have `min_test` held-out domains beside some to train on, each with a sentence. A
    test set never has more domains of a class than its goal (components whose class is another left aside), and fewer
    only where no component that is left may go: it is too large, or training has no other of its kind.
    """
    order = np.random.default_rng(settings.seed).permutation(len(parts))
    shuffled = [parts[index] for index in order]
    totals = sum((part.sizes for part in parts), Counter())
    training = Training(parts)
    short: dict[str, str] = {}
    for fold in sorted(totals):
        goals = {
            "test": max(round(settings.test * totals[fold]), settings.min_test),
            "validation": round(settings.validation * totals[fold]),
        }
        held = _hold_out(shuffled, training, fold, goals, scheme.strict)["test"]
        held = _fill(shuffled, training, fold, goals["test"], held, settings.min_test, scheme.strict)
        if held < settings.min_test:
            groups = sum(part.main_class == fold for part in parts)
            short[fold] = (
                f"class {fold}: expected at least {settings.min_test} held-out domains beside some to train on, "
                f"could hold out {held} of {totals[fold]} domains in {groups} groups of relatives; lower "
                f"split.min_test, add domains of more {scheme.units}, or leave the class out of labels.classes"
            )
    return short
