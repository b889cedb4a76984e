import mdtraj
import numpy as np
import pytest
from score_synthetic import backbone, chain, moved, prepared, ubiquitin
from synthetic import helix

from cvae_protein.core.secondary_structure import secondary_structure
from cvae_protein.score.metrics import physical_validity
from cvae_protein.score.metrics.physical_validity import ALLOWED, CODES, FAVOURED, OUTLIER, region


def test_an_ideal_chain_has_no_strain():
    """Built with the mean bonds and angles; CA-C-N is 116.2 degrees there, 117.2 in the table: one of three angles."""
    assert physical_validity.bond_rmsz(prepared(chain(40))) == pytest.approx(0, abs=1e-4)
    expected = (1 / 2.2) * np.sqrt(39 / (40 + 39 + 39))
    assert physical_validity.angle_rmsz(prepared(chain(40))) == pytest.approx(expected, abs=1e-3)


def test_a_stretched_bond_counts_by_its_sigma():
    coords = chain(10)
    coords[4, 0] -= (coords[4, 1] - coords[4, 0]) / 1.458 * 0.019  # N-CA one σ longer, C-N changes too
    bonds = physical_validity.bond_rmsz(prepared(coords))
    peptide = np.linalg.norm(coords[4, 0] - coords[3, 2])
    assert bonds == pytest.approx(np.sqrt((1 + ((peptide - 1.329) / 0.014) ** 2) / 29), rel=1e-3)


def test_bonds_across_a_break_do_not_count():
    coords = chain(20)
    coords[10:] += 30
    assert physical_validity.chain_breaks(prepared(coords)) == 1
    assert physical_validity.bond_rmsz(prepared(coords)) == pytest.approx(0, abs=1e-4)
    assert physical_validity.physically_valid(prepared(coords)) == 0


@pytest.mark.parametrize(("distance", "expected"), [(2.9, 1), (3.1, 0)])
def test_clashes_are_counted_from_three_residues_on(distance, expected):
    coords = np.full((4, 5, 3), np.nan)
    coords[:, 1] = [(0, 0, 0), (3.8, 0, 0), (3.8, 3.8, 0), (0, distance, 0)]
    assert physical_validity.clashes(prepared(coords)) == expected
    assert physical_validity.clashes(prepared(coords[1:])) == 0


def test_overlaps_are_between_residues_only():
    coords = helix(10)
    coords[3, 4] = coords[3, 3] + 0.5  # CB on O of the same residue
    assert physical_validity.overlaps(prepared(coords)) == 0
    coords[3, 4] = coords[7, 3] + 0.5  # CB on O of another
    assert physical_validity.overlaps(prepared(coords)) == 1
    assert physical_validity.physically_valid(prepared(coords)) == 0


def test_a_real_domain_is_physical():
    real = prepared(ubiquitin())
    assert physical_validity.physically_valid(real) == 1
    assert physical_validity.ca_steps_ideal(real) > 0.95
    assert physical_validity.ca_step_deviation(real) < 0.08
    assert physical_validity.bond_rmsz(real) < 1.5
    assert physical_validity.angle_rmsz(real) < 1.5
    assert physical_validity.ramachandran_favoured(real) > 0.85
    assert physical_validity.ramachandran_outlier(real) < 0.05


def test_a_cis_step_is_no_deviation():
    coords = np.full((3, 5, 3), np.nan)
    coords[:, 1] = [(0, 0, 0), (3.8, 0, 0), (3.8, 2.95, 0)]
    assert physical_validity.ca_step_deviation(prepared(coords)) == pytest.approx(0, abs=1e-6)
    assert physical_validity.ca_steps_ideal(prepared(coords)) == 1


def test_the_hand_of_helices():
    right = helix(20)
    assert physical_validity.left_handed_helix(prepared(right)) == 0
    assert physical_validity.left_handed_helix(prepared(right * [1, 1, -1])) == 1
    assert np.isnan(physical_validity.left_handed_helix(prepared(helix(20, -120, 130))))
    assert physical_validity.left_handed_helix(prepared(ubiquitin())) == 0


@pytest.mark.parametrize(
    ("phi", "psi", "expected"),
    [
        (-63, -43, FAVOURED),
        (-120, 130, FAVOURED),
        (57, 40, FAVOURED),
        (-75, 60, ALLOWED),
        (90, -90, OUTLIER),
        (0, 0, OUTLIER),
    ],
)
def test_regions_of_well_known_conformations(phi, psi, expected):
    assert region(np.radians([phi]), np.radians([psi])) == [expected]


def test_the_map_is_whole_and_wraps():
    assert CODES.shape == (72, 72)
    assert region(np.array([np.pi]), np.array([np.pi])) == region(np.array([-np.pi]), np.array([-np.pi]))


def test_a_helix_of_favoured_torsions_mirrors_into_outliers():
    coords = helix(20, -63, -43)
    assert physical_validity.ramachandran_favoured(prepared(coords)) == 1
    strand = helix(20, -120, 130)
    assert physical_validity.ramachandran_outlier(prepared(strand * [1, 1, -1])) == 1


def test_composition_agrees_with_mdtraj():
    real = backbone(ubiquitin())
    ss = secondary_structure(real)[0]
    structure = prepared(ubiquitin(), ss=ss)
    topology = mdtraj.Topology()
    place = topology.add_chain()
    for _ in ss:
        residue = topology.add_residue("ALA", place)
        for name in ("N", "CA", "C", "O"):
            topology.add_atom(name, mdtraj.element.carbon, residue)
    trajectory = mdtraj.Trajectory(ubiquitin()[:, :4].reshape(1, -1, 3) / 10, topology)
    simple = mdtraj.compute_dssp(trajectory)[0]
    assert physical_validity.helix(structure) == pytest.approx((simple == "H").mean())
    assert physical_validity.strand(structure) == pytest.approx((simple == "E").mean())
    alphas = trajectory.atom_slice(topology.select("name CA"))
    assert physical_validity.rg(structure) == pytest.approx(10 * mdtraj.compute_rg(alphas)[0], abs=1e-3)
    assert physical_validity.relative_rg(structure) == pytest.approx(physical_validity.rg(structure) / (2.2 * 76**0.38))


def test_unassigned_residues_have_no_share():
    assert physical_validity.helix(prepared(ubiquitin()[:4], ss="HH?-")) == pytest.approx(2 / 3)
    assert np.isnan(physical_validity.helix(prepared(ubiquitin()[:4])))


def test_a_rigid_motion_changes_nothing():
    before, after = prepared(ubiquitin(), ss="H" * 76), prepared(moved(ubiquitin()), ss="H" * 76)
    for metric in (*physical_validity.METRICS, *physical_validity.COMPOSITION):
        assert metric(after) == pytest.approx(metric(before), abs=1e-6, nan_ok=True), metric.name
