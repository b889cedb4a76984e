"""Rows of the fold classifier: accuracy, fidelity, disagreement, swapped labels, cover by TM, and the prior's holes."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from score_synthetic import chain, deformed, prepared

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.core.errors import UserError
from cvae_protein.score.metrics.classifier import (
    WORST,
    EmbeddingPair,
    Embeddings,
    accuracy_rows,
    check_one_classifier,
    classifier_nearest_disagreement,
    predict_folds,
    prediction_columns,
    swap_rows,
)
from cvae_protein.score.metrics.latent import Codes, prior_rows
from cvae_protein.score.metrics.metric import ALL, bootstrap_means
from cvae_protein.score.metrics.novelty import (
    NearestDomains,
    RealDomains,
    class_coverage,
    neighbours_counted,
    recall_rows,
    tm_coverage_rows,
)
from cvae_protein.score.score import evaluate_structures
from cvae_protein.similarity.nearest_structures import NO_HIT, Hit, Library, Search

SETTINGS = ScoreSettings(bootstrap=40, neighbours=3)
NAMES = (("1", "2"), ("1.10", "2.40", "2.60"))


def features(predicted, targets=None):
    """Features of structures that are predicted as `predicted`, of two levels, with probability 0.9."""
    first = np.array([[0.9 if label[0] == name else 0.1 for name in NAMES[0]] for label in predicted]).reshape(-1, 2)
    second = np.array([[0.8 if label == name else 0.1 for name in NAMES[1]] for label in predicted]).reshape(-1, 3)
    values = np.random.default_rng(len(predicted)).normal(size=(len(predicted), 4))
    ids = tuple(f"x{k}" for k in range(len(predicted)))
    return Embeddings(ids, tuple(targets or predicted), values, NAMES, (first, second))


def nearest_of(targets, nearest):
    hits = [Hit("d", label, 0.5) if label else NO_HIT for label in nearest]
    return [NearestDomains(label, hit, hit, hit) for label, hit in zip(targets, hits, strict=True)]


def by_name(rows):
    return {(row.metric, row.fold): row for row in rows}


def test_fidelity_is_accuracy_over_that_of_real_domains():
    own = features(["1.10"] * 6 + ["2.40"] * 2 + ["1.10"] * 2)
    held_out = features(["1.10"] * 4 + ["2.40"] * 3 + ["1.10"], ["1.10"] * 4 + ["2.40", "2.60", "2.40", "2.40"])
    targets = ["1"] * 6 + ["2"] * 4
    rows = by_name(accuracy_rows(EmbeddingPair(own, held_out), nearest_of(targets, targets), SETTINGS))
    assert rows["classifier_accuracy", "1"].estimate.value == 1
    assert rows["classifier_accuracy", "2"].estimate.value == 0.5
    assert rows["classifier_accuracy", ALL].estimate.value == pytest.approx(0.8)
    assert rows["fidelity", "1"].estimate.value == 1
    assert rows["fidelity", "2"].estimate.value == pytest.approx(0.5 / 0.75)
    assert rows["fidelity", ALL].estimate.value == pytest.approx((1 + 0.5 / 0.75) / 2)
    assert rows["fidelity", WORST].estimate.value == pytest.approx(0.5 / 0.75)
    assert rows["fidelity", "2"].estimate.low <= 0.5 / 0.75 <= rows["fidelity", "2"].estimate.high
    assert np.isnan(rows["fidelity_level2", ALL].estimate.value)
    assert "knows at this level" in rows["fidelity_level2", "1"].note


def test_relatives_are_no_independent_witnesses():
    values = np.repeat([1.0, 0.0], 10)
    alone, tied = (
        bootstrap_means(values, np.array(groups, object), 4000, np.random.default_rng(0))
        for groups in ([f"x{k}" for k in range(20)], ["first"] * 10 + ["second"] * 10)
    )
    assert alone.mean() == pytest.approx(0.5, abs=0.01)
    assert alone.std() == pytest.approx((0.25 / 20) ** 0.5, rel=0.05)
    assert set(tied.tolist()) == {0, 0.5, 1}


def test_a_deeper_request_is_judged_at_its_own_level_and_at_those_above():
    own = features(["2.40", "2.60", "1.10", "2.40"])
    targets = ["2.40", "2.40", "2.40", "2.99"]
    rows = by_name(
        accuracy_rows(
            EmbeddingPair(own, features(["2.40"])), nearest_of(targets, ["2.40", "2.40", "", "1.10"]), SETTINGS
        )
    )
    assert rows["classifier_accuracy", "2.40"].estimate.value == pytest.approx(1 / 3)
    assert rows["classifier_accuracy_level1", "2.40"].estimate.value == pytest.approx(2 / 3)
    assert rows["classifier_accuracy_level2", "2.40"].estimate.value == pytest.approx(1 / 3)
    assert rows["classifier_accuracy", "2.99"].estimate.n == 0  # the fold classifier knows no 2.99
    assert "knows no target class" in rows["classifier_accuracy", "2.99"].note
    assert rows["classifier_accuracy_level1", "2.99"].estimate.value == 1
    assert rows["classifier_nearest_disagreement", ALL].estimate.value == pytest.approx(
        2 / 3
    )  # 2.60 beside 2.40, 2.40 beside 1.10
    assert rows["classifier_nearest_disagreement", ALL].estimate.n == 3


def test_without_a_class_asked_for_nothing_is_claimed():
    own = features(["2.40", "1.10"])
    rows = by_name(accuracy_rows(EmbeddingPair(own, own), nearest_of(["", ""], ["2.40", "2.40"]), SETTINGS))
    assert rows["classifier_accuracy", ALL].note == "no target class was given"
    assert rows["fidelity", ALL].note == "no target class was given"
    assert rows["classifier_nearest_disagreement", ALL].estimate.value == 0.5
    assert prediction_columns(own, ["", "1"]) == [
        {"predicted_label": "2", "target_probability": "nan"},
        {"predicted_label": "1", "target_probability": "0.9"},
    ]


def test_a_structure_that_could_not_be_seen_counts_nowhere():
    own = features(["1.10", "1.10"])
    blind = Embeddings(own.ids, own.labels, own.values * [[1], [np.nan]], own.names, own.posteriors)
    rows = by_name(accuracy_rows(EmbeddingPair(blind, own), nearest_of(["1", "1"], ["1.10"] * 2), SETTINGS))
    assert rows["classifier_accuracy", "1"].estimate.n == 1
    assert np.isnan(classifier_nearest_disagreement(predict_folds(blind, ["1", "1"], ["1.10", "1.10"])[1]))


def test_swapped_labels_that_the_decoder_follows_and_ignores():
    swapped = features(["2.40", "2.40", "2.40", "1.10"], ["2", "2", "2", "2"])  # three of four follow
    own = features(["1.10", "1.10", "1.10", "2.40", "2.40"])
    rows = by_name(swap_rows(swapped, own, SETTINGS))
    assert rows["swap_followed", ALL].estimate.value == 0.75
    assert rows["swap_followed_control", ALL].estimate.value == 0.25
    assert rows["swap_followed_chance", ALL].estimate.value == 0.5


def domains(*held_out):
    return RealDomains(list(held_out), [prepared(chain(50, 9), "1.10", name="t")], {}, {}, {})


def test_cover_of_the_held_out_domains_both_ways():
    found = prepared(chain(50, 1), "1.10", name="found")
    missed = prepared(chain(52, 2), "1.10", name="missed")
    other = prepared(chain(51, 3), "2.40", name="other")
    near, far = prepared(deformed(chain(50, 1), 0.3), "1", name="near"), prepared(chain(50, 7), "1", name="far")
    both, search = domains(found, missed, other), Search(3)
    rows = by_name(recall_rows([near, far], both, search, SETTINGS, None))
    assert rows["cov_r", "1"].estimate.value == 0.5
    assert rows["cov_r", "1"].estimate.n == 2  # of the class, not the third
    hit = Hit("found", "1.10", search.nearest(near, Library([found])).tm)
    values = class_coverage(
        [near, far], [NearestDomains("1", hit, hit, hit), *nearest_of(["1"], [""])], both, search, None
    )
    assert values["cov_p"].tolist() == [1, 0]
    assert values["mat_p"][0] == pytest.approx(1 - hit.tm)
    assert values["mat_p"][1] > 0.5


def test_a_domain_is_covered_where_a_sample_is_nearer_than_its_kth_neighbour():
    """Six of twelve held-out domains have a sample beside them; one of a length that no sample has does not count."""
    held_out = [prepared(chain(50, k), f"{1 + k % 2}.10", name=f"d{k}") for k in range(12)]
    held_out.append(prepared(chain(120, 99), "1.10", name="long"))
    known = replace(domains(*held_out), rung={f"d{k}": "new_member" if k < 6 else "new_topology" for k in range(12)})
    near = [prepared(deformed(chain(50, k), 0.3), "12"[k % 2], name=f"s{k}") for k in range(6)]
    rows = by_name(tm_coverage_rows(near, known, Search(3), SETTINGS, None))
    shares = {fold: row.estimate.value for (_, fold), row in rows.items()}
    assert shares["all"] == (shares["new_member"] + shares["new_topology"]) / 2
    assert rows["tm_coverage", "all"].estimate.n == 12
    assert shares["new_member"] == 1
    assert shares["new_topology"] <= 0.5
    assert rows["tm_coverage", "1"].estimate.n == rows["tm_coverage", "2"].estimate.n == 6
    assert rows["tm_coverage", "all"].note == "nearer than neighbour 1 to 1 of the held-out domains"
    own = by_name(
        tm_coverage_rows(near, known, Search(3), SETTINGS, lambda first, second: first.id[1:] != second.id[1:])
    )
    assert own["tm_coverage", "new_member"].estimate.value <= 0.5  # whose own sample is hidden


@pytest.mark.parametrize(("references", "k"), [(1, 1), (29, 1), (60, 3), (200, 10)])
def test_k_is_a_twentieth(references, k):
    assert neighbours_counted(references) == k


def test_a_sample_for_each_shape_covers_more_than_one_shape_alone():
    held_out = [prepared(chain(50, k % 4), "1.10", name=f"d{k}") for k in range(4)]
    held_out += [prepared(chain(52, 40 + k), "1.10", name=f"e{k}") for k in range(12)]
    varied = [prepared(deformed(each.coords, 0.3), "1", name=f"v{k}") for k, each in enumerate(held_out)]
    copies = [replace(varied[0], id=f"c{k}") for k in range(16)]
    found = [
        by_name(tm_coverage_rows(made, domains(*held_out), Search(3), SETTINGS, None)) for made in (varied, copies)
    ]
    assert found[0]["tm_coverage", "all"].estimate.value == 1
    assert found[1]["tm_coverage", "all"].estimate.value < 0.4


def test_structures_without_labels_are_compared_with_all_held_out_domains():
    held_out = [prepared(chain(48 + k, k), f"{1 + k % 2}.10", name=f"d{k}") for k in range(8)]
    given = [prepared(chain(50, 20 + k), "", name=f"s{k}") for k in range(3)]
    found = evaluate_structures(given, domains(*held_out), SETTINGS)
    rows = by_name(found.rows)
    assert {fold for _, fold in rows} == {ALL}
    assert rows["nearest_tm", ALL].estimate.n == 3
    assert rows["nearest_same_class", ALL].estimate.n == 0
    assert rows["wasserstein_rg", ALL].estimate.value >= 0
    assert rows["fpsd", ALL].note == "no features of a fold classifier were given"
    assert found.predictions == []


def test_no_structure_at_all_is_no_crash():
    rows = by_name(evaluate_structures([], domains(prepared(chain(50, 1), "1.10", name="d")), SETTINGS).rows)
    assert rows["nearest_tm", ALL].estimate.n == 0
    empty = features([])
    seen = evaluate_structures([], domains(), SETTINGS, EmbeddingPair(empty, empty)).rows
    assert all(row.cells("x", "")["note"] for row in seen if np.isnan(row.estimate.value))


def test_the_prior_of_a_class_that_is_elsewhere_shows():
    random = np.random.default_rng(0)
    labels = np.array(["1.10", "2.40"] * 60)
    mean = random.normal(size=(120, 3))
    drawn = random.normal(size=(120, 3)) + 3.0 * (labels == "2.40")[:, None]
    codes = Codes(labels, labels, np.array(["train"] * 120), mean, np.full((120, 3), -9.0), mean**2, {}, drawn)
    rows = by_name(prior_rows(codes, SETTINGS))
    assert abs(rows["prior_mmd", "1"].estimate.value) < 0.05 < 0.3 < rows["prior_mmd", "2"].estimate.value
    assert rows["prior_mmd", ALL].estimate.n == 120
    without = prior_rows(Codes(labels, labels, codes.splits, mean, mean, mean), SETTINGS)
    assert "no draws of the prior" in without[0].note


def test_features_of_two_classifiers_are_not_compared(tmp_path):
    for name, weights in (("a", "1"), ("b", "2"), ("c", "1")):
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs["classifier"] = weights
    check_one_classifier(tmp_path / "a", tmp_path / "c")
    with pytest.raises(UserError, match="of another fold classifier than"):
        check_one_classifier(tmp_path / "a", tmp_path / "b")
