"""Domains that were seen in several states: a table with a row a conformer, and conformers under one id in the store.

The table is a user's own domain table with a column `model`: rows of one `domain_id` are conformers of one protein,
each from its own file, model, chain and range. An empty `model` takes every model of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..core.errors import StructureError, rejection
from ..store.layout import Entry

IDENTICAL = 0.95  # of the residues, in two conformers of one protein: a mutant is one, a homologue is none
BETWEEN = "/"  # the id of a domain and the number of its conformer, in `rejected.tsv`; no id has it


def in_order(rows: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """The rows with those of one domain together, each with its number behind the id, from 1."""
    count: Counter[str] = Counter()
    of_domain: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        name = row["domain_id"]
        count[name] += 1
        of_domain.setdefault(name, []).append({**row, "domain_id": f"{name}{BETWEEN}{count[name]}"})
    return [row for members in of_domain.values() for row in members]


def joined(results: Iterable[Entry | dict[str, str]]) -> Iterator[Entry | dict[str, str]]:
    """One entry for the conformers of a domain, which come one after another; rejections pass through.

    A conformer of another length than the first one that could be read, or in which fewer than 95 % of the residues are
    the same, is rejected (`other_sequence`): nothing is aligned or cut. Facts and residue types are those of the first,
    but for `missing`, the residues without a whole backbone in any.
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
    """An entry with the conformations of another one behind its own."""
    coords = np.concatenate([whole.backbone.coords, other.backbone.coords])
    backbone = replace(whole.backbone, coords=coords)
    facts = {**whole.facts, "missing": len(backbone) - int(backbone.complete.sum())}
    return Entry(backbone, facts, whole.ss + other.ss)


def _same(first: str, second: str) -> bool:
    """Whether two sequences are of one length, and the same but for a few substitutions."""
    alike = sum(a == b for a, b in zip(first, second, strict=False))
    return len(first) == len(second) and alike >= IDENTICAL * len(first)


def _short(sequence: str) -> str:
    return sequence if len(sequence) <= 20 else f"{sequence[:10]}…{sequence[-10:]}"
