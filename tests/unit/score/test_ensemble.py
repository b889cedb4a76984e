"""Ensemble metrics: closed forms, what is undefined and why, and where known conformers come from."""

import numpy as np
import pytest
from score_synthetic import chain, moved

from cvae_protein.cli.main import run
from cvae_protein.core.files import read_table
from cvae_protein.core.structure import Backbone
from cvae_protein.score import ensemble as metrics
from cvae_protein.score.ensemble import METRICS, Ensemble, common, distinct, families, known_states
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import Store
from cvae_protein.store.write import write_store

OWN = chain(50, 3)[:, 1]


def shaken(scale, count=40, seed=0):
    """The trace with Gaussian noise of `scale` Å an axis, a number or one a residue, each turned and shifted."""
    noise = np.random.default_rng(seed).standard_normal((count, *OWN.shape))
    return np.stack([moved(OWN + np.reshape(scale, (-1, 1)) * step, k) for k, step in enumerate(noise)])


def bent(angle):
    """The trace with its second half turned about its middle residue, by radians."""
    made, (c, s) = OWN.copy(), (np.cos(angle), np.sin(angle))
    made[25:] = (made[25:] - made[25]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T + made[25]
    return made


def test_fluctuations_of_even_noise_are_its_spread():
    found = metrics.rmsf(metrics.on_mean(shaken(0.5, 400)))
    assert found.mean() == pytest.approx(0.5 * 3**0.5, rel=0.05)


def test_correlation_of_fluctuations():
    profile = np.linspace(0.1, 1.0, 50)
    alike = Ensemble(shaken(profile, 200, 1), shaken(2 * profile, 200, 2))
    opposed = Ensemble(shaken(profile, 200, 1), shaken(profile[::-1], 200, 2))
    assert metrics.rmsf_correlation(alike) > 0.9
    assert metrics.rmsf_correlation(opposed) < -0.7
    still = np.stack([OWN, OWN, OWN])
    assert np.isnan(metrics.rmsf_correlation(Ensemble(still, shaken(0.5))))


def test_jensen_shannon_of_known_shares():
    p, q = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert metrics.jensen_shannon(p, q) == pytest.approx(np.log(2))
    assert metrics.jensen_shannon(p, p) == 0
    half = np.array([0.5, 0.5])
    assert metrics.jensen_shannon(p, half) == pytest.approx(
        0.5 * np.log(4 / 3) + 0.25 * np.log(2 / 3) + 0.25 * np.log(2)
    )


def test_divergence_of_size_and_distances():
    same = Ensemble(shaken(0.5, 30), shaken(0.5, 30))
    assert metrics.js_rg(same) == pytest.approx(0, abs=1e-9)
    assert metrics.js_distances(same) == pytest.approx(0, abs=1e-9)
    apart = Ensemble(shaken(0.01, 30) * 3.0, shaken(0.01, 30))
    assert metrics.js_rg(apart) == pytest.approx(np.log(2))
    assert metrics.js_distances(apart) == pytest.approx(np.log(2))


def test_wasserstein_of_points():
    points = np.random.default_rng(0).normal(size=(7, 2))
    assert metrics.wasserstein_2(points, points + np.array([3.0, 4.0])) == pytest.approx(5)
    assert metrics.wasserstein_2(points, points[::-1]) == pytest.approx(0, abs=1e-6)
    assert metrics.wasserstein_2(np.array([[0.0], [2.0]]), np.array([[1.0]])) == pytest.approx(1)
    # three against two of even weight: a third of the mass each; 1/3 stays, 1/6 and 1/6 go one step, 1/3 stays
    uneven = metrics.wasserstein_2(np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [2.0]]))
    assert uneven == pytest.approx((1 / 3) ** 0.5)


def test_components_see_a_hinge_and_no_rigid_motion():
    states = np.stack([OWN, bent(0.3), bent(0.6), bent(0.9)])
    turned = np.stack([moved(trace, k) for k, trace in enumerate(states)])
    assert metrics.pca_w2(Ensemble(turned, states)) == pytest.approx(0, abs=1e-5)
    assert metrics.pca_w2(Ensemble(np.stack([OWN] * 4), states)) > 0.5


def test_states_and_their_samples():
    states = np.stack([OWN, bent(0.4), bent(1.2)])
    none = Ensemble(np.stack([moved(OWN, k) for k in range(3)]), states)
    assert metrics.state_ratio(none) == pytest.approx(1, abs=1e-6)
    assert metrics.state_rmsd(none) == pytest.approx(metrics.state_spread(none))
    assert metrics.sample_spread(none) == pytest.approx(0, abs=1e-6)
    one = Ensemble(np.stack([OWN, moved(bent(1.2), 2)]), states)
    assert metrics.state_coverage(one) >= 0.5
    assert metrics.state_improved(one) >= 0.5
    every = Ensemble(np.stack([moved(state, k) for k, state in enumerate(states)]), states)
    assert metrics.state_coverage(every) == 1
    assert metrics.state_ratio(every) == pytest.approx(0, abs=1e-6)


def test_half_the_way_the_direction_and_the_width():
    states = np.stack([OWN, bent(0.8)])
    small = np.stack([moved(bent(angle), k) for k, angle in enumerate((-0.1, -0.05, 0.05, 0.1))])
    along = Ensemble(small, states)
    assert metrics.motion_overlap(along) > 0.9  # a hinge by 0.8 is no straight line
    assert metrics.state_halfway(along) == 0
    assert metrics.spread_ratio(along) < 0.3
    near = Ensemble(np.stack([OWN, moved(bent(0.5), 1)]), states)
    assert metrics.state_halfway(near) == 1
    assert metrics.spread_ratio(Ensemble(states, states)) == pytest.approx(1)
    assert metrics.motion_overlap(Ensemble(shaken(0.1, 40), states)) < 0.7


def test_what_needs_no_samples_stands_beside_them():
    halves = shaken(np.linspace(0.1, 1.0, 50), 60, 1)
    ensemble = Ensemble(OWN[None], halves)
    assert metrics.split_half_rmsf_correlation(ensemble) > 0.9
    own = Ensemble(
        OWN[None], np.concatenate([OWN[None], shaken(metrics.anisotropic_modes(OWN).fluctuations / 10, 400)])
    )
    assert metrics.anm_rmsf_correlation(own) > 0.9
    packed = Ensemble(OWN[None], np.concatenate([OWN[None], shaken(metrics.contact_fluctuations(OWN), 400)]))
    assert metrics.contact_rmsf_correlation(packed) > 0.9


def test_too_few_of_either_have_a_reason():
    few = Ensemble(OWN[None], OWN[None])
    reasons = {metric.name: metric.reason(few) for metric in METRICS}
    assert reasons["rmsf_correlation"] == "1 samples, needs 3"
    assert reasons["state_coverage"] == "1 known conformations, needs 2"
    assert reasons["sample_spread"] == ""
    two = Ensemble(shaken(0.5), np.stack([OWN, bent(0.5)]))
    assert "needs 8" in next(metric for metric in METRICS if metric.name == "js_rg").reason(two)
    short = Ensemble(OWN[None, :3], OWN[None, :3])
    assert "3 residues in common" in METRICS[0].reason(short)


def stored(path, *members):
    """A store of (id, traces as backbones (model, L, 5, 3), sequence, group)."""
    entries = []
    for name, coords, sequence, group in members:
        made = Backbone(name, sequence, np.asarray(coords), tuple(str(k + 1) for k in range(len(sequence))))
        facts = {"label": "1", "group": group}
        entries.append(Entry(made, facts))
    write_store(path, entries, compression="gzip")
    return path


@pytest.fixture
def store(tmp_path):
    letters = "".join(np.random.default_rng(5).choice(list("ACDEFGHIKLMNPQRSTVWY"), 50))
    other = "".join(np.random.default_rng(6).choice(list("ACDEFGHIKLMNPQRSTVWY"), 50))
    whole = chain(50, 3)
    return stored(
        tmp_path / "domains.h5",
        ("nmr", [whole, moved(whole, 1) + 0.3 * np.random.default_rng(1).standard_normal(whole.shape)], letters, ""),
        ("part", [whole[3:48] + 1.0], letters[3:48], ""),
        ("other", [chain(50, 9)], other, ""),
        ("grouped", [chain(50, 8)], letters[:45] + "AAAAA", "g"),
    )


def test_states_are_models_and_near_identical_domains(store):
    with Store(store) as file:
        related = families(file)
        assert set(related["nmr"]) == {"part", "grouped"}
        states, said = known_states(file, "nmr", related["nmr"])
        assert said == ["nmr model 1", "nmr model 2", "part", "grouped"]
        assert np.isnan(states[2, :3]).all()
        assert np.isfinite(states[2, 3:48]).all()
        assert known_states(file, "other", [])[1] == ["other model 1"]


def test_residues_in_common_and_copies_left_out(store):
    with Store(store) as file:
        states, _ = known_states(file, "nmr", ["part"])
    ensemble = common(states[:1], states)
    assert ensemble.states.shape == (3, 45, 3)
    assert len(distinct(ensemble).states) == 2  # `part` is the first model, shifted


def test_command(store, tmp_path, capsys):
    drawn = [(f"s{k}", [moved(chain(50, 3), k)], "A" * 50, "") for k in range(4)]
    samples = stored(tmp_path / "y.h5", *drawn)
    arguments = ["--reference", str(store), "--domain", "nmr", "-o", str(tmp_path / "e.tsv")]
    code = run(["ensemble", "--samples", str(samples), *arguments, "--settings", '{"bootstrap": 10}'])
    rows = {row["metric"]: row for row in read_table(tmp_path / "e.tsv")}
    assert code == 0
    assert set(rows) == {metric.name for metric in METRICS}
    assert float(rows["sample_spread"]["value"]) < 0.05
    assert rows["sample_spread"]["fold"] == "nmr"
    assert rows["js_rg"]["value"] == "nan"
    assert "needs 8" in rows["js_rg"]["note"]
    wrong = stored(tmp_path / "w.h5", ("s", [chain(49, 3)], "A" * 49, ""))
    arguments += ["--force"]
    assert run(["ensemble", "--samples", str(wrong), *arguments]) == 1
    assert "expected samples of 50 residues" in capsys.readouterr().err
    assert run(["ensemble", "--samples", str(samples), *arguments[:3], "none", *arguments[4:]]) == 1
    assert "no domain 'none'" in capsys.readouterr().err
