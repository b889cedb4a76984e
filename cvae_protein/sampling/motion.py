"""Conformations of one structure, as far from it as asked for, along what a model and an elastic network find easy.

The model's decoder says which motions keep a chain a protein: those that a change of its code makes. An elastic
network of the structure's contacts says which of them are soft, and `flexibility` which residues move most. Codes are
drawn with the variance that the network's energy gives them, the motions they make are added to the structure itself,
which keeps its details, and the backbone is completed with the structure's own peptide planes and relaxed.
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

STEP = 0.05  # of a code, by which the decoder's derivative is taken
SOFTEST = 1e-3  # of the mean stiffness of a code, below which none is softer
MOST_SCALED = 4.0  # times that a residue's motion is made larger or smaller
WINDOW = 2  # residues on either side that turn with one
SCALED_BY, TRIED = 64, 8  # conformations whose spread decides the amplitude, before relaxation and after it
TOLERANCE = 0.2  # of the spread asked for, beyond which it is said
HOLD = 1.0  # per Å², of each CA to where it was moved; relaxation would move a chain by 1 Å by itself
MOST_CORRECTED = 4.0  # times that motions are made larger or smaller for what relaxation does
SMALLEST_SPREAD, LARGEST_SPREAD = 0.1, 20.0  # Å


def tangent(sampler: Sampler, code: Tensor, labels: Tensor, trace: np.ndarray) -> np.ndarray:
    """How a CA trace (L, 3) moves with each number of its code (1, Z), in Å per unit of it and in its frame: (Z, L, 3).

    Central differences of the decoder, laid on the trace as the decoded one is, less rigid motion.
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
    """Motions (Z, L, 3) that add up independently, and the RMSF (L,) they give, of those (Z, L, 3) a code can make.

    Codes are drawn from exp(-E/2), E the energy of the anisotropic network for the motion they make.
    """
    flat = motions.reshape(len(motions), -1)
    energy = flat @ hessian(trace) @ flat.T
    energy += SOFTEST * np.trace(energy) / len(energy) * np.eye(len(energy))
    stiffness, vectors = np.linalg.eigh(energy)
    soft = (vectors.T @ flat).reshape(motions.shape) / np.sqrt(stiffness)[:, None, None]
    return soft, np.sqrt(np.square(soft).sum(axis=(0, 2)))


def turned(trace: np.ndarray, traces: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Directions (L, 3) at a trace (L, 3), turned as each of `traces` (n, L, 3) turns about its residues: (n, L, 3)."""
    places = np.arange(len(trace))[:, None] + np.arange(-WINDOW, WINDOW + 1)
    places = np.clip(places, 0, len(trace) - 1)
    rotation, _ = superpose(trace[places], traces[:, places])
    return np.einsum("nlij,lj->nli", rotation, directions)


@dataclass(frozen=True, eq=False)
class Motions:
    """A CA trace (L, 3) in Å with its carbonyl directions (L, 3), and motions (Z, L, 3) that add up independently."""

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
    """The motions of the one structure of `domain` that bring it to a mean CA RMSD of `spread` Å after relaxation.

    `profile` (L,) is how much each residue moves relative to others, by default its `flexibility`. `UserError` where
    the spread is beyond what is sensible.
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
    # Relaxation takes from large motions, and moves what is not moved at all: the last one tried.
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
    """The factor of motions of a mean RMSD of `wanted` Å that relaxation leaves it with.

    Relaxation made `found` of it, and `still` of no motion; their squares add.
    """
    square = max(wanted**2 - still**2, 0.0) / max(found**2 - still**2, 1e-9)
    return float(np.clip(np.sqrt(square), 1 / MOST_CORRECTED, MOST_CORRECTED))
