"""Which domains are held out: whole homologous superfamilies, so that training never sees a relative of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import read_table, write_table
from ..progress import say
from ..settings import SplitSettings
from .labels import fold_class
from .store import Store

CATH = re.compile(r"([0-9]+\.[0-9]+\.[0-9]+)(\.[0-9]+)?")  # topology, superfamily
SCOPE = re.compile(r"([a-z]\.[0-9]+)(\.[0-9]+)\.[0-9]+")  # fold, superfamily
COLUMNS = ("domain_id", "split", "label", "superfamily", "group", "topology_trained", "reason")
SPLITS = ("train", "validation", "test", "excluded")


@dataclass(frozen=True)
class Domain:
    """What the split looks at: facts of the store, and `reason` where the domain cannot be used."""

    id: str
    label: str
    cath: str
    scope: str
    role: str
    group: str
    reason: str


@dataclass
class Component:
    """Domains that are related through a superfamily or a sequence group, and go to one side together.

    `sizes` counts the usable domains of distinct sequence (role not `alternative`) by fold class.
    """

    members: list[Domain]
    sizes: Counter[str] = field(default_factory=Counter)
    topologies: frozenset[str] = frozenset()
    split: str = "train"

    @property
    def key(self) -> str:
        """Its first member, by which components are ordered."""
        return self.members[0].id

    @property
    def main_class(self) -> str:
        """The class that most of its usable domains have."""
        return max(sorted(self.sizes), key=self.sizes.__getitem__) if self.sizes else ""


def _levels(code: str) -> tuple[str, str]:
    """Topology and homologous superfamily of a code, empty where it does not say."""
    match = CATH.fullmatch(code) or SCOPE.fullmatch(code)
    return (match[1], match[1] + match[2] if match[2] else "") if match else ("", "")


def superfamily(code: str) -> str:
    """Homologous superfamily: all of a CATH code, the first three levels of a SCOPe one; empty where it ends above."""
    return _levels(code)[1]


def topology(code: str) -> str:
    """Topology (CATH, `3.40.50`) or fold (SCOPe, `c.37`), the level above the superfamily; empty if there is none."""
    return _levels(code)[0]


def _domains(store: Path, max_breaks: int) -> list[Domain]:
    """The domains of a store in its order, with the reason where one cannot be used."""
    with Store(store) as opened:
        found = []
        for name in opened.ids:
            facts = {key: str(opened.fact(name, key)) for key in ("label", "cath", "scope", "role", "group")}
            breaks = int(opened.fact(name, "breaks"))
            reason = "" if facts["label"] else "unlabelled"
            if breaks > max_breaks:
                reason = f"{breaks} chain breaks, at most {max_breaks}"
            found.append(Domain(id=name, **facts, reason=reason))
    usable = {domain.group for domain in found if domain.role != "alternative" and not domain.reason}
    return [
        Domain(**{**vars(domain), "reason": "alternative without a usable domain of its group"})
        if domain.role == "alternative" and not domain.reason and domain.group not in usable - {""}
        else domain
        for domain in found
    ]


def _incomparable(domains: Iterable[Domain]) -> set[str]:
    """CATH topologies in which some domains are placed by CATH alone and others, without superfamily, by SCOPe.

    Whether two such are relatives cannot be told, so that they have to be taken for it.
    """
    domains = list(domains)
    without_scope = {topology(domain.cath) for domain in domains if not superfamily(domain.scope)}
    without_cath = {topology(domain.cath) for domain in domains if not superfamily(domain.cath)}
    return without_scope & without_cath - {""}


def _relations(domain: Domain, incomparable: set[str]) -> Iterator[str]:
    """Names of what ties a domain to others: superfamilies, sequence group, a topology whose codes do not compare."""
    codes = [domain.label, domain.cath, domain.scope]
    yield from (f"superfamily {name}" for name in map(superfamily, codes) if name)
    if domain.group:
        yield f"group {domain.group}"
    if topology(domain.cath) in incomparable and not (superfamily(domain.cath) and superfamily(domain.scope)):
        yield f"topology {topology(domain.cath)}"


def components(domains: Iterable[Domain]) -> list[Component]:
    """Connected components of domains that share a superfamily or a group (union-find), ordered by smallest id."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    domains = sorted(domains, key=lambda domain: domain.id)
    incomparable = _incomparable(domains)
    for domain in domains:
        for relation in _relations(domain, incomparable):
            parent[root(relation)] = root(f"domain {domain.id}")
    found: dict[str, Component] = {}
    for domain in domains:
        found.setdefault(root(f"domain {domain.id}"), Component([])).members.append(domain)
    for component in found.values():
        usable = [domain for domain in component.members if not domain.reason]
        component.sizes = Counter(fold_class(domain.label) for domain in usable if domain.role != "alternative")
        component.topologies = frozenset(topology(domain.label) for domain in usable)
    return list(found.values())


class Training:
    """How many training components each class and each topology has, and which topologies must keep one."""

    def __init__(self, parts: Iterable[Component]) -> None:
        parts = list(parts)
        self.classes = Counter(name for part in parts for name in part.sizes)
        self.topologies = Counter(name for part in parts for name in part.topologies)
        self.relied: set[str] = set()

    def may_leave(self, part: Component, keep_topology: bool) -> bool:
        """Whether a component may be held out.

        Never the last of a class, nor of a topology that a held-out component relies on; with `keep_topology` not the
        last of any topology.
        """
        needed = part.topologies if keep_topology else part.topologies & self.relied
        return all(self.classes[name] > 1 for name in part.sizes) and all(self.topologies[name] > 1 for name in needed)

    def leave(self, part: Component, split: str, keep_topology: bool) -> None:
        """Move a component from training to `split`."""
        part.split = split
        self.classes.subtract(part.sizes.keys())
        self.topologies.subtract(part.topologies)
        if keep_topology:
            self.relied |= part.topologies


def _hold_out(parts: list[Component], training: Training, fold: str, goals: Mapping[str, int]) -> dict[str, int]:
    """Move components of the class `fold` from training to the splits of `goals` (domains); returns how many went.

    Components whose topology stays trained go first, each to the split that is furthest from its goal. One larger than
    half of a goal does not go there.
    """
    held = {split: sum(part.sizes[fold] for part in parts if part.split == split) for split in goals}
    for keep_topology in (True, False):
        for part in parts:
            size = part.sizes[fold]
            if part.split != "train" or part.main_class != fold or not training.may_leave(part, keep_topology):
                continue
            open_splits = [
                split for split, goal in goals.items() if size <= max(goal // 2, 1) and held[split] + size <= goal
            ]
            if open_splits:
                split = min(open_splits, key=lambda split: held[split] / goals[split])
                training.leave(part, split, keep_topology)
                held[split] += size
    return held


def _fill(parts: list[Component], training: Training, fold: str, goal: int, held: int, least: int) -> int:
    """Move whole components of up to `goal` domains to the test until `least` are there; returns how many then are."""
    for part in parts:
        size = part.sizes[fold]
        fits = part.split != "test" and part.main_class == fold and held + size <= goal
        if held < least and fits and (part.split == "validation" or training.may_leave(part, False)):
            if part.split == "train":
                training.leave(part, "test", False)
            part.split = "test"
            held += size
    return held


def assign(parts: list[Component], settings: SplitSettings) -> None:
    """Set `split` of every component, class by class; the order of candidates is drawn from `settings.seed`.

    Raises `UserError` where a class cannot have `min_test` held-out domains and keep some to train on.
    """
    order = np.random.default_rng(settings.seed).permutation(len(parts))
    shuffled = [parts[index] for index in order]
    totals = sum((part.sizes for part in parts), Counter())
    training = Training(parts)
    for fold in sorted(totals):
        goals = {
            "test": max(round(settings.test * totals[fold]), settings.min_test),
            "validation": round(settings.validation * totals[fold]),
        }
        held = _hold_out(shuffled, training, fold, goals)["test"]
        held = _fill(shuffled, training, fold, goals["test"], held, settings.min_test)
        if held < settings.min_test:
            groups = sum(part.main_class == fold for part in parts)
            raise UserError(
                f"class {fold}: expected at least {settings.min_test} held-out domains beside some to train on, "
                f"could hold out {held} of {totals[fold]} domains in {groups} groups of relatives; lower "
                f"split.min_test, add domains of more superfamilies, or leave the class out of labels.classes"
            )


def split_domains(store: Path, settings: SplitSettings, output: Path) -> dict[str, int]:
    """Write `splits.tsv` for the domains of a store to `output` and return the number of domains of each split.

    Units are groups of domains that share a CATH or SCOPe superfamily or a sequence group; a unit lies on one side.
    Raises `UserError` where no domain is usable or a class is too small to be held out.
    """
    domains = _domains(store, settings.max_breaks)
    if all(domain.reason for domain in domains):
        raise UserError(f"{store}: none of {len(domains)} domains is usable; each needs a label and few chain breaks")
    parts = components(domains)
    assign(parts, settings)
    part_of = {domain.id: part for part in parts for domain in part.members}
    trained = set().union(*(part.topologies for part in parts if part.split == "train"))
    rows = [_row(domain, part_of[domain.id], trained) for domain in domains]
    write_table(output, COLUMNS, rows)
    counts = Counter(row["split"] for row in rows)
    say("split", ", ".join(f"{counts[name]} {name}" for name in SPLITS))
    return {name: counts[name] for name in SPLITS}


def _row(domain: Domain, part: Component, trained: set[str]) -> dict[str, str]:
    return {
        "domain_id": domain.id,
        "split": "excluded" if domain.reason else part.split,
        "label": domain.label,
        "superfamily": next(filter(None, map(superfamily, (domain.label, domain.cath, domain.scope))), ""),
        "group": domain.group,
        "topology_trained": "" if domain.reason else "yes" if topology(domain.label) in trained else "no",
        "reason": domain.reason,
    }


def read_splits(path: Path) -> dict[str, dict[str, str]]:
    """Rows of `splits.tsv` by domain id; `UserError` where a column is absent or a split is not one of the four."""
    rows: dict[str, dict[str, str]] = {}
    for row in read_table(path, COLUMNS):
        if row["split"] not in SPLITS:
            raise UserError(f"{path}: {row['domain_id']}: expected one of {', '.join(SPLITS)}, got {row['split']!r}")
        rows[row["domain_id"]] = row
    return rows
