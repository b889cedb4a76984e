"""Which components of related domains are held out: under one scheme, or rung by rung of the ladder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..config.settings import SplitSettings
from ..core.labels import first_level, topology
from .homology import ALTERNATIVE, SCHEMES, Component, Scheme, SplitDomain, components, superfamily_of


class TopologyRoom:
    """How many domains of a topology each held-out split has, and how many it may have (`most`; 0 = any number)."""

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self.held: Counter[tuple[str, str]] = Counter()

    def fits(self, part: Component, split: str) -> bool:
        """Whether a component finds room in a split."""
        return not self.most or all(self.held[split, name] + n <= self.most for name, n in part.topologies.items())

    def add(self, part: Component, split: str) -> None:
        """Count a component."""
        self.held.update({(split, name): n for name, n in part.topologies.items()})


class TrainingCounts:
    """How many training components each class has, and each name that a scheme wants kept, such as a topology."""

    def __init__(self, parts: Iterable[Component], room: TopologyRoom | None = None) -> None:
        parts = list(parts)
        self.room = room or TopologyRoom()
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
        self.room.add(part, split)
        if keep:
            self.relied |= part.kept


def _hold_out(
    parts: list[Component], training: TrainingCounts, fold: str, goals: Mapping[str, int], strict: bool
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
                split
                for split, goal in goals.items()
                if size <= max(goal // 2, 1) and held[split] + size <= goal and training.room.fits(part, split)
            ]
            if open_splits:
                split = min(open_splits, key=lambda split: held[split] / goals[split])
                training.leave(part, split, keep)
                held[split] += size
    return held


def _fill(
    parts: list[Component], training: TrainingCounts, fold: str, goal: int, held: int, least: int, strict: bool
) -> int:
    """Move whole components of up to `goal` domains to the test until `least` are there; returns how many then are."""
    for part in parts:
        size = part.sizes[fold]
        fits = part.split != "test" and part.main_class == fold and held + size <= goal
        fits = fits and training.room.fits(part, "test")
        if held < least and fits and (part.split == "validation" or training.may_leave(part, strict)):
            if part.split == "train":
                training.leave(part, "test", strict)
            part.split = "test"
            held += size
    return held


def assign(parts: list[Component], settings: SplitSettings, scheme: Scheme) -> dict[str, str]:
    """Set `split` of every component, class by class; the order of candidates is drawn from `settings.seed`.

    With `settings.unseen_first` these are what the package's model has not seen; others only where those are less than
    half of what is wanted of a class. Returns the classes that cannot have `min_test` held-out domains beside some to
    train on, each with a sentence. A test set never has more domains of a class than its goal (components whose class
    is another left aside), and fewer only where no component that is left may go: it is too large, or training has no
    other of its kind.
    """
    order = np.random.default_rng(settings.seed).permutation(len(parts))
    shuffled = [parts[index] for index in order]
    totals = sum((part.sizes for part in parts), Counter())
    training = TrainingCounts(parts)
    unseen = [part for part in shuffled if part.unseen] if settings.unseen_first else []
    short: dict[str, str] = {}
    for fold in sorted(totals):
        goals = {
            "test": max(round(settings.test * totals[fold]), settings.min_test),
            "validation": round(settings.validation * totals[fold]),
        }
        held = _hold_out(unseen, training, fold, goals, scheme.strict)["test"] if unseen else 0
        if 2 * held < goals["test"]:
            held = _hold_out(shuffled, training, fold, goals, scheme.strict)["test"]
        held = _fill(shuffled, training, fold, goals["test"], held, settings.min_test, scheme.strict)
        if held < settings.min_test:
            groups = sum(part.main_class == fold for part in parts)
            short[fold] = too_few(fold, settings, held, totals[fold], groups, scheme.units)
    return short


def too_few(fold: str, settings: SplitSettings, held: int, total: int, groups: int, units: str) -> str:
    """The sentence about a class of which fewer than `min_test` domains can be held out."""
    return (
        f"class {fold}: expected at least {settings.min_test} held-out domains beside some to train on, "
        f"could hold out {held} of {total} domains in {groups} groups of relatives; lower "
        f"split.min_test, add domains of more {units}, or leave the class out of labels.classes"
    )


LADDER = (("topology", 3), ("superfamily", 2), ("sequence", 1), ("superfamily", 1), ("topology", 1))
"""Schemes whose components are held out one after the other: new topologies, new superfamilies, new members, and the
first two again; each has what is left of a class over the number beside it."""


def _names(part: Component, level: str) -> list[str]:
    """The topologies or superfamilies of a component's domains."""
    return [topology(member.code) if level == "topology" else superfamily_of(member) for member in part.members]


def climb(domains: Sequence[SplitDomain], settings: SplitSettings) -> tuple[list[Component], dict[str, str]]:
    """Hold out rung by rung: components of all domains with their `split` set, and what `assign` says of short classes.

    Whole topologies go first, then superfamilies of topologies that training keeps, then sequence clusters of
    superfamilies that it keeps. Each rung has a third of what is held out of a class; what one cannot have goes to the
    next, and at last to those before, which leave what a lower rung relies on in training. A split has at most
    `settings.max_per_topology` domains of a topology, over all rungs.
    """
    random = np.random.default_rng(settings.seed)
    room = TopologyRoom(settings.max_per_topology)
    totals = Counter(first_level(d.label) for d in domains if not d.reason and d.role != ALTERNATIVE)
    left = {
        fold: {
            "test": max(round(settings.test * total), settings.min_test),
            "validation": round(settings.validation * total),
        }
        for fold, total in totals.items()
    }
    held: Counter[str] = Counter()  # in the test, by class
    found: list[Component] = []
    rest, parts = list(domains), []
    relied: set[str] = set()  # superfamilies and topologies that training has to keep for a rung below
    for name, share in LADDER:
        scheme, strict = SCHEMES[name], name != "topology"
        parts = components(rest, scheme)
        parts = [parts[index] for index in random.permutation(len(parts))]
        training = TrainingCounts(parts, room)
        free = [part for part in parts if name == "sequence" or not relied & set(_names(part, name))]
        for fold in sorted(totals):
            goals = {split: goal // share for split, goal in left[fold].items()}
            taken = _hold_out(free, training, fold, goals, strict)
            if share == 1:
                least = settings.min_test - held[fold]
                taken["test"] = _fill(free, training, fold, goals["test"], taken["test"], least, strict)
            held[fold] += taken["test"]
            left[fold] = {split: goal - taken[split] for split, goal in left[fold].items()}
        out = [part for part in parts if part.split != "train"]
        relied |= {kept for part in out for kept in _names(part, "topology")} if name != "topology" else set()
        relied |= {kept for part in out for kept in _names(part, "superfamily")} if name == "sequence" else set()
        found += out
        rest = [member for part in parts if part.split == "train" for member in part.members]
    groups = Counter(part.main_class for part in (*found, *(part for part in parts if part.split == "train")))
    units = "topologies, superfamilies and sequence clusters"
    short = {
        fold: too_few(fold, settings, held[fold], totals[fold], groups[fold], units)
        for fold in sorted(totals)
        if held[fold] < settings.min_test
    }
    return [*found, *(part for part in parts if part.split == "train")], short
