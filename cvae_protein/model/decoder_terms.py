"""Terms on the decoded trace: its geometry, and whether the decoder heeds code and label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .batch import Batch
from .cvae import CVAE, Output
from .losses.critics import LabelCritic, judged, label_loss
from .losses.evidence_bound import Term

FARTHEST = 10.0  # Å, at which the error of a point no longer counts for more; Jumper et al. 2021
STEP = 3.8  # Å from CA to CA over a trans peptide
SPANS = (2, 3, 4, 5, 6, 8, 10, 15)  # residues, of the distances by which a class is told
SOFTENING = 1.0  # Å; bounds the term where two traces are the same


def local_frames(ca: Tensor) -> Tensor:
    """Rotations (B, L - 2, 3, 3), axes in columns, of each inner CA of (B, L, 3) with its two neighbours.

    Jumper et al. 2021, supplement, algorithm 21, with the neighbouring CA in place of C and N.
    """
    one = F.normalize(ca[:, 2:] - ca[:, 1:-1], dim=-1)
    back = ca[:, :-2] - ca[:, 1:-1]
    two = F.normalize(back - (back * one).sum(-1, keepdim=True) * one, dim=-1)
    return torch.stack([one, two, torch.linalg.cross(one, two)], dim=-1)


def fape(batch: Batch, output: Output) -> Tensor:
    """Frame-aligned point error of CA, clamped at 10 Å and in units of it, mean over frames and points, in [0, 1].

    Jumper et al. 2021, supplement, algorithm 28. A mirror image has an error, as it has not by distances alone.
    """
    seen = [_from_each_frame(trace) for trace in (output.reconstruction, output.target)]
    error = ((seen[0] - seen[1]).square().sum(-1) + 1e-4).sqrt().clamp(max=FARTHEST) / FARTHEST
    frames = batch.mask[:, 2:]  # an inner residue has a frame where the one behind it is there
    valid = (frames[:, :, None] & batch.mask[:, None]).to(error.dtype)
    return ((error * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)).mean()


def _from_each_frame(ca: Tensor) -> Tensor:
    """Positions of all CA as the inner residues see them (B, L - 2, L, 3)."""
    return (ca[:, None] - ca[:, 1:-1, None]) @ local_frames(ca)


def step_length(batch: Batch, output: Output) -> Tensor:
    """Squared deviation of the steps from CA to CA from 3.8 Å, summed over steps, mean over the batch, Å²."""
    lengths = ((output.reconstruction[:, 1:] - output.reconstruction[:, :-1]).square().sum(-1) + 1e-6).sqrt()
    return ((lengths - STEP).square() * batch.mask[:, 1:]).sum(1).mean()


def profile(ca: Tensor, mask: Tensor) -> Tensor:
    """What a label critic sees of traces (B, L, 3): mean and spread of the distances over `SPANS` steps, in 10 Å.

    They tell helix from strand, whatever the frame: (B, 2 spans). A linear probe of them tells the class of 84 % of
    held-out domains, one of cosine coefficients of 39 % (means over three classes).
    """
    columns = []
    for span in SPANS:
        valid = mask[:, span:]
        count = valid.sum(1).clamp(min=1)
        distances = ((ca[:, span:] - ca[:, :-span]).square().sum(-1) + 1e-6).sqrt() * valid / 10
        mean = distances.sum(1) / count
        spread = ((distances - mean[:, None]).square() * valid).sum(1) / count
        columns += [mean, (spread + 1e-6).sqrt()]
    return torch.stack(columns, dim=-1)


def tell_trace(critic: LabelCritic) -> Term:
    """The critic learns to tell the label from real traces, in nats a structure."""

    def term(batch: Batch, output: Output) -> Tensor:
        return label_loss(critic(profile(output.target, batch.mask)), batch.labels)

    return term


def obey_label(model: CVAE, critic: LabelCritic, generator: torch.Generator) -> Term:
    """Cross-entropy of the label that a trace was decoded under, another structure's, by the critic; moves the decoder.

    Hu et al. 2017, "Toward Controlled Generation of Text", equation 6; codes are those of the batch, detached.
    """

    def term(batch: Batch, output: Output) -> Tensor:
        known = batch.labels[:, 0] > 0
        if not known.any():
            return 0.0 * output.reconstruction.sum()
        labels, mask = _others(batch.labels[known], generator), batch.mask[known]
        trace = model.decode(output.z[known].detach(), labels, mask)
        return label_loss(judged(critic, profile(trace, mask)), labels)

    return term


def mode_seeking(model: CVAE) -> Term:
    """How alike traces are for the codes that differ: 1 / (RMSD of two traces / RMS of two codes + 1 Å), mean, 1/Å.

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
    """How alike traces are for labels that differ: 1 / (RMSD of the two traces + 1 Å), mean over them, 1/Å.

    As `mode_seeking`, between the own label and another structure's, of one code.
    """

    def term(batch: Batch, output: Output) -> Tensor:
        known = (batch.labels[:, 0] > 0).nonzero()[:, 0]
        labels = batch.labels.clone()
        labels[known] = _others(batch.labels[known], generator)
        other = (labels != batch.labels).any(-1)
        if not other.any():
            return 0.0 * output.reconstruction.sum()
        apart = _rmsd(output.reconstruction, model.decode(output.z, labels, batch.mask), batch)
        return (1 / (apart[other] + SOFTENING)).mean()

    return term


def _others(labels: Tensor, generator: torch.Generator) -> Tensor:
    """The labels (N, levels) in random order."""
    return labels[torch.randperm(len(labels), generator=generator).to(labels.device)]


def _rmsd(a: Tensor, b: Tensor, batch: Batch) -> Tensor:
    """RMSD in Å of traces (B, L, 3) that lie in one frame (B,)."""
    return ((a - b).square().sum((1, 2)) / batch.lengths + 1e-6).sqrt()
