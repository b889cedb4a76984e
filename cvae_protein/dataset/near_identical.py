"""Sequences that are nearly the same, by the words they share: mutants, other conformers, parts of one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

WORD = 5  # residues
SHARED = 0.4  # of the words of the shorter sequence; what two chains of 83 % identity share, were changes independent


def _words(sequence: str) -> set[str]:
    """The distinct words of five residues that hold no unknown one."""
    words = (sequence[start : start + WORD] for start in range(len(sequence) - WORD + 1))
    return {word for word in words if "X" not in word}


def near_identical(sequences: Sequence[str]) -> list[int]:
    """For each sequence the number of the set of near-identical ones that it belongs to.

    Two sequences with at least 40 % of the shorter one's words in common are in one set, and so are those that a third
    connects. A clustering by representatives does not promise that: two copies may follow different ones.
    """
    found = [sorted(_words(sequence)) for sequence in sequences]
    numbers = {word: number for number, word in enumerate(dict.fromkeys(w for words in found for w in words))}
    rows = np.repeat(np.arange(len(found)), [len(words) for words in found])
    columns = np.array([numbers[word] for words in found for word in words], int)
    shape = (len(found), max(1, len(numbers)))
    has = csr_matrix((np.ones(len(rows), np.int32), (rows, columns)), shape=shape)
    common = (has @ has.T).tocoo()
    counts = np.array([len(words) for words in found], int)
    alike = common.data >= SHARED * np.minimum(counts[common.row], counts[common.col])
    edges = csr_matrix((common.data[alike], (common.row[alike], common.col[alike])), shape=(len(found), len(found)))
    return connected_components(edges, directed=False)[1].tolist()
