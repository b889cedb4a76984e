import numpy as np
import pytest
from score_synthetic import chain, deformed, moved, ubiquitin
from tmtools import tm_align

from cvae_protein.similarity.screen import (
    APART,
    Shape,
    Superpositions,
    Windows,
    _alignment,
    _distinct,
    _running_maximum,
    look,
    look_closer,
    look_wider,
    screen,
)

STRANGERS = [chain(70 + seed, seed)[:, 1] for seed in range(16)]
COPIES = [deformed(ubiquitin(), amount)[5:, 1] for amount in (0.2, 1.0, 2.0)]


def estimated(query, targets):
    return screen(Shape.of(query), [Shape.of(target) for target in targets])


def test_the_estimate_is_near_the_score_of_tm_align():
    query, targets = ubiquitin()[:, 1], COPIES + STRANGERS
    exact = np.array([tm_align(query.copy(), t.copy(), "A" * 76, "A" * len(t)).tm_norm_chain1 for t in targets])
    found = estimated(query, targets)
    assert found[:3] == pytest.approx(exact[:3], abs=0.03)
    assert (exact - found).max() < 0.15
    assert (exact - found).min() > -0.1


def test_the_quick_look_tells_copies_from_strangers():
    targets = [moved(copy) for copy in COPIES] + STRANGERS
    found, ends = look(Shape.of(ubiquitin()[:, 1]), [Shape.of(target) for target in targets])
    assert len(ends.score) == len(targets)
    assert found[:3].min() > found[3:].max() + 0.1


def test_more_starts_bring_the_estimate_of_strangers_nearer_to_tm_align():
    query, shapes = ubiquitin()[:, 1], [Shape.of(target) for target in STRANGERS]
    exact = np.array([tm_align(query.copy(), t.copy(), "A" * 76, "A" * len(t)).tm_norm_chain1 for t in STRANGERS])
    ends = look(Shape.of(query), shapes)[1]
    few, many = (exact - found(Shape.of(query), shapes, ends) for found in (look_closer, look_wider))
    assert many.mean() < few.mean() - 0.005
    assert many.max() < 0.04


def test_starts_that_place_the_query_alike_are_taken_once():
    shape = Shape.of(ubiquitin()[:, 1])
    shifts = np.array([[0, 0, 0], [0, APART / 2, 0], [3 * APART, 0, 0], [0, 9 * APART, 0]], np.float32)
    turns = np.tile(np.eye(3, dtype=np.float32), (1, 4, 1, 1))
    starts = Superpositions(turns, shifts[None], np.array([[4.0, 3, 2, 1]]))
    assert _distinct(shape, starts, 3).score.tolist() == [[4, 2, 1]]
    assert _distinct(shape, starts, 9).score.tolist() == [[4, 2, 1, 3]]  # none is left out where there is room


def test_what_is_known_of_windows_changes_with_no_motion_but_with_a_reflection():
    trace = ubiquitin()[:, 1]
    own, turned, mirrored = (Windows.of(each, 24) for each in (trace, moved(trace), trace * [1, 1, -1]))
    assert own.points.shape == (14, 8, 3)
    assert turned.features == pytest.approx(own.features, abs=1e-4)
    assert np.abs(mirrored.features - own.features).max() > 5
    assert len(Windows.of(trace[:23], 24).points) == 0


def test_an_insertion_of_half_a_chain_hides_no_fold():
    trace = ubiquitin()[:, 1]
    loop = chain(30, 5)[:, 1]
    parted = np.concatenate([trace[:40], loop - loop[0] + trace[40] + [3.8, 0, 0], trace[40:]])
    assert estimated(trace, [moved(parted)])[0] > 0.9


@pytest.mark.parametrize("length", [12, 23, 30])
def test_short_chains_are_like_themselves(length):
    trace = ubiquitin()[:length, 1]
    assert estimated(trace, [moved(trace), STRANGERS[0]])[0] > 0.9


def test_the_estimate_of_a_target_does_not_depend_on_its_company():
    query = ubiquitin()[:, 1]
    together = estimated(query, STRANGERS)
    alone = [estimated(query, [each])[0] for each in STRANGERS]
    assert together == pytest.approx(alone, abs=2e-2)


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
    table = np.random.default_rng(rows).random((rows, columns, 3)).astype(np.float32)
    table[table < 0.4] = 0
    ours = np.arange(rows)[:, None, None]
    partner = _alignment(ours, np.zeros((1, columns, 3)), lambda row, _: table[row[0, 0]].copy())
    for target in range(3):
        aligned = np.flatnonzero(partner[target] >= 0)
        assert (np.diff(partner[target, aligned]) > 0).all()
        total = table[aligned, partner[target, aligned], target].sum()
        assert total == pytest.approx(plain_alignment(table[:, :, target]), abs=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 5, 16])
def test_the_running_maximum_is_that_of_numpy(rows):
    table = np.random.default_rng(rows).random((rows, 4)).astype(np.float32)
    assert (_running_maximum(table.copy()) == np.maximum.accumulate(table, axis=0)).all()
