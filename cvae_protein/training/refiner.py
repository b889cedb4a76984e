"""Training of the refiner on coarsened traces."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..config.settings import RefineSettings, TrainSettings
from ..model.batch import Batch, DomainSet, crop, training_batch
from ..model.refiner import Refiner, random_rotations
from ..model.representation import PrincipalComponents, center, decode_trace, encode_trace
from ..model.spec import Spec
from .distributed import ALONE, Ranks, shared_noise
from .loop import Losses
from .second_level import fit_components, teacher_of, train_network
from .start import Start

FEWEST_COMPONENTS = 12
LARGEST_JITTER = 0.3  # of a score whose variance over domains is 1


@torch.no_grad()
def coarsen(
    batch: Batch, linear: PrincipalComponents, count: int, rng: np.random.Generator, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """CA positions and carbonyl directions in the chain frame, and traces like those a model decodes, (B, L, 3) each.

    A trace keeps a random number of principal components, its scores are jittered, and a random share of what the
    components leave out is added, since a decoder may have guessed some of it.
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


WINDOWS_WATCHED = 64  # of held-out domains, to validate the refiner


def train_refiner(
    spec: Spec,
    by_split: dict[str, DomainSet],
    settings: TrainSettings,
    ranks: Ranks,
    checkpoint: Path | None,
    device: torch.device,
    begun: Start | None,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Train the refiner; returns its weights and history. `begun` holds the weights to start from, if any."""
    refine, whole = cast(RefineSettings, spec.refine), by_split["train"]
    domains, longest = whole.with_crops_of(by_split.get("crops")), int(whole.lengths.max())
    generator, rng = torch.Generator().manual_seed(spec.seed), np.random.default_rng(spec.seed)
    net = Refiner(refine).to(device)
    teacher = teacher_of(net, refine.distilled, begun, spec.variant)
    linear = fit_components(whole, spec, 3 * spec.model.coefficients)
    held_out = by_split.get("validation", whole)
    chance = domains.weights * domains.lengths
    chance /= chance.sum()

    def loss_of(
        members: DomainSet, rows: np.ndarray, rng: np.random.Generator, generator: torch.Generator, ranks: Ranks
    ) -> tuple[Tensor, float]:
        """The loss of this process's windows, and their share of all residues."""
        crops = np.stack([rows, *crop(members.lengths[rows], 0.0, rng, longest)], axis=1)
        batch = training_batch(members, spec, crops, 0.0, rng)
        ca, carbonyl, trace = coarsen(batch, linear, spec.model.coefficients, rng, generator)
        turn = random_rotations(len(ca), generator)
        parts = (ca @ turn, carbonyl @ turn, trace @ turn)
        *windows, mask = crop_windows(*parts, batch.mask, refine.crop, rng)
        own, turned = mask[ranks.rows], [window[ranks.rows].to(device) for window in windows]
        with shared_noise(ranks, generator, len(mask)):
            if teacher is not None:
                loss = net.distillation_loss(teacher, turned[2], own.to(device), generator)
            else:
                loss = net.loss(turned[0], turned[1], turned[2], own.to(device), generator)
        return loss, float(own.sum() / mask.sum())

    def losses(step: int, ranks: Ranks) -> tuple[Losses, float]:
        loss, share = loss_of(domains, rng.choice(len(domains), refine.batch_size, p=chance), rng, generator, ranks)
        return {"flow": (loss, 1.0)}, share

    def watch() -> dict[str, float]:
        fixed = np.random.default_rng(0)
        rows = fixed.permutation(len(held_out))[:WINDOWS_WATCHED]
        loss, _ = loss_of(held_out, rows, fixed, torch.Generator().manual_seed(0), ALONE)
        return {"validation_flow": loss.item()}

    return train_network(net, spec, by_split, losses, watch, settings, ranks, checkpoint, generator, rng, begun)
