"""Terms on the codes of a batch: against collapse, holes of the prior, dependent dimensions, and the label in the code.

All are estimated without bias or with the bias taken off, so that 0 means that there is nothing to press on. Terms
against the label look at structures whose class is known, and at the columns of the code that may not know it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..batch import Batch
from ..cvae import Output
from ..priors import Gaussian
from .evidence_bound import Term

FLOOR = 0.5  # standard deviation of a posterior mean over structures; Zhu et al. 2020 use 0.3 to 0.7
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernel, Tolstikhin et al. 2018
TELLS_LABEL = "fold"  # the block of a code that is meant to know the label


def variance_floor(batch: Batch, output: Output) -> Tensor:
    """What the standard deviation of the posterior means lacks to 0.5, summed over dimensions.

    The hinge of Bardes et al. 2022 (VICReg) for the end of Zhu et al. 2020 (BN-VAE): where the prior is N(0, 1), a
    dimension above the floor has a rate of at least 0.5 * 0.5² nats. Batch normalisation itself would move the codes
    off the principal components in which a model starts, and the descent that betters codes would pass it by.
    """
    spread = (output.posterior.mean.var(0) + 1e-4).sqrt()
    return F.relu(FLOOR - spread).sum()


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """Inverse multiquadratic kernel of codes (A, Z) and (B, Z), mean over scales, in (0, 1]: (A, B).

    Tolstikhin et al. 2018, "Wasserstein Auto-Encoders": C / (C + |a - b|²) with C = 2 Z s.
    """
    squares = (a[:, None] - b[None]).square().sum(-1)
    widths = [2.0 * a.shape[-1] * scale for scale in SCALES]
    return torch.stack([width / (width + squares) for width in widths]).mean(0)


def discrepancy(a: Tensor, b: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of codes (A, Z) and (B, Z). Gretton et al. 2012, equation 3."""
    own = sum((kernel(x, x).sum() - len(x)) / (len(x) * (len(x) - 1)) for x in (a, b))
    return own - 2 * kernel(a, b).mean()


def mmd(generator: torch.Generator) -> Term:
    """Discrepancy of the encoded codes and as many draws from the prior. Zhao et al. 2019, "InfoVAE"."""

    def term(batch: Batch, output: Output) -> Tensor:
        return discrepancy(output.z, output.prior.sample(generator).detach())

    return term


def total_correlation(generator: torch.Generator) -> Term:
    """Total correlation of the code's dimensions in nats, by minibatch weights. Chen et al. 2018, "β-TCVAE", eq. S5.

    That estimate is off by (Z - 1) log(domains / batch), and by more where posteriors are narrower than their distance
    in the batch. The same estimate of codes whose dimensions were permuted over the batch, each for itself, is off by
    as much, and is taken away (the permutation is that of Kim and Mnih 2018). Narrow posteriors of many dimensions
    leave the term near 0, whether dependent or not: it sees what a batch can tell.
    """

    def term(batch: Batch, output: Output) -> Tensor:
        noise = torch.rand(output.z.shape, generator=generator).to(output.z.device)
        order = noise.argsort(0)
        q = output.posterior
        mixed = Gaussian(q.mean.gather(0, order), q.logvar.gather(0, order))
        return _dependence(q, output.z) - _dependence(mixed, output.z.gather(0, order))

    return term


def _dependence(q: Gaussian, z: Tensor) -> Tensor:
    """Mean of log q(z) - sum of log q(z_d), each a mixture of the batch's posteriors."""
    square = (z[:, None] - q.mean[None]).square() * torch.exp(-q.logvar)[None]
    log_density = -0.5 * (square + q.logvar[None] + math.log(2 * math.pi))  # (B, B, Z): of z_i under q(.|x_j)
    joint, single = log_density.sum(-1).logsumexp(1), log_density.logsumexp(1).sum(-1)
    return (joint - single).mean() + (z.shape[1] - 1) * math.log(len(z))


def free_columns(blocks: dict[str, tuple[int, int]]) -> list[int]:
    """Columns of a code that may not know the label: all but the block `fold`, where there is one."""
    return [c for name, (start, stop) in blocks.items() if name != TELLS_LABEL for c in range(start, stop)]


def known_rows(batch: Batch, output: Output) -> tuple[Tensor, Tensor]:
    """Codes (N, Z') in their free columns and labels (N, levels) of the structures whose class is known."""
    known = batch.labels[:, 0] > 0
    return output.z[known][:, free_columns(output.blocks)], batch.labels[known]


def class_mmd(batch: Batch, output: Output) -> Tensor:
    """Discrepancy of the codes of two classes, mean over the pairs of first-level classes with two members or more."""
    z, labels = known_rows(batch, output)
    members = [z[labels[:, 0] == label] for label in labels[:, 0].unique()]
    members = [codes for codes in members if len(codes) > 1]
    pairs = [discrepancy(a, b) for i, a in enumerate(members) for b in members[:i]]
    return torch.stack(pairs).mean() if pairs else 0.0 * output.z.sum()


def hsic(batch: Batch, output: Output) -> Tensor:
    """Unbiased Hilbert-Schmidt independence criterion of code and label. Song et al. 2012, equation 4.

    The kernel of two labels is the number of levels, from the first on, that they share.
    """
    z, labels = known_rows(batch, output)
    n = len(z)
    if n < 4:
        return 0.0 * output.z.sum()
    alike = (labels[:, None] == labels[None]) & (labels[:, None] > 0)
    shared = alike.cumprod(-1).sum(-1).to(z.dtype)
    outside = 1 - torch.eye(n, device=z.device)
    k, same = kernel(z, z) * outside, shared * outside
    product = (k * same).sum() + k.sum() * same.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ same).sum()
    return product / (n * (n - 3))
