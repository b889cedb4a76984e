"""Secondary structure from hydrogen bonds, as DSSP has it: Kabsch & Sander (1983) Biopolymers 22, 2577."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .structure import CA, Backbone, C, N, O

COULOMB = 27.888  # kcal Å/mol: 332 times the partial charges, 0.42 of C=O and 0.20 of N-H
WEAKEST_BOND = -0.5  # kcal/mol
LONGEST_BOND = 5.5  # Å from N to O, of those looked at; beyond 5.2 no energy comes below the weakest bond's
LONGEST_BOND_CA = 9.0  # Å between the CA of bonded residues
BONDS_OF_A_DONOR = 2  # the strongest that count
BEND = np.cos(np.radians(70))


def secondary_structure(backbone: Backbone) -> tuple[str, ...]:
    """DSSP letters `H B E G I T S -` of every model, a string of length L each; `?` where a backbone atom is missing.

    No pattern runs across a break, and the residue behind one has no hydrogen to give. As in DSSP since 2.0, a π helix
    comes before an α helix. Of the sequence, only proline is looked at, which gives no bond.
    """
    complete = np.flatnonzero(backbone.complete)
    letters = np.full((backbone.models, len(backbone)), "?")
    if len(complete):
        breaks_before = np.searchsorted(np.flatnonzero(backbone.breaks), complete)
        apart = (np.diff(breaks_before) != 0) | (np.diff(complete) != 1)
        piece = np.append(0, np.cumsum(apart))
        gives = np.array([backbone.sequence[residue] != "P" for residue in complete])
        gives &= np.diff(piece, prepend=-1) == 0
        for model, coords in enumerate(np.asarray(backbone.coords[:, complete], np.float64)):
            letters[model, complete] = _letters(coords, gives, piece)
    return tuple("".join(row) for row in letters)


def _letters(coords: np.ndarray, gives: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """Letters (L,) of coordinates (L, 5, 3); who `gives` hydrogen bonds (L,), and the `piece` of each residue (L,)."""
    bonded = _hydrogen_bonds(coords, gives)
    letters = np.full(len(coords), "-")
    for letter, first, last in sorted(_strands(bonded, piece)):  # a residue of a bridge (B) and a ladder (E) is E
        letters[first : last + 1] = letter
    turns = {stride: _turns(bonded, piece, stride) for stride in (3, 4, 5)}
    for letter, stride, replaced in (("H", 4, "-BE"), ("G", 3, "-"), ("I", 5, "-H")):
        taken = np.array([other not in replaced for other in letters.tolist()])
        begins = turns[stride].copy()  # a helix is two turns in a row; it has the residues from the second turn's first
        begins[1:] &= turns[stride][:-1]
        begins[:1] = False
        begins &= np.convolve(taken, np.ones(stride))[stride - 1 :] == 0
        letters[_run(begins, stride)] = letter
    rest = letters == "-"
    letters[rest & _bends(coords[:, CA], piece)] = "S"
    for stride, begins in turns.items():
        letters[rest & _run(np.append(False, begins[:-1]), stride - 1)] = "T"
    return letters


def _run(begins: np.ndarray, size: int) -> np.ndarray:
    """The residues (L,) of every stretch of `size` that begins where `begins` (L,)."""
    return np.convolve(begins, np.ones(size))[: len(begins)] > 0


def _hydrogen_bonds(coords: np.ndarray, gives: np.ndarray) -> np.ndarray:
    """Whether the N-H of residue i bonds the C=O of residue j, (L, L): the two strongest bonds of each i."""
    nitrogen, alpha, carbon, oxygen = (coords[:, atom] for atom in (N, CA, C, O))
    hydrogen = nitrogen.copy()
    carbonyl = carbon[:-1] - oxygen[:-1]
    hydrogen[1:] += carbonyl / np.maximum(np.linalg.norm(carbonyl, axis=-1, keepdims=True), 1e-6)  # N-H is 1 Å
    center = nitrogen.mean(axis=0)
    a, b = nitrogen - center, oxygen - center
    near = (a**2).sum(-1)[:, None] + (b**2).sum(-1) - 2 * a @ b.T < LONGEST_BOND**2
    near[~gives] = False
    donor, acceptor = _places(near)
    kept = (donor != acceptor) & (donor != acceptor + 1)
    donor, acceptor = donor[kept], acceptor[kept]

    def inverse(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        difference = one[donor] - other[acceptor]
        return 1 / np.maximum(np.sqrt(np.einsum("ij,ij->i", difference, difference)), 0.5)

    energy = COULOMB * (
        inverse(nitrogen, oxygen) + inverse(hydrogen, carbon) - inverse(hydrogen, oxygen) - inverse(nitrogen, carbon)
    )
    strong = (energy < WEAKEST_BOND) & (inverse(alpha, alpha) > 1 / LONGEST_BOND_CA)
    donor, acceptor, energy = donor[strong], acceptor[strong], energy[strong]
    order = np.lexsort((energy, donor))
    donor, acceptor = donor[order], acceptor[order]
    first = np.arange(len(donor)) - np.searchsorted(donor, donor) < BONDS_OF_A_DONOR
    bonded = np.zeros((len(coords), len(coords)), bool)
    bonded[donor[first], acceptor[first]] = True
    return bonded


def _places(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns where a matrix holds, as `np.nonzero`, but faster."""
    return np.divmod(np.flatnonzero(matrix), matrix.shape[1])


def _turns(bonded: np.ndarray, piece: np.ndarray, stride: int) -> np.ndarray:
    """Whether a turn of `stride` begins at each residue (L,): residue i + stride bonds residue i."""
    begins = np.zeros(len(piece), bool)
    begins[:-stride] = np.diagonal(bonded, -stride) & (piece[stride:] == piece[:-stride])
    return begins


def _bends(alpha: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """Where the chain (L, 3) turns by more than 70° over five residues (L,)."""
    bend = np.zeros(len(alpha), bool)
    step = alpha[2:] - alpha[:-2]
    before, after = step[:-2], step[2:]
    scale = np.sqrt((before**2).sum(-1) * (after**2).sum(-1))
    bend[2:-2] = ((before * after).sum(-1) < BEND * scale) & (piece[4:] == piece[:-4])
    return bend


def _strands(bonded: np.ndarray, piece: np.ndarray) -> Iterator[tuple[str, int, int]]:
    """`E` of a ladder or `B` of a lone bridge, with first and last residue, of each of its two strands."""
    if len(piece) < 5:
        return
    before, here, after = slice(None, -2), slice(1, -1), slice(2, None)
    within = piece[before] == piece[after]
    given = bonded.T
    parallel = bonded[after, here] & given[before, here] | given[here, after] & bonded[here, before]
    antiparallel = bonded[after, before] & given[before, after] | bonded[here, here] & given[here, here]
    antiparallel &= ~parallel
    for direction, bridges in ((1, parallel), (-1, antiparallel)):
        one, other = _places(bridges & within & within[:, None])
        apart = other - one >= 3
        ladders = _ladders(one[apart] + 1, other[apart] + 1, direction)
        while ladders:
            (first, last, other_first, other_last), *rest = ladders
            ladders = []
            for ladder in rest:  # in the order of their first strand
                gap, other_gap = ladder[0] - last, direction * (ladder[2] - other_last)
                if (
                    (gap > 0 and other_gap >= 0)
                    and (min(gap, other_gap) < 3 and max(gap, other_gap) < 6)  # a bulge: at most 1 and 4 residues more
                    and (piece[first] == piece[ladder[1]] and piece[other_first] == piece[ladder[3]])
                ):
                    last, other_last = ladder[1], ladder[3]
                else:
                    ladders.append(ladder)
            letter = "E" if last > first else "B"
            yield letter, first, last
            yield letter, min(other_first, other_last), max(other_first, other_last)


def _ladders(one: np.ndarray, other: np.ndarray, direction: int) -> list[list[int]]:
    """Bridges without a gap between them as [first, last] of one strand and, `direction` 1 or -1, of the other."""
    ladders: list[list[int]] = []
    ends: dict[tuple[int, int], list[int]] = {}
    for i, j in zip(one.tolist(), other.tolist(), strict=True):
        ladder = ends.get((i - 1, j - direction))
        if ladder is None:
            ladders.append(ladder := [i, i, j, j])
        ladder[1], ladder[3] = i, j
        ends[i, j] = ladder
    return ladders
