"""From CA positions and carbonyl directions to full backbones: ideal peptides, and descent on a small energy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

# Engh and Huber 2001, Å and degrees
N_CA, CA_C, C_N, C_O = 1.458, 1.525, 1.329, 1.231
CA_C_N, C_N_CA, CA_C_O = math.radians(117.2), math.radians(121.7), math.radians(120.1)
N_CA_C = math.radians(111.0)
CB_N, CB_C, CB_ACROSS = -0.56802827, -0.54067466, -0.58273431  # CB by N, C and C x N, all relative to CA; L-alanine
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


def place_atom(a: Tensor, b: Tensor, c: Tensor, bond: float, angle: float, dihedral: float) -> Tensor:
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


def ideal_cb(n: Tensor, ca: Tensor, c: Tensor) -> Tensor:
    """CB of an L-residue from N, CA, C (..., 3), by the mean tetrahedral geometry of alanine."""
    first, second = n - ca, c - ca
    return ca + CB_N * first + CB_C * second + CB_ACROSS * torch.linalg.cross(second, first)


def peptides(step: Tensor, carbonyl: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """C and O of ideal peptides relative to the preceding CA, and N relative to the following CA, in Å.

    `step` are the vectors from CA to CA, `carbonyl` the directions that orient each peptide, (..., 3).
    """
    axis = step / length(step)[..., None]
    side = carbonyl - (carbonyl * axis).sum(-1, keepdim=True) * axis
    side = side / length(side)[..., None]
    c, o, n = (place[0] * axis + place[1] * side for place in (PEPTIDE_C, PEPTIDE_O, PEPTIDE_N))
    return c, o, n


def build_backbone(ca: Tensor, carbonyl: Tensor, lengths: Tensor) -> Tensor:
    """N, CA, C, O, CB (B, L, 5, 3) in Å from CA (B, L, 3) and carbonyl directions (B, L, 3); the padding is zero.

    The last carbonyl direction of a chain is not used; the ends without a neighbour get fixed torsions.
    """
    c, o, n = peptides(ca[:, 1:] - ca[:, :-1], carbonyl[:, :-1])
    c, o, n = ca[:, :-1] + c, ca[:, :-1] + o, ca[:, 1:] + n
    first_n = place_atom(n[:, 0], c[:, 0], ca[:, 0], N_CA, N_CA_C, PSI)[:, None]
    n = torch.cat([first_n, n], dim=1)
    c, o = F.pad(c, (0, 0, 0, 1)), F.pad(o, (0, 0, 0, 1))
    rows, last = torch.arange(len(ca), device=ca.device), lengths - 1
    end_n, end_ca = n[rows, last], ca[rows, last]
    end_c = place_atom(c[rows, last - 1], end_n, end_ca, CA_C, N_CA_C, PHI)
    end_o = place_atom(end_n, end_ca, end_c, C_O, CA_C_O, PSI - math.pi)
    at_end = torch.arange(ca.shape[1], device=ca.device) == last[:, None]
    c = torch.where(at_end[..., None], end_c[:, None], c)
    o = torch.where(at_end[..., None], end_o[:, None], o)
    atoms = torch.stack([n, ca, c, o, ideal_cb(n, ca, c)], dim=2)
    inside = torch.arange(ca.shape[1], device=ca.device) < lengths[:, None]
    return torch.where(inside[..., None, None], atoms, 0.0)


REACH = {2: (5.0, 7.2), 3: (4.6, 10.8), 4: (4.6, 14.2)}  # Å, CA distances over k residues that a chain can have
N_TO_C = math.sqrt(N_CA**2 + CA_C**2 - 2 * N_CA * CA_C * math.cos(N_CA_C))  # Å, of one residue with an ideal angle
# Points of a residue; the middle is that of the following peptide.
POINTS = 7
CA, CB, CARBON, OXYGEN, NITROGEN, HYDROGEN, MIDDLE = range(POINTS)
# CA and peptide middles repel each other if their residues are 3 or more apart, O and CB if 2 or more.
CONTACTS = (  # Å; nearer than this they repel. Peptides keep chains from passing through each other.
    *((CA, CA, 4.2), (MIDDLE, MIDDLE, 3.8), (CA, MIDDLE, 3.8), (MIDDLE, CA, 3.8)),
    *((OXYGEN, OXYGEN, 2.6), (CB, CB, 2.6), (OXYGEN, CB, 2.6), (CB, OXYGEN, 2.6)),
)
# Centres (phi, psi, degrees) and weights of helix, sheet, polyproline and left-handed helix. Lovell et al. 2003.
BASINS = ((-63, -43, 1.0), (-120, 130, 1.0), (-70, 145, 0.7), (57, 42, 0.05))
CONCENTRATION = 6.0  # of a basin's von Mises density
N_H = 1.01  # Å
CHARGES = 0.42 * 0.20 * 332  # kcal Å/mol, of Kabsch and Sander 1983
STRONGEST_BOND = -2.5  # kcal/mol; a stronger hydrogen bond gains nothing
BOND_REACH, BOND_WIDTH = 5.2, 0.4  # Å between O and N: where a hydrogen bond fades, and over what width
NEAR = 8.0  # Å; residues whose CA are farther apart do not interact
MARGIN = 1.5  # Å, by which points may approach before pairs are searched again
SECOND_HALF = 0.7  # share of the steps after which overlaps weigh more and hydrogen bonds less
STEP, ANGLE, TURNED, RAMACHANDRAN = 60.0, 30.0, 0.1, 3.0  # weights of terms
OVERLAP, BOND = (2.5, 10.0), (2.0, 1.0)  # weights of terms, at first and late


@dataclass(frozen=True, eq=False)
class Chains:
    """The structures before relaxation, and quantities that stay constant during it.

    ca, carbonyl : (3, N) in Å, and unit vectors
    goal : where CA are held, (3, N) in Å
    mask : (B, L), which residues of a padded batch these are
    has_next, has_previous : whether the chain has a residue after, and before, this one (N,)
    inner : 1 for residues that have both, else 0 (N,)
    kept : target distances in Å between CA i and i + k, k = 1 to 4 (4, N)
    stiffness : weights of the squared differences from these; 0 if the chain has no residue i + k (4, N)
    hold : weight of the squared distance of a CA from its goal
    """

    ca: Tensor
    carbonyl: Tensor
    goal: Tensor
    mask: Tensor
    has_next: Tensor
    has_previous: Tensor
    inner: Tensor
    kept: Tensor
    stiffness: Tensor
    hold: float

    @staticmethod
    def of(ca: Tensor, carbonyl: Tensor, mask: Tensor, hold: float, goal: Tensor | None = None) -> Chains:
        """From CA (B, L, 3) in Å, carbonyl directions (B, L, 3), mask (B, L); CA are held at `goal`, else in place."""
        flat, turn = ca.detach()[mask].T.contiguous(), carbonyl.detach()[mask].T.contiguous()
        held = flat if goal is None else goal.detach()[mask].T.contiguous()
        chain = torch.arange(len(mask), device=mask.device)[:, None].expand_as(mask)[mask]
        joined = torch.stack([F.pad(chain[k:] == chain[:-k], (0, k)) for k in (1, *REACH)])
        apart = length(along(flat), 1)
        kept = [torch.full_like(apart[0], CA_STEP)] + [apart[k - 1].clamp(*reach) for k, reach in REACH.items()]
        stiffness = joined * apart.new_tensor([[STEP], [1], [1], [1]])
        has_next, has_previous = joined[0], F.pad(joined[0, :-1], (1, 0))
        inner = (has_next & has_previous).to(flat)
        return Chains(flat, turn, held, mask, has_next, has_previous, inner, torch.stack(kept), stiffness, hold)

    def padded(self, flat: Tensor) -> Tensor:
        """Numbers (3, N) as a batch (B, L, 3), zeros in the padding."""
        batch = flat.new_zeros((*self.mask.shape, 3))
        batch[self.mask] = flat.T
        return batch


def along(x: Tensor) -> Tensor:
    """Vectors from CA (3, N) to those 1 to 4 residues further on: (4, 3, N), zeros if there are none."""
    return torch.stack([F.pad(x[:, k:] - x[:, :-k], (0, k)) for k in (1, *REACH)])


@cache
def peptide_plane() -> Tensor:
    """The parts of a peptide (6, 2): components along its axis and towards O.

    C, O (from the preceding CA), N, H (from the following CA) in Å, and in-plane unit vectors perpendicular to N-CA and
    CA-C, by which phi and psi are measured.
    """
    c, o, n = (torch.tensor(atom) for atom in (PEPTIDE_C, PEPTIDE_O, PEPTIDE_N))
    h = n + N_H * F.normalize(c - o, dim=0)
    before, behind = torch.stack([-n[1], n[0]]) / n.norm(), torch.stack([-c[1], c[0]]) / c.norm()
    return torch.stack([c, o, n, h, before, behind])


@dataclass(frozen=True, eq=False)
class Peptides:
    """N ideal peptides, each between residues i and i + 1; the last one of a chain has no meaning.

    apart : vectors from CA to those 1 to 4 residues further on (4, 3, N), in Å
    distance : lengths of these (4, N)
    axis, side : unit vectors from CA to CA, and perpendicular to it towards O (3, N)
    lean : component of the carbonyl direction along the axis (N,)
    across : length of the remainder (N,)
    parts : the rows of `peptide_plane` in space (6, 3, N)
    """

    apart: Tensor
    distance: Tensor
    axis: Tensor
    side: Tensor
    lean: Tensor
    across: Tensor
    parts: Tensor

    @staticmethod
    def of(x: Tensor, u: Tensor) -> Peptides:
        """From CA (3, N) in Å and carbonyl directions (3, N)."""
        apart = along(x)
        distance = length(apart, 1)
        axis = apart[0] / distance[0]
        lean = (u * axis).sum(0)
        side = torch.addcmul(u, axis, lean, value=-1)
        across = length(side, 0)
        side = side / across
        frame = torch.stack([axis, side])
        parts = peptide_plane().to(frame) @ frame.flatten(1)
        return Peptides(apart, distance, axis, side, lean, across, parts.view(6, *x.shape))

    def points(self, x: Tensor) -> Tensor:
        """The points that repel and bond (7, 3, N), in Å, in the order of their numbers above."""
        spots = torch.zeros(POINTS, *x.shape, dtype=x.dtype, device=x.device)
        spots[CA] = x
        spots[CARBON : OXYGEN + 1] = x + self.parts[:2]
        spots[NITROGEN : HYDROGEN + 1, :, 1:] = x[:, 1:] + self.parts[2:4, :, :-1]
        spots[MIDDLE, :, :-1] = x[:, :-1] + self.apart[0, :, :-1] / 2
        c, n = self.parts[0, :, 1:], self.parts[2, :, :-1]
        spots[CB, :, 1:] = x[:, 1:] + CB_N * n + CB_C * c + CB_ACROSS * cross(c, n)
        return spots


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross products of vectors (3, N); on a CPU several times as fast as `torch.linalg.cross`."""
    a, b = torch.cat([a, a[:2]]), torch.cat([b, b[:2]])
    return torch.addcmul(a[1:4] * b[2:5], a[2:5], b[1:4], value=-1)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs that are near each other, as indices into the flattened `Peptides.points`.

    contacts : of points that repel (2, 3, P)
    limit : their contact distances in Å (P,)
    bonds : of O, C, N and H of residues that may bond (4, 3, H)
    """

    contacts: Tensor
    limit: Tensor
    bonds: Tensor

    @staticmethod
    @torch.no_grad()
    def of(x: Tensor, u: Tensor, chains: Chains) -> Pairs:
        """All pairs that may touch or bond before any point has moved by half of `MARGIN`."""
        i, j = near_residues(x, chains)
        spots, has_next, has_previous = Peptides.of(x, u).points(x), chains.has_next, chains.has_previous
        always = torch.ones_like(has_next)
        there = {CA: always, CB: has_next & has_previous, OXYGEN: has_next, MIDDLE: has_next}
        far = j - i >= 3
        found = []
        for a, b, limit in CONTACTS:
            keep = there[a][i] & there[b][j]
            if a in (CA, MIDDLE):
                keep &= far
            first, second = i[keep], j[keep]
            close = length(spots[a][:, first] - spots[b][:, second], 0) < limit + MARGIN
            first, second = place(a, first[close], x), place(b, second[close], x)
            found.append((torch.stack([first, second]), x.new_full((first.shape[1],), limit)))
        contacts, limits = zip(*found, strict=True)
        acceptor, donor = torch.cat([i, j]), torch.cat([j, i])
        bond = length(spots[OXYGEN][:, acceptor] - spots[NITROGEN][:, donor], 0) < BOND_REACH + MARGIN
        bond &= has_next[acceptor] & has_previous[donor]  # no peptide places the hydrogen of a first residue
        acceptor, donor = acceptor[bond], donor[bond]
        atoms = ((OXYGEN, acceptor), (CARBON, acceptor), (NITROGEN, donor), (HYDROGEN, donor))
        bonds = torch.stack([place(atom, residue, x) for atom, residue in atoms])
        return Pairs(torch.cat(contacts, dim=2), torch.cat(limits), bonds)


def place(point: int, residue: Tensor, x: Tensor) -> Tensor:
    """Indices (3, P) of x, y and z of a point of residues (P,) into the flattened `Peptides.points`."""
    count = x.shape[1]
    return residue + (3 * point + torch.arange(3, device=x.device)[:, None]) * count


def near_residues(x: Tensor, chains: Chains) -> tuple[Tensor, Tensor]:
    """Residues i and j (P,) of one chain, j - i >= 2, whose CA are nearer than `NEAR`."""
    mask = chains.mask
    ca, order = chains.padded(x), torch.arange(mask.shape[1], device=mask.device)
    found = (torch.cdist(ca, ca) < NEAR) & (order - order[:, None] >= 2) & mask[:, :, None] & mask[:, None]
    chain, i, j = found.nonzero(as_tuple=True)
    begin = (mask.sum(1).cumsum(0) - mask.sum(1))[chain]
    return begin + i, begin + j


@torch.no_grad()
def slope(x: Tensor, u: Tensor, chains: Chains, pairs: Pairs, done: float) -> Tensor:
    """The gradient (6, N) of the energy that `relax` lowers, by CA (3, N) in Å and carbonyl directions (3, N).

    The energy is a sum over all chains of

    - squared differences of CA distances over 1 to 4 residues, and of N to C, from their targets;
    - squared distances of CA from their goals, and of carbonyl directions from their initial values;
    - squared penetration below contact distances;
    - hydrogen bonds, after Kabsch and Sander 1983, eq. 1, capped, faded with the distance from O to N, and with
      (3 - r^2) / 2 for 1 / r below 1 Å;
    - the negative log density of phi and psi under a mixture of von Mises basins.

    `done` is the share of steps taken.
    """
    late = int(done > SECOND_HALF)
    peptides = Peptides.of(x, u)
    spots = peptides.points(x)
    on_spots = torch.zeros_like(spots)
    add_overlap(on_spots, spots, pairs, OVERLAP[late])
    add_hydrogen_bonds(on_spots, spots, pairs, BOND[late])
    on_parts = torch.zeros_like(peptides.parts)
    on_parts[:2] = on_spots[CARBON : OXYGEN + 1]
    on_parts[2:4, :, :-1] = on_spots[NITROGEN : HYDROGEN + 1, :, 1:]
    on_normal = add_residues(on_parts, peptides, on_spots[CB], chains.inner)
    on_axis, on_u = through_frame(on_parts, on_normal, peptides, u)
    stretch = 2 * chains.stiffness * (1 - chains.kept / peptides.distance)
    on_apart = peptides.apart * stretch[:, None]
    on_apart[0] += on_axis
    on_apart[0] += on_spots[MIDDLE] / 2
    on_x = on_spots.sum(0).add_(x - chains.goal, alpha=2 * chains.hold)
    for on_step, k in zip(on_apart, (1, *REACH), strict=True):
        on_x[:, k:] += on_step[:, :-k]
        on_x[:, :-k] -= on_step[:, :-k]
    return torch.cat([on_x, on_u.add_(u - chains.carbonyl, alpha=2 * TURNED)])


def add_overlap(on_spots: Tensor, spots: Tensor, pairs: Pairs, weight: float) -> None:
    """Add to `on_spots` (7, 3, N) the gradient of the squared penetration of points below contact distances."""
    first, second = spots.view(-1).index_select(0, pairs.contacts.flatten()).view_as(pairs.contacts)
    between = first - second
    distance = length(between, 0)
    between *= F.relu(pairs.limit - distance).mul_(-2 * weight).div_(distance)
    on_spots.view(-1).scatter_add_(0, pairs.contacts.flatten(), torch.stack([between, -between]).flatten())


def add_hydrogen_bonds(on_spots: Tensor, spots: Tensor, pairs: Pairs, weight: float) -> None:
    """Add to `on_spots` (7, 3, N) the gradient of the hydrogen-bond energy."""
    o, c, n, h = spots.view(-1).index_select(0, pairs.bonds.flatten()).view_as(pairs.bonds)
    between = torch.empty_like(pairs.bonds, dtype=spots.dtype)
    for row, (a, b) in zip(between, ((o, n), (c, h), (o, h), (c, n)), strict=True):
        torch.sub(a, b, out=row)
    square = between.square().sum(1)
    beyond = square.clamp(min=1)
    inverse = beyond.rsqrt()
    value = inverse.sub(square.clamp(max=1), alpha=0.5)
    energy = (value[0] + value[1] - value[2] - value[3]).mul_(CHARGES)
    distance = length(between[0], 0)
    fade = torch.sigmoid((BOND_REACH - distance).div_(BOND_WIDTH)).mul_(weight)
    strength = fade * ((energy > STRONGEST_BOND) & (energy < 0)) * CHARGES
    fading = energy.clamp_(STRONGEST_BOND, 0).mul_(fade).mul_(1 - fade / weight).div_(distance.mul_(BOND_WIDTH))
    pull = (inverse / beyond).mul_(strength)
    pull[:2].neg_()
    pull[0] -= fading
    between *= pull[:, None]
    to_n, to_h = between[0] + between[3], between[1] + between[2]
    between[0] += between[2]
    between[1] += between[3]
    torch.neg(to_n, out=between[2])
    torch.neg(to_h, out=between[3])
    on_spots.view(-1).scatter_add_(0, pairs.bonds.flatten(), between.flatten())


def add_residues(on_parts: Tensor, peptides: Peptides, on_cb: Tensor, inner: Tensor) -> Tensor:
    """Add to `on_parts` (6, 3, N) the gradients of N-C distances, of phi and psi, and `on_cb` (3, N), that of each CB.

    Returns the gradient by the normals of peptides (3, N). The normal of N, CA and C is at an angle of phi to that of
    the preceding peptide, and of psi to that of the following one.
    """
    c, n = peptides.parts[0, :, 1:], peptides.parts[2, :, :-1]  # of residues 1 to N - 1
    inner, on_cb = inner[1:], on_cb[:, 1:]
    normal = cross(c, n)
    size = length(normal, 0)
    normal /= size
    flat = cross(peptides.axis, peptides.side)
    ways = torch.stack([flat[:, :-1], peptides.parts[4, :, :-1], flat[:, 1:], peptides.parts[5, :, 1:]])
    weights, offsets = basins()
    likely = torch.softmax(torch.addmm(offsets.to(ways), weights.to(ways), (ways * normal).sum(1)), dim=0)
    on_angles = (weights.to(ways).T @ likely).mul_(-RAMACHANDRAN * inner)  # along cosines and sines (4, N - 1)
    on_ways = on_angles[:, None] * normal
    on_normal = (ways * on_angles[:, None]).sum(0)
    on_normal = torch.addcmul(on_normal, normal, (on_normal * normal).sum(0), value=-1).div_(size)
    on_normal.add_(on_cb, alpha=CB_ACROSS)
    between = n - c
    distance = length(between, 0)
    between *= (1 - N_TO_C / distance).mul_(inner).mul_(2 * ANGLE)
    on_parts[0, :, 1:] += cross(n, on_normal).add_(on_cb, alpha=CB_C).sub_(between)
    on_parts[2, :, :-1] += cross(on_normal, c).add_(on_cb, alpha=CB_N).add_(between)
    on_parts[4, :, :-1], on_parts[5, :, 1:] = on_ways[1], on_ways[3]
    on_flat = F.pad(on_ways[0], (0, 1))
    on_flat[:, 1:] += on_ways[2]
    return on_flat


def through_frame(on_parts: Tensor, on_flat: Tensor, peptides: Peptides, u: Tensor) -> tuple[Tensor, Tensor]:
    """Convert gradients by the parts of peptides (6, 3, N) and their normals (3, N) to those by CA steps and `u`."""
    axis, side = peptides.axis, peptides.side
    on_axis, on_side = (peptide_plane().to(u).T @ on_parts.flatten(1)).view(2, *u.shape)
    on_side = on_side + cross(on_flat, axis)
    on_u = torch.addcmul(on_side, side, (on_side * side).sum(0), value=-1).div_(peptides.across)
    turn = (on_u * axis).sum(0)
    on_axis = on_axis + cross(side, on_flat)
    on_axis.addcmul_(on_u, peptides.lean, value=-1).addcmul_(u, turn, value=-1)
    on_axis.addcmul_(axis, (on_axis * axis).sum(0), value=-1).div_(peptides.distance[0])
    return on_axis, on_u.addcmul_(axis, turn, value=-1)


@cache
def basins() -> tuple[Tensor, Tensor]:
    """A matrix (4, 4) and offsets (4, 1) that map cosines and sines of phi and psi (4, N) to log densities of `BASINS`.

    Psi measured between normals is shifted by half a circle.
    """
    phi, psi, weight = torch.tensor(BASINS, dtype=torch.double).T
    phi, psi = phi.deg2rad(), psi.deg2rad()
    directions = torch.stack([phi.cos(), phi.sin(), -psi.cos(), -psi.sin()], dim=1)
    return CONCENTRATION * directions, weight.log()[:, None]


SEARCH_EVERY = 20  # steps after which near pairs are searched again
FREE, HELD = 0.01, 1.0  # weight that holds a CA of a sample, and of a reconstruction
LARGEST_STEP, SMALLEST_STEP = 0.2, 0.003  # Å per coordinate, at the start and at the end


@torch.no_grad()
def relax(
    ca: Tensor, carbonyl: Tensor, mask: Tensor, steps: int, hold: float = FREE, goal: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """CA positions in Å and carbonyl directions, (B, L, 3) each, after `steps` of descent; 0 steps change nothing.

    `hold` is the weight of the squared distance in Å² of a CA from its `goal` (B, L, 3), by default where it was. For a
    structure made by a decoder, the goal is the decoded trace: the mean of its Gaussian, thus the likeliest place.
    """
    if not steps:
        return ca, carbonyl
    chains = Chains.of(ca, carbonyl, mask, hold, goal)
    descent = Descent(torch.cat([chains.ca, chains.carbonyl]))
    x, u = descent.place[:3], descent.place[3:]  # views, which move with it
    for step in range(steps):
        done = step / steps
        if step % SEARCH_EVERY == 0:
            pairs = Pairs.of(x, u, chains)
        descent.step(slope(x, u, chains, pairs, done), LARGEST_STEP * math.sqrt(1 - done) + SMALLEST_STEP)
    return chains.padded(x), chains.padded(F.normalize(u, dim=0))


class Descent:
    """Adam on one tensor (Kingma and Ba 2015); torch's own takes seconds to import and longer per step."""

    def __init__(self, place: Tensor) -> None:
        self.place = place
        self.mean, self.square, self.steps = torch.zeros_like(place), torch.zeros_like(place), 0

    def step(self, slope: Tensor, rate: float) -> None:
        """Take one step down the gradient `slope`, of the same shape as `place`."""
        self.steps += 1
        self.mean.lerp_(slope, 0.1)
        self.square.mul_(0.999).addcmul_(slope, slope, value=0.001)
        spread = self.square.sqrt().div_(math.sqrt(1 - 0.999**self.steps)).add_(1e-8)
        self.place.addcdiv_(self.mean, spread, value=-rate / (1 - 0.9**self.steps))
