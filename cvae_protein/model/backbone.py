"""From CA positions and carbonyl directions to a full backbone whose peptides are ideal.

Between two CA atoms 3.80 Å apart lies one planar trans peptide; only its turn about the CA-CA axis is free, and the
carbonyl direction gives it. So all bonds and the angles CA-C-N and C-N-CA are ideal by construction where the CA steps
are; the angle N-CA-C follows from trace and turns and is what the relaxation tends.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Engh and Huber 2001, Å and degrees
N_CA, CA_C, C_N, C_O = 1.458, 1.525, 1.329, 1.231
CA_C_N, C_N_CA, CA_C_O = math.radians(117.2), math.radians(121.7), math.radians(120.1)
N_CA_C = math.radians(111.0)
CB_N, CB_C, CB_ACROSS = -0.56802827, -0.54067466, -0.58273431  # CB as N, C and C x N, all seen from CA; L-alanine
PHI, PSI = math.radians(-65.0), math.radians(140.0)  # of the two residues that lack a neighbour


def _peptide_plane() -> tuple[float, list[float], list[float], list[float]]:
    """CA-CA distance of a trans peptide, and C, O (from the first CA) and N (from the second) in its plane.

    The first axis runs from CA to CA, the second to the side of O.
    """
    c = torch.tensor([CA_C, 0.0], dtype=torch.double)
    turn = math.pi - CA_C_N
    n = c + C_N * torch.tensor([math.cos(turn), -math.sin(turn)], dtype=torch.double)
    turn -= math.pi - C_N_CA
    ca = n + N_CA * torch.tensor([math.cos(turn), -math.sin(turn)], dtype=torch.double)
    bend = math.pi - CA_C_O
    o = c + C_O * torch.tensor([math.cos(bend), math.sin(bend)], dtype=torch.double)
    axis = ca / ca.norm()
    basis = torch.stack([axis, torch.stack([-axis[1], axis[0]])])
    return float(ca.norm()), (basis @ c).tolist(), (basis @ o).tolist(), (basis @ (n - ca)).tolist()


CA_STEP, PEPTIDE_C, PEPTIDE_O, PEPTIDE_N = _peptide_plane()


def place(a: Tensor, b: Tensor, c: Tensor, bond: float, angle: float, dihedral: float) -> Tensor:
    """The atom d bound to `c` with |cd| = bond, angle b-c-d and dihedral a-b-c-d in radians; points (..., 3)."""
    axis = F.normalize(c - b, dim=-1)
    normal = F.normalize(torch.linalg.cross(b - a, axis), dim=-1)
    side = torch.linalg.cross(normal, axis)
    along = -math.cos(angle) * axis
    across = math.sin(angle) * (math.cos(dihedral) * side + math.sin(dihedral) * normal)
    return c + bond * (along + across)


def length(v: Tensor, dim: int = -1) -> Tensor:
    """Lengths in Å of vectors along `dim`, with a finite gradient at 0; on a CPU ten times as fast as `norm`."""
    return (v.square().sum(dim) + 1e-9).sqrt()


def ideal_cb(n: Tensor, ca: Tensor, c: Tensor, dim: int = -1) -> Tensor:
    """CB of an L-residue from N, CA, C with x, y, z along `dim`, by the mean tetrahedral geometry of alanine."""
    first, second = n - ca, c - ca
    return ca + CB_N * first + CB_C * second + CB_ACROSS * torch.linalg.cross(second, first, dim=dim)


def peptides(step: Tensor, carbonyl: Tensor, dim: int = -1) -> tuple[Tensor, Tensor, Tensor]:
    """C and O of ideal peptides as seen from the CA before, and N as seen from the CA behind, in Å.

    `step` are the vectors from CA to CA, `carbonyl` the directions that turn each peptide, with x, y, z along `dim`.
    """
    axis = step / length(step, dim).unsqueeze(dim)
    side = carbonyl - (carbonyl * axis).sum(dim, keepdim=True) * axis
    side = side / length(side, dim).unsqueeze(dim)
    c, o, n = (place[0] * axis + place[1] * side for place in (PEPTIDE_C, PEPTIDE_O, PEPTIDE_N))
    return c, o, n


def build_backbone(ca: Tensor, carbonyl: Tensor, lengths: Tensor) -> Tensor:
    """N, CA, C, O, CB (B, L, 5, 3) in Å from CA (B, L, 3) and carbonyl directions (B, L, 3); the padding is zero.

    The last carbonyl direction of a chain is not used; the ends without a neighbour get fixed torsions.
    """
    c, o, n = peptides(ca[:, 1:] - ca[:, :-1], carbonyl[:, :-1])
    c, o, n = ca[:, :-1] + c, ca[:, :-1] + o, ca[:, 1:] + n
    first_n = place(n[:, 0], c[:, 0], ca[:, 0], N_CA, N_CA_C, PSI)[:, None]
    n = torch.cat([first_n, n], dim=1)
    c, o = F.pad(c, (0, 0, 0, 1)), F.pad(o, (0, 0, 0, 1))
    rows, last = torch.arange(len(ca), device=ca.device), lengths - 1
    end_n, end_ca = n[rows, last], ca[rows, last]
    end_c = place(c[rows, last - 1], end_n, end_ca, CA_C, N_CA_C, PHI)
    end_o = place(end_n, end_ca, end_c, C_O, CA_C_O, PSI - math.pi)
    at_end = torch.arange(ca.shape[1], device=ca.device) == last[:, None]
    c = torch.where(at_end[..., None], end_c[:, None], c)
    o = torch.where(at_end[..., None], end_o[:, None], o)
    atoms = torch.stack([n, ca, c, o, ideal_cb(n, ca, c)], dim=2)
    inside = torch.arange(ca.shape[1], device=ca.device) < lengths[:, None]
    return torch.where(inside[..., None, None], atoms, 0.0)
