import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvae_protein.similarity.superposition import rotate, superpose


def decomposed(covariance):
    left, _, right = np.linalg.svd(covariance)
    left[:, 2] *= np.sign(np.linalg.det(left @ right))
    return left @ right


def rotation_of(covariance):
    found = np.zeros((3, 3))
    rotate(*(tuple(row) for row in covariance.tolist()), found)
    return found


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 40), st.sampled_from([0.0, 0.01, 1.0, 30.0]), st.booleans())
def test_rotations_superpose_as_well_as_the_decomposition(seed, count, noise, mirrored):
    random = np.random.default_rng(seed)
    mobile = np.cumsum(random.normal(0, 2, (count, 3)), axis=0)
    target = mobile @ decomposed(random.normal(size=(3, 3))) + random.normal(0, 1, mobile.shape) * noise
    target = target * [-1, 1, 1] if mirrored else target
    mobile, target = (points - points.mean(axis=0) for points in (mobile, target))
    covariance = mobile.T @ target
    found, best = rotation_of(covariance), decomposed(covariance)
    assert np.linalg.det(found) == pytest.approx(1)
    assert np.allclose(found @ found.T, np.eye(3), atol=1e-9)
    assert (best * covariance).sum() - (found * covariance).sum() < 1e-4 * np.linalg.norm(covariance)


@pytest.mark.parametrize("covariance", [np.zeros((3, 3)), np.diag([4.0, 0, 0]), np.diag([-4.0, 0, 0])])
def test_points_on_a_line_and_no_points_still_give_a_rotation(covariance):
    for turned in (covariance, covariance @ decomposed(np.random.default_rng(0).normal(size=(3, 3)))):
        found = rotation_of(turned)
        assert np.allclose(found @ found.T, np.eye(3))
        assert (found * turned).sum() == pytest.approx(np.linalg.norm(turned), abs=1e-3)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_points_are_laid_on_each_other_by_weights(precision):
    random = np.random.default_rng(1)
    mobile = random.normal(0, 9, (3, 20)).astype(precision)
    turn, move = decomposed(random.normal(size=(3, 3))), np.array([5.0, -7, 30])
    target = (turn.T @ mobile + move[:, None]).astype(precision)
    target[:, 12:] += 40  # of weight 0, or beyond the count
    weights = np.where(np.arange(20) < 12, 1 + np.arange(20), 0).astype(precision)
    rotation, shift = np.zeros((3, 3), precision), np.zeros(3, precision)
    superpose(mobile, target, weights, 16, rotation, shift)
    assert rotation == pytest.approx(turn, abs=1e-5)
    assert shift == pytest.approx(move, abs=1e-3)


def test_compiling_is_announced_and_loading_what_was_compiled_is_not(tmp_path: Path) -> None:
    code = """
import numpy as np
from cvae_protein.similarity.superposition import superpose
points = np.eye(3, 5)
superpose(points, points, np.ones(5), 5, np.zeros((3, 3)), np.zeros(3))
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    said = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        said.append(done.stderr)
    assert said[0].count("superposition: compiles") == 1
    assert "compiles" not in said[1]
