"""Domains observed in several states: a table with one row per conformer, stored under one id.

The table is a user's own domain table with an additional column `model`: rows with the same `domain_id` are conformers
of one protein, each from its own file, model, chain and range. An empty `model` means all models of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..core.errors import StructureError, rejection
from ..store.layout import Entry

IDENTICAL = 0.95  # minimum fraction of identical residues: admits mutants, not homologues
BETWEEN = "/"  # separates domain id and conformer number in `rejected.tsv`; never part of an id


def in_order(rows: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """The rows grouped by domain, with each conformer's number, from 1, appended to the id."""
    count: Counter[str] = Counter()
    of_domain: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        name = row["domain_id"]
        count[name] += 1
        of_domain.setdefault(name, []).append({**row, "domain_id": f"{name}{BETWEEN}{count[name]}"})
    return [row for members in of_domain.values() for row in members]


def joined(results: Iterable[Entry | dict[str, str]]) -> Iterator[Entry | dict[str, str]]:
    """Join the consecutive conformers of each domain into one entry; rejections pass through.

    A conformer is rejected (`other_sequence`) if its length differs from that of the first readable one, or if fewer
    than 95 % of the residues are the same: nothing is aligned or cut. Facts and residue types are those of the first,
    except `missing`, which counts residues without a complete backbone in any conformer.
    """
    whole: Entry | None = None
    for result in results:
        if not isinstance(result, Entry):
            yield result
            continue
        conformer = result.backbone.id
        name = conformer.partition(BETWEEN)[0]
        if whole is None or whole.backbone.id != name:
            if whole is not None:
                yield whole
            whole = replace(result, backbone=replace(result.backbone, id=name))
        elif _same(result.backbone.sequence, whole.backbone.sequence):
            whole = _with(whole, result)
        else:
            said = (
                f"expected the {len(whole.backbone)} residues {_short(whole.backbone.sequence)} of the first one, "
                f"got {len(result.backbone)}, {_short(result.backbone.sequence)}"
            )
            yield rejection(conformer, result.facts["source"], StructureError("other_sequence", said))
    if whole is not None:
        yield whole


def _with(whole: Entry, other: Entry) -> Entry:
    """An entry with the conformations of another appended."""
    coords = np.concatenate([whole.backbone.coords, other.backbone.coords])
    backbone = replace(whole.backbone, coords=coords)
    facts = {**whole.facts, "missing": len(backbone) - int(backbone.complete.sum())}
    return Entry(backbone, facts, whole.ss + other.ss)


def _same(first: str, second: str) -> bool:
    """Whether two sequences have the same length and are identical but for a few substitutions."""
    alike = sum(a == b for a, b in zip(first, second, strict=False))
    return len(first) == len(second) and alike >= IDENTICAL * len(first)


def _short(sequence: str) -> str:
    return sequence if len(sequence) <= 20 else f"{sequence[:10]}…{sequence[-10:]}"
