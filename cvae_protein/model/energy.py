"""The energy of backbone geometry that `relax` lowers, for many chains at once.

Chains stand one behind the other as numbers (3, N), without padding: on a CPU that is several times as fast as
(B, L, 3), and what joins one chain to the next has weight 0. Atoms are given as seen from their residue's CA.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .backbone import CA_C, CA_STEP, N_CA, N_CA_C, ideal_cb, length, peptides

REACH = {2: (5.0, 7.2), 3: (4.6, 10.8), 4: (4.6, 14.2)}  # Å, CA distances over k residues that a chain can have
N_TO_C = math.sqrt(N_CA**2 + CA_C**2 - 2 * N_CA * CA_C * math.cos(N_CA_C))  # Å, of one residue with an ideal angle
# Points that repel each other: CA and the middle of a peptide, of residues 3 or more apart, and O and CB, 2 or more.
CA_POINT, PEPTIDE, OXYGEN, SIDE = range(4)
CONTACTS = (  # Å; nearer than this they repel. Peptides keep chains from passing through each other.
    *((CA_POINT, CA_POINT, 4.2), (PEPTIDE, PEPTIDE, 3.8), (CA_POINT, PEPTIDE, 3.8), (PEPTIDE, CA_POINT, 3.8)),
    *((OXYGEN, OXYGEN, 2.6), (SIDE, SIDE, 2.6), (OXYGEN, SIDE, 2.6), (SIDE, OXYGEN, 2.6)),
)
# Centres (phi, psi, degrees) and weights of helix, sheet, polyproline and left-handed helix. Lovell et al. 2003.
BASINS = ((-63, -43, 1.0), (-120, 130, 1.0), (-70, 145, 0.7), (57, 42, 0.05))
CONCENTRATION = 6.0  # of a basin's von Mises density
STRONGEST_BOND = -2.5  # kcal/mol; a stronger hydrogen bond gains nothing
BOND_REACH, BOND_WIDTH = 5.2, 0.4  # Å between O and N, about which a hydrogen bond fades
NEAR = 8.0  # Å; residues whose CA are farther apart do not interact
MARGIN = 1.5  # Å, by which points may come nearer until pairs are looked for again
SECOND_HALF = 0.7  # share of the steps after which overlaps weigh more and hydrogen bonds less


@dataclass(frozen=True, eq=False)
class Chains:
    """The structures before relaxation, and what stays the same in it.

    ca, carbonyl : (3, N) in Å, and unit vectors
    goal : where CA are held, (3, N) in Å
    mask : (B, L), which residues of a padded batch these are
    joined : k -> 1 where residues i and i + k are of one chain, else 0 (N - k,)
    kept : k -> distances in Å of CA over k residues that are kept (N - k,)
    hold : weight of the squared distance of a CA from its goal
    """

    ca: Tensor
    carbonyl: Tensor
    goal: Tensor
    mask: Tensor
    joined: dict[int, Tensor]
    kept: dict[int, Tensor]
    hold: float

    @staticmethod
    def of(ca: Tensor, carbonyl: Tensor, mask: Tensor, hold: float, goal: Tensor | None = None) -> Chains:
        """From CA (B, L, 3) in Å, carbonyl directions (B, L, 3), mask (B, L), and where CA are held: where they are."""
        chain = torch.arange(len(mask), device=mask.device)[:, None].expand_as(mask)[mask]
        joined = {k: (chain[k:] == chain[:-k]).float() for k in (1, *REACH)}
        flat, turn = ca.detach()[mask].T.contiguous(), carbonyl.detach()[mask].T.contiguous()
        held = flat if goal is None else goal.detach()[mask].T.contiguous()
        kept = {k: apart(flat, k).clamp(*reach) for k, reach in REACH.items()}
        return Chains(flat, turn, held, mask, joined, kept, hold)

    @property
    def has_next(self) -> Tensor:
        """Whether a residue has one behind it (N,)."""
        return F.pad(self.joined[1], (0, 1)) > 0

    @property
    def has_previous(self) -> Tensor:
        """Whether a residue has one before it (N,)."""
        return F.pad(self.joined[1], (1, 0)) > 0

    def padded(self, flat: Tensor) -> Tensor:
        """Numbers (3, N) as a batch (B, L, 3), zeros in the padding."""
        batch = flat.new_zeros((*self.mask.shape, 3))
        batch[self.mask] = flat.T
        return batch


def apart(x: Tensor, k: int) -> Tensor:
    """Distances (N - k,) in Å between residues k apart."""
    return length(x[:, k:] - x[:, :-k], 0)


def inner_atoms(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """N, C and O (3, N) as seen from CA; N of a first and C and O of a last residue mean nothing."""
    c, o, n = peptides(x[:, 1:] - x[:, :-1], u[:, :-1], dim=0)
    return F.pad(n, (1, 0)), F.pad(c, (0, 1)), F.pad(o, (0, 1))


def points(x: Tensor, n: Tensor, c: Tensor, o: Tensor) -> Tensor:
    """What repels (3, 4 N): CA, middles of peptides, O and CB, each N in a row."""
    middle = F.pad((x[:, 1:] + x[:, :-1]) / 2, (0, 1))
    return torch.cat([x, middle, x + o, x + ideal_cb(n, torch.zeros_like(n), c, dim=0)], dim=1)


@dataclass(frozen=True, eq=False)
class Pairs:
    """What is near: `first`, `second` (P,) of `points` with their contact distance in Å, and hydrogen bonds (H,)."""

    first: Tensor
    second: Tensor
    contact: Tensor
    acceptor: Tensor
    donor: Tensor

    @staticmethod
    @torch.no_grad()
    def of(x: Tensor, u: Tensor, chains: Chains) -> Pairs:
        """All pairs that may touch, or bond, before some point has moved by half of `MARGIN`."""
        i, j = near_residues(x, chains)
        n, c, o = inner_atoms(x, u)
        spots, has_next, has_previous = points(x, n, c, o), chains.has_next, chains.has_previous
        there = torch.stack([torch.ones_like(has_next), has_next, has_next, has_next & has_previous])
        far = j - i >= 3
        found = []
        for a, b, contact in CONTACTS:
            keep = there[a, i] & there[b, j]
            keep &= far | (a >= OXYGEN)
            first, second = a * x.shape[1] + i[keep], b * x.shape[1] + j[keep]
            close = length(spots[:, first] - spots[:, second], 0) < contact + MARGIN
            found.append((first[close], second[close], torch.full_like(first[close], contact, dtype=x.dtype)))
        first, second, limit = (torch.cat(parts) for parts in zip(*found, strict=True))
        acceptor, donor = torch.cat([i, j]), torch.cat([j, i])
        bond = length((x + o)[:, acceptor] - (x + n)[:, donor], 0) < BOND_REACH + MARGIN
        bond &= has_next[acceptor] & has_previous[donor]  # a first residue has no hydrogen that its chain would place
        return Pairs(first, second, limit, acceptor[bond], donor[bond])


def near_residues(x: Tensor, chains: Chains) -> tuple[Tensor, Tensor]:
    """Residues i and j (P,) of one chain, j - i >= 2, whose CA are nearer than `NEAR`."""
    mask = chains.mask
    ca, place = chains.padded(x), torch.arange(mask.shape[1], device=mask.device)
    found = (torch.cdist(ca, ca) < NEAR) & (place - place[:, None] >= 2) & mask[:, :, None] & mask[:, None]
    chain, i, j = found.nonzero(as_tuple=True)
    begin = (mask.sum(1).cumsum(0) - mask.sum(1))[chain]
    return begin + i, begin + j


def energy(x: Tensor, u: Tensor, chains: Chains, pairs: Pairs, done: float) -> Tensor:
    """What `relax` lowers, summed over all chains; `done` is the share of steps taken."""
    late = done > SECOND_HALF
    n, c, o = inner_atoms(x, u)
    closure = ((apart(x, 1) - CA_STEP).square() * chains.joined[1]).sum()
    angle = ((length(n - c, 0) - N_TO_C).square()[1:-1] * chains.joined[2]).sum()
    local = torch.stack([((apart(x, k) - d).square() * chains.joined[k]).sum() for k, d in chains.kept.items()]).sum()
    moved, turned = (x - chains.goal).square().sum(), (u - chains.carbonyl).square().sum()
    return (
        60 * closure
        + 30 * angle
        + local
        + chains.hold * moved
        + 0.1 * turned
        + (10.0 if late else 2.5) * overlap(points(x, n, c, o), pairs)
        + (1.0 if late else 2.0) * hydrogen_bonds(x, n, c, o, pairs)
        + 3 * (ramachandran(x, n, c) * chains.joined[2]).sum()
    )


def overlap(spots: Tensor, pairs: Pairs) -> Tensor:
    """Squared penetration of `points` (3, 4 N) below their contact distances, in Å²."""
    between = length(spots.index_select(1, pairs.first) - spots.index_select(1, pairs.second), 0)
    return F.relu(pairs.contact - between).square().sum()


def hydrogen_bonds(x: Tensor, n: Tensor, c: Tensor, o: Tensor, pairs: Pairs) -> Tensor:
    """Electrostatic energy of backbone hydrogen bonds in kcal/mol, near pairs alone. Kabsch and Sander 1983, eq. 1."""
    up = (c - o) / length(c - o, 0)
    h = (x + n)[:, 1:] + 1.01 * up[:, :-1]
    carbon, oxygen = ((x + atom).index_select(1, pairs.acceptor) for atom in (c, o))
    nitrogen, hydrogen = (x + n).index_select(1, pairs.donor), h.index_select(1, pairs.donor - 1)
    near = length(oxygen - nitrogen, 0)

    def inverse(a: Tensor, b: Tensor) -> Tensor:
        return 1 / length(a - b, 0).clamp(min=1.0)

    bond = 1 / near.clamp(min=1.0) + inverse(carbon, hydrogen) - inverse(oxygen, hydrogen) - inverse(carbon, nitrogen)
    return ((27.9 * bond).clamp(STRONGEST_BOND, 0) * torch.sigmoid((BOND_REACH - near) / BOND_WIDTH)).sum()


def ramachandran(x: Tensor, n: Tensor, c: Tensor) -> Tensor:
    """Negative log density of phi and psi under a mixture of von Mises basins (N - 2,), in nats a residue."""
    bond = x[:, 1:] + n[:, 1:] - x[:, :-1] - c[:, :-1]  # from C to the next N
    cos_phi, sin_phi = dihedral(bond[:, :-1], -n[:, 1:-1], c[:, 1:-1])
    cos_psi, sin_psi = dihedral(-n[:, 1:-1], c[:, 1:-1], bond[:, 1:])
    basins = []
    for phi, psi, weight in BASINS:
        a, b = math.radians(phi), math.radians(psi)
        near = math.cos(a) * cos_phi + math.sin(a) * sin_phi + math.cos(b) * cos_psi + math.sin(b) * sin_psi - 2
        basins.append(CONCENTRATION * near + math.log(weight))
    return -torch.logsumexp(torch.stack(basins), dim=0)


def dihedral(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the dihedral angle of three successive bonds (3, N); finite slopes where they are in line."""
    first, second = torch.linalg.cross(a, b, dim=0), torch.linalg.cross(b, c, dim=0)
    cosine, sine = (first * second).sum(0), (a * second).sum(0) * length(b, 0)
    size = (cosine.square() + sine.square() + 1e-9).sqrt()
    return cosine / size, sine / size
