"""Estimated TM-scores of one structure with many: many starts are judged, the best are aligned iteratively, at once.

Started from TM-align's final superposition, one alignment here reproduces its score to 0.003: what an estimate may
lack is a start near that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .superposition import compiled, superpose
from .tm_score import distance_scale

ALIGNED = 16  # starts that are aligned at once, one per SIMD lane of the processor
JUDGED_AT = 32  # residues of the query by which a start is judged
EVERY = 2  # the step between the residues of the target used for this
SUPERPOSITIONS = 3  # reweighted superpositions of what is aligned
FLOOR = np.float32(0.15)  # residue score below which two residues are better left unaligned
LOCAL_WIDTH = np.float32(3.0)  # Å, of the similarity of two local chain geometries
TURN = np.float32(5.0)  # Å that count as the distance of chains crossing at right angles, over √2
APART = np.float32(3.0)  # Å between four residues of the query as placed by two different starts
OVERLAP = 20  # fewest residues paired at a start by offset
PLACES = 8  # averaged points along a window
CORNERS = np.array([(0, 2, 5, 7), (0, 1, 3, 4), (3, 4, 6, 7), (0, 3, 4, 7), (1, 2, 5, 6)])  # the last off the plane
FEATURES = PLACES * (PLACES - 1) // 2 + len(CORNERS)
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)  # a plain number would be of double precision
FAR, LEAST = np.float32(1e9), np.float32(1e-9)
FEWEST = 3  # pairs of residues that a superposition needs


class Effort(NamedTuple):
    """How many starts of a pair are judged, and how the best are aligned.

    sizes : residues of the windows whose similarity gives starts (S,)
    step : residues from one window to the next
    alike : number of pairs of similar windows, for each size, that give starts
    offset : residues from one gapless start to the next
    rounds : for each round of alignment, the step between residues of the query and the factor by which squared
        distances are scaled down, to pair residues a few Å apart at first (R, 2); if empty, starts are only judged
    """

    sizes: np.ndarray
    step: int
    alike: int
    offset: int
    rounds: np.ndarray


GLANCE = Effort(np.array([32]), 2, 16, 8, np.empty((0, 2), int))
LOOK = Effort(np.array([16, 32]), 2, 40, 4, np.array([(2, 4), (2, 2), (1, 1)]))
LOOK_CLOSER = Effort(np.array([16, 24, 48]), 1, 60, 2, np.array([(1, 1)] * 4))


@dataclass(frozen=True, eq=False)
class Shape:
    """What a screen uses of a structure of L residues, in single precision.

    points : its CA around their centre in Å (3, L)
    directions : unit vectors along the chain, over four residues (3, L)
    turns : its local geometry (4, L)
    """

    points: np.ndarray
    directions: np.ndarray
    turns: np.ndarray

    @classmethod
    def of(cls, trace: np.ndarray) -> Shape:
        """The shape of a CA trace (L, 3)."""
        points = trace - trace.mean(axis=0)
        padded = np.pad(points, ((2, 2), (0, 0)), mode="edge")
        along = padded[4:] - padded[:-4]
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
        columns = (points, along, _local_geometry(points))
        return cls(*(np.ascontiguousarray(each.T, np.float32) for each in columns))

    def __len__(self) -> int:
        return self.points.shape[1]


def _local_geometry(trace: np.ndarray) -> np.ndarray:
    """CA distances of residues three, four and three apart, and the handedness of the turn, at each residue (L, 4)."""
    padded = np.pad(trace, ((2, 4), (0, 0)), mode="edge")
    points = [padded[k : k + len(trace)] for k in range(6)]
    hand = np.einsum("li,li->l", points[2] - points[1], np.cross(points[3] - points[2], points[4] - points[3]))
    reach = [np.linalg.norm(points[end] - points[begin], axis=1) for begin, end in ((1, 4), (0, 4), (2, 5))]
    return np.stack([*reach, hand / 12], axis=1)


@compiled
def _windows(points: np.ndarray, size: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Averaged points (W, 3, 8) of the windows of `size` residues of a chain, and their rigid invariants (33, W)."""
    count, each = max(0, (points.shape[1] - size) // step + 1), size // PLACES
    places, features = np.zeros((3, PLACES, count), np.float32), np.empty((FEATURES, count), np.float32)
    for axis in range(3):
        for k in range(PLACES):
            for residue in range(k * each, (k + 1) * each):
                for w in range(count):
                    places[axis, k, w] += points[axis, residue + step * w] / np.float32(each)
    x, y, z = places
    row = 0
    for i in range(PLACES):
        for j in range(i + 1, PLACES):
            for w in range(count):
                a, b, c = x[i, w] - x[j, w], y[i, w] - y[j, w], z[i, w] - z[j, w]
                features[row, w] = np.sqrt(a * a + b * b + c * c)
            row += 1
    for i, j, k, m in CORNERS:
        for w in range(count):
            a, b, c = x[j, w] - x[i, w], y[j, w] - y[i, w], z[j, w] - z[i, w]
            d, e, f = x[k, w] - x[j, w], y[k, w] - y[j, w], z[k, w] - z[j, w]
            u, v, t = x[m, w] - x[k, w], y[m, w] - y[k, w], z[m, w] - z[k, w]
            p, q, r = b * f - c * e, c * d - a * f, a * e - b * d
            features[row, w] = (p * u + q * v + r * t) / np.sqrt(ONE + p * p + q * q + r * r)
        row += 1
    return np.ascontiguousarray(places.transpose(2, 0, 1)), features


@compiled
def _likeness(ours: np.ndarray, theirs: np.ndarray, scale: float) -> np.ndarray:
    """Similarity (V, W) of windows with the features (33, V) and (33, W), 1 if they are the same."""
    table = np.zeros((ours.shape[1], theirs.shape[1]), np.float32)
    factor = np.float32(1 / (scale * FEATURES))
    for row in range(len(table)):
        found = table[row]
        for feature in range(FEATURES):
            own, other = ours[feature, row], theirs[feature]
            for column in range(len(found)):
                found[column] += (own - other[column]) * (own - other[column])
        for column in range(len(found)):
            found[column] = ONE / (ONE + factor * found[column])
    return table


@compiled
def _most_alike(table: np.ndarray, most: int) -> np.ndarray:
    """Rows and columns (n, 2) of the up to `most` highest entries that no neighbour on their diagonal exceeds."""
    rows, columns = table.shape
    where, values = np.empty((most, 2), np.int64), np.empty(most, np.float32)
    count = lowest = 0
    for row in range(rows):
        for column in range(columns):
            value = table[row, column]
            if count == most and value <= values[lowest]:
                continue
            if row and column and table[row - 1, column - 1] > value:
                continue
            if row + 1 < rows and column + 1 < columns and table[row + 1, column + 1] > value:
                continue
            at = lowest if count == most else count
            where[at], values[at] = (row, column), value
            count = min(count + 1, most)
            lowest = int(values[:count].argmin())
    return where[:count]


@compiled
def _starts(query: np.ndarray, target: np.ndarray, scale: float, effort: Effort) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (n, 3, 3) and shifts (n, 3) that superpose similar windows, and the chains at many offsets."""
    length, other = query.shape[1], target.shape[1]
    most = len(effort.sizes) * effort.alike + (length + other) // effort.offset + 1
    rotation, shift = np.empty((most, 3, 3), np.float32), np.empty((most, 3), np.float32)
    weights = np.ones(min(length, other) + PLACES, np.float32)
    count = 0
    for size in effort.sizes:
        ours, own = _windows(query, size, effort.step)
        theirs, features = _windows(target, size, effort.step)
        for row, column in _most_alike(_likeness(own, features, scale), effort.alike):
            superpose(ours[row], theirs[column], weights, PLACES, rotation[count], shift[count])
            count += 1
    overlap = min(length, other, OVERLAP)
    for offset in range(overlap - length, other - overlap + 1, effort.offset):
        begin, end = max(0, -offset), min(length, other - offset)
        ours = np.ascontiguousarray(query[:, begin:end])
        theirs = np.ascontiguousarray(target[:, begin + offset : end + offset])
        superpose(ours, theirs, weights, end - begin, rotation[count], shift[count])
        count += 1
    return rotation[:count], shift[:count]


@compiled
def _judged(
    query: np.ndarray,
    along: np.ndarray,
    target: np.ndarray,
    direction: np.ndarray,
    rotation: np.ndarray,
    shift: np.ndarray,
    scale: float,
) -> np.ndarray:
    """Mean score (n,) of 32 query residues, at each start, with the target residue nearest in place and direction."""
    length, columns = query.shape[1], (target.shape[1] + EVERY - 1) // EVERY
    theirs, squares = np.empty((columns, 6), np.float32), np.zeros(columns, np.float32)
    own, moved = np.empty((6, JUDGED_AT), np.float32), np.empty((6, JUDGED_AT), np.float32)
    for axis in range(3):
        for column in range(columns):
            theirs[column, axis] = target[axis, EVERY * column]
            theirs[column, axis + 3] = TURN * direction[axis, EVERY * column]
        for place in range(JUDGED_AT):
            residue = (2 * place + 1) * length // (2 * JUDGED_AT)
            own[axis, place], own[axis + 3, place] = query[axis, residue], TURN * along[axis, residue]
    for column in range(columns):
        for k in range(6):
            squares[column] += theirs[column, k] * theirs[column, k]
    nearest, factor = np.empty(JUDGED_AT, np.float32), np.float32(1 / scale)
    found = np.zeros(len(rotation), np.float32)
    for start in range(len(rotation)):
        for axis in range(3):
            (x, y, z), move = rotation[start, :, axis], shift[start, axis]
            for place in range(JUDGED_AT):
                moved[axis, place] = own[0, place] * x + own[1, place] * y + own[2, place] * z + move
                moved[axis + 3, place] = own[3, place] * x + own[4, place] * y + own[5, place] * z
        nearest[:] = FAR
        for column in range(columns):
            a, b, c, d, e, f = theirs[column]
            square = squares[column]
            for p in range(JUDGED_AT):
                product = a * moved[0, p] + b * moved[1, p] + c * moved[2, p]
                product += d * moved[3, p] + e * moved[4, p] + f * moved[5, p]
                nearest[p] = min(nearest[p], square - TWO * product)
        for place in range(JUDGED_AT):
            apart = nearest[place]
            for k in range(6):
                apart += moved[k, place] * moved[k, place]
            found[start] += ONE / (ONE + factor * max(apart, ZERO))
    return found / np.float32(JUDGED_AT)


@compiled
def _distinct(query: np.ndarray, rotation: np.ndarray, shift: np.ndarray, score: np.ndarray, most: int) -> np.ndarray:
    """Indices of the highest-scoring starts that place four residues of the query differently from each other."""
    placed, own = np.empty((most, 12), np.float32), np.empty(12, np.float32)
    chosen, count = np.empty(most, np.int64), 0
    for start in np.argsort(-score):
        for corner in range(4):
            x, y, z = query[:, (2 * corner + 1) * query.shape[1] // 8]
            for axis in range(3):
                a, b, c = rotation[start, :, axis]
                own[3 * corner + axis] = x * a + y * b + z * c + shift[start, axis]
        new = True
        for other in range(count):
            new = new and np.square(placed[other] - own).sum() >= TWO * TWO * APART * APART
        if new:
            placed[count], chosen[count] = own, start
            count += 1
            if count == most:
                break
    return chosen[:count]


@compiled
def _traced(choice: np.ndarray, partner: np.ndarray) -> None:
    """Trace back the choices (m, n) that led to the best sum: write the column paired with each row, -1 for none.

    2 and above: row and column are paired, 1: the row has no partner, 0: the column has none.
    """
    row, column = choice.shape[0] - 1, choice.shape[1] - 1
    partner[:] = -1
    while row >= 0 and column >= 0:
        taken = choice[row, column]
        if taken >= 2:
            partner[row] = column
        if taken:
            row -= 1
        if taken != 1:
            column -= 1


@compiled
def _align_turns(ours: np.ndarray, theirs: np.ndarray, choice: np.ndarray, partner: np.ndarray) -> None:
    """Write the partner of each residue by local geometry (4, L): best summed similarity in order, gaps free."""
    columns = theirs.shape[1]
    above, like = np.zeros(columns, np.float32), np.empty(columns, np.float32)
    for row in range(ours.shape[1]):
        a, b, c, d = ours[:, row]
        for column in range(columns):
            apart = abs(theirs[0, column] - a) + abs(theirs[1, column] - b)
            apart = (apart + abs(theirs[2, column] - c) + abs(theirs[3, column] - d)) / LOCAL_WIDTH
            like[column] = ONE / (ONE + apart + apart * apart / TWO) - FLOOR
        corner = left = ZERO
        for column in range(columns):
            up = above[column]
            pair, skip = corner + like[column], max(up, left)
            choice[row, column] = np.int8(2) * np.int8(pair > skip) + np.int8(up >= left)
            corner, left = up, max(pair, skip)
            above[column] = left
    _traced(choice, partner)


@compiled
def _align(moved: np.ndarray, target: np.ndarray, factor: float, choice: np.ndarray) -> None:
    """Write the choices (m, n, 16) of the best summed residue score in order, gaps free, for 16 superpositions at once.

    moved : the query's residues in each of them (m, 3, 16). Needleman & Wunsch 1970; residues that score below `FLOOR`
        are never paired.
    """
    above = np.zeros((target.shape[1], ALIGNED), np.float32)
    corner, left = np.empty(ALIGNED, np.float32), np.empty(ALIGNED, np.float32)
    for row in range(len(moved)):
        own = moved[row]
        corner[:] = ZERO
        left[:] = ZERO
        for column in range(target.shape[1]):
            x, y, z = target[0, column], target[1, column], target[2, column]
            upper, chosen = above[column], choice[row, column]
            for k in range(ALIGNED):
                a, b, c = own[0, k] - x, own[1, k] - y, own[2, k] - z
                up = upper[k]
                pair = corner[k] + ONE / (ONE + factor * (a * a + b * b + c * c)) - FLOOR
                skip = max(up, left[k])
                chosen[k] = np.int8(2) * np.int8(pair > skip) + np.int8(up >= left[k])
                corner[k] = up
                left[k] = max(pair, skip)
                upper[k] = left[k]


@compiled
def _refined(
    query: np.ndarray,
    every: int,
    target: np.ndarray,
    partner: np.ndarray,
    scale: float,
    rotation: np.ndarray,
    shift: np.ndarray,
) -> np.floating:
    """Write the superposition of the pairs, reweighted by their residue scores; return the sum of these scores."""
    mobile, fixed = np.empty((3, len(partner)), np.float32), np.empty((3, len(partner)), np.float32)
    weights, factor, count = np.ones(len(partner), np.float32), np.float32(1 / scale), 0
    for row in range(len(partner)):
        if partner[row] >= 0:
            for axis in range(3):
                mobile[axis, count] = query[axis, every // 2 + row * every]
                fixed[axis, count] = target[axis, partner[row]]
            count += 1
    total = ZERO
    if count < FEWEST:
        return total
    for _ in range(SUPERPOSITIONS):
        superpose(mobile, fixed, weights, count, rotation, shift)
        total = ZERO
        for k in range(count):
            x, y, z = mobile[0, k], mobile[1, k], mobile[2, k]
            a = x * rotation[0, 0] + y * rotation[1, 0] + z * rotation[2, 0] + shift[0] - fixed[0, k]
            b = x * rotation[0, 1] + y * rotation[1, 1] + z * rotation[2, 1] + shift[1] - fixed[1, k]
            c = x * rotation[0, 2] + y * rotation[1, 2] + z * rotation[2, 2] + shift[2] - fixed[2, k]
            score = ONE / (ONE + factor * (a * a + b * b + c * c))
            total += score
            weights[k] = score * score + LEAST
    return total


@compiled
def _estimate(
    query: np.ndarray,
    along: np.ndarray,
    turns: np.ndarray,
    target: np.ndarray,
    direction: np.ndarray,
    others: np.ndarray,
    scale: float,
    effort: Effort,
) -> np.floating:
    """Estimated TM-score of a query with one target, from the arrays of their shapes, normalised by the query."""
    length, columns = query.shape[1], target.shape[1]
    starts, moves = _starts(query, target, scale, effort)
    score = _judged(query, along, target, direction, starts, moves, scale)
    if not len(effort.rounds):
        return score.max()
    chosen = _distinct(query, starts, moves, score, ALIGNED - 1)
    rotation, shift = np.zeros((ALIGNED, 3, 3), np.float32), np.zeros((ALIGNED, 3), np.float32)
    for k in range(len(chosen)):
        rotation[k], shift[k] = starts[chosen[k]], moves[chosen[k]]
    partner = np.empty(length, np.int64)
    _align_turns(turns, others, np.empty((length, columns), np.int8), partner)
    _refined(query, 1, target, partner, scale, rotation[len(chosen)], shift[len(chosen)])
    best, entering = ZERO, len(chosen) + 1
    moved, choice = np.zeros((length, 3, ALIGNED), np.float32), np.empty((length, columns, ALIGNED), np.int8)
    for every, wider in effort.rounds:
        rows = (length - every // 2 + every - 1) // every
        wide = scale * wider
        for row in range(rows):
            x, y, z = query[:, every // 2 + row * every]
            for axis in range(3):
                for k in range(entering):
                    a, b, c, move = rotation[k, 0, axis], rotation[k, 1, axis], rotation[k, 2, axis], shift[k, axis]
                    moved[row, axis, k] = x * a + y * b + z * c + move
        _align(moved[:rows], target, np.float32(1 / wide), choice)
        for k in range(entering):
            _traced(choice[:rows, :, k], partner[:rows])
            total = _refined(query, every, target, partner[:rows], wide, rotation[k], shift[k])
            if every == wider == 1:
                best = max(best, total)
    return best / length


def estimates(query: Shape, targets: Sequence[Shape], effort: Effort = LOOK) -> np.ndarray:
    """Estimated TM-score of `query` with each of `targets`, normalised by the query's length (T,).

    With the effort `GLANCE` it is not a TM-score, but the higher it is, the likelier the target is near.
    """
    scale, own = distance_scale(len(query)) ** 2, (query.points, query.directions, query.turns)
    return np.array([_estimate(*own, t.points, t.directions, t.turns, scale, effort) for t in targets], float)
