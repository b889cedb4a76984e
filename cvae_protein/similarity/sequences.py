"""Likeness of protein sequences: words in common to propose pairs, and alignments to decide on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import exp

import numpy as np
from Bio.Align import PairwiseAligner, substitution_matrices

LETTERS = "ARNDCQEGHILKMFPSTWYV"
LETTER_CODES = np.full(256, len(LETTERS), np.uint8)  # any other letter is unknown
LETTER_CODES[np.frombuffer(LETTERS.encode(), np.uint8)] = np.arange(len(LETTERS))
WORD = 3  # letters
WORDS = len(LETTERS) ** WORD
WORD_SCORE = 11  # BLOSUM62 score from which two words are neighbours (Altschul et al. (1990) J. Mol. Biol. 215, 403)
BAND = 16  # diagonals on which word hits are counted together
FEWEST_HITS = 6  # on a band and the next; fewer are left to chance
COVERAGE = 0.8  # of the shorter sequence, by the alignment
E_VALUE = 0.001
# Gaps of k residues cost 11 + k; Karlin & Altschul's constants for BLOSUM62 with these costs.
GAP_OPEN, GAP_EXTEND, DECAY, SEARCH_SPACE = -12.0, -1.0, 0.267, 0.041


@cache
def blosum62() -> np.ndarray:
    """Scores of the 20 amino acids in the order of `LETTERS` (20, 20)."""
    matrix = substitution_matrices.load("BLOSUM62")
    return np.array([[matrix[a, b] for b in LETTERS] for a in LETTERS], np.int8)


@cache
def neighbours() -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of every word: those of word w are `words[start[w]:start[w + 1]]`."""
    scores = blosum62()
    pairs = scores[:, None, :, None] + scores[None, :, None, :]  # of two letters with two letters
    pairs = pairs.reshape(len(LETTERS) ** 2, -1)
    found = []
    for row in scores:
        total = pairs[:, None, :] + row[None, :, None]  # the first letter is fixed in turn
        found.append(np.nonzero(total.transpose(0, 1, 2).reshape(len(pairs), -1) >= WORD_SCORE))
    counts = np.concatenate([np.bincount(first, minlength=len(pairs)) for first, _ in found])
    return np.concatenate([[0], np.cumsum(counts)]), np.concatenate([words for _, words in found])


def word_codes(sequence: str) -> tuple[np.ndarray, np.ndarray]:
    """Words of a sequence without unknown letters as numbers, and where each begins."""
    letters = LETTER_CODES[np.frombuffer(sequence.encode("ascii", "replace"), np.uint8)].astype(np.int64)
    if len(letters) < WORD:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(letters, WORD)
    known = np.flatnonzero((windows < len(LETTERS)).all(axis=1))
    return windows[known] @ len(LETTERS) ** np.arange(WORD - 1, -1, -1), known


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers starts[0], starts[0] + 1, ... (counts[0] of them), starts[1], ..."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - before, counts)


class Words:
    """Where the words of some sequences are, to find those that share neighbouring words on nearby diagonals."""

    def __init__(self, sequences: Sequence[str]) -> None:
        found = [word_codes(sequence) for sequence in sequences]
        codes = np.concatenate([np.zeros(0, np.int64), *(codes for codes, _ in found)])
        order = np.argsort(codes, kind="stable")
        owner = np.repeat(np.arange(len(found)), [len(codes) for codes, _ in found])
        self.own = found
        self.start = np.searchsorted(codes[order], np.arange(WORDS + 1))
        self.owner = owner[order]
        self.place = np.concatenate([np.zeros(0, np.int64), *(places for _, places in found)])[order]
        self.bands = 2 * max(map(len, sequences), default=0) // BAND + 2
        self.listed = np.full(len(sequences), -1)  # place of a sequence among those that are searched
        self.added: list[int] = []

    def add(self, number: int) -> None:
        """Let a sequence be found from now on."""
        self.listed[number] = len(self.added)
        self.added.append(number)

    def likest(self, number: int, count: int) -> list[int]:
        """At most `count` of the added sequences, those with the most word hits on two neighbouring bands first."""
        if not self.added:
            return []
        codes, places = self.own[number]
        start, words = neighbours()
        hits = start[codes + 1] - start[codes]
        near, places = words[ranges(start[codes], hits)], np.repeat(places, hits)
        hits = self.start[near + 1] - self.start[near]
        at, places = ranges(self.start[near], hits), np.repeat(places, hits)
        target = self.listed[self.owner[at]]
        at, places, target = at[target >= 0], places[target >= 0], target[target >= 0]
        band = (self.place[at] - places) // BAND + self.bands // 2
        table = np.bincount(target * self.bands + band, minlength=len(self.added) * self.bands)
        table = table.reshape(len(self.added), self.bands)
        score = (table[:, 1:] + table[:, :-1]).max(axis=1)
        best = np.argsort(-score, kind="stable")[:count]
        return [self.added[index] for index in best.tolist() if score[index] >= FEWEST_HITS]


class Aligner:
    """Best local alignments (Smith & Waterman 1981) by Biopython, judged against chance among `residues` residues."""

    def __init__(self, residues: int) -> None:
        self.residues = residues
        self.matrix = substitution_matrices.load("BLOSUM62")
        self.aligner = PairwiseAligner(mode="local", open_gap_score=GAP_OPEN, extend_gap_score=GAP_EXTEND)
        self.aligner.substitution_matrix = self.matrix

    def identity(self, shorter: str, longer: str) -> float:
        """Share of equal letters among the columns of the best alignment; 0 where it is short or due to chance.

        Short means that it spans less than 80 % of the shorter sequence.
        """
        shorter, longer = (
            "".join(letter if letter in self.matrix.alphabet else "X" for letter in text) for text in (shorter, longer)
        )
        score = self.aligner.score(shorter, longer)
        if SEARCH_SPACE * len(shorter) * self.residues * exp(-DECAY * score) > E_VALUE:
            return 0.0
        alignment = self.aligner.align(shorter, longer)[0]
        steps = alignment.coordinates
        if steps[0, -1] - steps[0, 0] < COVERAGE * len(shorter):
            return 0.0
        columns = np.diff(steps, axis=1).max(axis=0).sum()
        equal = sum(
            a == b
            for (s, e), (t, f) in zip(*alignment.aligned, strict=True)
            for a, b in zip(shorter[s:e], longer[t:f], strict=True)
        )
        return float(equal / columns)
