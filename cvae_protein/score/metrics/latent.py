"""Metrics of the code: active units, rate, information, fit of the prior, class information."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ...config.settings import ScoreSettings
from ...core.errors import UserError
from ...core.files import check_may_read, refuse_renamed
from ...core.labels import first_level, truncate
from ...core.progress import track
from .distribution import NEIGHBOURS, FeatureSet, mmd, shifted_limits
from .metric import (
    ALL,
    LEVELS,
    MOST_RESAMPLINGS,
    UNDEFINED,
    Estimate,
    Metric,
    ScoreRow,
    absent_rows,
    bounds,
    generator,
    mean_estimate,
)

ACTIVE = 0.01  # variance of the posterior mean over structures (Burda et al. 2016)
DRAWS = 8  # codes per structure in the estimate of the mutual information
MOST_CODES = 2000  # structures in that estimate


@dataclass(frozen=True, eq=False)
class Codes:
    """Posteriors of D domains: `mean`, `logvar` and `kl` (nats) are (D, Z); `blocks` names ranges of dimensions.

    `prior_draw` (D, Z) are codes drawn from the prior for the domains' labels and lengths, if the file has them;
    `levels` is the number of label levels that the model is conditioned on, 0 if the file does not say; `judged` are
    figures of one draw of each code under the priors (D,), by name (`sampling/likelihood.py`); `trace_rmsd`
    (D,) is the error of the decoded posterior mean in Å, NaN if it was not decoded.
    """

    ids: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    mean: np.ndarray
    logvar: np.ndarray
    kl: np.ndarray
    blocks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    prior_draw: np.ndarray | None = None
    levels: int = 0
    judged: Mapping[str, np.ndarray] = field(default_factory=dict)
    trace_rmsd: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> Codes:
        """The codes of the domains `rows` (indices or mask)."""
        names = ("ids", "labels", "splits", "mean", "logvar", "kl", "prior_draw", "trace_rmsd")
        found = {name: getattr(self, name)[rows] for name in names if getattr(self, name) is not None}
        return replace(self, **found, judged={name: values[rows] for name, values in self.judged.items()})


def read_codes(path: Path) -> Codes:
    """The codes of `latents.h5`; `UserError` where the file is absent or lacks an array."""
    if not path.is_file():
        raise UserError(f"{path}: expected the codes of a trained model, found no file there")
    check_may_read(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            refuse_renamed(path, "column", file)
            texts = [np.array([str(text) for text in file[name].asstr()[:]]) for name in ("id", "label", "split")]
            arrays = [np.asarray(file[name][:], float) for name in ("mean", "logvar", "kl")]
            drawn = np.asarray(file["prior_draw"][:], float) if "prior_draw" in file else None
            judged = {name: np.asarray(values[:], float) for name, values in file.get("judged", {}).items()}
            errors = np.asarray(file["trace_rmsd"][:], float) if "trace_rmsd" in file else None
            blocks, levels = json.loads(file.attrs.get("blocks", "{}")), int(file.attrs.get("levels", 0))
    except (OSError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a readable file of codes ({error})") from error
    ranges = {name: (int(start), int(stop)) for name, (start, stop) in blocks.items()}
    return Codes(texts[0], texts[1], texts[2], arrays[0], arrays[1], arrays[2], ranges, drawn, levels, judged, errors)


def active_units(codes: Codes) -> float:
    """Dimensions whose posterior mean has variance above 0.01 over structures (Burda et al. 2016, arXiv:1509.00519)."""
    if len(codes) < 2 or not np.isfinite(codes.mean).all():
        return float("nan")
    return float((codes.mean.var(axis=0, ddof=1) > ACTIVE).sum())


def active_share(codes: Codes) -> float:
    """`active_units` over the number of dimensions."""
    return active_units(codes) / codes.mean.shape[1] if codes.mean.shape[1] else float("nan")


def kl(codes: Codes) -> float:
    """Mean Kullback-Leibler divergence of the posterior from the prior, summed over dimensions, as recorded."""
    return float(codes.kl.sum(axis=1).mean()) if len(codes) else float("nan")


def information(codes: Codes, random: np.random.Generator) -> np.ndarray:
    """log q(z|x) - log q(z) of each structure (D,), nats, averaged over 8 draws of z; its mean estimates I(x;z).

    q(z) is the mixture of the posteriors themselves, so the estimate is biased and never exceeds log D
    (Hoffman & Johnson 2016; Alemi et al. 2018, arXiv:1711.00464). NaN where a posterior has no finite variance.
    """
    count, width = codes.mean.shape
    if count < 2 or not width or not (np.isfinite(codes.mean).all() and np.isfinite(codes.logvar).all()):
        return np.full(count, np.nan)
    precision = np.exp(-codes.logvar)
    constant = (np.square(codes.mean) * precision + codes.logvar).sum(axis=1)  # (D,)
    total = np.zeros(count)
    for _ in range(DRAWS):
        z = codes.mean + np.exp(codes.logvar / 2) * random.standard_normal(codes.mean.shape)
        # log q(z_i|x_j) up to a constant: (D, D)
        log_density = -0.5 * (np.square(z) @ precision.T - 2 * z @ (codes.mean * precision).T + constant)
        top = log_density.max(axis=1)
        mixture = top + np.log(np.exp(log_density - top[:, None]).mean(axis=1))
        total += np.diagonal(log_density) - mixture
    return total / DRAWS


METRICS = (
    Metric("active_units", "dimensions", "high", active_units),
    Metric("active_share", "share", "high", active_share),
    Metric("kl", "nat", "none", kl),
)
"""Metrics of `Codes` that need no random draw."""
MOST_OF_CLASS = 256  # domains of a class whose codes are compared
METRIC = Metric("prior_mmd", "none", "zero", mmd)


def _class_sets(codes: Codes, drawn: np.ndarray, settings: ScoreSettings) -> dict[str, FeatureSet]:
    """For each first-level class, one draw from the posterior of each domain and one from the prior for that domain."""
    folds = np.array([first_level(label) for label in codes.labels.tolist()])
    groups = {}
    for fold in sorted(set(folds.tolist()) - {""}):
        random = generator(settings, METRIC.name, fold)
        rows = random.permutation(np.flatnonzero(folds == fold))[:MOST_OF_CLASS]
        spread = np.exp(np.nan_to_num(codes.logvar[rows], nan=-np.inf) / 2)
        posterior = codes.mean[rows] + spread * random.standard_normal(spread.shape)
        groups[fold] = FeatureSet.even(posterior, drawn[rows])
    return groups


def prior_rows(codes: Codes, settings: ScoreSettings) -> list[ScoreRow]:
    """Rows of `prior_mmd` of each class, and their mean: 0 if the codes of each class are distributed as its prior."""
    training = codes.take(codes.splits == "train")
    if training.prior_draw is None or not len(training):
        return absent_rows((METRIC,), "no draws of the prior for training domains in latents.h5")
    groups = _class_sets(training, training.prior_draw, settings)
    values: dict[str, float] = {}
    resampled: dict[str, np.ndarray] = {}
    for fold, group in groups.items():
        if len(group.own) >= NEIGHBOURS and np.isfinite(group.own).all() and np.isfinite(group.other).all():
            values[fold], random = METRIC(group), generator(settings, METRIC.name, fold, "interval")
            count = min(settings.bootstrap, MOST_RESAMPLINGS)
            resampled[fold] = np.array([METRIC(group.resample(random)) for _ in range(count)])
    rows = []
    if values:
        resampled[ALL], values[ALL] = np.mean(list(resampled.values()), axis=0), float(np.mean(list(values.values())))
    for fold in (ALL, *groups):
        members = groups if fold == ALL else {fold: groups[fold]}
        count = sum(len(group.own) for group in members.values())
        if fold not in values:
            note = f"needs {NEIGHBOURS} training domains with finite codes"
            rows.append(METRIC.row(fold, Estimate(n=count), "train", note))
            continue
        limits = shifted_limits(values[fold], resampled[fold], settings)
        rows.append(METRIC.row(fold, Estimate(values[fold], *limits, count), "train"))
    return rows


FOLDS = 5
PROBE_NEIGHBOURS = 10
FEWEST = 4  # domains and superfamilies per class, below which it is left out


PROBES: Mapping[str, Callable[[], Pipeline]] = {
    "linear": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)),
    "knn": lambda: make_pipeline(StandardScaler(), KNeighborsClassifier(PROBE_NEIGHBOURS)),
    "svm": lambda: make_pipeline(StandardScaler(), SVC(class_weight="balanced")),
}
"""Name of a probe -> a function that returns an untrained one."""


@dataclass(frozen=True, eq=False)
class ProbePredictions:
    """The class of each domain and the one predicted by a probe that never saw its superfamily."""

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
        """`skill` with its interval, from held-out predictions resampled within each class."""
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
    """Predictions for `query`; the class shares that `knn` gives are divided by those in training."""
    if name == "knn":
        probe.set_params(kneighborsclassifier__n_neighbors=min(PROBE_NEIGHBOURS, len(codes)))
    probe.fit(codes, labels)
    if name != "knn":
        return probe.predict(query)
    shares = np.array([(labels == each).mean() for each in probe.classes_])
    return probe.classes_[(probe.predict_proba(query) / shares).argmax(axis=1)]


def probe_predictions(
    codes: np.ndarray, labels: np.ndarray, groups: np.ndarray, name: str, seed: int
) -> ProbePredictions:
    """Cross-validated predictions of the probe `name` from `codes` (D, Z); no group is on both sides of a fold.

    Classes with fewer than 4 domains or groups are left out; empty if fewer than two classes remain.
    """
    usable = [each for each in np.unique(labels) if len(np.unique(groups[labels == each])) >= FEWEST]
    keep = np.isin(labels, usable) & np.isfinite(codes).all(axis=1)
    codes, labels, groups = codes[keep], labels[keep], groups[keep]
    if len(usable) < 2 or codes.shape[1] == 0 or len(np.unique(labels)) < 2:
        return ProbePredictions(np.zeros(0, str), np.zeros(0, str))
    folds = min(FOLDS, *(len(np.unique(groups[labels == each])) for each in usable))
    guess = np.empty(len(labels), labels.dtype)
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)  # it accepts no larger seed
    for train, held in parts.split(codes, labels, groups):
        if len(held) and len(np.unique(labels[train])) > 1:
            guess[held] = _trained_guess(PROBES[name](), name, codes[train], labels[train], codes[held])
    return ProbePredictions(labels, guess)


HELD_OUT_LEAK = "class_leakage_held_out"  # a flow may remove the label only from the codes that it was fitted to
DEEPER = {level: "" if level == 1 else f"_level{level}" for level in LEVELS}
EVERY = "every"  # split of the rows that use all domains


def _unit_rows(codes: Codes, settings: ScoreSettings) -> list[ScoreRow]:
    rows = []
    for metric in METRICS:
        random = generator(settings, metric.name)
        value, low, high = metric(codes), float("nan"), float("nan")
        if np.isfinite(value):
            drawn = (random.integers(len(codes), size=len(codes)) for _ in range(settings.bootstrap))
            low, high = bounds(np.array([metric(codes.take(rows)) for rows in drawn]), settings)
        rows.append(metric.row(ALL, Estimate(value, low, high, len(codes))))
    for column in range(codes.kl.shape[1]):
        name = f"kl_{column:03d}"
        estimate = mean_estimate(codes.kl[:, column], settings, generator(settings, name))
        rows.append(ScoreRow(name, "nat", "none", ALL, estimate))
    return rows


def _information_rows(codes: Codes, settings: ScoreSettings) -> list[ScoreRow]:
    """Mutual information of code and structure, and log D, the upper bound of the estimate."""
    random = generator(settings, "mutual_information")
    if len(codes) > MOST_CODES:
        codes = codes.take(random.permutation(len(codes))[:MOST_CODES])
    estimate = mean_estimate(information(codes, random), settings, random)
    bound = float(np.log(len(codes))) if len(codes) else float("nan")
    return [
        ScoreRow("mutual_information", "nat", "none", ALL, estimate),
        ScoreRow("mutual_information_bound", "nat", "none", ALL, Estimate(bound, bound, bound, len(codes))),
    ]


def most_skilled(attempts: Mapping[str, ProbePredictions]) -> ProbePredictions:
    """The predictions of the most skilled probe."""
    return max(attempts.values(), key=lambda each: -1.0 if np.isnan(each.skill) else each.skill)


def _class_leakage_rows(codes: Codes, superfamily: Mapping[str, str], settings: ScoreSettings) -> list[ScoreRow]:
    """Skill of newly trained probes: on the whole code, each block, drawn codes, deeper levels, and held-out codes."""
    groups = np.array([superfamily.get(name, "") or name for name in codes.ids.tolist()])
    noise = generator(settings, "class_leakage_sampled").standard_normal(codes.mean.shape)
    views = {
        "class_leakage": codes.mean,
        "class_leakage_sampled": codes.mean + np.exp(np.nan_to_num(codes.logvar, nan=-np.inf) / 2) * noise,
    }
    for name, (start, stop) in codes.blocks.items():
        if (start, stop) != (0, codes.mean.shape[1]):
            views[f"class_leakage_{name}"] = codes.mean[:, start:stop]
    every, held_out = np.full(len(codes), True), codes.splits != "train"
    plans = [(name, view, 1, every) for name, view in views.items()]
    plans += [(f"class_leakage_level{level}", codes.mean, level, every) for level in LEVELS[1:]]
    if held_out.any():
        plans += [(f"{HELD_OUT_LEAK}{DEEPER[level]}", codes.mean, level, held_out) for level in LEVELS]
    rows = []
    for name, view, level, seen in track(plans, "probes", len(plans), "attacks"):
        labels = np.array([truncate(label, level) for label in codes.labels[seen].tolist()])
        attempts = {
            probe: probe_predictions(view[seen], labels, groups[seen], probe, settings.seed) for probe in PROBES
        }
        found = {name: most_skilled(attempts)}
        if name == "class_leakage":
            found |= {f"{name}_{probe}": attempt for probe, attempt in attempts.items()}
        for metric, attempt in found.items():
            estimate = attempt.estimate(settings, generator(settings, metric))
            if estimate.n or level == 1:
                rows.append(ScoreRow(metric, "skill", "zero", ALL, estimate, EVERY))
    return rows


def latent_rows(codes: Codes, superfamily: Mapping[str, str], settings: ScoreSettings) -> list[ScoreRow]:
    """All rows about the codes: of held-out domains for the use of the code, of all domains for class leakage."""
    held_out = codes.take(codes.splits == "test")
    leak = _class_leakage_rows(codes.take(codes.splits != "excluded"), superfamily, settings)
    levels = Estimate(codes.levels, codes.levels, codes.levels, len(codes)) if codes.levels else UNDEFINED
    known = ScoreRow("given_levels", "levels", "none", ALL, levels, EVERY)
    return [*_unit_rows(held_out, settings), *_information_rows(held_out, settings), *leak, known]
