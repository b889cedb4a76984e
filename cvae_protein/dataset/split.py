"""Which domains train, validate and test: usable ones, held-out components, `splits.tsv`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config.settings import LabelSettings, SplitSettings
from ..core.errors import UserError
from ..core.files import read_table, write_table
from ..core.labels import topology, truncate
from ..core.progress import say
from ..similarity.sequences import near_identical
from ..store.read import Store
from .classification import resolution_of
from .homology import ALTERNATIVE, SCHEMES, Component, Scheme, SplitDomain, components, superfamily_of


class TrainingCounts:
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
                split for split, goal in goals.items() if size <= max(goal // 2, 1) and held[split] + size <= goal
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
    training = TrainingCounts(parts)
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


COLUMNS = (
    *("domain_id", "split", "label", "superfamily", "group", "sequence_cluster"),
    *("topology_trained", "label_trained", "reason"),
)
CLUSTER_COLUMNS = ("domain_id", "sequence_cluster", "structure_cluster")
SPLITS = ("train", "crops", "validation", "test", "excluded")
TOO_LONG = "longer than split.max_length"
FOUND = "cluster"  # value of labels.scheme whose labels are structure clusters
Clusters = Mapping[str, Mapping[str, str]]


def read_clusters(path: Path, names: Sequence[str]) -> Clusters:
    """Row of `clusters.tsv` of each of the domains `names`; `UserError` where one has none."""
    rows = {row["domain_id"]: row for row in read_table(path, CLUSTER_COLUMNS)}
    if missing := [name for name in names if name not in rows]:
        raise UserError(f"{path}: expected a row for each domain of the store, none for {missing[0]}; cluster again")
    return rows


def _check(settings: SplitSettings, labels: LabelSettings, clusters: Path | None) -> None:
    """Raise `UserError` for settings that make no sense together or want clusters that are not given."""
    if labels.scheme == FOUND and settings.scheme != "sequence":
        raise UserError(
            f"split.scheme: with labels.scheme {FOUND} a label is a structure cluster, and {settings.scheme!r} would "
            "hold whole ones out, whose labels no model could know; set split.scheme to sequence"
        )
    wanting = {
        "split.scheme sequence": settings.scheme == "sequence",
        f"labels.scheme {FOUND}": labels.scheme == FOUND,
        "split.max_per_cluster": settings.max_per_cluster > 0,
    }
    if clusters is None and any(wanting.values()):
        names = " and ".join(name for name, wants in wanting.items() if wants)
        raise UserError(f"split: {names} needs the table of clusters; give --clusters clusters.tsv")


def _domains(store: Path, settings: SplitSettings, labels: LabelSettings, clusters: Path | None) -> list[SplitDomain]:
    """The domains of a store in its order, with the reason where one cannot be used."""
    with Store(store) as opened:
        rows = read_clusters(clusters, opened.ids) if clusters else {}
        found = []
        copies = near_identical([opened.sequence(name) for name in opened.ids])
        for name, copy in zip(opened.ids, copies, strict=True):
            facts = {key: str(opened.fact(name, key)) for key in ("label", "cath", "scope", "role", "group")}
            if labels.scheme == FOUND:
                facts["label"] = rows[name]["structure_cluster"]
            breaks = int(opened.fact(name, "breaks"))
            reason = "" if facts["label"] else "unlabelled"
            if breaks > settings.max_breaks:
                reason = f"{breaks} chain breaks, at most {settings.max_breaks}"
            elif not reason and settings.max_length and int(opened.lengths[opened.rows(name)[0]]) > settings.max_length:
                reason = TOO_LONG
            cluster = rows[name]["sequence_cluster"] if rows else ""
            resolution = resolution_of(str(opened.fact(name, "resolution", "")))
            found.append(
                SplitDomain(
                    id=name, **facts, sequence_cluster=cluster, copies=str(copy), resolution=resolution, reason=reason
                )
            )
    found = _without_followers(found)
    found = _without_redundant(found, settings)
    return _without_rare(found, labels.min_members) if labels.scheme == FOUND else found


def _without_followers(domains: list[SplitDomain]) -> list[SplitDomain]:
    """Alternatives of which no other domain of their group or sequence cluster is usable get a reason."""
    leaders = [domain for domain in domains if domain.role != ALTERNATIVE and not domain.reason]
    groups = {domain.group for domain in leaders} - {""}
    sequences = {domain.sequence_cluster for domain in leaders} - {""}
    return [
        replace(domain, reason="alternative without a usable domain of its group")
        if domain.role == ALTERNATIVE
        and not domain.reason
        and domain.group not in groups
        and domain.sequence_cluster not in sequences
        else domain
        for domain in domains
    ]


def _without_redundant(domains: list[SplitDomain], settings: SplitSettings) -> list[SplitDomain]:
    """Usable domains beyond what a sequence cluster and a superfamily may have get a reason.

    Of a sequence cluster the best resolved stay, alternatives last; of a superfamily first one of each of its sequence
    clusters, then a second.
    """
    usable = [domain for domain in domains if not domain.reason]
    usable.sort(key=lambda domain: (domain.role == ALTERNATIVE, domain.resolution, domain.id))
    seen: Counter[str] = Counter()
    rank: dict[str, int] = {}
    for domain in usable:
        name = domain.sequence_cluster or f"domain {domain.id}"
        rank[domain.id] = seen[name]
        seen[name] += 1
    reasons: dict[str, str] = {}
    members: Counter[str] = Counter()
    for domain in sorted(usable, key=lambda domain: rank[domain.id]):
        family = superfamily_of(domain)
        if settings.max_per_cluster and rank[domain.id] >= settings.max_per_cluster:
            reasons[domain.id] = "redundant"
        elif settings.max_per_superfamily and family and members[family] >= settings.max_per_superfamily:
            reasons[domain.id] = "dominant superfamily"
        else:
            members[family] += 1
    return [replace(domain, reason=reasons.get(domain.id, domain.reason)) for domain in domains]


def _without_rare(domains: list[SplitDomain], least: int) -> list[SplitDomain]:
    """Usable domains of structure clusters with fewer members than `least` get a reason; alternatives do not count."""
    members = Counter(domain.label for domain in domains if not domain.reason and domain.role != ALTERNATIVE)
    return [
        replace(domain, reason=f"structure cluster of fewer than {least}")
        if not domain.reason and members[domain.label] < least
        else domain
        for domain in domains
    ]


def _assign(parts: list[Component], settings: SplitSettings, found: bool) -> None:
    """Hold components out; `UserError` where a class is too small, or where all are and labels were `found`."""
    short = assign(parts, settings, SCHEMES[settings.scheme])
    if short and not (found and any(part.split == "test" for part in parts)):
        raise UserError(next(iter(short.values())))
    if short:
        say(
            "split", f"{len(short)} structure clusters have fewer than {settings.min_test} domains that can be held out"
        )


def split_domains(
    store: Path,
    settings: SplitSettings,
    output: Path,
    labels: LabelSettings | None = None,
    clusters: Path | None = None,
) -> dict[str, int]:
    """Write `splits.tsv` for the domains of a store to `output` and return the number of domains of each split.

    What is held out is the scheme's (`homology.SCHEMES`); near-identical domains, and those of one group or one
    sequence cluster of the table `clusters`, lie in one split under each. Raises `UserError` where no domain is usable,
    a class is too small to be held out, the settings contradict each other, or clusters are needed and not given.
    """
    labels = labels or LabelSettings()
    _check(settings, labels, clusters)
    domains = _domains(store, settings, labels, clusters)
    if all(domain.reason for domain in domains):
        raise UserError(f"{store}: none of {len(domains)} domains is usable; each needs a label and few chain breaks")
    parts = components(domains, SCHEMES[settings.scheme])
    _assign(parts, settings, found=labels.scheme == FOUND)
    rows = _rows(domains, parts, SCHEMES[settings.scheme], labels.depth)
    write_table(output, COLUMNS, rows)
    _say_counts(rows)
    counts = Counter(row["split"] for row in rows)
    return {name: counts[name] for name in SPLITS}


def _say_counts(rows: Sequence[Mapping[str, str]]) -> None:
    """Say how many domains each split has, and how many of the held-out ones have a label that is not trained."""
    counts = Counter(row["split"] for row in rows)
    say("split", ", ".join(f"{counts[name]} {name}" for name in SPLITS))
    if strange := sum(row["label_trained"] == "no" for row in rows):
        say("split", f"the labels of {strange} held-out domains are unknown to training (column label_trained)")


def _rows(
    domains: Sequence[SplitDomain], parts: Sequence[Component], scheme: Scheme, depth: int
) -> list[dict[str, str]]:
    """Rows of `splits.tsv`; a held-out domain has the label that the scheme lets a model know."""
    split = {member.id: part.split for part in parts for member in part.members}
    trained = [domain.label for domain in domains if not domain.reason and split[domain.id] == "train"]
    topologies = {topology(label) for label in trained}
    known = {truncate(label, level) for label in trained for level in range(1, depth + 1)}
    rows = []
    for domain in domains:
        assigned = "excluded" if domain.reason else split[domain.id]
        if domain.reason == TOO_LONG and split[domain.id] == "train":
            assigned = "crops"
        label = domain.label if assigned in ("train", "crops", "excluded") else scheme.condition(domain.label)
        flags = {
            "topology_trained": topology(domain.label) in topologies if topology(domain.label) else None,
            "label_trained": truncate(label, depth) in known,
        }
        words = {True: "yes", False: "no", None: ""}
        rows.append(
            {
                "domain_id": domain.id,
                "split": assigned,
                "label": label,
                "superfamily": superfamily_of(domain),
                "group": domain.group,
                "sequence_cluster": domain.sequence_cluster,
                **{name: "" if domain.reason else words[value] for name, value in flags.items()},
                "reason": domain.reason,
            }
        )
    return rows
