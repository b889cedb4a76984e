"""Whether the codes say anything about the structure; metrics of `Codes`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from ...core.errors import UserError
from .metric import Metric

ACTIVE = 0.01  # variance of the posterior mean over structures (Burda et al. 2016)
DRAWS = 8  # codes a structure in the estimate of the mutual information
MOST_CODES = 2000  # structures in that estimate


@dataclass(frozen=True, eq=False)
class Codes:
    """Posteriors of D domains: `mean`, `logvar` and `kl` (nats) are (D, Z); `blocks` names ranges of dimensions.

    `drawn` (D, Z) are codes from the prior for the domains' labels and lengths, where the sampling side kept some;
    `levels` are the label's levels that the model is told, 0 where the sampling side did not say.
    """

    ids: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    mean: np.ndarray
    logvar: np.ndarray
    kl: np.ndarray
    blocks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    drawn: np.ndarray | None = None
    levels: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> Codes:
        """The codes of the domains `rows` (indices or mask)."""
        return Codes(
            self.ids[rows],
            self.labels[rows],
            self.splits[rows],
            self.mean[rows],
            self.logvar[rows],
            self.kl[rows],
            self.blocks,
            None if self.drawn is None else self.drawn[rows],
            self.levels,
        )


def read_codes(path: Path) -> Codes:
    """The codes of `latents.h5`; `UserError` where the file is absent or lacks an array."""
    if not path.is_file():
        raise UserError(f"{path}: expected the codes of a trained model, found no file there")
    try:
        with h5py.File(path, "r") as file:
            texts = [np.array([str(text) for text in file[name].asstr()[:]]) for name in ("id", "label", "split")]
            arrays = [np.asarray(file[name][:], float) for name in ("mean", "logvar", "kl")]
            drawn = np.asarray(file["drawn"][:], float) if "drawn" in file else None
            blocks, levels = json.loads(file.attrs.get("blocks", "{}")), int(file.attrs.get("levels", 0))
    except (OSError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a readable file of codes ({error})") from error
    ranges = {name: (int(start), int(stop)) for name, (start, stop) in blocks.items()}
    return Codes(texts[0], texts[1], texts[2], arrays[0], arrays[1], arrays[2], ranges, drawn, levels)


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
        # log q(z_i|x_j) but for a constant: (D, D)
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
