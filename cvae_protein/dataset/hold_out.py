"""Decides which components of related domains are held out: under one scheme, or rung by rung of the ladder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..config.settings import SplitSettings
from ..core.labels import first_level, topology
from .homology import ALTERNATIVE, SCHEMES, Component, Scheme, SplitDomain, components, superfamily_of


class TopologyRoom:
    """Counts the domains of each topology in each held-out split, at most `most` per topology (0 = no limit)."""

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self.held: Counter[tuple[str, str]] = Counter()

    def fits(self, part: Component, split: str) -> bool:
        """Whether a split has room for a component."""
        return not self.most or all(self.held[split, name] + n <= self.most for name, n in part.topologies.items())

    def add(self, part: Component, split: str) -> None:
        """Count a component."""
        self.held.update({(split, name): n for name, n in part.topologies.items()})


class TrainingCounts:
    """Number of training components of each class, and of each name that a scheme keeps, such as a topology."""

    def __init__(self, parts: Iterable[Component], room: TopologyRoom | None = None) -> None:
        parts = list(parts)
        self.room = room or TopologyRoom()
        self.classes = Counter(name for part in parts for name in part.sizes)
        self.kept = Counter(name for part in parts for name in part.kept)
        self.relied: set[str] = set()

    def may_leave(self, part: Component, keep: bool) -> bool:
        """Whether a component may be held out.

        Never the last one of a class, or of a name on which a held-out component relies. With `keep`, not the last one
        of any of its names either, and none with an unknown name.
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
    """Move components of class `fold` from training to splits with `goals` (in domains); return how many each has.

    Components that leave a relative in training go first (with `strict`, only they go), each to the split that is
    furthest from its goal. A component larger than half of a goal is not moved to that split.
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
    """Move whole components within `goal` domains to the test until it has `least`; return how many it has."""
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

    With `settings.unseen_first`, candidates are the components that the package's model has not seen; the others are
    used only if these give less than half of a class's goal. Returns the classes that cannot have `min_test` held-out
    domains besides some to train on, each with a sentence. A test set never has more domains of a class than its goal
    (not counting components whose main class is another), and fewer only if no remaining component can be moved: it is
    too large, or training has no other of its kind.
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
    """The message about a class of which fewer than `min_test` domains can be held out."""
    return (
        f"class {fold}: expected at least {settings.min_test} held-out domains beside some to train on, "
        f"could hold out {held} of {total} domains in {groups} groups of relatives; lower "
        f"split.min_test, add domains of more {units}, or leave the class out of labels.classes"
    )


LADDER = (("topology", 3), ("superfamily", 2), ("sequence", 1), ("superfamily", 1), ("topology", 1))
"""Schemes in the order in which their components are held out: new topologies, new superfamilies, new members, and the
first two again; each takes the rest of a class's goal divided by the number next to it."""


def _names(part: Component, level: str) -> list[str]:
    """The topologies or superfamilies of a component's domains."""
    return [topology(member.code) if level == "topology" else superfamily_of(member) for member in part.members]


def climb(domains: Sequence[SplitDomain], settings: SplitSettings) -> tuple[list[Component], dict[str, str]]:
    """Hold out rung by rung; returns all components with `split` set, and the classes that `assign` finds too small.

    Whole topologies go first, then superfamilies whose topology stays in training, then sequence clusters whose
    superfamily does. Each rung gets a third of what is held out of a class; what one rung cannot supply passes to the
    next, and finally to the earlier rungs, which leave in training what a lower rung relies on. A split has at most
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
    held: Counter[str] = Counter()  # test domains by class
    found: list[Component] = []
    rest, parts = list(domains), []
    relied: set[str] = set()  # superfamilies and topologies that have to stay in training for a lower rung
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
