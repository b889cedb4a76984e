"""Conformations at a distance asked for: how far, which residues, and that they are chains."""

from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import DATA

from cvae_protein.cli.main import run
from cvae_protein.config.settings import SampleSettings
from cvae_protein.core.elastic_network import anisotropic_modes
from cvae_protein.core.errors import UserError
from cvae_protein.core.geometry import rmsd
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.model.batch import DomainSet
from cvae_protein.model.registry import resolve
from cvae_protein.sampling.flexibility import flexibility
from cvae_protein.sampling.motion import motions_around, soft_motions, tangent, turned
from cvae_protein.sampling.sampler import load_sampler
from cvae_protein.store.read import Store

SETTINGS = SampleSettings(relax_steps=60)


@pytest.fixture(scope="module")
def domain():
    coords = extract_domain(read_structure(DATA / "1ubi.cif.gz"), "A", "", "1ubi").coords[0]
    return DomainSet((coords - coords[:, 1].mean(axis=0),), ("1ubi",), ("",), np.ones(1))


@pytest.fixture(scope="module")
def sampler():
    return load_sampler(*resolve(Path("pretrained"), None))


def draw(sampler, domain, spread, count=6):
    noise = torch.randn(count, sampler.spec.model.latent, generator=torch.Generator().manual_seed(1))
    return motions_around(sampler, domain, "", spread, SETTINGS, "test").draw(sampler, noise, SETTINGS, "test")


@pytest.mark.parametrize("spread", [1.5, 3.0])
def test_conformations_lie_as_far_as_asked_for_and_are_chains(sampler, domain, spread):
    made = np.stack(draw(sampler, domain, spread, 32))
    assert made.shape == (32, 76, 5, 3)
    assert rmsd(made[:, :, 1], domain.coords[0][:, 1]).mean() == pytest.approx(spread, rel=0.2)
    steps = np.linalg.norm(np.diff(made[:, :, 1], axis=1), axis=-1)
    assert (np.abs(steps - 3.8) < 0.2).mean() > 0.95  # three draws by either of two models: 0.959 to 0.973


def test_first_ones_do_not_depend_on_what_follows(sampler, domain):
    few, many = draw(sampler, domain, 2.0, 4), draw(sampler, domain, 2.0, 8)
    np.testing.assert_allclose(np.stack(few), np.stack(many[:4]), atol=0.01)


def test_a_spread_that_makes_no_sense_is_told(sampler, domain):
    with pytest.raises(UserError, match=r"spread: expected 0.1 to 20.0 Å of RMSD, got -1"):
        draw(sampler, domain, -1.0)


def test_the_loose_end_of_ubiquitin_moves_most(domain):
    found = flexibility(domain.coords[0][:, 1])
    assert found[72:].mean() > 2 * np.median(found)
    loop, helix = found[6:11], found[22:34]  # residues 7 to 11 and 23 to 34 (Lange et al. 2008, Science 320, 1471)
    assert loop.mean() > 1.3 * helix.mean()
    assert np.log(found).mean() == pytest.approx(0, abs=1e-9)


def test_the_tangent_says_how_a_small_change_of_the_code_moves_the_chain(sampler, domain):
    trace = domain.coords[0][:, 1].astype(float)
    code = sampler.model.infer_all(domain, 0).mean
    labels = torch.zeros(1, sampler.spec.depth, dtype=torch.long)
    change = 0.02 * torch.randn(code.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mask = torch.ones(1, len(trace), dtype=torch.bool)
        before, after = (sampler.model.decode(z, labels, mask)[0].numpy() for z in (code, code + change))
    moved = np.einsum("z,zli->li", change[0].numpy(), tangent(sampler, code, labels, trace))
    assert rmsd(after, before) == pytest.approx(np.sqrt(np.square(moved).sum(-1).mean()), rel=0.1)


def test_soft_motions_have_the_energy_of_their_network(domain):
    trace = domain.coords[0][:, 1].astype(float)
    modes = anisotropic_modes(trace)
    soft, fluctuations = soft_motions(trace, modes.vectors[:10])
    regularised = modes.stiffness[:10] + 1e-3 * modes.stiffness[:10].mean()
    wanted = np.sqrt((np.square(modes.vectors[:10]).sum(-1) / regularised[:, None]).sum(0))
    np.testing.assert_allclose(fluctuations, wanted, rtol=1e-6)
    assert len(soft) == 10


def test_directions_turn_with_their_residues(domain):
    trace = domain.coords[0][:, 1].astype(float)
    rotation = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    directions = np.tile([1.0, 0, 0], (len(trace), 1))
    np.testing.assert_allclose(
        turned(trace, (trace @ rotation.T)[None], directions)[0], directions @ rotation.T, atol=1e-6
    )


def test_the_command_takes_a_file_and_writes_a_trajectory(tmp_path, capsys):
    words = ["sample", "--model", "pretrained", "--around", str(DATA / "1ubi.cif.gz"), "-n", "3", "--spread", "1.5"]
    words += ["--settings", '{"relax_steps": 20}']
    assert run([*words, "-o", str(tmp_path / "near.h5")]) == 0
    with Store(tmp_path / "near.h5") as store:
        assert store.ids == [f"1ubi-concat-0-0-{number:04d}" for number in range(3)]
        assert set(store.columns["spread"].tolist()) == {1.5}
    assert run([*words, "--temperature", "1", "-o", str(tmp_path / "x.h5")]) == 2
    assert "sample --spread: expected no --temperature" in capsys.readouterr().err
    (tmp_path / "empty.pdb").write_text("END\n")
    assert run(["sample", "--model", "pretrained", "--around", str(tmp_path / "empty.pdb"), "-o", "x.h5"]) == 1
    assert "expected a structure with a protein chain" in capsys.readouterr().err
    assert run(["sample", "--model", "pretrained", "--around", "nothing.pdb", "-o", str(tmp_path / "x.h5")]) == 1
    assert "expected a structure file, or --store" in capsys.readouterr().err
