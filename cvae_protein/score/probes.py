"""Leak: how well fresh probes, trained after the model, tell the class of a domain from its code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ..config.settings import ScoreSettings
from .intervals import UNDEFINED, Estimate, bounds

FOLDS = 5
NEIGHBOURS = 10
FEWEST = 4  # domains and superfamilies a class, below which it is left out


def _linear() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))


def _neighbours() -> Pipeline:
    return make_pipeline(StandardScaler(), KNeighborsClassifier(NEIGHBOURS))


def _kernel() -> Pipeline:
    return make_pipeline(StandardScaler(), SVC(class_weight="balanced"))


PROBES: Mapping[str, Callable[[], Pipeline]] = {"linear": _linear, "knn": _neighbours, "svm": _kernel}
"""Name of a probe -> an untrained one."""


@dataclass(frozen=True, eq=False)
class Guesses:
    """The class of each domain and the class that a probe which never saw its superfamily gave it."""

    truth: np.ndarray
    guess: np.ndarray

    @property
    def skill(self) -> float:
        """(accuracy - chance) / (1 - chance), accuracy averaged over classes, chance = 1 / classes; NaN below two."""
        classes = np.unique(self.truth)
        if len(classes) < 2:
            return float("nan")
        accuracy = np.mean([(self.guess[self.truth == name] == name).mean() for name in classes])
        return float((accuracy - 1 / len(classes)) / (1 - 1 / len(classes)))

    def estimate(self, settings: ScoreSettings, random: np.random.Generator) -> Estimate:
        """`skill` with its interval, held-out guesses resampled within their class."""
        if np.isnan(self.skill):
            return UNDEFINED
        classes, counts = np.unique(self.truth, return_counts=True)
        hits = np.array([(self.guess[self.truth == name] == name).sum() for name in classes])
        accuracy = (random.binomial(counts, hits / counts, size=(settings.bootstrap, len(classes))) / counts).mean(
            axis=1
        )
        skills = (accuracy - 1 / len(classes)) / (1 - 1 / len(classes))
        return Estimate(self.skill, *bounds(skills, settings), len(self.truth))


def _trained_guess(probe: Pipeline, name: str, codes: np.ndarray, labels: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Guesses for `query`; a probe that knows shares only has them divided by the classes' shares in training."""
    if name == "knn":
        probe.set_params(kneighborsclassifier__n_neighbors=min(NEIGHBOURS, len(codes)))
    probe.fit(codes, labels)
    if name != "knn":
        return probe.predict(query)
    shares = np.array([(labels == each).mean() for each in probe.classes_])
    return probe.classes_[(probe.predict_proba(query) / shares).argmax(axis=1)]


def guesses(codes: np.ndarray, labels: np.ndarray, groups: np.ndarray, name: str, seed: int) -> Guesses:
    """Cross-validated guesses of the probe `name` from `codes` (D, Z); no group lies on both sides of a fold.

    Classes with fewer than 4 domains or groups are left out; empty where fewer than two classes remain.
    """
    usable = [each for each in np.unique(labels) if len(np.unique(groups[labels == each])) >= FEWEST]
    keep = np.isin(labels, usable) & np.isfinite(codes).all(axis=1)
    codes, labels, groups = codes[keep], labels[keep], groups[keep]
    if len(usable) < 2 or codes.shape[1] == 0 or len(np.unique(labels)) < 2:
        return Guesses(np.zeros(0, str), np.zeros(0, str))
    folds = min(FOLDS, *(len(np.unique(groups[labels == each])) for each in usable))
    guess = np.empty(len(labels), labels.dtype)
    for train, held in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(codes, labels, groups):
        if len(held) and len(np.unique(labels[train])) > 1:
            guess[held] = _trained_guess(PROBES[name](), name, codes[train], labels[train], codes[held])
    return Guesses(labels, guess)
