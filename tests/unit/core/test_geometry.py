import gemmi
import mdtraj
import numpy as np
import pytest
from Bio.PDB import PPBuilder
from Bio.SVDSuperimposer import SVDSuperimposer
from synthetic import DATA, biopython_chain, helix

from cvae_protein.core import geometry
from cvae_protein.io.read import extract_domain, read_structure


@pytest.fixture(scope="module")
def ubiquitin():
    return extract_domain(read_structure(DATA / "1ubi.cif.gz"), "A", "", "1ubi")


@pytest.mark.parametrize("angle", [-179.0, -90.0, -30.0, 0.0, 45.0, 120.0, 180.0])
def test_dihedral_closed_form(angle):
    turned = np.radians(angle)
    points = np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 2], [np.cos(turned), np.sin(turned), 2]])
    assert geometry.dihedral(*points) == pytest.approx(turned, abs=1e-12)


def test_dihedral_agrees_with_gemmi():
    points = np.random.default_rng(0).normal(size=(50, 4, 3))
    expected = [gemmi.calculate_dihedral(*(gemmi.Position(*p) for p in quad)) for quad in points]
    np.testing.assert_allclose(geometry.dihedral(*points.swapaxes(0, 1)), expected, atol=1e-12)


def test_torsions_of_a_helix_are_those_it_was_built_with():
    angles = np.degrees(geometry.torsions(helix(12), np.zeros(11, bool)))
    np.testing.assert_allclose(angles[1:, 0], -57, atol=1e-6)
    np.testing.assert_allclose(angles[:-1, 1], -47, atol=1e-6)
    np.testing.assert_allclose(np.abs(angles[:-1, 2]), 180, atol=1e-6)
    assert np.isnan([angles[0, 0], angles[-1, 1], angles[-1, 2]]).all()


def test_torsions_agree_with_biopython(ubiquitin, tmp_path):
    (peptide,) = PPBuilder().build_peptides(biopython_chain(DATA / "1ubi.cif.gz", tmp_path))
    expected = np.array([[np.nan if a is None else a for a in pair] for pair in peptide.get_phi_psi_list()])
    ours = geometry.torsions(ubiquitin.coords, ubiquitin.breaks)[0]
    assert len(expected) == 76
    np.testing.assert_allclose(ours[:, :2], expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Unlikely unit cell")
def test_torsions_agree_with_mdtraj(ubiquitin, tmp_path):
    path = tmp_path / "x.pdb"
    gemmi.read_structure(str(DATA / "1ubi.cif.gz")).write_pdb(str(path))
    trajectory = mdtraj.load(str(path))
    ours = geometry.torsions(ubiquitin.coords, ubiquitin.breaks)[0]
    for column, compute, part in (
        (0, mdtraj.compute_phi, slice(1, None)),
        (1, mdtraj.compute_psi, slice(None, -1)),
        (2, mdtraj.compute_omega, slice(None, -1)),
    ):
        difference = ours[part, column] - compute(trajectory)[1][0]
        assert np.abs(np.angle(np.exp(1j * difference))).max() < 1e-3


def test_torsions_stop_at_a_break():
    breaks = np.zeros(9, bool)
    breaks[4] = True
    missing = np.isnan(geometry.torsions(helix(10), breaks))
    assert missing[5, 0]
    assert missing[4, 1:].all()
    assert missing.sum() == 6


def test_torsions_of_an_ensemble_and_of_one_residue():
    both = np.stack([helix(8), helix(8, phi=-120, psi=130)])
    angles = geometry.torsions(both, np.zeros(7, bool))
    assert angles.shape == (2, 8, 3)
    assert np.degrees(angles[1, 3, 1]) == pytest.approx(130)
    assert np.isnan(geometry.torsions(helix(1), np.zeros(0, bool))).all()


def rotation_of(generator):
    matrix, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    return matrix * np.linalg.det(matrix)


def test_superpose_recovers_the_motion():
    generator = np.random.default_rng(1)
    points, rotation, shift = generator.normal(size=(20, 3)), rotation_of(generator), generator.normal(size=3) * 50
    found, translation = geometry.superpose(points, points @ rotation.T + shift)
    np.testing.assert_allclose(found, rotation, atol=1e-9)
    np.testing.assert_allclose(translation, shift, atol=1e-8)


def test_superpose_never_mirrors():
    points = np.random.default_rng(2).normal(size=(20, 3))
    rotation, _ = geometry.superpose(points, points * [1, 1, -1])
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert geometry.rmsd(points, points * [1, 1, -1]) > 0.1


def test_rmsd_agrees_with_biopython_and_mdtraj(ubiquitin):
    generator = np.random.default_rng(3)
    first = ubiquitin.ca[0].astype(float)
    other = (first + generator.normal(size=first.shape)) @ rotation_of(generator).T + 30
    reference = SVDSuperimposer()
    reference.set(first, other)
    reference.run()
    assert geometry.rmsd(first, other) == pytest.approx(reference.get_rms(), abs=1e-6)
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in first:
        topology.add_atom("CA", mdtraj.element.carbon, topology.add_residue("ALA", chain))
    frames = mdtraj.Trajectory(np.stack([first, other]) / 10, topology)
    assert geometry.rmsd(first, other) == pytest.approx(mdtraj.rmsd(frames, frames, 0)[1] * 10, abs=1e-3)
    assert geometry.radius_of_gyration(first) == pytest.approx(mdtraj.compute_rg(frames)[0] * 10, abs=1e-3)


def test_rmsd_of_a_batch_is_that_of_each_pair():
    generator = np.random.default_rng(4)
    a, b = generator.normal(size=(2, 5, 30, 3))
    np.testing.assert_allclose(geometry.rmsd(a, b), [geometry.rmsd(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(geometry.rmsd(a, b[0]), [geometry.rmsd(x, b[0]) for x in a])


def test_missing_points_do_not_count():
    generator = np.random.default_rng(5)
    a, b = generator.normal(size=(2, 12, 3))
    a_gap, b_gap = a.copy(), b.copy()
    a_gap[3], b_gap[7, 1] = np.nan, np.nan
    kept = [i for i in range(12) if i not in (3, 7)]
    assert geometry.rmsd(a_gap, b_gap) == pytest.approx(geometry.rmsd(a[kept], b[kept]))
    assert geometry.radius_of_gyration(a_gap) == pytest.approx(geometry.radius_of_gyration(np.delete(a, 3, 0)))
    assert np.isnan(geometry.rmsd(np.full((4, 3), np.nan), b[:4]))


def test_radius_of_gyration_of_a_ring():
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([3 * np.cos(turn), 3 * np.sin(turn), np.full(24, 7.0)], -1)
    assert geometry.radius_of_gyration(ring) == pytest.approx(3)
