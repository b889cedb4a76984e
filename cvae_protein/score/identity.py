"""The most identical sequence of a library: shared words first, then local alignment scores, then alignments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from Bio.Align import PairwiseAligner, substitution_matrices
from scipy.sparse import csr_matrix

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
UNKNOWN = "X"
WORD = 3  # residues
SCORED = 512  # sequences that share most words and are scored by alignment
ALIGNED = 40  # of them, those with the best score a residue of the shorter, whose identical residues are counted
GAP_OPEN, GAP_EXTEND = -11, -1  # of BLASTP beside BLOSUM62: a gap, and each residue of it
_ALIGNER = PairwiseAligner(
    mode="local",
    substitution_matrix=substitution_matrices.load("BLOSUM62"),
    open_gap_score=GAP_OPEN + GAP_EXTEND,
    extend_gap_score=GAP_EXTEND,
)


def plain(sequence: str) -> str:
    """A sequence in the twenty standard letters, all others as X."""
    return "".join(letter if letter in LETTERS else UNKNOWN for letter in sequence.upper())


def identity(first: str, second: str) -> float:
    """Identical residues of the best local alignment over the length of the shorter sequence; X is like nothing.

    Alignment by Smith & Waterman (1981) with affine gaps, BLOSUM62 and 11 + k for a gap of k residues. The
    denominator is that of CD-HIT (Li & Godzik 2006): a short match of two long chains counts little, and a chain that
    is part of another has identity 1. 0 where nothing aligns or a sequence is empty.
    """
    first, second = plain(first), plain(second)
    if not first or not second or _ALIGNER.score(first, second) <= 0:
        return 0.0
    same = 0
    for (start, stop), (begin, _) in zip(*_ALIGNER.align(first, second)[0].aligned, strict=True):
        same += sum(first[start + k] == second[begin + k] != UNKNOWN for k in range(stop - start))
    return same / min(len(first), len(second))


def _words(sequence: str) -> np.ndarray:
    """Numbers of the distinct words of three residues in a sequence without those that hold an X."""
    codes = np.array([LETTERS.find(letter) for letter in plain(sequence)], int)
    if len(codes) < WORD:
        return np.zeros(0, int)
    stretch = np.lib.stride_tricks.sliding_window_view(codes, WORD)
    stretch = stretch[(stretch >= 0).all(axis=1)]
    return np.unique(stretch @ (len(LETTERS) ** np.arange(WORD)))


class Sequences:
    """Sequences to be searched, with the words of each."""

    def __init__(self, ids: Sequence[str], sequences: Sequence[str]) -> None:
        self.ids, self.sequences = list(ids), [plain(sequence) for sequence in sequences]
        words = [_words(sequence) for sequence in self.sequences]
        rows = np.repeat(np.arange(len(words)), [len(found) for found in words])
        columns = np.concatenate([np.zeros(0, int), *words])
        shape = (len(words), len(LETTERS) ** WORD)
        self.words = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)

    def nearest(self, sequence: str) -> tuple[str, float]:
        """Id and `identity` of the most identical sequence, the first of equals; an empty id where there is none."""
        query = plain(sequence)
        if not query or not self.ids:
            return "", 0.0
        asked = np.zeros(self.words.shape[1], np.float32)
        asked[_words(query)] = 1
        order = np.argsort(-(self.words @ asked), kind="stable")[:SCORED].tolist()
        shortest = [min(len(query), len(self.sequences[index])) or 1 for index in order]
        scores = [
            _ALIGNER.score(query, self.sequences[index]) / length if self.sequences[index] else 0.0
            for index, length in zip(order, shortest, strict=True)
        ]
        chosen = [order[rank] for rank in np.argsort(-np.array(scores), kind="stable")[:ALIGNED]]
        found = max(chosen, key=lambda index: (identity(query, self.sequences[index]), -index))
        return self.ids[found], identity(query, self.sequences[found])
