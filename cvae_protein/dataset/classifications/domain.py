"""What readers of classifications have in common: a domain, and how a range is written."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

INSERTION = re.compile(r"\((\w)\)")


class ClassifiedDomain(NamedTuple):
    """One domain as a classification gives it; all text, empty where it says nothing.

    `residue_range` (`5-100,120-200`) counts what `numbering` says, `author` (residue numbers; where it says nothing) or
    `label` (positions in SEQRES, mmCIF's `label_seq_id`). An empty range is the whole chain, None is not known.
    `superfamily` is one's own, beside what the codes say. `resolution` is in Å, `n_residues` a count; `s35 s60 s95`
    name the sequence cluster at that identity.
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
    """A resolution in Å, infinite where `text` gives none."""
    try:
        value = float(text)
    except ValueError:
        return math.inf
    return value if value > 0 else math.inf


def author_range(text: str) -> str:
    """A range with commas between its segments and bare insertion codes: `1(A)-20_30-40` gives `1A-20,30-40`."""
    return INSERTION.sub(r"\1", text).replace("_", ",")
