"""Metrics of sets and codes beside closed forms and other packages, for `crosschecks.py`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import sqrtm
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from cvae_protein.core.labels import first_level
from cvae_protein.score.metrics import distribution
from cvae_protein.score.metrics.distribution import FeatureSet
from cvae_protein.score.metrics.diversity import ClassSet, vendi_score, wasserstein_rg
from cvae_protein.score.metrics.latent import FOLDS, PROBES, Codes, information, probe_predictions, read_codes

DRAWS = 20  # sets of random features that are compared


@dataclass(frozen=True)
class Check:
    """One line: the largest difference of a metric from an independent value, over n of them."""

    metric: str
    ours: str
    independent: str
    n: int
    worst: float
    unit: str
    remark: str = ""

    def cells(self) -> dict[str, object]:
        """The line as `write_table` takes it."""
        return {**self.__dict__, "worst": f"{self.worst:.2g}" if self.n else ""}


def _sets(random: np.random.Generator) -> list[FeatureSet]:
    """Normal features of two sizes, one set shifted and stretched."""
    return [
        FeatureSet.even(
            random.normal(0.1 * draw, 1 + 0.05 * draw, (40 + draw, 8)), random.normal(size=(60, 8)) * np.arange(1, 9)
        )
        for draw in range(DRAWS)
    ]


def _row(metric: str, ours: str, other: str, found: list[float], theirs: list[float], unit: str) -> Check:
    return Check(metric, ours, other, len(found), float(np.abs(np.subtract(found, theirs)).max()), unit)


def _frechet(group: FeatureSet) -> float:
    own, other = (np.cov(x, rowvar=False) for x in (group.own, group.other))
    root = np.real(sqrtm(own @ other))
    return float(np.square(group.own.mean(0) - group.other.mean(0)).sum() + np.trace(own + other - 2 * root))


def _mmd(own: np.ndarray, other: np.ndarray, between: np.ndarray) -> float:
    n, m = between.shape
    first = sum(own[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    second = sum(other[i, j] for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return float(first + second - 2 * between.sum() / (n * m))


def _kernels(group: FeatureSet, kernel: object, **options: float) -> float:
    pairs = ((group.own, group.own), (group.other, group.other), (group.own, group.other))
    return _mmd(*(kernel(a, b, **options) for a, b in pairs))  # type: ignore[operator]


def _gaussian(group: FeatureSet) -> float:
    everything = np.concatenate([group.own, group.other])
    squared = [np.square(a - b).sum() for i, a in enumerate(everything) for b in everything[:i]]
    return _kernels(group, rbf_kernel, gamma=1 / (2 * float(np.median(squared))))


def _distances(random: np.random.Generator) -> Iterator[Check]:
    sets, ours = _sets(random), "score/metrics/distribution.py"
    found = [distribution.fpsd(group) for group in sets]
    yield _row("fpsd", ours, "scipy.linalg.sqrtm", found, [*map(_frechet, sets)], "distance²")
    theirs = [_kernels(group, polynomial_kernel, degree=3, coef0=1) for group in sets]
    yield _row("kid", ours, "scikit-learn's kernel, loops", [*map(distribution.kid, sets)], theirs, "none")
    yield _row(
        "feature_mmd",
        ours,
        "scikit-learn's kernel, loops",
        [*map(distribution.mmd, sets)],
        [*map(_gaussian, sets)],
        "none",
    )
    shares = [random.dirichlet(np.ones(7), 2) for _ in range(DRAWS)]
    found = [distribution.divergence(*pair) for pair in shares]
    yield _row("fjsd", ours, "scipy's jensenshannon²", found, [jensenshannon(*pair) ** 2 for pair in shares], "nat")
    sure = [np.repeat(np.eye(k), 5, axis=0) for k in range(2, 9)]
    yield _row(
        "fold_score", ours, "k sure and even labels: k", [*map(distribution.fold_score, sure)], [*range(2, 9)], "folds"
    )


def _neighbourhoods(random: np.random.Generator) -> Iterator[Check]:
    names = ("precision", "recall", "density", "coverage")
    if importlib.util.find_spec("prdc") is None:
        yield Check(
            ", ".join(names), "score/metrics/distribution.py", "package prdc", 0, 0, "", "not installed, not compared"
        )
        return
    from prdc import compute_prdc

    sets = _sets(random)
    said = [compute_prdc(group.other, group.own, distribution.NEIGHBOURS) for group in sets]
    for name in names:
        found = [getattr(distribution, name)(group) for group in sets]
        yield _row(name, "score/metrics/distribution.py", "package prdc", found, [each[name] for each in said], "share")


def _similarity(random: np.random.Generator, count: int) -> np.ndarray:
    points = random.normal(size=(count, 3))
    return np.exp(-np.square(points[:, None] - points[None]).sum(-1))


def _diversity(random: np.random.Generator) -> Iterator[Check]:
    tables = [_similarity(random, 6 + draw) for draw in range(DRAWS)]

    def ours(table: np.ndarray) -> float:
        return vendi_score(ClassSet({}, {}, np.where(np.eye(len(table)) > 0, np.nan, table)))

    found = [ours(table) for table in tables]
    if importlib.util.find_spec("vendi_score") is not None:
        from vendi_score import vendi as package

        theirs = [float(package.score_K(table)) for table in tables]
        yield _row("vendi_score", "score/metrics/diversity.py", "package vendi_score", found, theirs, "structures")
    else:
        yield Check(
            "vendi_score", "score/metrics/diversity.py", "package vendi_score", 0, 0, "", "not installed, not compared"
        )
    blocks = [np.kron(np.eye(k), np.ones((4, 4))) for k in range(2, 9)]
    yield _row(
        "vendi_score",
        "score/metrics/diversity.py",
        "k groups of copies: k",
        [*map(ours, blocks)],
        [*range(2, 9)],
        "structures",
    )
    gaps, found = [], []
    for draw in range(DRAWS):
        first, second = random.normal(1, 0.1, 30 + draw), random.normal(1.1, 0.2, 50)
        found.append(wasserstein_rg(ClassSet({"relative_rg": first}, {"relative_rg": second}, np.zeros((0, 0)))))
        at = np.sort(np.concatenate([first, second]))
        below = [np.searchsorted(np.sort(x), at[:-1], side="right") / len(x) for x in (first, second)]
        gaps.append(float((np.abs(below[0] - below[1]) * np.diff(at)).sum()))
    yield _row("wasserstein_*", "scipy", "area between the distribution functions", found, gaps, "any")


def _codes(folder: Path, random: np.random.Generator) -> Iterator[Check]:
    found, theirs = [], []
    for noise in (0.3, 0.5, 1.0, 2.0):
        mean = random.normal(size=(1500, 1))
        logvar = np.full_like(mean, 2 * np.log(noise))
        names = np.array([str(index) for index in range(len(mean))])
        codes = Codes(names, names, names, mean, logvar, np.zeros_like(mean))
        found.append(float(information(codes, random).mean()))
        theirs.append(0.5 * np.log(1 + 1 / noise**2))
    yield _row(
        "mutual_information", "score/metrics/latent.py", "Gaussian channels, ½ log(1 + 1/s²)", found, theirs, "nat"
    )
    for path in sorted(folder.glob("samples/*/seed*/latents.h5"))[:1]:
        codes = read_codes(path)
        labels = np.array([first_level(label) for label in codes.labels])
        groups = codes.ids
        wrong, skills, others = [], [], []
        for name in ("linear", "svm"):
            ours = probe_predictions(codes.mean, labels, groups, name, 0)
            split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
            plain = cross_val_predict(PROBES[name](), codes.mean, labels, groups=groups, cv=split)
            wrong.append(float((ours.guess != plain).mean()))
            skills.append(ours.skill)
            others.append(balanced_accuracy_score(labels, plain, adjusted=True))
        yield Check(
            "leak guesses", "score/metrics/latent.py", "cross_val_predict", len(labels), max(wrong), "share that differ"
        )
        yield _row("class_leakage", "score/metrics/latent.py", "adjusted balanced accuracy", skills, others, "skill")


def set_checks(folder: Path, random: np.random.Generator) -> Iterator[Check]:
    """Rows of sets, distributions and codes."""
    yield from _distances(random)
    yield from _neighbourhoods(random)
    yield from _diversity(random)
    yield from _codes(folder, random)
