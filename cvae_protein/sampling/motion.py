"""Conformations of one structure at a requested distance, along motions that a model and an elastic network favour.

The model's decoder says which motions keep a chain protein-like: those caused by a change of its code. An elastic
network of the structure's contacts says which of them are soft, and `flexibility` which residues move most. Codes are
drawn with the variance that the network's energy implies, their motions are added to the structure itself, which keeps
its details, and the backbone is completed with the structure's own peptide planes and relaxed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..config.settings import SampleSettings
from ..core.elastic_network import hessian, scale_to, without_rigid_motion
from ..core.errors import UserError
from ..core.geometry import rmsd, superpose
from ..core.progress import say
from ..core.structure import CA
from ..model.batch import DomainSet
from .flexibility import flexibility
from .sampler import Sampler, decode_all, relax_all

STEP = 0.05  # of a code, for the finite differences of the decoder
SOFTEST = 1e-3  # lower limit of stiffness, relative to the mean stiffness of a code
MOST_SCALED = 4.0  # largest factor by which a residue's motion is scaled up or down
WINDOW = 2  # residues on either side that rotate with one
SCALED_BY, TRIED = 64, 8  # conformations whose spread sets the amplitude, before and after relaxation
TOLERANCE = 0.2  # of the requested spread; larger deviations are reported
HOLD = 1.0  # per Å², holds each CA where it was moved; relaxation alone would move a chain by 1 Å
MOST_CORRECTED = 4.0  # largest factor by which motions are scaled to correct for relaxation
SMALLEST_SPREAD, LARGEST_SPREAD = 0.1, 20.0  # Å


def tangent(sampler: Sampler, code: Tensor, labels: Tensor, trace: np.ndarray) -> np.ndarray:
    """Derivative of a CA trace (L, 3) by its code (1, Z), in Å per unit and in the frame of the trace: (Z, L, 3).

    Central differences of the decoder, rotated by the superposition of the decoded trace on this one, minus rigid
    motion.
    """
    size, length = code.shape[1], len(trace)
    steps = STEP * torch.eye(size)
    codes = torch.cat([code, code + steps, code - steps])
    made = decode_all(sampler.model, codes, labels.expand(len(codes), -1), torch.full((len(codes),), length))
    traces = np.stack([one.numpy() for one in made]).astype(np.float64)
    rotation, _ = superpose(traces[0], trace)
    moved = (traces[1 : size + 1] - traces[size + 1 :]) / (2 * STEP) @ rotation.swapaxes(-1, -2)
    return without_rigid_motion(moved, trace)


def soft_motions(trace: np.ndarray, motions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Independent motions (Z, L, 3), and the RMSF (L,) they give, from the motions (Z, L, 3) that a code can make.

    Codes are drawn from exp(-E/2), where E is the energy of the anisotropic network for the resulting motion.
    """
    flat = motions.reshape(len(motions), -1)
    energy = flat @ hessian(trace) @ flat.T
    energy += SOFTEST * np.trace(energy) / len(energy) * np.eye(len(energy))
    stiffness, vectors = np.linalg.eigh(energy)
    soft = (vectors.T @ flat).reshape(motions.shape) / np.sqrt(stiffness)[:, None, None]
    return soft, np.sqrt(np.square(soft).sum(axis=(0, 2)))


def turned(trace: np.ndarray, traces: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Directions (L, 3) at a trace (L, 3), rotated with the surroundings of each residue to `traces` (n, L, 3)."""
    places = np.arange(len(trace))[:, None] + np.arange(-WINDOW, WINDOW + 1)
    places = np.clip(places, 0, len(trace) - 1)
    rotation, _ = superpose(trace[places], traces[:, places])
    return np.einsum("nlij,lj->nli", rotation, directions)


@dataclass(frozen=True, eq=False)
class Motions:
    """A CA trace (L, 3) in Å with its carbonyl directions (L, 3), and independent motions (Z, L, 3)."""

    trace: np.ndarray
    carbonyl: np.ndarray
    soft: np.ndarray

    def draw(self, sampler: Sampler, noise: Tensor, settings: SampleSettings, stage: str) -> list[np.ndarray]:
        """Relaxed conformations (L, 5, 3) in Å for noise (n, Z) of unit variance."""
        traces = self.trace + np.einsum("nz,zli->nli", noise.double().numpy(), self.soft)
        planes = turned(self.trace, traces, self.carbonyl)
        placed, directions = (torch.from_numpy(x).float().to(sampler.device) for x in (traces, planes))
        parts = list(zip(placed, directions, strict=True))
        return relax_all(parts, settings.relax_steps, HOLD, stage, [ca for ca, _ in parts], said=False)


def motions_around(
    sampler: Sampler,
    domain: DomainSet,
    label: str,
    spread: float,
    settings: SampleSettings,
    stage: str,
    profile: np.ndarray | None = None,
) -> Motions:
    """The motions that take the one structure of `domain` to a mean CA RMSD of `spread` Å after relaxation.

    `profile` (L,) is how much each residue moves relative to others, by default its `flexibility`. `UserError` if the
    spread is outside the sensible range.
    """
    if not SMALLEST_SPREAD <= spread <= LARGEST_SPREAD:
        raise UserError(f"spread: expected {SMALLEST_SPREAD} to {LARGEST_SPREAD} Å of RMSD, got {spread}")
    spec = sampler.spec
    batch = domain.batch(spec, [0])
    trace, carbonyl = batch.ca[0].double().numpy(), batch.carbonyl[0].double().numpy()
    code = sampler.model.infer_all(domain, spec.model.inference_steps).mean
    soft, made = soft_motions(trace, tangent(sampler, code, torch.tensor([spec.label_ids(label)]), trace))
    wanted = flexibility(trace) if profile is None else profile
    factor = wanted / made * np.exp(np.log(made).mean() - np.log(wanted).mean())
    soft = soft * np.clip(factor, 1 / MOST_SCALED, MOST_SCALED)[:, None]
    tried = torch.randn(SCALED_BY, len(soft), generator=torch.Generator().manual_seed(0))
    steps = np.einsum("nz,zli->nli", tried.double().numpy(), soft)
    factor = scale_to(trace, steps, spread)
    motions = Motions(trace, carbonyl, soft * factor)
    # Relaxation reduces large motions, and moves even a structure without motion: the last one tried.
    relaxed = motions.draw(sampler, torch.cat([tried[:TRIED], 0 * tried[:1]]), settings, stage)
    before = float(rmsd(trace + factor * steps[:TRIED], trace).mean())
    *after, still = (float(rmsd(one[:, CA], trace)) for one in relaxed)
    corrected = correction(before, float(np.mean(after)), still)
    if still > (1 + TOLERANCE) * spread:
        say("sample", f"{stage}: relaxation alone moves it by {still:.2f} Å, so that {spread:.2f} Å may not be had")
    elif abs(corrected - 1) > TOLERANCE:
        say("sample", f"{stage}: relaxation makes a mean RMSD of {before:.2f} Å one of {np.mean(after):.2f}, corrected")
    return replace(motions, soft=motions.soft * corrected)


def correction(wanted: float, found: float, still: float) -> float:
    """The factor by which to scale motions of a mean RMSD of `wanted` Å so that relaxation preserves that RMSD.

    After relaxation it was `found`, and `still` without motion; their squares add up.
    """
    square = max(wanted**2 - still**2, 0.0) / max(found**2 - still**2, 1e-9)
    return float(np.clip(np.sqrt(square), 1 / MOST_CORRECTED, MOST_CORRECTED))
