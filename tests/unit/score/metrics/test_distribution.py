import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist, jensenshannon

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.score.metrics import distribution
from cvae_protein.score.metrics.distribution import FeatureSet, distribution_rows, frechet, pooled, reason
from cvae_protein.score.metrics.diversity import ClassSet, vendi_score
from cvae_protein.score.metrics.metric import ALL

SETTINGS = ScoreSettings(bootstrap=60)


def normal(n, m, width=6, shift=0.0, seed=0):
    random = np.random.default_rng(seed)
    return FeatureSet.even(random.normal(size=(n, width)) + shift, random.normal(size=(m, width)))


def test_frechet_of_gaussians_is_the_closed_form():
    random = np.random.default_rng(0)
    a, b = (x @ x.T + np.eye(5) for x in random.normal(size=(2, 5, 5)))
    mean, other = random.normal(size=(2, 5))
    wanted = np.square(mean - other).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet(mean, a, other, b) == pytest.approx(wanted, rel=1e-9)
    assert frechet(mean, a, mean, a) == pytest.approx(0, abs=1e-9)
    assert frechet(np.zeros(3), np.eye(3), np.full(3, 2.0), 4 * np.eye(3)) == pytest.approx(
        12 + 3
    )  # (2 - 1)² a dimension


def test_frechet_distance_uses_unbiased_moments():
    group = normal(40, 50)
    wanted = frechet(group.own.mean(0), np.cov(group.own.T), group.other.mean(0), np.cov(group.other.T))
    assert distribution.fpsd(group) == pytest.approx(wanted, rel=1e-9)


def test_the_limit_has_less_bias_than_the_distance():
    groups = [normal(60, 60, 8, seed=seed) for seed in range(20)]
    plain, limit = (
        np.mean([metric(group) for group in groups]) for metric in (distribution.fpsd, distribution.fpsd_limit)
    )
    assert plain > 0.3  # of one distribution with itself
    assert abs(limit) < plain / 4


def test_kernel_distances_of_one_distribution_are_zero_on_average_and_grow_with_a_shift():
    for metric in (distribution.kid, distribution.mmd):
        same = [metric(normal(30, 40, seed=seed)) for seed in range(200)]
        error = np.std(same) / len(same) ** 0.5
        assert abs(np.mean(same)) < 3 * error
        assert metric(normal(30, 40, shift=1.0)) > np.mean(same) + 5 * np.std(same)


def test_kid_is_the_mean_of_its_kernel_by_hand():
    group = normal(7, 9, 4)
    kernel = lambda x, y: (x @ y / 4 + 1) ** 3  # noqa: E731
    own = np.mean([kernel(x, y) for i, x in enumerate(group.own) for j, y in enumerate(group.own) if i != j])
    other = np.mean([kernel(x, y) for i, x in enumerate(group.other) for j, y in enumerate(group.other) if i != j])
    between = np.mean([kernel(x, y) for x in group.own for y in group.other])
    assert distribution.kid(group) == pytest.approx(own + other - 2 * between, rel=1e-9)


def test_permutations_of_one_distribution_give_even_p_values():
    p = []
    for seed in range(60):
        group = normal(12, 15, seed=seed)
        drawn = distribution.permuted_mmd(group, 99, np.random.default_rng(seed))
        p.append((1 + (drawn >= distribution.mmd(group)).sum()) / 100)
    assert 0.35 < np.mean(p) < 0.65
    shifted = normal(12, 15, shift=1.5)
    assert (distribution.permuted_mmd(shifted, 99, np.random.default_rng(0)) < distribution.mmd(shifted)).all()


def test_a_permuted_distance_is_that_of_the_permuted_sets():
    group = normal(9, 11)
    own, other, between = distribution.gaussian_kernels(group)
    order = np.random.default_rng(0).permutation(20)
    table = np.block([[own, between], [between.T, other]])[np.ix_(order, order)]
    wanted = distribution.unbiased_mmd(table[:9, :9], table[9:, 9:], table[:9, 9:])

    class Fixed:
        def random(self, shape):
            return order[None].astype(float)

    assert distribution.permuted_mmd(group, 1, Fixed())[0] == pytest.approx(wanted, rel=1e-9)


def neighbourhoods(real, fake, k=5):
    """Precision, recall, density and coverage by loops over points (Naeem et al. 2020, equations 1-6)."""
    within = lambda points, k: [sorted(cdist(points, points)[i])[k] for i in range(len(points))]  # noqa: E731
    radii, fake_radii = within(real, k), within(fake, k)
    between = cdist(real, fake)
    precision = np.mean([any(between[i, j] <= radii[i] for i in range(len(real))) for j in range(len(fake))])
    recall = np.mean([any(between[i, j] <= fake_radii[j] for j in range(len(fake))) for i in range(len(real))])
    density = sum(between[i, j] <= radii[i] for i in range(len(real)) for j in range(len(fake))) / (k * len(fake))
    coverage = np.mean([any(between[i, j] <= radii[i] for j in range(len(fake))) for i in range(len(real))])
    return precision, recall, density, coverage


@pytest.mark.parametrize("shift", [0.0, 0.7, 3.0])
def test_neighbourhoods_agree_with_loops(shift):
    group = normal(25, 31, 4, shift, seed=3)
    ours = [getattr(distribution, name)(group) for name in ("precision", "recall", "density", "coverage")]
    assert ours == pytest.approx(neighbourhoods(group.other, group.own), rel=1e-12)


def test_one_point_covers_little_and_copies_of_the_reference_cover_all():
    points = np.random.default_rng(0).normal(size=(40, 4))
    assert distribution.coverage(FeatureSet.even(points, points)) == 1
    assert distribution.coverage(FeatureSet.even(np.repeat(points[:1], 40, 0), points)) < 0.5


def test_divergence_is_that_of_scipy():
    p, q = np.random.default_rng(0).dirichlet(np.ones(7), 2)
    assert distribution.divergence(p, q) == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-9)
    assert distribution.divergence(np.array([1.0, 0]), np.array([0.0, 1])) == pytest.approx(np.log(2))
    assert distribution.divergence(p, p) == pytest.approx(0, abs=1e-12)


def test_fold_score_of_sure_and_of_vague_posteriors():
    assert distribution.fold_score(np.eye(4)[[0, 1, 2, 3] * 5]) == pytest.approx(4)
    assert distribution.fold_score(np.full((9, 4), 0.25)) == pytest.approx(1)
    assert distribution.fold_score(np.eye(4)[[0] * 6]) == pytest.approx(1)
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    mean = p.mean(0)
    assert distribution.fold_score(p) == pytest.approx(np.exp(np.mean([(row * np.log(row / mean)).sum() for row in p])))


def test_vendi_of_copies_and_of_strangers():
    def score(table):
        np.fill_diagonal(table, np.nan)
        return vendi_score(ClassSet({}, {}, table))

    assert score(np.ones((6, 6))) == pytest.approx(1)
    assert score(np.zeros((6, 6))) == pytest.approx(6)
    assert score(np.kron(np.eye(3), np.ones((2, 2)))) == pytest.approx(3)
    assert np.isnan(score(np.zeros((0, 0))))


def test_pooled_held_out_domains_weigh_as_much_as_the_structures_of_their_class():
    few = FeatureSet.even(np.zeros((10, 2)), np.zeros((4, 2)), [np.eye(2)[[0] * 10]], [np.eye(2)[[0] * 4]])
    many = FeatureSet.even(np.ones((10, 2)), np.ones((40, 2)), [np.eye(2)[[1] * 10]], [np.eye(2)[[1] * 40]])
    both = pooled([few, many])
    assert both.weights.sum() == pytest.approx(1)
    assert both.weights @ both.other == pytest.approx([0.5, 0.5])
    assert distribution.fjsd_at(both, 0) == pytest.approx(0, abs=1e-12)
    assert distribution.fold_score_at(both, 0) == pytest.approx(2)


def test_resampling_keeps_the_distances_of_the_rows_it_draws():
    part = normal(8, 9).resample(np.random.default_rng(1))
    for table, (a, b) in zip(part.distances, ((part.own, part.own), (part.other, part.other), (part.own, part.other)),
                             strict=True):  # fmt: skip
        assert table == pytest.approx(cdist(a, b) ** 2, abs=1e-9)


def test_rows_of_small_and_absent_sets_say_why():
    posterior = [np.full((3, 2), 0.5)]
    tiny = FeatureSet.even(np.zeros((3, 4)), np.ones((3, 4)), posterior, posterior)
    alone = FeatureSet.even(np.zeros((9, 4)), np.zeros((0, 4)), [np.full((9, 2), 0.5)], [np.zeros((0, 2))])
    rows = {(row.metric, row.fold): row for row in distribution_rows({"1": tiny, "2": alone}, SETTINGS)}
    assert all(row.note for row in rows.values() if np.isnan(row.estimate.value))
    assert rows["coverage", "1"].note == "needs 6 structures and held-out domains, has 3 and 3"
    assert rows["coverage", "2"].note == "no held-out domain of the class"
    assert np.isnan(rows["coverage", ALL].estimate.value)
    assert rows["fold_score", "1"].estimate.value == pytest.approx(1)
    assert rows["fjsd", ALL].estimate.value == pytest.approx(0, abs=1e-12)
    assert "no label of this level" in rows["fjsd_level2", "1"].note
    assert reason("fpsd", normal(7, 7)) == ""
    assert "needs 7" in reason("fpsd", normal(6, 9))


def test_intervals_hold_the_value_and_repeat():
    posteriors = [np.full((30, 2), 0.5)], [np.full((40, 2), 0.5)]
    sets = normal(30, 40, seed=1), normal(30, 40, shift=0.5, seed=2)
    groups = {name: FeatureSet.even(one.own, one.other, *posteriors) for name, one in zip("12", sets, strict=True)}
    first, again = distribution_rows(groups, SETTINGS), distribution_rows(groups, SETTINGS)
    assert [row.cells("x", "0") for row in first] == [row.cells("x", "0") for row in again]
    rows = {(row.metric, row.fold): row.estimate for row in first}
    for name in ("fpsd", "kid", "feature_mmd", "coverage", "precision"):
        assert rows[name, ALL].low <= rows[name, ALL].value <= rows[name, ALL].high
        assert rows[name, ALL].n == 60
    assert rows["feature_mmd_p", "1"].value > 0.05 > rows["feature_mmd_p", "2"].value
    mean = np.mean([rows["coverage", fold].value for fold in groups])
    assert rows["coverage", ALL].value == pytest.approx(mean)
