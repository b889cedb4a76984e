import numpy as np
import pytest
from score_synthetic import chain, deformed, moved, ubiquitin
from tmtools import tm_align

from cvae_protein.similarity.screen import (
    ALIGNED,
    APART,
    FEATURES,
    FLOOR,
    GLANCE,
    LOOK,
    LOOK_CLOSER,
    Shape,
    _align,
    _distinct,
    _most_alike,
    _traced,
    _windows,
    estimates,
)

STRANGERS = [chain(70 + seed, seed)[:, 1] for seed in range(16)]
COPIES = [deformed(ubiquitin(), amount)[5:, 1] for amount in (0.2, 1.0, 2.0)]


def estimated(query, targets, effort=LOOK):
    return estimates(Shape.of(query), [Shape.of(target) for target in targets], effort)


def test_the_estimate_is_near_the_score_of_tm_align_and_nearer_at_a_closer_look():
    query, targets = ubiquitin()[:, 1], COPIES + STRANGERS
    exact = np.array([tm_align(query.copy(), t.copy(), "A" * 76, "A" * len(t)).tm_norm_chain1 for t in targets])
    quick, closer = (exact - estimated(query, targets, effort) for effort in (LOOK, LOOK_CLOSER))
    for missing in (quick, closer):
        assert np.abs(missing[:3]).max() < 0.01
        assert missing.max() < 0.04
        assert missing.min() > -0.1  # more than TM-align found
    assert closer.mean() < quick.mean() - 0.001


def test_a_glance_tells_copies_from_strangers():
    targets = [Shape.of(trace) for trace in [*map(moved, COPIES), *STRANGERS]]
    found = estimates(Shape.of(ubiquitin()[:, 1]), targets, GLANCE)
    assert found[:3].min() > found[3:].max() + 0.1


def test_starts_that_place_the_query_alike_are_taken_once():
    shifts = np.array([[0, 0, 0], [0, APART / 2, 0], [3 * APART, 0, 0], [0, 9 * APART, 0]], np.float32)
    turns = np.tile(np.eye(3, dtype=np.float32), (4, 1, 1))
    starts = Shape.of(ubiquitin()[:, 1]).points, turns, shifts, np.array([4, 3, 2, 1], np.float32)
    assert _distinct(*starts, 2).tolist() == [0, 2]
    assert _distinct(*starts, 9).tolist() == [0, 2, 3]


def test_what_is_known_of_windows_changes_with_no_motion_but_with_a_reflection():
    trace = ubiquitin()[:, 1]
    own, turned, mirrored = (
        _windows(Shape.of(each).points, 24, 2) for each in (trace, moved(trace), trace * [1, 1, -1])
    )
    assert own[0].shape == (27, 3, 8)
    assert own[1].shape == (FEATURES, 27)
    assert turned[1] == pytest.approx(own[1], abs=1e-3)
    assert np.abs(mirrored[1] - own[1]).max() > 5
    assert _windows(Shape.of(trace[:23]).points, 24, 2)[0].shape == (0, 3, 8)


def test_of_like_windows_each_diagonal_gives_the_most_alike():
    table = np.zeros((4, 6), np.float32)
    table[[0, 1, 2], [1, 2, 3]] = 0.5, 0.9, 0.6  # one superposition, a few residues further
    table[3, 0], table[0, 5] = 0.8, 0.7
    assert {tuple(each) for each in _most_alike(table, 3).tolist()} == {(1, 2), (3, 0), (0, 5)}
    assert [tuple(each) for each in _most_alike(table, 1).tolist()] == [(1, 2)]


def test_an_insertion_of_half_a_chain_hides_no_fold():
    trace = ubiquitin()[:, 1]
    loop = chain(30, 5)[:, 1]
    parted = np.concatenate([trace[:40], loop - loop[0] + trace[40] + [3.8, 0, 0], trace[40:]])
    assert estimated(trace, [moved(parted)])[0] > 0.95


@pytest.mark.parametrize("length", [5, 12, 23, 30])
def test_short_chains_are_like_themselves(length):
    trace = ubiquitin()[:length, 1]
    assert estimated(trace, [moved(trace), STRANGERS[0]])[0] > 0.95


def test_a_glance_at_short_chains_is_a_number():
    assert np.isfinite(estimates(Shape.of(STRANGERS[0][:5]), [Shape.of(STRANGERS[1][:5])], GLANCE)).all()


def plain_alignment(likeness):
    """Best summed likeness in order, by the recursion as it is written in textbooks."""
    rows, columns = likeness.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            best[i, j] = max(best[i - 1, j - 1] + likeness[i - 1, j - 1], best[i - 1, j], best[i, j - 1])
    return best[-1, -1]


@pytest.mark.parametrize(("rows", "columns"), [(7, 11), (11, 7), (1, 5), (5, 1)])
def test_the_alignment_is_the_best_there_is(rows, columns):
    random = np.random.default_rng(rows)
    moved, target = (random.normal(0, 3, size).astype(np.float32) for size in ((rows, 3, ALIGNED), (3, columns)))
    choice, partner = np.empty((rows, columns, ALIGNED), np.int8), np.empty(rows, np.int64)
    _align(moved, target, np.float32(0.1), choice)
    for lane in range(ALIGNED):
        apart = moved[:, :, lane, None] - target
        likeness = 1 / (1 + 0.1 * np.square(apart).sum(axis=1)) - FLOOR
        _traced(choice[:, :, lane], partner)
        aligned = np.flatnonzero(partner >= 0)
        assert (np.diff(partner[aligned]) > 0).all()
        assert likeness[aligned, partner[aligned]].min(initial=1) > 0
        assert likeness[aligned, partner[aligned]].sum() == pytest.approx(plain_alignment(likeness), abs=1e-4)
