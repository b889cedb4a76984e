"""Training of the whole-chain decoder on traces built from the first few principal components."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..config.settings import DecoderSettings, TrainSettings
from ..model.batch import Batch, DomainSet, LengthBuckets, hide_labels, training_batch
from ..model.decoder import ChainDecoder, Coarse, expected_scale
from ..model.representation import PrincipalComponents, center, decode_trace, encode_trace
from ..model.spec import Spec
from .distributed import ALONE, Ranks, shared_noise
from .loop import Losses
from .second_level import fit_components, teacher_of, train_network
from .start import Start

FEWEST_NUMBERS = 4
WHOLE_CODES = 0.25  # share of training structures whose codes keep all their numbers
LARGEST_ERROR, WITHOUT_ERROR = 0.5, 0.23  # of a number of unit spread; share of codes without error
WATCHED = 64  # held-out structures


def coarsen_codes(
    batch: Batch, linear: PrincipalComponents, sigma: float, rng: np.random.Generator, generator: torch.Generator
) -> tuple[Tensor, Tensor, Coarse]:
    """CA positions and carbonyl directions in the chain frame, (B, L, 3) each, and their coarse traces.

    A trace keeps a random number of the leading numbers of the code, with noise of a random amount added to them.
    """
    count, latent = len(batch.mask), linear.decode.in_features
    few = rng.integers(min(FEWEST_NUMBERS, latent), latent + 1, count)
    kept = torch.from_numpy(np.where(rng.random(count) < WHOLE_CODES, latent, few))
    lowest = -LARGEST_ERROR * WITHOUT_ERROR / (1 - WITHOUT_ERROR)
    error = torch.from_numpy(rng.uniform(lowest, LARGEST_ERROR, count).clip(0)).float()
    return coarsen_to(batch, linear, sigma, kept, error, generator)


@torch.no_grad()
def coarsen_to(
    batch: Batch, linear: PrincipalComponents, sigma: float, kept: Tensor, error: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Coarse]:
    """CA and carbonyl directions in the chain frame, and traces of the first `kept` scores with noise `error` (B,).

    `sigma` in Å is the residual per coordinate if all scores are kept.
    """
    coefficients, frame = encode_trace(batch.ca, batch.mask, linear.center.numel() // 3)
    scores = linear.encode(coefficients.flatten(1) - linear.center)
    scores = scores + error[:, None] * torch.randn(scores.shape, generator=generator)
    flat = linear.center + linear.decode(scores * (torch.arange(scores.shape[1]) < kept[:, None]))
    trace = decode_trace(flat.view_as(coefficients), batch.lengths, batch.mask.shape[1])
    scale = expected_scale(linear.power, sigma, kept, error)
    coarse = Coarse(trace, batch.mask, kept, error, scale, batch.labels)
    return center(batch.ca, batch.mask) @ frame, batch.carbonyl @ frame, coarse


def left_out(domains: DomainSet, spec: Spec, linear: PrincipalComponents) -> float:
    """Root mean square residual in Å, per coordinate, of CA traces of whole domains rebuilt from all scores."""
    squares, residues = 0.0, 0
    for start in range(0, len(domains), 256):
        batch = domains.batch(spec, range(start, min(start + 256, len(domains))))
        coefficients, frame = encode_trace(batch.ca, batch.mask, spec.model.coefficients)
        with torch.no_grad():
            flat = linear.center + linear.decode(linear.encode(coefficients.flatten(1) - linear.center))
        trace = decode_trace(flat.view_as(coefficients), batch.lengths, batch.mask.shape[1])
        squares += float((center(batch.ca, batch.mask) @ frame - trace).square().sum())
        residues += int(batch.lengths.sum())
    return (squares / (3 * residues)) ** 0.5


def train_decoder(
    spec: Spec,
    by_split: dict[str, DomainSet],
    settings: TrainSettings,
    ranks: Ranks,
    checkpoint: Path | None,
    device: torch.device,
    begun: Start | None,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Train the decoder; returns its weights and history. `begun` holds the weights to start from, if any."""
    own, whole = cast(DecoderSettings, spec.refine), by_split["train"]
    domains = whole.with_crops_of(by_split.get("crops"))
    generator, rng = torch.Generator().manual_seed(spec.seed), np.random.default_rng(spec.seed)
    net = ChainDecoder(spec).to(device)
    teacher = teacher_of(net, own.distilled, begun, spec.variant)
    linear = fit_components(whole, spec, spec.model.latent)
    sigma = left_out(whole, spec, linear)
    held_out = by_split.get("validation", whole)
    held_out = held_out.take(np.random.default_rng(0).permutation(len(held_out))[:WATCHED])

    def buckets(members: DomainSet, rng: np.random.Generator, pool: int) -> LengthBuckets:
        chance = members.weights / members.weights.sum()
        return LengthBuckets(members.lengths, chance, own.batch_size, own.crop, pool, rng, own.longest)

    drawn = buckets(domains, rng, settings.bucket)

    def loss_of(
        members: DomainSet, crops: np.ndarray, rng: np.random.Generator, generator: torch.Generator, ranks: Ranks
    ) -> tuple[dict[str, tuple[Tensor, float]], float]:
        """The loss terms of this process's structures, and the share of all structures that these are."""
        batch = training_batch(members, spec, crops, 0.0, rng)
        labelled = Batch(batch.coords, batch.mask, hide_labels(batch.labels, own.label_dropout, rng))
        ca, carbonyl, coarse = coarsen_codes(labelled, linear, sigma, rng, generator)

        def here(value: Tensor) -> Tensor:
            return value[ranks.rows].to(device)

        with shared_noise(ranks, generator, len(ca)):
            given = coarse.apply(here)
            if teacher is not None:
                terms = {"flow": (net.distillation_loss(teacher, given, generator), 1.0)}
            else:
                terms = net.loss(here(ca), here(carbonyl), given, generator)
        return terms, len(ca[ranks.rows]) / len(ca)

    def losses(step: int, ranks: Ranks) -> tuple[Losses, float]:
        return loss_of(domains, drawn.draw(), rng, generator, ranks)

    def watch() -> dict[str, float]:
        fixed, noise = np.random.default_rng(0), torch.Generator().manual_seed(0)
        found = []
        for rows in np.array_split(np.argsort(held_out.lengths), max(1, len(held_out) // own.batch_size)):
            lengths = held_out.lengths[rows]
            crops = np.stack([rows, np.zeros_like(rows), np.minimum(lengths, own.longest)], axis=1)
            terms, _ = loss_of(held_out, crops, fixed, noise, ALONE)
            found.append({name: value.item() for name, (value, _) in terms.items()})
        return {f"validation_{name}": float(np.mean([terms[name] for terms in found])) for name in found[0]}

    return train_network(net, spec, by_split, losses, watch, settings, ranks, checkpoint, generator, rng, begun, drawn)
