"""From CA positions and carbonyl directions to a full backbone whose peptides are ideal, and its relaxation.

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
REACH = {2: (5.0, 7.2), 3: (4.6, 10.8), 4: (4.6, 14.2)}  # Å, CA distances over k residues that a chain can have
PHI, PSI = math.radians(-65.0), math.radians(140.0)  # of the two residues that lack a neighbour


def _peptide_plane() -> tuple[float, Tensor, Tensor, Tensor]:
    """CA-CA distance of a trans peptide, and C, O (from the first CA) and N (from the second) in its plane (2,).

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
    return float(ca.norm()), (basis @ c).float(), (basis @ o).float(), (basis @ (n - ca)).float()


CA_STEP, _C, _O, _N = _peptide_plane()


def place(a: Tensor, b: Tensor, c: Tensor, bond: float, angle: float, dihedral: float) -> Tensor:
    """The atom d bound to `c` with |cd| = bond, angle b-c-d and dihedral a-b-c-d in radians; points (..., 3)."""
    axis = F.normalize(c - b, dim=-1)
    normal = F.normalize(torch.linalg.cross(b - a, axis), dim=-1)
    side = torch.linalg.cross(normal, axis)
    along = -math.cos(angle) * axis
    across = math.sin(angle) * (math.cos(dihedral) * side + math.sin(dihedral) * normal)
    return c + bond * (along + across)


def ideal_cb(n: Tensor, ca: Tensor, c: Tensor) -> Tensor:
    """CB of an L-residue from N, CA, C (..., 3), by the mean tetrahedral geometry of alanine."""
    first, second = ca - n, c - ca
    return ca - 0.58273431 * torch.linalg.cross(first, second) + 0.56802827 * first - 0.54067466 * second


def build_backbone(ca: Tensor, carbonyl: Tensor, lengths: Tensor) -> Tensor:
    """N, CA, C, O, CB (B, L, 5, 3) in Å from CA (B, L, 3) and carbonyl directions (B, L, 3); the padding is zero.

    The last carbonyl direction of a chain is not used; the ends without a neighbour get fixed torsions.
    """
    step = ca[:, 1:] - ca[:, :-1]
    axis = F.normalize(step, dim=-1)
    side = F.normalize(carbonyl[:, :-1] - (carbonyl[:, :-1] * axis).sum(-1, keepdim=True) * axis, dim=-1)
    c = ca[:, :-1] + _C[0] * axis + _C[1] * side
    o = ca[:, :-1] + _O[0] * axis + _O[1] * side
    n = ca[:, 1:] + _N[0] * axis + _N[1] * side
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


def relax(ca: Tensor, carbonyl: Tensor, mask: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """CA positions and carbonyl directions after `steps` of descent: steps of 3.80 Å, no overlap, ideal N-CA-C.

    Distances to the second, third and fourth neighbour are held near what they are, so that helices and strands stay.
    Returns (B, L, 3) and (B, L, 3).
    """
    if not steps:
        return ca, carbonyl
    start, lengths = ca.detach(), mask.sum(1)
    place_ = torch.arange(ca.shape[1], device=ca.device)
    apart = (place_[:, None] - place_).abs() >= 3
    pairs = mask[:, :, None] & mask[:, None] & apart & (place_[:, None] < place_)
    kept = {k: (start[:, k:] - start[:, :-k]).norm(dim=-1).clamp(*REACH[k]) for k in REACH}
    x = start.clone().requires_grad_(True)
    u = carbonyl.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([{"params": [x], "lr": 0.2}, {"params": [u], "lr": 0.1}])
    with torch.enable_grad():
        for step in range(steps):
            for group, rate in zip(optimizer.param_groups, (0.2, 0.1), strict=True):
                group["lr"] = rate * (1 - step / steps) + 0.003
            optimizer.zero_grad()
            _energy(x, u, start, carbonyl, kept, pairs, mask, lengths).backward()
            optimizer.step()
    return x.detach(), F.normalize(u.detach(), dim=-1)


def _energy(
    x: Tensor,
    u: Tensor,
    start: Tensor,
    carbonyl: Tensor,
    kept: dict[int, Tensor],
    pairs: Tensor,
    mask: Tensor,
    lengths: Tensor,
) -> Tensor:
    """What `relax` lowers; weights are such that closure and overlap outweigh the pull to the start."""

    def apart(k: int) -> Tensor:
        return (x[:, k:] - x[:, :-k]).norm(dim=-1)

    atoms = build_backbone(x, u, lengths)
    inner = mask[:, 2:] & mask[:, :-2]
    n_to_c = (atoms[:, 1:-1, 0] - atoms[:, 1:-1, 2]).norm(dim=-1)
    ideal = math.sqrt(N_CA**2 + CA_C**2 - 2 * N_CA * CA_C * math.cos(N_CA_C))
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    closure = (40 * (apart(1) - CA_STEP).square() * mask[:, 1:]).sum()
    overlap = 2.5 * (F.relu(4.2 - distances).square() * pairs).sum()
    angle = 10 * ((n_to_c - ideal).square() * inner).sum()
    local = sum(((apart(k) - target).square() * mask[:, k:]).sum() for k, target in kept.items())
    tether = 0.01 * ((x - start).square().sum(-1) * mask).sum() + 0.5 * ((u - carbonyl).square().sum(-1) * mask).sum()
    return closure + overlap + angle + local + tether
