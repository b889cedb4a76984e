"""Make the frozen split of the union of two folders: domains held out by its first split stay held out, by rung.

    python experiments/union_split.py STORE CLUSTERS ../shared/union/splits.tsv.gz data/union/splits.tsv.gz
    python experiments/union_split.py STORE CLUSTERS data/union/splits.tsv.gz data/union/splits_256.tsv.gz --whole

The first table is for domains of at most 128 residues: longer ones are used for training as crops, or excluded if they
are related to held-out domains. With `--whole` the previous table is kept, except that domains trained as crops are
trained whole, and longer domains that were excluded for their relatives are held out.

At least `--wanted` domains per rung are held out for testing and half as many for validation, where there are so many,
and at most 20 domains of a topology in either; those beyond that are excluded. `split.scheme: file` reads the table.
"""

from __future__ import annotations

import argparse
import gzip
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cvae_protein.config.settings import LabelSettings, SplitSettings
from cvae_protein.core.errors import UnusableDomain
from cvae_protein.core.files import RENAMED, atomic_path, columns_of, sha256
from cvae_protein.core.labels import RUNGS, topology
from cvae_protein.dataset.homology import SCHEMES, Component, SplitDomain, components, rungs
from cvae_protein.dataset.split import TOO_LONG, _domains

MOST_OF_TOPOLOGY = 20
HELD = ("test", "validation")
Splits = dict[str, str]


def first_split(path: Path) -> Splits:
    """Split of each domain in the previous table."""
    rows = (row[1] for row in columns_of(path, ("domain_id", "split")) if not isinstance(row, UnusableDomain))
    return {name: RENAMED["split"].get(split, split) for name, split in rows}


def follow(domains: Sequence[SplitDomain], before: Splits) -> Splits:
    """The first split, with all domains linked by sequence to a held-out domain moved to its side."""
    split = {domain.id: before.get(domain.id, "excluded") for domain in domains}
    for part in components(domains, SCHEMES["sequence"]):
        held = Counter(split[member.id] for member in part.members if split[member.id] in HELD)
        for member in part.members if held else ():
            split[member.id] = max(held, key=held.__getitem__) if not member.reason else "excluded"
    return split


def usable(part: Component) -> list[SplitDomain]:
    """Members that can be held out."""
    return [member for member in part.members if not member.reason]


def rung_counts(domains: Sequence[SplitDomain], split: Splits) -> tuple[dict[str, str], Counter[tuple[str, str]]]:
    """Rung of each held-out domain, and the number of domains per split and rung."""
    new = rungs(domains, lambda domain: split[domain.id] in ("train", "crops"))
    held = [domain.id for domain in domains if split[domain.id] in HELD]
    return new, Counter((split[name], new.get(name, "")) for name in held)


def cap(domains: Sequence[SplitDomain], split: Splits, rng: np.random.Generator) -> None:
    """Exclude the domains of a topology beyond `MOST_OF_TOPOLOGY` in a held-out set."""
    seen: Counter[tuple[str, str]] = Counter()
    for row in rng.permutation(len(domains)).tolist():
        domain = domains[row]
        if split[domain.id] in HELD:
            seen[split[domain.id], topology(domain.label)] += 1
            if seen[split[domain.id], topology(domain.label)] > MOST_OF_TOPOLOGY:
                split[domain.id] = "excluded"


def hold_out(
    domains: Sequence[SplitDomain],
    split: Splits,
    unit: str,
    above: str,
    goals: dict[str, int],
    rng: np.random.Generator,
) -> None:
    """Hold out components of the scheme `unit`; their component of `above` keeps others in training."""
    training = [domain for domain in domains if split[domain.id] in ("train", "crops")]
    family = {m.id: row for row, part in enumerate(components(domains, SCHEMES[above])) for m in part.members}
    parts = components(training, SCHEMES[unit])
    left = Counter(family[part.members[0].id] for part in parts if usable(part))
    room = Counter((split[d.id], topology(d.label)) for d in domains if split[d.id] in HELD)
    for row in rng.permutation(len(parts)).tolist():
        members, home = usable(parts[row]), family[parts[row].members[0].id]
        size = Counter(topology(member.label) for member in members)
        for name in HELD:
            fits = all(room[name, each] + count <= MOST_OF_TOPOLOGY for each, count in size.items())
            if members and left[home] > 1 and goals[name] > 0 and len(members) <= goals[name] and fits:
                for member in parts[row].members:
                    split[member.id] = name if not member.reason else "excluded"
                room.update({(name, each): count for each, count in size.items()})
                left[home] -= 1
                goals[name] -= len(members)
                break


def whole(domains: Sequence[SplitDomain], before: Splits, rng: np.random.Generator) -> Splits:
    """The previous table with longer domains whole, for training or, if they have held-out relatives, held out.

    Those of a superfamily join its shorter held-out ones, or are assigned at random, a third to validation.
    """
    split, long = dict(before), {domain.id for domain in domains if domain.reason == TOO_LONG}
    for part in components(domains, SCHEMES["superfamily"]):
        names = [member.id for member in part.members]
        held = Counter(before[name] for name in names if before[name] in HELD)
        own = max(held, key=held.__getitem__) if held else HELD[int(rng.random() < 1 / 3)]
        usual = {"crops": "train", "excluded": own}
        split |= {name: usual.get(before[name], before[name]) for name in names if name in long}
    return split


def main() -> None:
    """Read, hold out, write and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("clusters", type=Path)
    parser.add_argument("before", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--wanted", type=int, default=520)
    parser.add_argument("--whole", action="store_true")
    given = parser.parse_args()
    domains = _domains(given.store, SplitSettings(scheme="ladder", max_length=128), LabelSettings(), given.clusters)
    rng = np.random.default_rng(0)
    if given.whole:
        split = whole(domains, first_split(given.before), rng)
        cap([domain for domain in domains if domain.reason == TOO_LONG], split, rng)
    else:
        split = follow(domains, first_split(given.before))
        split |= {d.id: "excluded" for d in domains if d.reason not in ("", TOO_LONG)}
        split |= {d.id: "excluded" for d in domains if d.reason == TOO_LONG and split[d.id] in HELD}
        cap(domains, split, rng)
        for unit, above, rung in (("superfamily", "topology", RUNGS[1]), ("sequence", "superfamily", RUNGS[0])):
            counts = rung_counts(domains, split)[1]
            wanted = {"test": given.wanted, "validation": given.wanted // 2}
            hold_out(domains, split, unit, above, {name: wanted[name] - counts[name, rung] for name in HELD}, rng)
    new, counts = rung_counts(domains, split)
    buffer = io.StringIO()
    buffer.write("domain_id\tsplit\tlabel\trung\n")
    for domain in domains:
        rung = new.get(domain.id, "") if split[domain.id] in HELD else ""
        buffer.write(f"{domain.id}\t{split[domain.id]}\t{domain.label}\t{rung}\n")
    with atomic_path(given.output) as temporary:
        temporary.write_bytes(gzip.compress(buffer.getvalue().encode(), 9, mtime=0))
    print(Counter(split.values()))
    print("\n".join(f"{name}\t{rung or 'none'}\t{count}" for (name, rung), count in sorted(counts.items())))
    print(f"sha256 {sha256(given.output)}")


if __name__ == "__main__":
    main()
