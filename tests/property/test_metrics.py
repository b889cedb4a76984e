"""What holds of every metric of every registry, whatever it is given."""

import copy
from dataclasses import fields

import numpy as np
import pytest
from score_synthetic import chain, deformed, moved, prepared, ubiquitin

from cvae_protein.score.metrics import diversity, latent, novelty, physical_validity, reconstruction
from cvae_protein.score.metrics.diversity import ClassSet
from cvae_protein.score.metrics.latent import Codes
from cvae_protein.score.metrics.novelty import NearestDomains
from cvae_protein.score.metrics.reconstruction import Pair
from cvae_protein.similarity.nearest_structures import NO_HIT, Hit

FACTS = {"rate": 40.0, "trace_rmsd": 2.0, "permuted_code_rmsd": 9.0, "swapped_label_rmsd": 3.0}
FEATURES = ("helix", "strand", "relative_rg", "nearest_tm", "training_tm_matched")


def a_structure(length=76):
    ss = ("HHHHEEE-GB" * 100)[:length]
    return prepared(ubiquitin()[:length], ss=ss)


def a_pair(length=76):
    return Pair(prepared(deformed(ubiquitin(), 1.0)[:length], ss="H" * length), a_structure(length), FACTS)


def a_set(count=6):
    random = np.random.default_rng(0)
    pairs = random.uniform(0.2, 0.8, (count, count))
    pairs = (pairs + pairs.T) / 2
    np.fill_diagonal(pairs, np.nan)
    ours, theirs = ({name: random.random(count) for name in FEATURES} for _ in range(2))
    return ClassSet(ours, theirs, pairs)


def some_codes(count=20):
    random = np.random.default_rng(0)
    mean = random.normal(size=(count, 4))
    text = np.array(["1.10"] * count, str)
    return Codes(text, text, text, mean, np.zeros_like(mean), 0.5 * mean**2, {"shape": (0, 3)})


def a_place(_=None):
    return NearestDomains("1", Hit("a", "1.10", 0.5), Hit("b", "2.40", 0.7), Hit("c", "2.40", 0.6))


KINDS = [
    (physical_validity.METRICS, a_structure, [0, 1, 2, 3]),
    (physical_validity.COMPOSITION, a_structure, [0, 1, 2, 3]),
    (reconstruction.METRICS, a_pair, [0, 1, 2, 3]),
    (diversity.METRICS, a_set, [0, 1, 2]),
    (latent.METRICS, some_codes, [0, 1, 2]),
    (novelty.NEAREST, a_place, []),
]
EVERY = [(metric, make, sizes) for metrics, make, sizes in KINDS for metric in metrics]
NAMES = [metric.name for metric, *_ in EVERY]
every_metric = pytest.mark.parametrize(("metric", "make", "sizes"), EVERY, ids=NAMES)


def _same(first, second):
    """Whether two records hold the same values, arrays included."""
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if hasattr(first, "__dataclass_fields__"):
        return all(_same(getattr(first, each.name), getattr(second, each.name)) for each in fields(first))
    return first == second


def test_no_name_is_used_twice():
    assert len(set(NAMES)) == len(NAMES)


@every_metric
def test_a_metric_is_described(metric, make, sizes):
    assert metric.function.__doc__
    assert metric.unit
    assert metric.better in ("low", "high", "real", "zero", "none")


@every_metric
def test_a_metric_never_changes_its_input(metric, make, sizes):
    record = make()
    before = copy.deepcopy(record)
    assert np.isfinite(metric(record)) or metric.name == "left_handed_helix"
    assert _same(record, before)


@every_metric
@pytest.mark.filterwarnings("error")
def test_too_little_gives_a_number_or_nan_but_no_error(metric, make, sizes):
    for size in sizes:
        assert isinstance(metric(make(size)), float)


@every_metric
def test_a_metric_gives_the_same_twice(metric, make, sizes):
    assert metric(make()) == pytest.approx(metric(make()), abs=0, nan_ok=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "metric", [*physical_validity.METRICS, *physical_validity.COMPOSITION], ids=lambda metric: metric.name
)
def test_missing_atoms_are_no_error(metric):
    coords = ubiquitin()
    coords[10], coords[20, 0], coords[30, 1], coords[40, 4] = (np.nan,) * 4
    assert isinstance(metric(prepared(coords, ss="-" * 76)), float)
    assert isinstance(metric(prepared(np.full((5, 5, 3), np.nan))), float)


def test_unknown_neighbours_are_undefined():
    nowhere = NearestDomains("1", NO_HIT, NO_HIT, NO_HIT)
    assert all(np.isnan(metric(nowhere)) for metric in novelty.NEAREST)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("metric", reconstruction.METRICS, ids=lambda metric: metric.name)
def test_a_rigid_motion_of_one_side_changes_nothing(metric, seed):
    reference = prepared(chain(50 + seed, seed), ss="H" * (50 + seed))
    model = deformed(reference.coords, 0.5 + seed, seed)
    still, turned = (prepared(coords, ss=reference.ss) for coords in (model, moved(model, seed)))
    assert metric(Pair(turned, reference, FACTS)) == pytest.approx(metric(Pair(still, reference, FACTS)), abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_mirror_image_swaps_the_two_distances(seed):
    reference = prepared(chain(60, seed))
    model = deformed(reference.coords, 1.0, seed)
    right, wrong = Pair(prepared(model), reference), Pair(prepared(model * [1, -1, 1]), reference)
    assert reconstruction.backbone_rmsd(right) == pytest.approx(reconstruction.mirror_rmsd(wrong), abs=1e-6)
    assert reconstruction.backbone_rmsd(right) < reconstruction.mirror_rmsd(right)


@pytest.mark.parametrize("seed", range(5))
def test_a_perfect_reconstruction_has_perfect_scores(seed):
    real = prepared(chain(60, seed), ss="E" * 60)
    pair = Pair(prepared(moved(real.coords), ss=real.ss), real)
    found = {metric.name: metric(pair) for metric in reconstruction.METRICS}
    assert found["backbone_rmsd"] == pytest.approx(0, abs=1e-5)
    assert (found["lddt"], found["right_handed"], found["ss_q3"]) == (1, 1, 1)
    assert found["tm_score"] == pytest.approx(1)


def test_sets_alike_have_no_distance():
    group = a_set()
    twin = ClassSet(group.features, group.features, group.pair_tm)
    for metric in (diversity.wasserstein_helix, diversity.wasserstein_strand, diversity.wasserstein_rg):
        assert metric(twin) == 0
        assert metric(group) > 0


def test_clusters_of_equal_and_of_unlike_structures():
    def table(value):
        pairs = np.full((5, 5), value)
        np.fill_diagonal(pairs, np.nan)
        return ClassSet({}, {}, pairs)

    assert diversity.cluster_share(table(0.9)) == 1 / 5
    assert diversity.cluster_share(table(0.3)) == 1
    assert diversity.mean_pairwise_tm(table(0.3)) == pytest.approx(0.3)
