"""Fold classes found without labels: clusters of like structures.

Longest first, each structure joins the class of the longer structure that it is likest to, by TM-score normalised by
the longer of the two, or founds a class where none reaches 0.5, above which two structures mostly share a fold (Xu &
Zhang (2010) Bioinformatics 26, 889). Compared with founders alone, this follows a fold through its variation;
compared with all pairs above 0.5 in one class, no single structure joins two classes (`benchmarks/clusters.py`
measures it). Members of a sequence cluster follow its representative, so that no class divides one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..core.progress import Progress, say
from ..core.structure import CA
from ..similarity.nearest_structures import screen
from ..store.read import Store
from .metric import Judged
from .neighbours import MARGIN, Library, tm_align_score

SAME_FOLD = 0.5  # TM-score
ALIGNED = 8  # structures that each is aligned with, at most
METHOD = f"TM-align {SAME_FOLD} of the longer"


def find_folds(store: Path, sequence_cluster: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Class of each domain, `F1` the largest, and the method in words; `sequence_cluster` names a representative each.

    A class is named by its rank in domains; of equal ones the one with the longest representative comes first.
    """
    structures = _representatives(store, set(sequence_cluster.values()))
    founder = fold_classes(structures)
    sizes = Counter(founder[sequence_cluster[name]] for name in sequence_cluster)
    founders = dict.fromkeys(founder.values())  # in the order of founding, longest first
    ranked = sorted(founders, key=lambda name: -sizes[name])
    names = {name: f"F{rank}" for rank, name in enumerate(ranked, 1)}
    say("cluster", f"{len(names)} fold classes; the largest has {max(sizes.values(), default=0)} domains")
    return {name: names[founder[representative]] for name, representative in sequence_cluster.items()}, METHOD


def _representatives(store: Path, names: set[str]) -> list[Judged]:
    """CA traces of domains of a store, as structures of a library."""
    with Store(store) as opened:
        found = []
        for name in opened.ids:
            if name in names:
                coords = opened.coords(opened.rows(name)[0]).astype(np.float64)
                found.append(Judged(name, "", coords, np.zeros(len(coords) - 1, bool), ""))
    return found


def fold_classes(structures: list[Judged]) -> dict[str, str]:
    """Id of the founder of each structure's class, by id; the order of `structures` has no say."""
    ordered = sorted(structures, key=lambda structure: (-np.isfinite(structure.coords[:, CA, 0]).sum(), structure.id))
    library = Library(ordered)
    seen: set[str] = set()
    found: dict[str, str] = {}
    progress = Progress("cluster", len(ordered), "structures")
    for structure in ordered:
        likest = _likest(structure, library, seen)
        found[structure.id] = found[likest] if likest else structure.id
        seen.add(structure.id)
        progress.advance()
    return found


def _likest(query: Judged, library: Library, seen: set[str]) -> str:
    """The structure of `seen`, all longer, with the highest TM-score of at least 0.5; empty where there is none."""
    near = library.like(query, lambda structure: structure.id in seen)
    targets = [library.structures[index] for index in near]
    # Normalised by the longer, a score is lower by about the ratio of the lengths.
    estimates = screen(query.ca, [target.ca for target in targets])
    estimates = estimates * np.array([len(query.ca) / len(target.ca) for target in targets])
    best, name = SAME_FOLD, ""
    for index in np.argsort(-estimates, kind="stable")[:ALIGNED].tolist():
        if estimates[index] + MARGIN < best:
            break
        score = min(tm_align_score(query.ca, targets[index].ca))
        if score >= best and (score > best or not name):
            best, name = score, targets[index].id
    return name
