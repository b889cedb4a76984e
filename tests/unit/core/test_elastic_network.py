"""Elastic networks: figures of ProDy, closed forms, and what a rigid motion is."""

import numpy as np
import pytest
from synthetic import DATA

from cvae_protein.core.elastic_network import (
    Modes,
    anisotropic_modes,
    contact_fluctuations,
    gaussian_fluctuations,
    hessian,
    overlap,
    packing_fluctuations,
    parameter_free_fluctuations,
    scale_to,
    without_rigid_motion,
)
from cvae_protein.core.geometry import rmsd
from cvae_protein.io.read import extract_domain, read_structure

RESIDUES = [0, 7, 25, 40, 75]
# By ProDy 2.6.1, of the 76 CA of 1ubi: roots of calcSqFlucts of all modes, and the three lowest eigenvalues of the ANM.
ANM, STIFFNESS = [0.643772, 0.702463, 0.395898, 0.513869, 4.788139], [0.044504, 0.1867, 0.326093]
GNM = [0.338781, 0.346171, 0.227164, 0.26864, 0.698833]


@pytest.fixture(scope="module")
def trace():
    return extract_domain(read_structure(DATA / "1ubi.cif.gz"), "A", "", "1ubi").coords[0, :, 1].astype(float)


def test_fluctuations_are_those_of_prody(trace):
    modes = anisotropic_modes(trace)
    assert len(modes.stiffness) == 3 * 76 - 6
    np.testing.assert_allclose(modes.stiffness[:3], STIFFNESS, atol=2e-6)
    np.testing.assert_allclose(modes.fluctuations[RESIDUES], ANM, atol=2e-6)
    np.testing.assert_allclose(gaussian_fluctuations(trace)[RESIDUES], GNM, atol=2e-6)


def test_two_beads_and_a_row_of_three():
    pair = np.array([[0.0, 0, 0], [3.8, 0, 0]])
    block = np.diag([1.0, 0, 0])
    np.testing.assert_allclose(hessian(pair), np.block([[block, -block], [-block, block]]), atol=1e-12)
    np.testing.assert_allclose(gaussian_fluctuations(pair) ** 2, 1 / 4)  # pseudo-inverse of [[1, -1], [-1, 1]]
    row = np.arange(3)[:, None] * np.array([3.8, 0, 0])
    np.testing.assert_allclose(gaussian_fluctuations(row, 4.0) ** 2, np.array([5, 2, 5]) / 9)
    np.testing.assert_allclose(contact_fluctuations(row, 4.0), [1, 0.5**0.5, 1])
    np.testing.assert_allclose(packing_fluctuations(row) ** -2, np.array([1.25, 2, 1.25]) / 3.8**2)
    assert (parameter_free_fluctuations(row)[[0, 2]] > parameter_free_fluctuations(row)[1]).all()


def test_overlap_of_modes_with_a_motion():
    vectors = np.zeros((2, 3, 3))
    vectors[0, 0, 0] = vectors[1, 2, 1] = 1.0
    motion = np.zeros((3, 3))
    motion[0, 0], motion[2, 1], motion[1, 2] = 3.0, -4.0, 12.0
    np.testing.assert_allclose(overlap(vectors, motion), [3 / 13, 4 / 13])


def test_rigid_motions_are_taken_off_and_nothing_else(trace):
    centred = trace - trace.mean(axis=0)
    moved = np.cross([0.3, -1.0, 0.5], centred) + np.array([1.0, 2.0, 3.0])
    assert np.abs(without_rigid_motion(moved[None], trace)).max() < 1e-9
    soft = anisotropic_modes(trace).vectors[:4]
    np.testing.assert_allclose(without_rigid_motion(soft, trace), soft, atol=1e-9)


def test_steps_of_thermal_modes_are_scaled_to_a_spread_and_have_their_fluctuations(trace):
    every = anisotropic_modes(trace)
    modes = Modes(every.vectors[3:], every.stiffness[3:])
    amplitudes = np.random.default_rng(1).standard_normal((400, len(modes.stiffness))) / np.sqrt(modes.stiffness)
    steps = np.einsum("nk,kli->nli", amplitudes, modes.vectors)
    made = trace + scale_to(trace, steps, 0.5) * steps
    assert rmsd(made, trace).mean() == pytest.approx(0.5, abs=1e-6)
    found = np.sqrt(np.square(made - trace).sum(axis=-1).mean(axis=0))
    assert np.corrcoef(found, modes.fluctuations)[0, 1] > 0.98
