"""Metrics of the priors: likelihood of codes, also under one Gaussian, norm of the noise, loss of the flow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...config.settings import ScoreSettings
from ...core.labels import RUNGS, first_level
from .latent import Codes
from .metric import ALL, Metric, ScoreRow, absent_rows, generator, grouped_estimate

Judged = Mapping[str, float]


def prior_nats(code: Judged) -> float:
    """Log density in nats of a draw of the code under the prior that samples come from, temperature and guidance 1."""
    return code["own"]


def gaussian_nats(code: Judged) -> float:
    """`prior_nats` under one Gaussian for all classes of the same training codes: full covariance, given the length."""
    return code["gaussian"]


def class_gaussian_nats(code: Judged) -> float:
    """`prior_nats` under one Gaussian per class, its covariance shrunk towards the pooled one."""
    return code["class_gaussian"]


def model_prior_nats(code: Judged) -> float:
    """`prior_nats` under the prior that the model was trained with."""
    return code["model"]


def prior_gain(code: Judged) -> float:
    """`prior_nats` minus `gaussian_nats`, domain by domain: below 0 on held-out codes, the prior is overfitted."""
    return code["own"] - code["gaussian"]


def noise_norm(code: Judged) -> float:
    """Squared norm of the noise that the flow maps to a code, over its number of dimensions: 1 if the flow fits."""
    return code["noise"]


def flow_loss(code: Judged) -> float:
    """Squared error of the flow's velocity on the path to the whitened code, summed over dimensions."""
    return code["flow_loss"]


def gaussian_flow_loss(code: Judged) -> float:
    """As `flow_loss`, of the exact velocity towards one Gaussian for all classes."""
    return code["gaussian_flow_loss"]


METRICS = (
    Metric("prior_gain", "nat", "high", prior_gain),
    Metric("prior_nats", "nat", "high", prior_nats),
    Metric("gaussian_nats", "nat", "none", gaussian_nats),
    Metric("class_gaussian_nats", "nat", "none", class_gaussian_nats),
    Metric("model_prior_nats", "nat", "none", model_prior_nats),
    Metric("noise_norm", "none", "none", noise_norm),
    Metric("flow_loss", "none", "none", flow_loss),
    Metric("gaussian_flow_loss", "none", "none", gaussian_flow_loss),
)
NEEDS = {"flow_loss": "flow", "gaussian_flow_loss": "flow", "noise_norm": "flow"}


def likelihood_rows(
    codes: Codes, superfamily: Mapping[str, str], rung: Mapping[str, str], settings: ScoreSettings
) -> list[ScoreRow]:
    """Rows of each metric by split: over all, for each class and each rung; intervals over superfamilies."""
    if not codes.judged:
        return absent_rows(METRICS, "latents.h5 does not say what the priors make of the codes")
    latent, rows = codes.mean.shape[1], []
    groups = np.array([superfamily.get(name, "") or name for name in codes.ids.tolist()])
    columns = dict(codes.judged)
    if "noise" in columns:
        columns["noise"] = columns["noise"] / latent
    classes = np.array([first_level(label) for label in codes.labels.tolist()], object)
    rungs = np.array([rung.get(name, "") for name in codes.ids.tolist()], object)
    for metric in METRICS:
        if NEEDS.get(metric.name, "own") not in columns:
            continue
        values = np.array([metric(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)])
        for split in ("test", "validation", "train"):
            here = (codes.splits == split) & np.isfinite(values)
            parts = {ALL: here} | {
                name: here & (classes == name) for name in sorted(set(classes[here].tolist()) - {""})
            }
            parts |= {name: here & (rungs == name) for name in RUNGS if (here & (rungs == name)).any()}
            for fold, chosen in parts.items():
                random = generator(settings, metric.name, split, fold)
                rows.append(metric.row(fold, grouped_estimate(values[chosen], groups[chosen], settings, random), split))
    return rows
