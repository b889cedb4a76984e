"""Terms on codes and on decoded traces that may be added to the evidence bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..batch import Batch
from ..cvae import CVAE, Output
from ..priors import Gaussian
from .evidence_bound import Term

FLOOR = 0.5  # standard deviation of a posterior mean over structures; Zhu et al. 2020 use 0.3 to 0.7
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernel, Tolstikhin et al. 2018
LABEL_BLOCK = "fold"  # the block of a code that is meant to know the label


def variance_floor(batch: Batch, output: Output) -> Tensor:
    """How far the standard deviation of the posterior means falls short of 0.5, summed over dimensions.

    The hinge of Bardes et al. 2022 (VICReg) for the purpose of Zhu et al. 2020 (BN-VAE): if the prior is N(0, 1), a
    dimension above the floor has a rate of at least 0.5 * 0.5² nats. Batch normalisation itself would move the codes
    off the principal components with which a model starts, and latent refinement would undo that.
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
    """Discrepancy between the encoded codes and as many draws from the prior. Zhao et al. 2019, "InfoVAE"."""

    def term(batch: Batch, output: Output) -> Tensor:
        return discrepancy(output.z, output.prior.sample(generator).detach())

    return term


def total_correlation(generator: torch.Generator) -> Term:
    """Total correlation of the code's dimensions in nats, by minibatch weights. Chen et al. 2018, "β-TCVAE", eq. S5.

    That estimate is off by (Z - 1) log(domains / batch), and by more if posteriors are narrower than their distances in
    the batch. The same estimate for codes whose dimensions were permuted independently over the batch is off by as
    much, and is subtracted (the permutation is that of Kim and Mnih 2018). Narrow posteriors of many dimensions leave
    the term near 0, whether dependent or not: it can only detect what a batch shows.
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
    """Columns of a code that must not know the label: all but the block `fold`, if there is one."""
    return [c for name, (start, stop) in blocks.items() if name != LABEL_BLOCK for c in range(start, stop)]


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


FARTHEST = 10.0  # Å, at which the error of a point is clamped; Jumper et al. 2021
STEP = 3.8  # Å from CA to CA over a trans peptide
SOFTENING = 1.0  # Å; bounds the term where two traces are the same


def local_frames(ca: Tensor) -> Tensor:
    """Rotations (B, L - 2, 3, 3), axes in columns, for each inner CA of (B, L, 3) and its two neighbours.

    Jumper et al. 2021, supplement, algorithm 21, with the neighbouring CA in place of C and N.
    """
    one = F.normalize(ca[:, 2:] - ca[:, 1:-1], dim=-1)
    back = ca[:, :-2] - ca[:, 1:-1]
    two = F.normalize(back - (back * one).sum(-1, keepdim=True) * one, dim=-1)
    return torch.stack([one, two, torch.linalg.cross(one, two)], dim=-1)


def fape(batch: Batch, output: Output) -> Tensor:
    """Frame-aligned point error of CA, clamped at 10 Å and in units of it, mean over frames and points, in [0, 1].

    Jumper et al. 2021, supplement, algorithm 28. A mirror image has an error, unlike with distances alone.
    """
    seen = [_from_each_frame(trace) for trace in (output.reconstruction, output.target)]
    error = ((seen[0] - seen[1]).square().sum(-1) + 1e-4).sqrt().clamp(max=FARTHEST) / FARTHEST
    frames = batch.mask[:, 2:]  # an inner residue has a frame if the next one exists
    valid = (frames[:, :, None] & batch.mask[:, None]).to(error.dtype)
    return ((error * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)).mean()


def _from_each_frame(ca: Tensor) -> Tensor:
    """Positions of all CA in the frames of the inner residues (B, L - 2, L, 3)."""
    return (ca[:, None] - ca[:, 1:-1, None]) @ local_frames(ca)


def step_length(batch: Batch, output: Output) -> Tensor:
    """Squared deviation of the steps from CA to CA from 3.8 Å, summed over steps, mean over the batch, Å²."""
    lengths = ((output.reconstruction[:, 1:] - output.reconstruction[:, :-1]).square().sum(-1) + 1e-6).sqrt()
    return ((lengths - STEP).square() * batch.mask[:, 1:]).sum(1).mean()


def mode_seeking(model: CVAE) -> Term:
    """How similar traces of two codes are: 1 / (RMSD of the traces / RMS difference of the codes + 1 Å), mean, 1/Å.

    Mao et al. 2019, "MSGAN", equation 4; the second code is the next structure's, label and length are the same.
    """

    def term(batch: Batch, output: Output) -> Tensor:
        z = output.z.roll(1, 0)
        apart = (output.z - z).square().mean(-1).add(1e-6).sqrt()
        return (
            1 / (_rmsd(output.reconstruction, model.decode(z, batch.labels, batch.mask), batch) / apart + SOFTENING)
        ).mean()

    return term


def label_seeking(model: CVAE, generator: torch.Generator) -> Term:
    """How similar traces under different labels are: 1 / (RMSD of the two traces + 1 Å), mean over them, 1/Å.

    Like `mode_seeking`, for one code under its own label and another structure's.
    """

    def term(batch: Batch, output: Output) -> Tensor:
        known = (batch.labels[:, 0] > 0).nonzero()[:, 0]
        labels = batch.labels.clone()
        labels[known] = permuted_labels(batch.labels[known], generator)
        other = (labels != batch.labels).any(-1)
        if not other.any():
            return 0.0 * output.reconstruction.sum()
        apart = _rmsd(output.reconstruction, model.decode(output.z, labels, batch.mask), batch)
        return (1 / (apart[other] + SOFTENING)).mean()

    return term


def permuted_labels(labels: Tensor, generator: torch.Generator) -> Tensor:
    """The labels (N, levels) in random order."""
    return labels[torch.randperm(len(labels), generator=generator).to(labels.device)]


def _rmsd(a: Tensor, b: Tensor, batch: Batch) -> Tensor:
    """RMSD (B,) in Å of traces (B, L, 3) in a common frame."""
    return ((a - b).square().sum((1, 2)) / batch.lengths + 1e-6).sqrt()
