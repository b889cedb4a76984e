"""Secondary structure from hydrogen bonds as in DSSP: Kabsch & Sander (1983) Biopolymers 22, 2577."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import numpy as np

from .structure import CA, Backbone

COULOMB = 27.888  # kcal Å/mol: 332 times the partial charges, 0.42 of C=O and 0.20 of N-H
WEAKEST_BOND = -0.5  # kcal/mol
LONGEST_BOND = 5.5  # Å from N to O in candidate pairs; beyond 5.2 no energy is below that of the weakest bond
LONGEST_BOND_CA = 9.0  # Å between the CA of hydrogen-bonded residues
BONDS_OF_A_DONOR = 2  # only the strongest count
BEND = np.cos(np.radians(70))
HELICES = (("H", 4, "-BE"), ("G", 3, "-"), ("I", 5, "-H"))  # letter, stride, letters that it may replace
BULGE, LARGE_BULGE = 3, 6  # two ladders join if fewer residues than these apart on the two strands
UNKNOWN, NONE = b"?-"


def secondary_structure(backbone: Backbone) -> tuple[str, ...]:
    """DSSP letters `H B E G I T S -` of every model, one string of length L each; `?` where an atom is missing.

    No pattern crosses a chain break, and the residue after a break donates no hydrogen bond. As in DSSP since 2.0, π
    helices take precedence over α helices. The sequence is ignored, so that samples, which have none, compare with
    domains: a proline can donate a bond like any residue.
    """
    return secondary_structures([backbone])[0]


def secondary_structures(backbones: Sequence[Backbone]) -> list[tuple[str, ...]]:
    """`secondary_structure` of each, all at once: for some dozens this takes a third of the time."""
    if not any(map(len, backbones)):
        return [("",) * one.models for one in backbones]
    of_model = [one for one in backbones for _ in range(one.models)]  # all models, one after the other
    ends = np.cumsum([len(one) for one in of_model])
    complete = np.flatnonzero(np.concatenate([one.complete for one in of_model]))
    letters = np.full(ends[-1], UNKNOWN, np.uint8)
    if len(complete):
        begins = np.concatenate([flags for one in of_model for flags in ([True], one.breaks) if len(one)])[complete]
        begins[1:] |= complete[1:] != complete[:-1] + 1
        coords = np.concatenate([one.coords.reshape(-1, 5, 3) for one in backbones]).take(complete, axis=0)
        bounds = np.searchsorted(complete, [0, *ends])
        letters[complete] = _letters(coords.astype(np.float64), ~begins, np.cumsum(begins), bounds.tolist())
    text = letters.tobytes().decode("ascii")
    rows = iter([text[end - len(one) : end] for one, end in zip(of_model, ends.tolist(), strict=True)])
    return [tuple(islice(rows, one.models)) for one in backbones]


def _letters(coords: np.ndarray, gives: np.ndarray, piece: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """Letters (R,) as bytes, from the coordinates (R, 5, 3) of all models; model m is `bounds[m]` to `bounds[m + 1]`.

    `gives` (R,) says which residues can donate a hydrogen, `piece` (R,) which unbroken piece of a chain each belongs
    to.
    """
    atoms = np.ascontiguousarray(coords.transpose(1, 2, 0))  # (5, 3, R): makes sums over x, y, z faster
    donor, acceptor = _hydrogen_bonds(atoms, gives, bounds)
    letters = np.full(len(piece), NONE, np.uint8)
    for letter, first, last in sorted(_strands(donor, acceptor, piece)):  # E overrides B
        letters[first : last + 1] = ord(letter)
    turns = {}  # by stride, whether a turn begins at residue i: residue i + stride donates to it
    span = np.where(piece[donor] == piece[acceptor], donor - acceptor, 0)
    for stride in (3, 4, 5):
        turns[stride] = np.zeros(len(piece), bool)
        turns[stride][acceptor[span == stride]] = True
    for letter, stride, replaced in HELICES:
        begins = turns[stride].copy()  # a helix needs two consecutive turns and begins where the second one does
        begins[1:] &= turns[stride][:-1]
        begins[:1] = False
        if begins.any():
            free = _among(letters, replaced)
            for further in range(stride):
                begins[: -further or None] &= free[further:]
            letters[_run(begins, 0, stride)] = ord(letter)
    rest = letters == NONE
    letters[rest & _bends(atoms[CA], piece)] = ord("S")
    turning = np.zeros(len(piece), bool)
    for stride, begins in turns.items():
        turning |= _run(begins, 1, stride)
    letters[rest & turning] = ord("T")
    return letters


def _among(letters: np.ndarray, some: str) -> np.ndarray:
    """Whether each letter (L,) is one of `some`."""
    found = letters == ord(some[0])
    for letter in some[1:]:
        found |= letters == ord(letter)
    return found


def _run(begins: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The residues (L,) that lie `start` to `stop` - 1 positions after one where `begins` (L,) is true."""
    run = np.zeros(len(begins), bool)
    for further in range(start, stop):
        run[further:] |= begins[: -further or None]
    return run


def _hydrogen_bonds(atoms: np.ndarray, gives: np.ndarray, bounds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Donors and acceptors of N-H to C=O bonds, sorted by donor: the two strongest of each donor."""
    nitrogen, alpha, carbon, oxygen = atoms[:4]
    donor, acceptor = _near(nitrogen, oxygen, bounds)
    kept = gives[donor] & (donor != acceptor) & (donor != acceptor + 1)
    donor, acceptor = donor[kept], acceptor[kept]
    hydrogen = nitrogen.copy()
    carbonyl = carbon[:, :-1] - oxygen[:, :-1]
    hydrogen[:, 1:] += carbonyl / np.maximum(np.sqrt(_squares(carbonyl)), 1e-6)  # N-H is 1 Å

    def inverse(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        difference = one.take(donor, axis=1)
        difference -= other.take(acceptor, axis=1)
        return 1 / np.maximum(np.sqrt(_squares(difference)), 0.5)

    energy = COULOMB * (
        inverse(nitrogen, oxygen) + inverse(hydrogen, carbon) - inverse(hydrogen, oxygen) - inverse(nitrogen, carbon)
    )
    strong = np.flatnonzero(energy < WEAKEST_BOND)
    donor, acceptor, energy = donor[strong], acceptor[strong], energy[strong]
    close = inverse(alpha, alpha) > 1 / LONGEST_BOND_CA
    donor, acceptor, energy = donor[close], acceptor[close], energy[close]
    order = np.lexsort((energy, donor))
    donor, acceptor = donor[order], acceptor[order]
    first = np.ones(len(donor), bool)
    first[BONDS_OF_A_DONOR:] = donor[BONDS_OF_A_DONOR:] != donor[:-BONDS_OF_A_DONOR]
    return donor[first], acceptor[first]


def _squares(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths (...) of vectors (3, ...)."""
    return np.einsum("i...,i...->...", vectors, vectors)


def _near(nitrogen: np.ndarray, oxygen: np.ndarray, bounds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of nitrogens and oxygens, (3, R) each, close enough for a bond within a model; a superset."""
    donors, acceptors = [], []
    for start, stop in pairwise(bounds):
        if start == stop:
            continue
        one, other = np.ones((2, 5, stop - start), np.float32)
        center = nitrogen[:, start:stop].mean(axis=1, keepdims=True)
        one[:3], other[:3] = nitrogen[:, start:stop] - center, oxygen[:, start:stop] - center
        one[3], other[4] = _squares(one[:3]), _squares(other[:3])
        other[:3] *= -2
        donor, acceptor = np.divmod(np.flatnonzero(one.T @ other < LONGEST_BOND**2), stop - start)  # |a - b|²
        donors.append(donor + start)
        acceptors.append(acceptor + start)
    return np.concatenate(donors), np.concatenate(acceptors)


def _bends(alpha: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """Where the chain (3, R) bends by more than 70° over five residues (R,)."""
    bend = np.zeros(len(piece), bool)
    step = alpha[:, 2:] - alpha[:, :-2]
    squares, cosine = _squares(step), np.einsum("i...,i...->...", step[:, :-2], step[:, 2:])
    bend[2:-2] = (cosine < BEND * np.sqrt(squares[:-2] * squares[2:])) & (piece[4:] == piece[:-4])
    return bend


def _bridges(donor: np.ndarray, acceptor: np.ndarray, piece: np.ndarray) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """1 for parallel and -1 for antiparallel, each with the sorted pairs of residues that form such bridges.

    A bridge is two bonds. Each pattern is found starting from one of its two bonds, whatever the order of the pair.
    """
    accepts = np.full((BONDS_OF_A_DONOR, len(piece) + 2), -9)  # by donor; none is behind the end
    later = np.append(False, donor[1:] == donor[:-1]).astype(int)
    accepts[later, donor] = acceptor
    inner = np.zeros(len(piece) + 1, bool)
    inner[1 : len(piece) - 1] = piece[2:] == piece[:-2]

    def pairs(one: np.ndarray, other: np.ndarray, second_donor: np.ndarray, second_acceptor: np.ndarray) -> set:
        found = np.flatnonzero((accepts[:, second_donor] == second_acceptor).any(axis=0))
        one, other = one[found], other[found]
        kept = inner[one] & inner[other] & (abs(one - other) >= 3)
        return {(min(pair), max(pair)) for pair in zip(one[kept].tolist(), other[kept].tolist(), strict=True)}

    parallel = pairs(donor - 1, acceptor, acceptor, donor - 2)
    antiparallel = pairs(donor - 1, acceptor + 1, acceptor + 2, donor - 2) | pairs(donor, acceptor, acceptor, donor)
    yield 1, sorted(parallel)
    yield -1, sorted(antiparallel - parallel)


def _strands(donor: np.ndarray, acceptor: np.ndarray, piece: np.ndarray) -> Iterator[tuple[str, int, int]]:
    """`E` of a ladder or `B` of a lone bridge, with first and last residue, of each of its two strands."""
    for direction, bridges in _bridges(donor, acceptor, piece):
        joined: list[list[int]] = []
        open_from = 0
        for ladder in _ladders(bridges, direction):  # in the order of their first strand
            while open_from < len(joined) and ladder[0] - joined[open_from][1] >= LARGE_BULGE:
                open_from += 1
            for before in joined[open_from:]:
                first, last, other_first, other_last = before
                gap, other_gap = ladder[0] - last, direction * (ladder[2] - other_last)
                if (
                    (gap > 0 and other_gap >= 0)
                    and (min(gap, other_gap) < BULGE and max(gap, other_gap) < LARGE_BULGE)
                    and (piece[first] == piece[ladder[1]] and piece[other_first] == piece[ladder[3]])
                ):
                    before[1], before[3] = ladder[1], ladder[3]
                    break
            else:
                joined.append(ladder)
        for first, last, other_first, other_last in joined:
            letter = "E" if last > first else "B"
            yield letter, first, last
            yield letter, min(other_first, other_last), max(other_first, other_last)


def _ladders(bridges: list[tuple[int, int]], direction: int) -> list[list[int]]:
    """Consecutive bridges as ladders [first, last] of one strand and, `direction` 1 or -1, of the other."""
    ladders: list[list[int]] = []
    ends: dict[tuple[int, int], list[int]] = {}
    for i, j in bridges:
        ladder = ends.get((i - 1, j - direction))
        if ladder is None:
            ladders.append(ladder := [i, i, j, j])
        ladder[1], ladder[3] = i, j
        ends[i, j] = ladder
    return ladders
