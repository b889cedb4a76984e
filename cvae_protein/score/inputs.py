"""Reads what a scoring looks at: held-out and training domains, samples, reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import UserError
from ..core.files import read_table
from ..store.read import Store
from .metrics.metric import Judged
from .metrics.reconstruction import Pair

SPLIT_COLUMNS = ("domain_id", "split", "label", "superfamily", "group")
RECORDED = ("rate", "trace_rmsd", "permuted_rmsd", "swapped_rmsd")


@dataclass(frozen=True, eq=False)
class Domains:
    """The real domains by split, with the relatives of each."""

    held_out: list[Judged]
    training: list[Judged]
    superfamily: Mapping[str, str]
    group: Mapping[str, str]
    sequence_cluster: Mapping[str, str]
    validation: list[Judged] = field(default_factory=list)

    def related(self, first: str, second: str) -> bool:
        """Whether two domains are the same, of one sequence group or cluster or of one superfamily."""
        return first == second or any(
            table.get(first, "") and table.get(first) == table.get(second)
            for table in (self.superfamily, self.group, self.sequence_cluster)
        )

    def unrelated(self, first: Judged, second: Judged) -> bool:
        """Whether neither is a relative of the other."""
        return not self.related(first.id, second.id)

    def strangers(self, structure: Judged) -> Callable[[Judged], bool]:
        """Whether a domain is no relative of `structure`."""
        return lambda other: self.unrelated(structure, other)


def judged(store: Store, name: str, label: str) -> Judged:
    """The first model of a structure of a store."""
    return Judged.of(store.backbone(name), label)


def read_domains(store: Path, splits: Path) -> Domains:
    """The domains of each split but `excluded`; `UserError` where a domain of the table is not stored."""
    rows = read_table(splits, SPLIT_COLUMNS)
    with Store(store) as file:
        held_out, training, validation = (
            [judged(file, row["domain_id"], row["label"]) for row in rows if row["split"] == split]
            for split in ("test", "train", "validation")
        )
    superfamily, group, cluster = (
        {row["domain_id"]: row.get(name, "") for row in rows} for name in ("superfamily", "group", "sequence_cluster")
    )
    return Domains(held_out, training, superfamily, group, cluster, validation)


def read_structures(path: Path) -> list[Judged]:
    """Every structure of a store of samples, in order."""
    with Store(path) as file:
        return [judged(file, name, str(file.fact(name, "label"))) for name in file.ids]


def read_pairs(path: Path, references: Iterable[Judged]) -> list[Pair]:
    """Every reconstruction of a store beside its held-out domain; `UserError` where that domain is unknown."""
    known = {reference.id: reference for reference in references}
    pairs = []
    with Store(path) as file:
        for name in file.ids:
            if name not in known:
                raise UserError(f"{path}: the reconstruction {name!r} is of no held-out domain of the store")
            facts = {column: float(file.fact(name, column)) for column in RECORDED if column in file.columns}
            pairs.append(Pair(judged(file, name, str(file.fact(name, "label"))), known[name], facts))
    return pairs
