"""Ideal peptides by construction, relaxation, and the refiner's masks."""

from __future__ import annotations

import math

import pytest
import torch

from cvae_protein.model import backbone as bb
from cvae_protein.model.refiner import Refiner, random_rotations
from cvae_protein.model.relax import NEAR, dihedral, hydrogen_bonds, near_pairs, overlap, ramachandran, relax
from cvae_protein.settings import RefineSettings


def a_helix(length: int = 30) -> torch.Tensor:
    """Full backbone (L, 5, 3) of an ideal alpha helix, grown atom by atom from its torsions."""
    phi, psi, omega = math.radians(-63), math.radians(-42), math.pi
    n, ca = torch.zeros(3), torch.tensor([bb.N_CA, 0.0, 0.0])
    turn = math.pi - bb.N_CA_C
    c = ca + bb.CA_C * torch.tensor([math.cos(turn), math.sin(turn), 0.0])
    residues = []
    for _ in range(length):
        o = bb.place(n, ca, c, bb.C_O, bb.CA_C_O, psi + math.pi)
        residues.append(torch.stack([n, ca, c, o, bb.ideal_cb(n, ca, c)]))
        following_n = bb.place(n, ca, c, bb.C_N, bb.CA_C_N, psi)
        following_ca = bb.place(ca, c, following_n, bb.N_CA, bb.C_N_CA, omega)
        n, ca, c = following_n, following_ca, bb.place(c, following_n, following_ca, bb.CA_C, bb.N_CA_C, phi)
    return torch.stack(residues)


def carbonyl(atoms: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(atoms[..., 3, :] - atoms[..., 2, :], dim=-1)


def test_a_helix_is_rebuilt_from_its_ca_trace_and_carbonyls() -> None:
    atoms = a_helix()
    built = bb.build_backbone(atoms[None, :, 1], carbonyl(atoms)[None], torch.tensor([30]))[0]
    torch.testing.assert_close(built[1:-1], atoms[1:-1], atol=0.03, rtol=0)


def test_place_gives_the_bond_angle_and_dihedral_asked_for() -> None:
    a, b, c = torch.tensor([[1.0, 2.0, 0.5], [0.2, 0.1, 0.0], [1.5, -0.3, 0.4]])
    d = bb.place(a, b, c, 1.4, math.radians(110), math.radians(-57))
    assert (d - c).norm().item() == pytest.approx(1.4, abs=1e-5)
    cosine = torch.nn.functional.cosine_similarity(b - c, d - c, dim=0)
    assert math.degrees(math.acos(cosine)) == pytest.approx(110, abs=1e-3)
    first, second = torch.linalg.cross(b - a, c - b), torch.linalg.cross(c - b, d - c)
    sine = torch.linalg.cross(first, second) @ torch.nn.functional.normalize(c - b, dim=0)
    assert math.degrees(math.atan2(sine, first @ second)) == pytest.approx(-57, abs=1e-3)


def test_bonds_are_ideal_where_ca_steps_are() -> None:
    generator = torch.Generator().manual_seed(0)
    step = torch.nn.functional.normalize(torch.randn(1, 40, 3, generator=generator), dim=-1) * bb.CA_STEP
    ca = step.cumsum(1)
    u = torch.nn.functional.normalize(torch.randn(1, 40, 3, generator=generator), dim=-1)
    atoms = bb.build_backbone(ca, u, torch.tensor([40]))[0]
    bond = {
        bb.N_CA: atoms[:, 0] - atoms[:, 1],
        bb.CA_C: atoms[:, 2] - atoms[:, 1],
        bb.C_N: atoms[1:, 0] - atoms[:-1, 2],
        bb.C_O: atoms[:, 3] - atoms[:, 2],
    }
    for length, vectors in bond.items():
        torch.testing.assert_close(vectors.norm(dim=-1), torch.full((len(vectors),), length), atol=1e-3, rtol=0)


def test_building_turns_with_its_input() -> None:
    atoms = a_helix(12)[None]
    turn = random_rotations(1, torch.Generator().manual_seed(4))
    lengths = torch.tensor([12])
    plain = bb.build_backbone(atoms[:, :, 1], carbonyl(atoms), lengths)
    turned = bb.build_backbone(atoms[:, :, 1] @ turn, carbonyl(atoms) @ turn, lengths)
    torch.testing.assert_close(turned, plain @ turn[:, None], atol=1e-4, rtol=0)


def test_relaxation_closes_the_chain_and_parts_overlaps() -> None:
    t = torch.linspace(0, 2 * math.pi, 41)[:40] + 0.03
    eight = torch.stack([26 * torch.sin(t), 13 * torch.sin(2 * t), 0.2 * t], dim=-1)  # crosses itself at the origin
    apart = torch.triu_indices(40, 40, 3).unbind()
    assert torch.cdist(eight, eight)[apart].min() < 2.5
    ca = eight[None] + 0.3 * torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(2))
    u = torch.nn.functional.normalize(torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(3)), dim=-1)
    mask = torch.ones(1, 40, dtype=torch.bool)
    closed, _ = relax(ca, u, mask, 400)
    steps = (closed[0, 1:] - closed[0, :-1]).norm(dim=-1)
    assert (steps - bb.CA_STEP).abs().max() < 0.1
    assert torch.cdist(closed[0], closed[0])[apart].min() > 3.5
    same, _ = relax(ca, u, mask, 0)
    assert torch.equal(same, ca)


def test_a_structure_relaxes_alike_alone_and_in_a_padded_batch() -> None:
    atoms = a_helix(24)
    ca = atoms[:, 1] + 0.3 * torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    alone, _ = relax(ca[None], carbonyl(atoms)[None], torch.ones(1, 24, dtype=torch.bool), 50)
    padded = torch.zeros(2, 40, 3)
    padded[0, :24], padded[1] = ca, a_helix(40)[:, 1]
    u = torch.stack([torch.nn.functional.pad(carbonyl(atoms), (0, 0, 0, 16)), carbonyl(a_helix(40))])
    mask = torch.arange(40) < torch.tensor([[24], [40]])
    together, _ = relax(padded, u, mask, 50)
    torch.testing.assert_close(together[0, :24], alone[0], atol=1e-3, rtol=0)


def test_padding_changes_nothing_in_the_refiner() -> None:
    torch.manual_seed(0)
    net = Refiner(RefineSettings(width=32, depth=2, heads=2)).eval()
    for p in net.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    trace, state = torch.randn(2, 20, 3) * 8, torch.randn(2, 20, 6)
    mask = torch.arange(20) < torch.tensor([[20], [14]])
    trace, state = trace * mask[..., None], state * mask[..., None]
    time = torch.tensor([0.3, 0.6])
    plain = net(state, time, trace, mask)
    wide = net(*(torch.nn.functional.pad(state, (0, 0, 0, 9)), time), *_wide(trace, mask))
    torch.testing.assert_close(wide[:, :20], plain, atol=1e-4, rtol=1e-3)
    assert wide[:, 20:].abs().max() == 0
    alone = net(state[1:, :14], time[1:], trace[1:, :14], mask[1:, :14])
    torch.testing.assert_close(alone[0], plain[1, :14], atol=1e-4, rtol=1e-3)


def _wide(trace: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.nn.functional.pad(trace, (0, 0, 0, 9)), torch.nn.functional.pad(mask, (0, 9))


def test_rotations_are_proper() -> None:
    turn = random_rotations(50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turn @ turn.transpose(1, 2), torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(50), atol=1e-5, rtol=0)


def test_hydrogen_bonds_of_a_helix_have_the_energy_of_kabsch_and_sander() -> None:
    atoms = a_helix(20)[None]
    mask = torch.ones(1, 20, dtype=torch.bool)
    expected = 0.0
    for acceptor in range(20):
        for donor in range(1, 20):
            if abs(acceptor - donor) < 2 or (atoms[0, acceptor, 1] - atoms[0, donor, 1]).norm() >= NEAR:
                continue
            c, o, n = atoms[0, acceptor, 2], atoms[0, acceptor, 3], atoms[0, donor, 0]
            up = atoms[0, donor - 1, 2] - atoms[0, donor - 1, 3]
            h = n + 1.01 * up / up.norm()
            r = [float((a - b).norm().clamp(min=1)) for a, b in ((o, n), (c, h), (o, h), (c, n))]
            bond = 0.42 * 0.2 * 332 * (1 / r[0] + 1 / r[1] - 1 / r[2] - 1 / r[3])
            expected += max(-2.5, min(0.0, bond)) / (1 + math.exp((r[0] - 5.2) / 0.4))
    found = hydrogen_bonds(atoms, near_pairs(atoms[:, :, 1], mask)).item()
    assert found == pytest.approx(expected, rel=2e-3)
    assert found / 16 < -1.2  # a helix of 20 residues has 16 bonds of about 2 kcal/mol


def test_pairs_are_near_apart_and_inside_the_mask() -> None:
    ca = a_helix(30)[None, :, 1].repeat(2, 1, 1)
    mask = torch.arange(30) < torch.tensor([[30], [12]])
    structure, i, j = near_pairs(ca, mask)
    assert ((j - i) >= 2).all()
    assert j[structure == 1].max() == 11
    assert (ca[structure, i] - ca[structure, j]).norm(dim=-1).max() < NEAR
    assert len(i[structure == 0]) > len(i[structure == 1]) > 0


def test_overlap_counts_penetration_alone() -> None:
    atoms = torch.zeros(1, 6, 5, 3)
    atoms[0, :, :, 0] = 20.0 * torch.arange(6)[:, None]
    atoms[0, :, :, 1] = 5.0 * torch.arange(5)
    atoms[0, 4, :, 0] = atoms[0, 0, :, 0]
    atoms[0, 4, :, 2] = 2.0
    pairs = near_pairs(atoms[:, :, 1], torch.ones(1, 6, dtype=torch.bool))
    assert overlap(atoms, pairs).item() == pytest.approx(2.2**2 + 2 * 0.6**2, rel=1e-4)  # CA, then O and CB


def test_ramachandran_prefers_a_helix_to_its_mirror_image() -> None:
    atoms, mask = a_helix(15)[None], torch.ones(1, 15, dtype=torch.bool)
    mirrored = atoms * torch.tensor([-1.0, 1.0, 1.0])
    assert ramachandran(atoms, mask) < ramachandran(mirrored, mask) - 13
    phi = dihedral(atoms[0, :-1, 2], atoms[0, 1:, 0], atoms[0, 1:, 1], atoms[0, 1:, 2])
    torch.testing.assert_close(torch.rad2deg(phi), torch.full((14,), -63.0), atol=0.1, rtol=0)
