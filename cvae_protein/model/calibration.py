"""How far probabilities can be trusted: temperatures that make them so, and what is left of the error."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .fold_classifier import Oracle

TEMPERATURES = np.geomspace(0.3, 6.0, 61)
BINS = 10


@torch.no_grad()
def fit_temperatures(oracle: Oracle, features: Tensor, labels: Tensor) -> tuple[float, ...]:
    """The temperature of each level, coarse to fine, under which held-out labels (B, levels) are the likeliest.

    Guo et al. 2017, arXiv:1706.04599, found on a grid. 1 for a level at which no label is known.
    """
    found = [1.0] * labels.shape[1]
    for level in range(labels.shape[1]):
        known = labels[:, level] > 0
        if not known.any():
            continue
        losses = []
        for temperature in TEMPERATURES.tolist():
            tried = (*found[:level], temperature, *found[level + 1 :])
            told = oracle.posterior(features[known], tried)[level]
            losses.append(-float(told.gather(1, labels[known, level : level + 1] - 1).mean()))
        found[level] = float(TEMPERATURES[int(np.argmin(losses))])
    return tuple(found)


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of the likeliest label: mean |accuracy - confidence| over bins of equal width.

    `confidence` (n,) in 0 to 1, `correct` (n,) 0 or 1; bins weighted by what they hold (Naeini et al. 2015). It is
    biased upwards where bins hold few; NaN for none.
    """
    if not len(confidence):
        return math.nan
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(correct[place == k].mean() - confidence[place == k].mean()) * (place == k).mean() for k in set(place)]
    return float(sum(gaps))


def wilson(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); NaN for none."""
    if not count:
        return math.nan, math.nan
    share, spread = successes / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return centre - half, centre + half
