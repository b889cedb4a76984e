"""Training input of the refiner: real structures beside traces as coarse as a model would give them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..model.batch import Batch, Domains
from ..model.cvae import LinearMap
from ..model.spec import Spec
from ..model.trace import center, decode_trace, encode_trace

MOST_LINEAR = 1 << 15  # structures of which principal components are made: all of them lie in memory at once
FEWEST_COMPONENTS = 12
LARGEST_JITTER = 0.3  # of a score whose variance over domains is 1


def fit_degrader(domains: Domains, spec: Spec) -> LinearMap:
    """All principal components of the training coefficients, by which traces are made as coarse as a model's."""
    inputs = 3 * spec.model.coefficients
    linear = LinearMap(inputs, inputs)
    rows = np.arange(len(domains))
    if len(rows) > MOST_LINEAR:
        rows = np.linspace(0, len(rows) - 1, MOST_LINEAR).astype(int)
    batch = domains.batch(spec, rows)
    flat = encode_trace(batch.ca, batch.mask, spec.model.coefficients)[0].flatten(1)
    linear.fit(flat, torch.from_numpy(domains.weights[rows]).float())
    return linear


@torch.no_grad()
def degrade(
    batch: Batch, linear: LinearMap, count: int, rng: np.random.Generator, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """CA and carbonyl directions in the chain frame, and a trace of each as a model would give it (B, L, 3).

    The trace keeps a random number of principal components, its scores are jittered, and a random share of what the
    components leave out is added: a decoder may have guessed some of it.
    """
    coefficients, frame = encode_trace(batch.ca, batch.mask, count)
    scores = linear.encode(coefficients.flatten(1) - linear.center)
    ca = center(batch.ca, batch.mask) @ frame
    kept = torch.from_numpy(np.exp(rng.uniform(np.log(FEWEST_COMPONENTS), np.log(scores.shape[1]), len(scores))))
    scores = scores * (torch.arange(scores.shape[1]) < kept[:, None])
    amount = torch.from_numpy(rng.uniform(0, LARGEST_JITTER, len(scores))).float()
    jittered = scores + amount[:, None] * torch.randn(scores.shape, generator=generator) * (scores != 0)

    def smooth(scores: Tensor) -> Tensor:
        coarse = (linear.center + linear.decode(scores)).view_as(coefficients)
        return decode_trace(coarse, batch.lengths, batch.mask.shape[1])

    guessed = torch.from_numpy(np.clip(rng.uniform(-1, 1, len(scores)), 0, None)).float()
    trace = smooth(jittered) + guessed[:, None, None] * (ca - smooth(scores))
    return ca, batch.carbonyl @ frame, trace


def crop_windows(
    ca: Tensor, carbonyl: Tensor, trace: Tensor, mask: Tensor, size: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A random window of `size` residues of each structure, moved so that its trace is centred."""
    lengths = mask.sum(1).numpy()
    size = min(size, int(lengths.max()))
    start = torch.from_numpy(rng.integers(0, np.maximum(lengths - size, 0) + 1))
    index = start[:, None] + torch.arange(size)
    inside = index < mask.sum(1, keepdim=True)
    index = index.clamp(max=mask.shape[1] - 1)
    rows = torch.arange(len(ca))[:, None]
    ca, carbonyl, trace = ca[rows, index], carbonyl[rows, index], trace[rows, index]
    weight = inside[..., None].float()
    middle = (trace * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    return (ca - middle) * weight, carbonyl * weight, (trace - middle) * weight, inside
