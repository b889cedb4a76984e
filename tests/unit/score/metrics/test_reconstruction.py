import shutil
import subprocess
from dataclasses import replace

import biotite.structure as biotite
import mdtraj
import numpy as np
import pytest
from score_synthetic import chain, deformed, moved, prepared, ubiquitin
from tmtools import tm_align

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.score.metrics.latent import Codes
from cvae_protein.score.metrics.reconstruction import (
    Pair,
    backbone_rmsd,
    ca_rmsd,
    ca_tm_score,
    generalisation_rows,
    lddt,
    mirror_rmsd,
    right_handed,
    ss_q3,
)
from cvae_protein.similarity.tm_score import distance_scale, tm_score

PAIRS = [(ubiquitin(), deformed(ubiquitin(), amount, seed)) for amount in (0.3, 1.0, 2.0, 4.0) for seed in (0, 1)]


def test_distance_scale_is_the_published_one():
    assert distance_scale(15) == distance_scale(19) == 0.5
    assert distance_scale(100) == pytest.approx(1.24 * 85 ** (1 / 3) - 1.8)


@pytest.mark.parametrize("amount", [0.1, 0.5, 1.0])
def test_tm_agrees_with_tmtools_where_the_alignment_is_the_identity(amount):
    ours, theirs = deformed(ubiquitin(), amount)[:, 1], ubiquitin()[:, 1]
    aligned = tm_align(np.ascontiguousarray(ours), np.ascontiguousarray(theirs), "A" * 76, "A" * 76)
    assert tm_score(ours, theirs, len(theirs)) == pytest.approx(aligned.tm_norm_chain2, abs=2e-3)


def _alpha_carbons(trace):
    array = biotite.AtomArray(len(trace))
    array.coord, array.res_id = trace.astype(np.float32), np.arange(len(trace))
    array.atom_name[:], array.res_name[:] = "CA", "ALA"
    return array


@pytest.mark.parametrize(("amount", "above"), [(0.1, 2e-3), (1.0, 2e-3), (4.0, 0.1)])
def test_tm_is_the_highest_that_biotite_gives_over_superpositions(amount, above):
    ours, theirs = deformed(ubiquitin(), amount)[:, 1], moved(ubiquitin()[:, 1])
    aligned = tm_align(ours.copy(), theirs.copy(), "A" * 76, "A" * 76)
    reference = _alpha_carbons(theirs)
    placed = [
        _alpha_carbons(ours @ aligned.u.T + aligned.t),
        biotite.superimpose(reference, _alpha_carbons(ours))[0],
    ]
    every = np.arange(76)
    best = max(biotite.tm_score(reference, each, every, every, reference_length=80) for each in placed)
    assert best - 1e-4 <= tm_score(ours, theirs, 80) <= best + above


def _ca_lines(trace):
    return "".join(
        f"ATOM  {i + 1:5d}  CA  ALA A{i + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}\n" for i, (x, y, z) in enumerate(trace)
    )


@pytest.mark.skipif(shutil.which("TMscore") is None, reason="the program TMscore is not installed")
def test_tm_is_never_below_the_program(tmp_path):
    hinge = ubiquitin()
    hinge[40:] = moved(hinge[40:] - hinge[40, 1]) * 1.0
    others = [(ubiquitin(), hinge), (ubiquitin(), ubiquitin() * [-1, 1, 1]), (chain(90, 1), chain(90, 2))]
    for ours, theirs in [*PAIRS, *others]:
        ours, theirs = np.round(ours[:, 1], 3), np.round(theirs[:, 1], 3)
        (tmp_path / "a.pdb").write_text(_ca_lines(ours))
        (tmp_path / "b.pdb").write_text(_ca_lines(theirs))
        said = subprocess.run(["TMscore", "a.pdb", "b.pdb"], cwd=tmp_path, capture_output=True, text=True, check=True)
        line = next(line for line in said.stdout.splitlines() if line.startswith("TM-score    ="))
        program = float(line.split()[2])
        assert program - 1e-3 < tm_score(ours, theirs, len(theirs)) < program + 0.04


def test_rmsd_agrees_with_mdtraj():
    for ours, theirs in PAIRS:
        topology = mdtraj.Topology()
        place = topology.add_chain()
        for _ in range(len(ours)):
            residue = topology.add_residue("ALA", place)
            for name in ("N", "CA", "C", "O"):
                topology.add_atom(name, mdtraj.element.carbon, residue)
        first, second = (mdtraj.Trajectory(x[:, :4].reshape(1, -1, 3) / 10, topology) for x in (ours, theirs))
        pair = Pair(prepared(ours), prepared(theirs))
        assert backbone_rmsd(pair) == pytest.approx(10 * mdtraj.rmsd(first, second)[0], abs=2e-3)
        alphas = topology.select("name CA")
        assert ca_rmsd(pair) == pytest.approx(10 * mdtraj.rmsd(first, second, atom_indices=alphas)[0], abs=2e-3)


def test_lddt_of_a_worked_example():
    """Three CA on a line at 0, 4 and 8 Å; the last moves to 9.2 Å: errors 0, 1.2, 1.2 Å.

    Kept pairs: 1/3 below 0.5, 1/3 below 1, 3/3 below 2, 3/3 below 4: mean 2/3.
    """
    reference, model = np.full((3, 5, 3), np.nan), np.full((3, 5, 3), np.nan)
    reference[:, 1] = [(0, 0, 0), (4, 0, 0), (8, 0, 0)]
    model[:, 1] = [(0, 0, 0), (4, 0, 0), (9.2, 0, 0)]
    assert lddt(Pair(prepared(model), prepared(reference))) == pytest.approx(2 / 3)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_lddt_is_that_of_biotite(noise):
    own = ubiquitin()
    other = moved(own + np.random.default_rng(1).normal(0, noise, own.shape))
    expected = biotite.lddt(_alpha_carbons(own[:, 1]), other[:, 1].astype(np.float32))
    assert lddt(Pair(prepared(other), prepared(own))) == pytest.approx(float(expected), abs=1e-3)


def test_lddt_leaves_out_pairs_beyond_the_radius():
    reference, model = np.full((3, 5, 3), np.nan), np.full((3, 5, 3), np.nan)
    reference[:, 1] = [(0, 0, 0), (4, 0, 0), (30, 0, 0)]
    model[:, 1] = [(0, 0, 0), (4, 0, 0), (90, 0, 0)]
    assert lddt(Pair(prepared(model), prepared(reference))) == 1


def test_the_mirror_image_is_told_apart():
    right = Pair(prepared(deformed(ubiquitin(), 0.5)), prepared(ubiquitin()))
    wrong = Pair(prepared(ubiquitin() * [1, 1, -1]), prepared(ubiquitin()))
    assert mirror_rmsd(right) > 5 * backbone_rmsd(right)
    assert (right_handed(right), right_handed(wrong)) == (1, 0)
    assert mirror_rmsd(wrong) == pytest.approx(0, abs=1e-6)


def test_secondary_structure_agrees_in_three_states():
    ours, theirs = prepared(ubiquitin()[:6], ss="HHE--?"), prepared(ubiquitin()[:6], ss="GTBS-H")
    assert ss_q3(Pair(ours, theirs)) == pytest.approx(4 / 5)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="76 residues, its reference 75"):
        Pair(prepared(ubiquitin()), prepared(ubiquitin()[:75]))


def test_of_too_few_residues_nothing_is_said():
    pair = Pair(prepared(ubiquitin()[:2]), prepared(ubiquitin()[:2]))
    assert np.isnan([ca_rmsd(pair), ca_tm_score(pair)]).all()
    assert ca_tm_score(Pair(prepared(ubiquitin()), prepared(ubiquitin()))) == pytest.approx(1)


def test_held_out_error_is_set_against_that_of_training():
    """Errors of 2 Å and 1 Å, and what was not decoded left out: a ratio of 2, with an interval around it."""
    random = np.random.default_rng(0)
    splits = np.array(["train"] * 60 + ["test"] * 40 + ["validation"] * 5)
    errors = np.where(splits == "test", 2.0, 1.0) + random.normal(0, 0.05, 105)
    errors[:10], errors[100:] = np.nan, 9.0
    names, empty = np.array([f"d{k}" for k in range(105)]), np.zeros((105, 2))
    codes = Codes(names, names, splits, empty, empty, empty, trace_rmsd=errors)
    ratio, training = generalisation_rows(codes, {}, ScoreSettings(bootstrap=100))
    assert ratio.estimate.value == pytest.approx(2, abs=0.05)
    assert 1.9 < ratio.estimate.low < ratio.estimate.value < ratio.estimate.high < 2.1
    assert (ratio.estimate.n, training.estimate.n, training.split) == (40, 50, "train")
    (absent,) = generalisation_rows(codes.take(splits == "train"), {}, ScoreSettings())
    assert absent.note == "no domain of the split test was decoded"
    (old,) = generalisation_rows(replace(codes, trace_rmsd=None), {}, ScoreSettings())
    assert np.isnan(old.estimate.value)
