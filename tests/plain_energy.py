"""The energy of relaxation in its plain form, for autograd: what the slopes written out in the package are held to."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cvae_protein.sampling import relax as e
from cvae_protein.sampling.relax import CA_STEP, Chains, Pairs, ideal_cb, length, peptides


def inner_atoms(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """N, C and O (3, N) as seen from CA; N of a first and C and O of a last residue mean nothing."""
    c, o, n = (atom.T for atom in peptides((x[:, 1:] - x[:, :-1]).T, u[:, :-1].T))
    return F.pad(n, (1, 0)), F.pad(c, (0, 1)), F.pad(o, (0, 1))


def points(x: Tensor, n: Tensor, c: Tensor, o: Tensor) -> Tensor:
    """CA, CB, C, O, N, H and middles of peptides (7, 3, N), N, C and O given as seen from CA."""
    middle = F.pad((x[:, 1:] + x[:, :-1]) / 2, (0, 1))
    up = F.normalize(c - o, dim=0)
    h = n + 1.01 * F.pad(up[:, :-1], (1, 0))
    cb = ideal_cb(n.T, torch.zeros_like(n.T), c.T).T
    return torch.stack([x, x + cb, x + c, x + o, x + n, x + h, middle])


def energy(x: Tensor, u: Tensor, chains: Chains, pairs: Pairs, done: float) -> Tensor:
    """What `relax` lowers, summed over all chains; `done` is the share of steps taken."""
    late = done > 0.7
    n, c, o = inner_atoms(x, u)
    spots = points(x, n, c, o)
    distances = torch.stack([F.pad(length(x[:, k:] - x[:, :-k], 0), (0, k), value=CA_STEP) for k in (1, 2, 3, 4)])
    return (
        (chains.stiffness * (distances - chains.kept).square()).sum()
        + 30 * (chains.inner * (length(n - c, 0) - e.N_TO_C).square()).sum()
        + chains.hold * (x - chains.goal).square().sum()
        + 0.1 * (u - chains.carbonyl).square().sum()
        + (10.0 if late else 2.5) * overlap(spots, pairs)
        + (1.0 if late else 2.0) * hydrogen_bonds(spots, pairs)
        + 3 * (ramachandran(x, n, c) * chains.inner[1:-1]).sum()
    )


def overlap(spots: Tensor, pairs: Pairs) -> Tensor:
    """Squared penetration of `points` (7, 3, N) below their contact distances, in Å²."""
    first, second = spots.flatten()[pairs.contacts]
    return F.relu(pairs.limit - length(first - second, 0)).square().sum()


def hydrogen_bonds(spots: Tensor, pairs: Pairs) -> Tensor:
    """Electrostatic energy of backbone hydrogen bonds in kcal/mol, near pairs alone. Kabsch and Sander 1983, eq. 1."""
    oxygen, carbon, nitrogen, hydrogen = spots.flatten()[pairs.bonds]

    def inverse(a: Tensor, b: Tensor) -> Tensor:
        apart = length(a - b, 0)
        return torch.where(apart > 1, 1 / apart, (3 - apart.square()) / 2)

    bond = inverse(oxygen, nitrogen) + inverse(carbon, hydrogen) - inverse(oxygen, hydrogen) - inverse(carbon, nitrogen)
    fade = torch.sigmoid((e.BOND_REACH - length(oxygen - nitrogen, 0)) / e.BOND_WIDTH)
    return ((0.42 * 0.20 * 332 * bond).clamp(e.STRONGEST_BOND, 0) * fade).sum()


def ramachandran(x: Tensor, n: Tensor, c: Tensor) -> Tensor:
    """Negative log density of phi and psi under a mixture of von Mises basins (N - 2,), in nats a residue."""
    bond = x[:, 1:] + n[:, 1:] - x[:, :-1] - c[:, :-1]  # from C to the next N
    cos_phi, sin_phi = dihedral(bond[:, :-1], -n[:, 1:-1], c[:, 1:-1])
    cos_psi, sin_psi = dihedral(-n[:, 1:-1], c[:, 1:-1], bond[:, 1:])
    basins = []
    for phi, psi, weight in e.BASINS:
        a, b = math.radians(phi), math.radians(psi)
        near = math.cos(a) * cos_phi + math.sin(a) * sin_phi + math.cos(b) * cos_psi + math.sin(b) * sin_psi
        basins.append(e.CONCENTRATION * near + math.log(weight))
    return -torch.logsumexp(torch.stack(basins), dim=0)


def dihedral(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the dihedral angle of three successive bonds (3, N)."""
    first, second = torch.linalg.cross(a, b, dim=0), torch.linalg.cross(b, c, dim=0)
    cosine, sine = (first * second).sum(0), (a * second).sum(0) * length(b, 0)
    size = (cosine.square() + sine.square() + 1e-9).sqrt()
    return cosine / size, sine / size
