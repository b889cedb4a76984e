import biotite.structure as biotite
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_synthetic import chain, deformed, moved, ubiquitin

from cvae_protein.similarity.tm_score import rotations, tm_score, tm_scores


def decomposed(covariance):
    left, _, right = np.linalg.svd(covariance)
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    return left @ right


def gained(rotation, covariance):
    return np.einsum("bij,bij->b", rotation, covariance)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 40), st.sampled_from([0.0, 0.01, 1.0, 30.0]), st.booleans())
def test_rotations_superpose_as_well_as_the_decomposition(seed, count, noise, mirrored):
    random = np.random.default_rng(seed)
    mobile = np.cumsum(random.normal(0, 2, (20, count, 3)), axis=1)
    target = mobile @ decomposed(random.normal(size=(1, 3, 3)))[0] + random.normal(0, 1, mobile.shape) * noise
    target = target * [-1, 1, 1] if mirrored else target
    mobile, target = (points - points.mean(axis=1, keepdims=True) for points in (mobile, target))
    covariance = np.matmul(mobile.transpose(0, 2, 1), target)
    found, best = rotations(covariance), decomposed(covariance)
    assert np.allclose(np.linalg.det(found), 1)
    assert np.allclose(found @ found.transpose(0, 2, 1), np.eye(3), atol=1e-9)
    size = np.linalg.norm(covariance, axis=(1, 2))
    assert (gained(best, covariance) - gained(found, covariance) < 1e-4 * size).all()


def test_points_on_a_line_and_no_points_still_give_a_rotation():
    covariance = np.zeros((3, 3, 3))
    covariance[1, 0, 0], covariance[2, 0, 1] = 4.0, -4.0
    found = rotations(covariance)
    assert np.allclose(found @ found.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(gained(found, covariance), [0, 4, 4])


def test_pairs_together_score_as_each_alone():
    pairs = [
        (deformed(ubiquitin(), amount)[first:, 1], ubiquitin()[first:, 1]) for amount in (0.3, 2.0) for first in (0, 9)
    ]
    pairs += [(chain(40, seed)[:, 1], chain(40, seed + 1)[:, 1]) for seed in range(30)]
    pairs.append((np.zeros((3, 3)), np.zeros((3, 3))))
    lengths = [len(mobile) + index % 3 for index, (mobile, _) in enumerate(pairs)]
    together = tm_scores(pairs, lengths)
    alone = [tm_score(*pair, length) for pair, length in zip(pairs, lengths, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-9)
    assert np.isnan(together).tolist() == [False] * (len(pairs) - 1) + [True]
    assert tm_scores([]).shape == (0,)


def atoms_of(trace):
    """CA atoms of a chain of alanine, as biotite has them."""
    atoms = biotite.AtomArray(len(trace))
    atoms.coord, atoms.res_id = np.asarray(trace, np.float32), np.arange(1, len(trace) + 1)
    atoms.res_name[:], atoms.atom_name[:], atoms.element[:] = "ALA", "CA", "C"
    return atoms


def test_the_score_is_that_of_biotite_where_superposition_is_plain():
    """It scores coordinates as they lie: after its own superposition a lower bound, and tight for near copies."""
    own = ubiquitin()[:, 1]
    at = np.arange(len(own))
    for noise, slack in ((0.1, 1e-3), (0.5, 1e-3), (2.0, 0.02)):
        other = moved(own + np.random.default_rng(0).normal(0, noise, own.shape))
        fitted, _ = biotite.superimpose(atoms_of(own), atoms_of(other))
        bound = biotite.tm_score(atoms_of(own), fitted, at, at, reference_length=len(own))
        found = tm_score(other, own, len(own))
        assert bound <= found + 1e-5
        assert found == pytest.approx(bound, abs=slack)
