"""Metrics of sets against closed forms and independent programs."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from cvae_protein.score.metrics.diversity import (
    ClassSet,
    cluster_share,
    mean_pairwise_tm,
    memorisation_ratio,
    wasserstein_helix,
    wasserstein_rg,
)

NO_PAIRS = np.zeros((0, 0))


def of_values(name, ours, theirs):
    return ClassSet({name: np.asarray(ours, float)}, {name: np.asarray(theirs, float)}, NO_PAIRS)


def test_the_distance_of_a_shifted_set_is_the_shift_and_of_a_stretched_one_the_mean_of_the_gaps():
    values = np.random.default_rng(0).normal(1, 0.2, 41)
    assert wasserstein_rg(of_values("relative_rg", values + 0.3, values)) == pytest.approx(0.3)
    ranks = np.linspace(0, 1, 101)  # quantiles of two uniform distributions: mean of |u - 2u|
    assert wasserstein_helix(of_values("helix", 2 * ranks, ranks)) == pytest.approx(0.5)
    assert wasserstein_helix(of_values("helix", [0, 0, 0, 1], [0, 1])) == pytest.approx(0.25)  # of unlike size
    assert wasserstein_helix(of_values("helix", [0.2, np.nan], [0.5])) == pytest.approx(0.3)


def test_clusters_of_well_separated_groups_are_those_of_scipy():
    groups = np.random.default_rng(1).integers(4, size=12)
    pairs = np.where(groups[:, None] == groups, 0.8, 0.3)
    linked = linkage(squareform(np.where(np.eye(12), 0, 1 - pairs)), "single")
    expected = fcluster(linked, 0.5, "distance").max()
    table = np.where(np.eye(12), np.nan, pairs)
    assert cluster_share(ClassSet({}, {}, table)) == expected / 12
    above = pairs[np.triu_indices(12, 1)]
    assert mean_pairwise_tm(ClassSet({}, {}, table)) == pytest.approx(above.mean())


def test_memorisation_is_the_ratio_of_means_over_those_that_have_both():
    features = {"training_tm_matched": np.array([0.9, 0.6, np.nan]), "nearest_tm": np.array([0.5, 0.25, 0.9])}
    assert memorisation_ratio(ClassSet(features, {}, NO_PAIRS)) == pytest.approx(1.5 / 0.75)
    assert np.isnan(memorisation_ratio(ClassSet(features | {"nearest_tm": np.zeros(3)}, {}, NO_PAIRS)))
