"""Which domains are related: the levels of their codes, what ties them under each scheme, and who hangs together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..core.labels import RUNGS, architecture, first_level, superfamily, topology
from ..core.pretrained import may_know

ALTERNATIVE = "alternative"


@dataclass(frozen=True)
class SplitDomain:
    """What the split looks at: facts of the store, its clusters, and `reason` where the domain cannot be used.

    `copies` names the set of near-identical sequences that it is one of; `resolution` is in Å, infinite where there is
    none. `superfamily` is one's own, beside what the codes say; `own_label` says that the label is no code.
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
        """The label, where that is a code of CATH or SCOPe."""
        return "" if self.own_label else self.label

    @property
    def codes(self) -> tuple[str, str, str]:
        """Its label, where that is a code, and its codes in both classifications."""
        return self.code, self.cath, self.scope


def superfamily_of(domain: SplitDomain) -> str:
    """Its own superfamily, else that of its label, CATH code or SCOPe code; empty where none says."""
    return next(filter(None, (domain.superfamily, *map(superfamily, domain.codes))), "")


Ties = Callable[[SplitDomain], Iterable[str]]


def _by_sequence(domains: Sequence[SplitDomain]) -> Ties:
    """Nothing beyond sequence clusters and groups."""
    return lambda domain: ()


def _by_superfamily(domains: Sequence[SplitDomain]) -> Ties:
    """Superfamilies of every code; a whole topology, or a part of it, where they do not say who is related.

    In some CATH topologies domains are placed by CATH alone and others, without superfamily, by SCOPe. Whether two such
    are relatives cannot be decided, so that they count as relatives. A domain without any superfamily may be a relative
    of all in its topology.
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
    """Topologies of every code; a superfamily lies in one of them."""
    return lambda domain: [f"topology {name}" for name in map(topology, domain.codes) if name]


def _seen_family(domain: SplitDomain) -> str:
    """The superfamily; the label where that is no code of a classification."""
    return superfamily_of(domain) or ("" if topology(domain.code) else domain.label)


@dataclass(frozen=True)
class Scheme:
    """One way to hold domains out.

    `ties` names what keeps domains in one split, beside groups, sequence clusters and copies; `kept` what of a held-out
    domain training still has a member of: always where `strict`, else where it can be had. `condition` is the label
    that a held-out domain is known by, and `units` says in words what is held out.
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
    """Domains that are related and go to one split together.

    `sizes` counts the usable domains of distinct sequence (role not `alternative`) by fold class; `kept` are the names
    that the scheme wants training to keep; `topologies` counts all usable domains by that of their label.
    """

    members: list[SplitDomain]
    sizes: Counter[str] = field(default_factory=Counter)
    kept: frozenset[str] = frozenset()
    topologies: Counter[str] = field(default_factory=Counter)
    split: str = "train"

    @property
    def unseen(self) -> bool:
        """Whether the package's model was trained on relatives of none of them."""
        return not any(may_know(member.codes) for member in self.members)

    @property
    def main_class(self) -> str:
        """The class that most of its usable domains have."""
        return max(sorted(self.sizes), key=self.sizes.__getitem__) if self.sizes else ""


def components(domains: Iterable[SplitDomain], scheme: Scheme) -> list[Component]:
    """Connected components of domains with a common tie, group, cluster or sequence (union-find), by smallest id."""
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
    """How new each domain that is not `trained` is to training, by id: one of `labels.RUNGS`.

    A topology or superfamily is a component of domains over all their codes, and over sequences: where codes do not say
    whether two domains are relatives, they count as such, so that none is called newer than it is. Domains without a
    topology have no rung.
    """

    def known(name: str) -> set[str]:
        parts = (part.members for part in components(domains, SCHEMES[name]))
        return {member.id for members in parts if any(map(trained, members)) for member in members}

    topologies, superfamilies = known("topology"), known("superfamily")

    def rung(domain: SplitDomain) -> str:
        return RUNGS[(domain.id not in superfamilies) + (domain.id not in topologies)]

    return {d.id: rung(d) for d in domains if topology(d.code) and not trained(d)}
