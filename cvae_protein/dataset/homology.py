"""Which domains are related: code levels, what ties domains together in each scheme, and connected components."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..core.labels import RUNGS, architecture, first_level, superfamily, topology
from ..core.pretrained import may_know

ALTERNATIVE = "alternative"


@dataclass(frozen=True)
class SplitDomain:
    """The data on a domain used for the split: facts from the store, clusters, and a `reason` if it cannot be used.

    `copies` names its set of near-identical sequences; `resolution` is in Å, infinite if there is none. `superfamily`
    is the user's own, in addition to what the codes give; `own_label` means that the label is not a CATH or SCOPe code.
    """

    id: str
    label: str
    cath: str
    scope: str
    role: str
    group: str
    sequence_cluster: str = ""
    copies: str = ""
    resolution: float = float("inf")
    reason: str = ""
    superfamily: str = ""
    own_label: bool = False

    @property
    def code(self) -> str:
        """The label, if it is a CATH or SCOPe code."""
        return "" if self.own_label else self.label

    @property
    def codes(self) -> tuple[str, str, str]:
        """The label, if it is a code, and the domain's codes in both classifications."""
        return self.code, self.cath, self.scope


def superfamily_of(domain: SplitDomain) -> str:
    """The user's own superfamily, else that of label, CATH code or SCOPe code; empty if none gives one."""
    return next(filter(None, (domain.superfamily, *map(superfamily, domain.codes))), "")


Ties = Callable[[SplitDomain], Iterable[str]]


def _by_sequence(domains: Sequence[SplitDomain]) -> Ties:
    """No ties beyond sequence clusters and groups."""
    return lambda domain: ()


def _by_superfamily(domains: Sequence[SplitDomain]) -> Ties:
    """Ties by the superfamilies of every code; by (part of) a topology where codes do not say who is related.

    In some CATH topologies, some domains are placed only by CATH and others, without a superfamily, by SCOPe. Whether
    two such domains are relatives cannot be decided, so they count as relatives. A domain without any superfamily may
    be related to all domains of its topology.
    """
    without_scope = {topology(domain.cath) for domain in domains if not superfamily(domain.scope)}
    without_cath = {topology(domain.cath) for domain in domains if not superfamily(domain.cath)}
    incomparable = without_scope & without_cath
    unplaced = {topology(domain.code) for domain in domains if not superfamily_of(domain)}

    def ties(domain: SplitDomain) -> Iterator[str]:
        yield from (f"superfamily {name}" for name in map(superfamily, domain.codes) if name)
        if domain.superfamily:
            yield f"own superfamily {domain.superfamily}"
        both = superfamily(domain.cath) and superfamily(domain.scope)
        doubtful = {topology(domain.cath)} & incomparable if not both else set()
        doubtful |= {topology(domain.code)} & unplaced
        yield from (f"topology {name}" for name in doubtful if name)

    return ties


def _by_topology(domains: Sequence[SplitDomain]) -> Ties:
    """Ties by the topologies of every code, which include the superfamilies."""
    return lambda domain: [f"topology {name}" for name in map(topology, domain.codes) if name]


def _seen_family(domain: SplitDomain) -> str:
    """The superfamily, or the label if it is not a code of a classification."""
    return superfamily_of(domain) or ("" if topology(domain.code) else domain.label)


@dataclass(frozen=True)
class Scheme:
    """One way to hold out domains.

    `ties` gives the names that keep domains in one split, besides groups, sequence clusters and copies. `kept` gives
    the name of which training keeps a member when a domain is held out: always if `strict`, else if possible.
    `condition` is the label by which a held-out domain is known, and `units` describes in words what is held out.
    """

    units: str
    ties: Callable[[Sequence[SplitDomain]], Ties]
    kept: Callable[[SplitDomain], str]
    strict: bool
    condition: Callable[[str], str]


SCHEMES = {
    "sequence": Scheme("sequence clusters", _by_sequence, _seen_family, True, str),
    "superfamily": Scheme("superfamilies", _by_superfamily, lambda domain: topology(domain.code), False, str),
    "topology": Scheme("topologies", _by_topology, lambda domain: architecture(domain.code), False, architecture),
}
"""Values of `split.scheme`: S1, S2 and S3."""


@dataclass
class Component:
    """Related domains, which go to the same split.

    `sizes` counts usable domains with distinct sequences (role not `alternative`) by fold class; `kept` are the names
    that the scheme wants to keep in training; `topologies` counts all usable domains by the topology of their label.
    """

    members: list[SplitDomain]
    sizes: Counter[str] = field(default_factory=Counter)
    kept: frozenset[str] = frozenset()
    topologies: Counter[str] = field(default_factory=Counter)
    split: str = "train"

    @property
    def unseen(self) -> bool:
        """Whether the package's model was trained on no relatives of these domains."""
        return not any(may_know(member.codes) for member in self.members)

    @property
    def main_class(self) -> str:
        """The most frequent class among its usable domains."""
        return max(sorted(self.sizes), key=self.sizes.__getitem__) if self.sizes else ""


def components(domains: Iterable[SplitDomain], scheme: Scheme) -> list[Component]:
    """Connected components (union-find) of domains that share a tie, group, cluster or sequence, by smallest id."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    domains = sorted(domains, key=lambda domain: domain.id)
    ties = scheme.ties(domains)
    for domain in domains:
        own = [("group", domain.group), ("sequence cluster", domain.sequence_cluster), ("copies of", domain.copies)]
        for relation in (*ties(domain), *(f"{kind} {name}" for kind, name in own if name)):
            parent[root(relation)] = root(f"domain {domain.id}")
    found: dict[str, Component] = {}
    for domain in domains:
        found.setdefault(root(f"domain {domain.id}"), Component([])).members.append(domain)
    for component in found.values():
        usable = [domain for domain in component.members if not domain.reason]
        component.sizes = Counter(first_level(domain.label) for domain in usable if domain.role != ALTERNATIVE)
        component.kept = frozenset(scheme.kept(domain) for domain in usable)
        component.topologies = Counter(name for domain in usable if (name := topology(domain.code)))
    return list(found.values())


def rungs(domains: Sequence[SplitDomain], trained: Callable[[SplitDomain], bool]) -> dict[str, str]:
    """How new each domain that is not `trained` is relative to training, by id: one of `labels.RUNGS`.

    Topologies and superfamilies are components of domains linked by any of their codes or by sequence. If codes do not
    say whether two domains are relatives, they count as relatives, so that no domain is called newer than it is.
    Domains without a topology have no rung.
    """

    def known(name: str) -> set[str]:
        parts = (part.members for part in components(domains, SCHEMES[name]))
        return {member.id for members in parts if any(map(trained, members)) for member in members}

    topologies, superfamilies = known("topology"), known("superfamily")

    def rung(domain: SplitDomain) -> str:
        return RUNGS[(domain.id not in superfamilies) + (domain.id not in topologies)]

    return {d.id: rung(d) for d in domains if topology(d.code) and not trained(d)}
