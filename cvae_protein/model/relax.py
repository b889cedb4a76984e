"""Relaxation: descent on a small energy of backbone geometry, so that a modelled chain closes and its atoms part.

Variables are the CA positions and the turn of each peptide; bonds and peptide angles are ideal by construction
(`backbone`). Nothing here knows the fold asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .backbone import CA_C, CA_STEP, N_CA, N_CA_C, build_backbone

REACH = {2: (5.0, 7.2), 3: (4.6, 10.8), 4: (4.6, 14.2)}  # Å, CA distances over k residues that a chain can have
N_TO_C = math.sqrt(N_CA**2 + CA_C**2 - 2 * N_CA * CA_C * math.cos(N_CA_C))  # Å, of one residue with an ideal angle
CA_CONTACT, ATOM_CONTACT = 4.2, 2.6  # Å; nearer, CA of residues 3 or more apart, and O or CB 2 or more apart, repel
# Centres (phi, psi, degrees) and weights of helix, sheet, polyproline and left-handed helix. Lovell et al. 2003.
BASINS = ((-63, -43, 1.0), (-120, 130, 1.0), (-70, 145, 0.7), (57, 42, 0.05))
CONCENTRATION = 6.0  # of a basin's von Mises density
Pairs = tuple[Tensor, ...]  # structure, residue i, residue j: one number each a pair
STRONGEST_BOND = -2.5  # kcal/mol; a stronger hydrogen bond gains nothing
NEAR, SEARCH_EVERY = 8.0, 20  # Å and steps: pairs whose CA are nearer interact, and are looked for again
FREE, HELD = 0.01, 2.0  # weight of the squared way of a CA: for a sample, and for a reconstruction
SECOND_HALF = 0.6  # share of the steps after which overlaps weigh more and hydrogen bonds less


def relax(ca: Tensor, carbonyl: Tensor, mask: Tensor, steps: int, hold: float = FREE) -> tuple[Tensor, Tensor]:
    """CA positions in Å and carbonyl directions, (B, L, 3) each, after `steps` of descent; 0 steps change nothing.

    `hold` is the weight of the squared distance in Å² by which a CA has moved.
    """
    if not steps:
        return ca, carbonyl
    start = Start.of(ca, carbonyl, mask, hold)
    x = ca.detach().clone().requires_grad_(True)
    u = carbonyl.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([x, u])
    with torch.enable_grad():
        for step in range(steps):
            done = step / steps
            optimizer.param_groups[0]["lr"] = 0.2 * (1 - done) + 0.003
            optimizer.zero_grad()
            if step % SEARCH_EVERY == 0:
                pairs = near_pairs(x.detach(), mask)
            energy(x, u, start, pairs, done).backward()
            optimizer.step()
    return x.detach(), F.normalize(u.detach(), dim=-1)


@dataclass(frozen=True, eq=False)
class Start:
    """The structure before relaxation, and which of its distances are kept: CA over 2, 3 and 4 residues."""

    ca: Tensor
    carbonyl: Tensor
    mask: Tensor
    kept: dict[int, Tensor]
    hold: float

    @staticmethod
    def of(ca: Tensor, carbonyl: Tensor, mask: Tensor, hold: float) -> Start:
        """From CA (B, L, 3) in Å, carbonyl directions (B, L, 3), mask (B, L) and the weight that holds CA in place."""
        ca, carbonyl = ca.detach(), carbonyl.detach()
        return Start(ca, carbonyl, mask, {k: apart(ca, k).clamp(*reach) for k, reach in REACH.items()}, hold)


def energy(x: Tensor, u: Tensor, start: Start, pairs: Pairs, done: float) -> Tensor:
    """What `relax` lowers, summed over the batch; `done` is the share of steps taken."""
    mask, late = start.mask, done > SECOND_HALF
    atoms = build_backbone(x, u, mask.sum(1))
    closure = ((apart(x, 1) - CA_STEP).square() * mask[:, 1:]).sum()
    n_to_c = (atoms[:, 1:-1, 0] - atoms[:, 1:-1, 2]).norm(dim=-1)
    angle = ((n_to_c - N_TO_C).square() * mask[:, 2:]).sum()
    local = torch.stack([((apart(x, k) - d).square() * mask[:, k:]).sum() for k, d in start.kept.items()]).sum()
    moved = ((x - start.ca).square().sum(-1) * mask).sum()
    turned = ((u - start.carbonyl).square().sum(-1) * mask).sum()
    return (
        40 * closure
        + 30 * angle
        + local
        + start.hold * moved
        + 0.5 * turned
        + (10.0 if late else 2.5) * overlap(atoms, pairs)
        + (0.3 if late else 1.0) * hydrogen_bonds(atoms, pairs)
        + ramachandran(atoms, mask)
    )


def apart(x: Tensor, k: int) -> Tensor:
    """Distances (B, L - k) in Å between residues k apart."""
    return (x[:, k:] - x[:, :-k]).norm(dim=-1)


def near_pairs(ca: Tensor, mask: Tensor) -> Pairs:
    """Structure, residue i and residue j of all pairs with j - i >= 2 whose CA (B, L, 3) are nearer than `NEAR`."""
    place = torch.arange(mask.shape[1], device=mask.device)
    near = torch.cdist(ca, ca) < NEAR
    found = near & mask[:, :, None] & mask[:, None] & (place - place[:, None] >= 2)
    return found.nonzero(as_tuple=True)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Distances in Å of points (..., 3), with a gradient that is finite at 0."""
    return ((a - b).square().sum(-1) + 1e-9).sqrt()


def overlap(atoms: Tensor, pairs: Pairs) -> Tensor:
    """Squared penetration of CA 3 or more residues apart, and of O and CB, below their contact distances, in Å²."""
    structure, i, j = pairs
    first, second = atoms[structure, i], atoms[structure, j]
    ca = F.relu(CA_CONTACT - distance(first[:, 1], second[:, 1])).square() * (j - i >= 3)
    sides = distance(first[:, [3, 4, 3, 4]], second[:, [3, 4, 4, 3]])
    return ca.sum() + F.relu(ATOM_CONTACT - sides).square().sum()


def hydrogen_bonds(atoms: Tensor, pairs: Pairs) -> Tensor:
    """Electrostatic energy of backbone hydrogen bonds in kcal/mol, near pairs alone. Kabsch and Sander 1983, eq. 1."""
    structure = torch.cat([pairs[0], pairs[0]])
    acceptor, donor = torch.cat([pairs[1], pairs[2]]), torch.cat([pairs[2], pairs[1]])
    inner = donor > 0  # the first residue has no hydrogen that its chain would place
    structure, acceptor, donor = structure[inner], acceptor[inner], donor[inner]
    c, o = atoms[structure, acceptor, 2], atoms[structure, acceptor, 3]
    n = atoms[structure, donor, 0]
    h = n + 1.01 * F.normalize(atoms[structure, donor - 1, 2] - atoms[structure, donor - 1, 3], dim=-1)
    near = distance(o, n)

    def inverse(a: Tensor, b: Tensor) -> Tensor:
        return 1 / distance(a, b).clamp(min=1.0)

    bond = 27.9 * (1 / near.clamp(min=1.0) + inverse(c, h) - inverse(o, h) - inverse(c, n))
    return (bond.clamp(STRONGEST_BOND, 0) * torch.sigmoid((5.2 - near) / 0.4)).sum()


def ramachandran(atoms: Tensor, mask: Tensor) -> Tensor:
    """Negative log density of phi and psi under a mixture of von Mises basins, summed over inner residues, in nats."""
    n, ca, c = atoms[:, :, 0], atoms[:, :, 1], atoms[:, :, 2]
    phi = dihedral(c[:, :-2], n[:, 1:-1], ca[:, 1:-1], c[:, 1:-1])
    psi = dihedral(n[:, 1:-1], ca[:, 1:-1], c[:, 1:-1], n[:, 2:])
    basins = torch.tensor(BASINS, device=atoms.device)
    near = torch.cos(phi[..., None] - basins[:, 0].deg2rad()) + torch.cos(psi[..., None] - basins[:, 1].deg2rad()) - 2
    return -(torch.logsumexp(CONCENTRATION * near + basins[:, 2].log(), dim=-1) * mask[:, 2:]).sum()


def dihedral(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Dihedral angle a-b-c-d in radians of points (..., 3); finite gradients where the points coincide."""
    axis = F.normalize(c - b, dim=-1, eps=1e-6)
    before, after = a - b, d - c
    v = before - (before * axis).sum(-1, keepdim=True) * axis
    w = after - (after * axis).sum(-1, keepdim=True) * axis
    return torch.atan2((torch.linalg.cross(axis, v) * w).sum(-1) + 1e-9, (v * w).sum(-1) + 1e-9)
