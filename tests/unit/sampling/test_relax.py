"""Ideal peptides by construction, relaxation, and the refiner's masks."""

from __future__ import annotations

import math

import pytest
import torch
from plain_energy import dihedral, energy, hydrogen_bonds, inner_atoms, overlap, points, ramachandran
from synthetic import DATA

from cvae_protein.config.settings import RefineSettings
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.model.refiner import Refiner, random_rotations
from cvae_protein.sampling import relax as bb
from cvae_protein.sampling.relax import BOND_REACH, MARGIN, NEAR, Chains, Pairs, cross, relax, slope


def test_ideal_cb_lies_where_the_deposited_one_does():
    coords = torch.from_numpy(extract_domain(read_structure(DATA / "1ubi.cif.gz"), "A", "", "1ubi").coords[0])
    deviation = (bb.ideal_cb(coords[:, 0], coords[:, 1], coords[:, 2]) - coords[:, 4]).norm(dim=-1)
    deviation = deviation[coords[:, 4].isfinite().all(dim=-1)]
    assert deviation.median() < 0.1
    assert deviation.max() < 0.5


def a_helix(length: int = 30) -> torch.Tensor:
    """Full backbone (L, 5, 3) of an ideal alpha helix, grown atom by atom from its torsions."""
    phi, psi, omega = math.radians(-63), math.radians(-42), math.pi
    n, ca = torch.zeros(3), torch.tensor([bb.N_CA, 0.0, 0.0])
    turn = math.pi - bb.N_CA_C
    c = ca + bb.CA_C * torch.tensor([math.cos(turn), math.sin(turn), 0.0])
    residues = []
    for _ in range(length):
        o = bb.place_atom(n, ca, c, bb.C_O, bb.CA_C_O, psi + math.pi)
        residues.append(torch.stack([n, ca, c, o, bb.ideal_cb(n, ca, c)]))
        following_n = bb.place_atom(n, ca, c, bb.C_N, bb.CA_C_N, psi)
        following_ca = bb.place_atom(ca, c, following_n, bb.N_CA, bb.C_N_CA, omega)
        n, ca, c = following_n, following_ca, bb.place_atom(c, following_n, following_ca, bb.CA_C, bb.N_CA_C, phi)
    return torch.stack(residues)


def carbonyl(atoms: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(atoms[..., 3, :] - atoms[..., 2, :], dim=-1)


def test_a_helix_is_rebuilt_from_its_ca_trace_and_carbonyls() -> None:
    atoms = a_helix()
    built = bb.build_backbone(atoms[None, :, 1], carbonyl(atoms)[None], torch.tensor([30]))[0]
    torch.testing.assert_close(built[1:-1], atoms[1:-1], atol=0.03, rtol=0)


def test_place_gives_the_bond_angle_and_dihedral_asked_for() -> None:
    a, b, c = torch.tensor([[1.0, 2.0, 0.5], [0.2, 0.1, 0.0], [1.5, -0.3, 0.4]])
    d = bb.place_atom(a, b, c, 1.4, math.radians(110), math.radians(-57))
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


def test_relaxation_draws_a_chain_to_its_goal() -> None:
    ca, u = a_helix(24)[None, :, 1], carbonyl(a_helix(24))[None]
    mask, aside = torch.ones(1, 24, dtype=torch.bool), torch.tensor([3.0, 0.0, 0.0])
    drawn, _ = relax(ca, u, mask, 200, 0.5, ca + aside)
    torch.testing.assert_close((drawn - ca).mean((0, 1)), aside, atol=0.05, rtol=0)
    left, _ = relax(ca, u, mask, 200, 0.5)
    assert (left - ca).mean((0, 1)).norm() < 0.05


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


def flat(atoms: torch.Tensor, *more: torch.Tensor) -> tuple[Chains, Pairs]:
    """Backbones (L, 5, 3) as the chains of an energy, and what is near in them."""
    everything = (atoms, *more)
    ca = torch.nn.utils.rnn.pad_sequence([chain[:, 1] for chain in everything], batch_first=True)
    u = torch.nn.utils.rnn.pad_sequence([carbonyl(chain) for chain in everything], batch_first=True)
    mask = torch.arange(ca.shape[1]) < torch.tensor([len(chain) for chain in everything])[:, None]
    chains = Chains.of(ca, u, mask, 0.01)
    return chains, Pairs.of(chains.ca, chains.carbonyl, chains)


def test_hydrogen_bonds_of_a_helix_have_the_energy_of_kabsch_and_sander() -> None:
    atoms = a_helix(20)
    chains, pairs = flat(atoms)
    built = bb.build_backbone(atoms[None, :, 1], carbonyl(atoms)[None], torch.tensor([20]))[0]
    expected = 0.0
    for acceptor in range(19):  # the carbonyl of the last residue is placed by no neighbour
        for donor in range(1, 20):
            if abs(acceptor - donor) < 2 or (built[acceptor, 1] - built[donor, 1]).norm() >= NEAR:
                continue
            c, o, n = built[acceptor, 2], built[acceptor, 3], built[donor, 0]
            up = built[donor - 1, 2] - built[donor - 1, 3]
            h = n + 1.01 * up / up.norm()
            r = [float((a - b).norm().clamp(min=1)) for a, b in ((o, n), (c, h), (o, h), (c, n))]
            bond = 0.42 * 0.2 * 332 * (1 / r[0] + 1 / r[1] - 1 / r[2] - 1 / r[3])
            expected += max(-2.5, min(0.0, bond)) / (1 + math.exp((r[0] - 5.2) / 0.4))
    found = hydrogen_bonds(points(chains.ca, *inner_atoms(chains.ca, chains.carbonyl)), pairs).item()
    assert found == pytest.approx(expected, rel=5e-3)
    assert found / 16 < -1.2  # a helix of 20 residues has 16 bonds of about 2 kcal/mol


def test_pairs_are_those_that_a_plain_search_finds_and_join_no_two_chains() -> None:
    helix, other = a_helix(30), a_helix(12) + torch.tensor([3.0, 0.0, 0.0])  # they overlap, as chains of a batch may
    chains, pairs = flat(helix, other)
    count = chains.ca.shape[1]
    assert count == 42
    first, second = pairs.contacts[:, 0] % count
    assert ((first < 30) == (second < 30)).all()
    (acceptor, carbon, donor, hydrogen) = pairs.bonds[:, 0] % count
    assert torch.equal(acceptor, carbon)
    assert torch.equal(donor, hydrogen)
    assert ((acceptor < 30) == (donor < 30)).all()
    assert not set(donor.tolist()) & {0, 30}
    assert not set(acceptor.tolist()) & {29, 41}
    n, _, o = inner_atoms(chains.ca, chains.carbonyl)
    reach = torch.cdist((chains.ca + o).T, (chains.ca + n).T)
    wanted = {
        (a, d)
        for a in range(29)
        for d in range(1, 30)
        if abs(a - d) >= 2 and reach[a, d] < BOND_REACH + MARGIN and (chains.ca[:, a] - chains.ca[:, d]).norm() < NEAR
    }
    assert {(a, d) for a, d in zip(acceptor.tolist(), donor.tolist(), strict=True) if a < 30} == wanted


def test_overlap_counts_penetration_alone() -> None:
    chains, pairs = flat(a_helix(20))
    spots = points(chains.ca, *inner_atoms(chains.ca, chains.carbonyl))
    assert overlap(spots, pairs).item() < 0.02  # nothing of a helix touches
    moved = 100.0 * torch.arange(spots.numel())  # all far apart
    first, second = pairs.contacts[:, :, 0]
    moved[second] = moved[first] + torch.tensor([0.0, 2.0, 0.0])
    assert overlap(moved, pairs).item() == pytest.approx((pairs.limit[0].item() - 2.0) ** 2, rel=1e-4)


@pytest.mark.parametrize("done", [0.2, 0.9])
@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_slope_is_that_which_autograd_finds_in_the_plain_energy(noise: float, done: float) -> None:
    generator = torch.Generator().manual_seed(1)
    bent = a_helix(40) + 0.4 * torch.randn(40, 5, 3, generator=generator)
    chains, pairs = flat(bent.double(), a_helix(7).double(), a_helix(23).double())
    place = torch.cat([chains.ca, chains.carbonyl])
    place += noise * torch.randn(place.shape, generator=generator, dtype=torch.double)
    x, u = place.requires_grad_(True)[:3], place[3:]
    (expected,) = torch.autograd.grad(energy(x, u, chains, pairs, done), place)
    found = slope(x.detach(), u.detach(), chains, pairs, done)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    if noise > 1:  # what holds only in crowds is there: atoms that overlap, and some nearer than 1 Å
        assert overlap(points(x, *inner_atoms(x, u)), pairs) > 5
        oxygen, _, _, hydrogen = points(x, *inner_atoms(x, u)).flatten()[pairs.bonds]
        assert (oxygen - hydrogen).norm(dim=0).min() < 1


def test_slope_of_the_plain_energy_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    chains, pairs = flat((a_helix(9) + 0.4 * torch.randn(9, 5, 3, generator=generator)).double(), a_helix(7).double())
    place = torch.cat([chains.ca, chains.carbonyl])
    place += 0.1 * torch.randn(place.shape, generator=generator, dtype=torch.double)

    def value(flattened: torch.Tensor) -> torch.Tensor:
        return energy(flattened[:3], flattened[3:], chains, pairs, 0.2)

    assert torch.autograd.gradcheck(value, place.requires_grad_(True), eps=1e-6, atol=1e-3, rtol=1e-3)


def test_cross_products_are_those_of_torch() -> None:
    a, b = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cross(a, b), torch.linalg.cross(a, b, dim=0))


def test_ramachandran_prefers_a_helix_to_its_mirror_image() -> None:
    atoms = a_helix(15)
    mirror = torch.tensor([-1.0, 1.0, 1.0])

    def of(chain: torch.Tensor) -> float:
        ca = chain[:, 1].T
        return ramachandran(ca, chain[:, 0].T - ca, chain[:, 2].T - ca).sum().item()

    assert of(atoms) < of(atoms * mirror) - 13


def test_a_dihedral_is_that_of_its_bonds() -> None:
    atoms = a_helix(15)
    bonds = (atoms[1:, 0] - atoms[:-1, 2], atoms[1:, 1] - atoms[1:, 0], atoms[1:, 2] - atoms[1:, 1])
    cosine, sine = dihedral(*(bond.T for bond in bonds))
    torch.testing.assert_close(torch.atan2(sine, cosine).rad2deg(), torch.full((14,), -63.0), atol=0.1, rtol=0)
