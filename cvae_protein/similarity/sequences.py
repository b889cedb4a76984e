"""Sequence identity, near-identical sets and clusters of sequences, by shared words and alignments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import exp

import numpy as np
from Bio.Align import PairwiseAligner, substitution_matrices
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

LETTERS, UNKNOWN = "ARNDCQEGHILKMFPSTWYV", "X"
LETTER_CODES = np.full(256, len(LETTERS), np.uint8)  # any other letter is unknown
LETTER_CODES[np.frombuffer(LETTERS.encode(), np.uint8)] = np.arange(len(LETTERS))
WORD = 3  # letters
WORDS = len(LETTERS) ** WORD
WORD_SCORE = 11  # BLOSUM62 score from which two words are neighbours (Altschul et al. (1990) J. Mol. Biol. 215, 403)
BAND = 16  # diagonals on which word hits are counted together
FEWEST_HITS = 6  # on a band and the next; fewer are put down to chance
COVERAGE = 0.8  # of the shorter sequence, by the alignment
E_VALUE = 0.001
DECAY, SEARCH_SPACE = 0.267, 0.041  # Karlin & Altschul's constants for BLOSUM62 with the gap costs of `ALIGNER`
BLOSUM62 = substitution_matrices.load("BLOSUM62")
ALIGNER = PairwiseAligner(  # local, after Smith & Waterman (1981); a gap of k residues costs 11 + k, as in BLASTP
    mode="local", substitution_matrix=BLOSUM62, open_gap_score=-12, extend_gap_score=-1
)


@cache
def blosum62() -> np.ndarray:
    """Scores of the 20 amino acids in the order of `LETTERS` (20, 20)."""
    return np.array([[BLOSUM62[a, b] for b in LETTERS] for a in LETTERS], np.int8)


@cache
def neighbours() -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of every word: those of word w are `words[start[w]:start[w + 1]]`."""
    scores = blosum62()
    pairs = scores[:, None, :, None] + scores[None, :, None, :]  # of two letters with two letters
    pairs = pairs.reshape(len(LETTERS) ** 2, -1)
    found = []
    for row in scores:
        total = pairs[:, None, :] + row[None, :, None]  # the first letter is fixed in turn
        found.append(np.nonzero(total.reshape(len(pairs), -1) >= WORD_SCORE))
    counts = np.concatenate([np.bincount(first, minlength=len(pairs)) for first, _ in found])
    return np.concatenate([[0], np.cumsum(counts)]), np.concatenate([words for _, words in found])


def word_codes(sequence: str) -> tuple[np.ndarray, np.ndarray]:
    """The words of a sequence that have no unknown letters, as numbers, and where each begins."""
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
    """Index of the words of sequences, to find sequences that share neighbouring words on nearby diagonals."""

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
        self.listed = np.full(len(sequences), -1)  # place of a sequence among those that are searched, or -1
        self.added: list[int] = []

    def add(self, number: int) -> None:
        """Add a sequence to those that are searched."""
        self.listed[number] = len(self.added)
        self.added.append(number)

    def top_hits(self, number: int, count: int) -> list[int]:
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


def aligned_identity(shorter: str, longer: str, residues: int) -> float:
    """Share of identical letters among the columns of the best alignment; 0 if it is short or due to chance.

    Short means that it spans less than 80 % of the shorter sequence; chance is that in a search of `residues` residues.
    """
    shorter, longer = (
        "".join(letter if letter in BLOSUM62.alphabet else UNKNOWN for letter in text) for text in (shorter, longer)
    )
    score = ALIGNER.score(shorter, longer)
    if SEARCH_SPACE * len(shorter) * residues * exp(-DECAY * score) > E_VALUE:
        return 0.0
    alignment = ALIGNER.align(shorter, longer)[0]
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


NEAR_IDENTICAL_WORD = 5  # residues
SHARED = 0.4  # of the words of the shorter sequence, as in two chains of 83 % identity if changes are independent


def _words(sequence: str) -> set[str]:
    """The distinct words of five residues that hold no unknown one."""
    words = (sequence[start : start + NEAR_IDENTICAL_WORD] for start in range(len(sequence) - NEAR_IDENTICAL_WORD + 1))
    return {word for word in words if UNKNOWN not in word}


def near_identical(sequences: Sequence[str]) -> list[int]:
    """For each sequence, the number of the set of near-identical sequences to which it belongs.

    Two sequences that share at least 40 % of the shorter one's words are in one set, and so are those connected by a
    third. Clustering by representatives does not guarantee that: two copies may follow different representatives.
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


SCORED = 512  # sequences that share most words and are scored by alignment
ALIGNED = 40  # of them, those with the best score per residue of the shorter, whose identical residues are counted


def plain(sequence: str) -> str:
    """A sequence in the twenty standard letters, all others as X."""
    return "".join(letter if letter in LETTERS else UNKNOWN for letter in sequence.upper())


def identity(first: str, second: str) -> float:
    """Identical residues of the best local alignment over the length of the shorter sequence; X matches nothing.

    Alignment by Smith & Waterman (1981) with affine gaps, BLOSUM62 and 11 + k for a gap of k residues. The
    denominator is that of CD-HIT (Li & Godzik 2006): a short match of two long chains counts little, and a chain that
    is part of another has identity 1. 0 where nothing aligns or a sequence is empty.
    """
    first, second = plain(first), plain(second)
    if not first or not second or ALIGNER.score(first, second) <= 0:
        return 0.0
    same = 0
    for (start, stop), (begin, _) in zip(*ALIGNER.align(first, second)[0].aligned, strict=True):
        same += sum(first[start + k] == second[begin + k] != UNKNOWN for k in range(stop - start))
    return same / min(len(first), len(second))


class Sequences:
    """Sequences to be searched, with the words of each."""

    def __init__(self, ids: Sequence[str], sequences: Sequence[str]) -> None:
        self.ids, self.sequences = list(ids), [plain(sequence) for sequence in sequences]
        words = [np.unique(word_codes(sequence)[0]) for sequence in self.sequences]
        rows = np.repeat(np.arange(len(words)), [len(found) for found in words])
        columns = np.concatenate([np.zeros(0, int), *words])
        shape = (len(words), WORDS)
        self.words = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)

    def nearest(self, sequence: str) -> tuple[str, float]:
        """Id and `identity` of the most identical sequence, the first of ties; an empty id if there is none."""
        query = plain(sequence)
        if not query or not self.ids:
            return "", 0.0
        present = np.zeros(WORDS, np.float32)
        present[word_codes(query)[0]] = 1
        order = np.argsort(-(self.words @ present), kind="stable")[:SCORED].tolist()
        shortest = [min(len(query), len(self.sequences[index])) or 1 for index in order]
        scores = [
            ALIGNER.score(query, self.sequences[index]) / length if self.sequences[index] else 0.0
            for index, length in zip(order, shortest, strict=True)
        ]
        chosen = [order[rank] for rank in np.argsort(-np.array(scores), kind="stable")[:ALIGNED]]
        found = max(chosen, key=lambda index: (identity(query, self.sequences[index]), -index))
        return self.ids[found], identity(query, self.sequences[found])
