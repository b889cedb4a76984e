"""Assigns domains to training, validation and test: usable domains, held-out components, `splits.tsv`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..config.settings import LabelSettings, SplitSettings
from ..core.errors import UnusableDomain, UserError
from ..core.files import RENAMED, columns_of, read_table, sha256, write_table
from ..core.labels import CLASSES, RUNGS, is_within, topology, truncate
from ..core.progress import say
from ..similarity.sequences import near_identical
from ..store.read import Store
from .classifications.domain import resolution_of
from .hold_out import assign, climb
from .homology import ALTERNATIVE, SCHEMES, Component, SplitDomain, components, rungs, superfamily_of

COLUMNS = (
    *("domain_id", "split", "label", "superfamily", "group", "sequence_cluster"),
    *("topology_trained", "label_trained", "rung", "weight", "reason"),
)
CLUSTER_COLUMNS = ("domain_id", "sequence_cluster", "structure_cluster")
SPLITS = ("train", "crops", "validation", "test", "excluded")
TOO_LONG = "longer than split.max_length"
RARE = "structure cluster"  # how a reason begins
FOUND = "cluster"  # value of labels.scheme for which labels are structure clusters
Clusters = Mapping[str, Mapping[str, str]]


def read_clusters(path: Path, names: Sequence[str]) -> Clusters:
    """The row of `clusters.tsv` for each domain in `names`; `UserError` if one is missing."""
    rows = {row["domain_id"]: row for row in read_table(path, CLUSTER_COLUMNS)}
    if missing := [name for name in names if name not in rows]:
        raise UserError(f"{path}: expected a row for each domain of the store, none for {missing[0]}; cluster again")
    return rows


def _check(settings: SplitSettings, labels: LabelSettings, clusters: Path | None) -> None:
    """Raise `UserError` if settings contradict each other or need clusters that are not given."""
    if labels.scheme == FOUND and settings.scheme != "sequence":
        raise UserError(
            f"split.scheme: with labels.scheme {FOUND} a label is a structure cluster, and {settings.scheme!r} would "
            "hold whole ones out, whose labels no model could know; set split.scheme to sequence"
        )
    wanting = {
        f"split.scheme {settings.scheme}": settings.scheme in ("sequence", "ladder"),
        f"labels.scheme {labels.scheme}": labels.scheme not in CLASSES,
        "labels.max_per_cluster": labels.max_per_cluster > 0,
    }
    if clusters is None and any(wanting.values()):
        names = " and ".join(name for name, wants in wanting.items() if wants)
        raise UserError(f"split: {names} needs the table of clusters; give --clusters clusters.tsv")


def _domains(store: Path, settings: SplitSettings, labels: LabelSettings, clusters: Path | None) -> list[SplitDomain]:
    """The domains of a store in its order, with a reason if one cannot be used."""
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
                    id=name,
                    **facts,
                    sequence_cluster=cluster,
                    copies=str(copy),
                    resolution=resolution,
                    reason=reason,
                    superfamily=str(opened.fact(name, "superfamily", "")),
                    own_label=labels.scheme not in CLASSES,
                )
            )
    found = _without_followers(_without_redundant(found, labels))
    return _without_rare(found, labels.min_members) if labels.scheme == FOUND else found


def _without_followers(domains: list[SplitDomain]) -> list[SplitDomain]:
    """Give a reason to alternatives if no other domain of their group or sequence cluster is usable."""
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


def _without_redundant(domains: list[SplitDomain], labels: LabelSettings) -> list[SplitDomain]:
    """Give a reason to usable domains beyond the limits per sequence cluster and per superfamily.

    In a sequence cluster the best resolved domains stay, alternatives last. From a superfamily, one domain of each of
    its sequence clusters is taken, then a second of each; alternatives do not count.
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
        if labels.max_per_cluster and rank[domain.id] >= labels.max_per_cluster:
            reasons[domain.id] = "redundant"
        elif domain.role != ALTERNATIVE and family:
            members[family] += 1
            if labels.max_per_superfamily and members[family] > labels.max_per_superfamily:
                reasons[domain.id] = "dominant superfamily"
    return [replace(domain, reason=reasons.get(domain.id, domain.reason)) for domain in domains]


def _without_rare(domains: list[SplitDomain], least: int) -> list[SplitDomain]:
    """Give a reason to usable domains in structure clusters of fewer than `least`; alternatives do not count."""
    members = Counter(domain.label for domain in domains if not domain.reason and domain.role != ALTERNATIVE)
    return [
        replace(domain, reason=f"{RARE} of fewer than {least}")
        if not domain.reason and members[domain.label] < least
        else domain
        for domain in domains
    ]


def _assigned(domains: Sequence[SplitDomain], settings: SplitSettings, found: bool) -> list[Component]:
    """Components with splits; `UserError` if a class is too small, or if all are and labels were `found`."""
    if settings.scheme == "ladder":
        parts, short = climb(domains, settings)
    else:
        parts = components(domains, SCHEMES[settings.scheme])
        short = assign(parts, settings, SCHEMES[settings.scheme])
    if short and not (found and any(part.split == "test" for part in parts)):
        raise UserError(next(iter(short.values())))
    if short:
        say(
            "split", f"{len(short)} structure clusters have fewer than {settings.min_test} domains that can be held out"
        )
    return parts


def _unusable(domains: Sequence[SplitDomain], settings: SplitSettings, labels: LabelSettings) -> str:
    """How many domains are left out for each reason, with the setting to change."""
    largest = max(Counter(d.label for d in domains if d.label and d.role != ALTERNATIVE).values(), default=0)
    said = {
        "unlabelled": "without a label (labels.scheme)",
        "breaks": f"with more than {settings.max_breaks} chain breaks (split.max_breaks)",
        TOO_LONG: f"of more than {settings.max_length} residues (split.max_length)",
        RARE: f"in structure clusters of fewer than {labels.min_members}, the largest has {largest} "
        "(labels.min_members; labels.scheme none takes all as one class)",
    }
    counts = Counter(next((key for key in said if key in domain.reason), domain.reason) for domain in domains)
    return ", ".join(f"{count} {said.get(reason, reason)}" for reason, count in counts.most_common())


OWN_CHOICE = {"ladder": "which fills rung by rung", "file": "which is taken as it is"}  # these ignore `unseen_first`
FEWEST_HELD_OUT = 5  # test domains; with fewer, verdicts are unknown


def _check_size(
    domains: Sequence[SplitDomain], split: Mapping[str, str], settings: SplitSettings, labels: LabelSettings
) -> None:
    """Raise `UserError` if, with the user's own labels, too few domains are held out to judge a model."""
    usable = [domain for domain in domains if not domain.reason and domain.role != ALTERNATIVE]
    held = sum(split[domain.id] == "test" for domain in usable)
    if held >= FEWEST_HELD_OUT:
        return
    sizes = Counter(domain.label for domain in usable)
    single = sum(size == 1 for size in sizes.values())
    reasons = f"; left out are {_unusable(out, settings, labels)}" if (out := [d for d in domains if d.reason]) else ""
    raise UserError(
        f"split: could hold out {held} of {len(usable)} domains in {len(sizes)} classes ({single} of them with one "
        f"domain), expected {FEWEST_HELD_OUT} or more, by which a model can be judged; add structures, raise "
        f"split.test ({settings.test}) or, where classes are small, labels.min_members, or set labels.scheme to none"
        f"{reasons}"
    )


def split_domains(
    store: Path,
    settings: SplitSettings,
    output: Path,
    labels: LabelSettings | None = None,
    clusters: Path | None = None,
) -> dict[str, int]:
    """Write `splits.tsv` for the domains of a store to `output` and return the number of domains in each split.

    The scheme decides what is held out (`homology.SCHEMES`, the ladder of `hold_out`, or a frozen table).
    Near-identical domains, and those of the same group or sequence cluster (table `clusters`), stay in one split,
    except in a frozen table. Raises `UserError` if no domain is usable, a class is too small to be held out, the
    settings contradict each other, or clusters are needed and not given.
    """
    labels = labels or LabelSettings()
    _check(settings, labels, clusters)
    frozen = settings.scheme == "file"  # then the table decides about redundant and long domains
    if frozen:
        usual, all_labels = replace(settings, max_length=0), replace(labels, max_per_cluster=0, max_per_superfamily=0)
        domains = _domains(store, usual, all_labels, clusters)
    else:
        domains = _domains(store, settings, labels, clusters)
    if all(domain.reason for domain in domains):
        raise UserError(f"{store}: none of {len(domains)} domains is usable: {_unusable(domains, settings, labels)}")
    if frozen:
        domains, split = _taken_over(domains, settings)
    else:
        parts = _assigned(domains, settings, found=labels.scheme == FOUND)
        split = {member.id: part.split for part in parts for member in part.members}
        if labels.scheme not in CLASSES:
            _check_size(domains, split, settings, labels)
    condition = SCHEMES[settings.scheme].condition if settings.scheme in SCHEMES else str
    if settings.unseen_first and (why := OWN_CHOICE.get(settings.scheme)):
        say("split", f"split.unseen_first is without effect with the scheme {settings.scheme}, {why}")
    rows = _rows(domains, split, condition, labels.depth)
    write_table(output, COLUMNS, rows)
    _say_counts(rows)
    counts = Counter(row["split"] for row in rows)
    return {name: counts[name] for name in SPLITS}


FROZEN_COLUMNS = ("domain_id", "split", "label")


def read_frozen(settings: SplitSettings) -> dict[str, tuple[str, str]]:
    """Split and label of each domain in the frozen table `settings.file`, gzip-compressed or not.

    Raises `UserError` if its SHA-256 is not `settings.sha256`, or if a row's split is not one of `SPLITS`.
    """
    path = Path(settings.file)
    if path.is_file() and (found := sha256(path)) != settings.sha256:
        raise UserError(f"{path}: expected the frozen split of SHA-256 {settings.sha256}, found {found}; get that file")
    frozen = {}
    for row in columns_of(path, FROZEN_COLUMNS):
        if isinstance(row, UnusableDomain):
            raise UserError(f"{path}: {row.detail}")
        name, split, label = row[1]
        split = RENAMED["split"].get(split, split)
        if split not in SPLITS:
            raise UserError(f"{path}, line {row[0]}: expected one of {', '.join(SPLITS)}, got {split!r} of {name}")
        frozen[name] = split, label
    return frozen


def _taken_over(domains: Sequence[SplitDomain], settings: SplitSettings) -> tuple[list[SplitDomain], dict[str, str]]:
    """The domains with their reasons and splits from the frozen table; domains missing there are excluded.

    Raises `UserError` if the table gives a domain another label, or if nothing is left to train on or to test on.
    """
    frozen = read_frozen(settings)
    found, split = [], {}
    for domain in domains:
        assigned, label = frozen.pop(domain.id, ("", ""))
        if label and domain.label and not is_within(domain.label, label):
            raise UserError(
                f"{settings.file}: {domain.id} has the label {label} there and {domain.label} in the store; take the "
                "classification and labels.scheme of which the split was made"
            )
        reason = {"": "not in the frozen split", "excluded": "excluded by the frozen split", "crops": TOO_LONG}
        found.append(replace(domain, reason=domain.reason or reason.get(assigned, "")))
        split[domain.id] = assigned if assigned in ("validation", "test") else "train"
    if lost := Counter(assigned for assigned, _ in frozen.values() if assigned != "excluded"):
        said = ", ".join(f"{lost[name]} {name}" for name in SPLITS if lost[name])
        say("split", f"domains of the frozen split that the store lacks: {said}")
    if not {"train", "test"} <= {split[domain.id] for domain in found if not domain.reason}:
        raise UserError(f"{settings.file}: expected domains of the store to train on and to test on, found none of one")
    return found, split


def balanced_weights(domains: Sequence[SplitDomain]) -> dict[str, float]:
    """Sampling weight of each training domain (whole or as crops), by id, that gives superfamilies equal weight.

    A superfamily is a connected component over classification names and sequence clusters. All superfamilies have the
    same share, divided evenly among their sequence clusters and, within a cluster, among its domains. The mean is 1.
    """
    shares: dict[str, float] = {}
    for part in components(domains, SCHEMES["superfamily"]):
        clusters = {member.id: member.sequence_cluster or f"domain {member.id}" for member in part.members}
        sizes = Counter(clusters.values())
        shares |= {name: 1 / (len(sizes) * sizes[cluster]) for name, cluster in clusters.items()}
    mean = sum(shares.values()) / max(1, len(shares))
    return {name: share / mean for name, share in shares.items()}


def _say_counts(rows: Sequence[Mapping[str, str]]) -> None:
    """Report the number of domains per split and rung, and of held-out domains with an untrained label."""
    counts = Counter(row["split"] for row in rows)
    say("split", ", ".join(f"{counts[name]} {name}" for name in SPLITS))
    for split in ("test", "validation"):
        of = Counter(row["rung"] for row in rows if row["split"] == split and row["rung"])
        if of:
            say("split", f"{split}: " + ", ".join(f"{of[rung]} {rung.replace('_', ' ')}" for rung in RUNGS))
    if strange := sum(row["label_trained"] == "no" for row in rows):
        say("split", f"the labels of {strange} held-out domains are unknown to training (column label_trained)")


def _rows(
    domains: Sequence[SplitDomain], split: Mapping[str, str], condition: Callable[[str], str], depth: int
) -> list[dict[str, str]]:
    """Rows of `splits.tsv`; a held-out domain gets the label that the scheme lets a model know (`condition`)."""
    new = rungs(domains, lambda domain: split[domain.id] == "train" and domain.reason in ("", TOO_LONG))
    trained = [domain.label for domain in domains if not domain.reason and split[domain.id] == "train"]
    topologies = {topology(domain.code) for domain in domains if not domain.reason and split[domain.id] == "train"}
    known = {truncate(label, level) for label in trained for level in range(1, depth + 1)}
    weights = balanced_weights(
        [domain for domain in domains if split[domain.id] == "train" and domain.reason in ("", TOO_LONG)]
    )
    rows = []
    for domain in domains:
        assigned = "excluded" if domain.reason else split[domain.id]
        if domain.reason == TOO_LONG and split[domain.id] == "train":
            assigned = "crops"
        label = domain.label if assigned in ("train", "crops", "excluded") else condition(domain.label)
        flags = {
            "topology_trained": topology(domain.code) in topologies if topology(domain.code) else None,
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
                "rung": new.get(domain.id, "") if assigned in ("test", "validation") else "",
                "weight": f"{weights[domain.id]:.4g}" if domain.id in weights else "",
                "reason": domain.reason,
            }
        )
    return rows
