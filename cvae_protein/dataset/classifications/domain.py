"""Shared by the readers of classifications: the domain type, and the notation of ranges."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

INSERTION = re.compile(r"\((\w)\)")


class ClassifiedDomain(NamedTuple):
    """One domain as given by a classification; all fields are text, empty if not given.

    `residue_range` (`5-100,120-200`) is in the numbering `numbering`: `author` (residue numbers; the default) or
    `label` (positions in SEQRES, mmCIF's `label_seq_id`). An empty range means the whole chain, None means unknown.
    `superfamily` is the user's own, in addition to what the codes give. `resolution` is in Å, `n_residues` a count;
    `s35 s60 s95` name the sequence cluster at that identity.
    """

    domain_id: str
    pdb_id: str
    chain: str
    residue_range: str | None
    cath: str = ""
    scope: str = ""
    role: str = ""
    group: str = ""
    resolution: str = ""
    method: str = ""
    numbering: str = ""
    superfamily: str = ""
    label: str = ""
    n_residues: str = ""
    s35: str = ""
    s60: str = ""
    s95: str = ""


def resolution_of(text: str) -> float:
    """A resolution in Å; infinite if `text` contains none."""
    try:
        value = float(text)
    except ValueError:
        return math.inf
    return value if value > 0 else math.inf


def author_range(text: str) -> str:
    """A range in our notation, with commas and bare insertion codes: `1(A)-20_30-40` gives `1A-20,30-40`."""
    return INSERTION.sub(r"\1", text).replace("_", ",")
