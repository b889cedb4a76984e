import numpy as np
import pytest

from cvae_protein.core.errors import UserError
from cvae_protein.core.structure import CA
from cvae_protein.designability import esmfold
from cvae_protein.io.read import read_structure

transformers = pytest.importorskip("transformers", reason="ESMFold: pip install transformers")
LETTERS = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO", ".", "-", "<null_1>", "<mask>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """ESMFold as it is saved, tiny and with random weights."""
    from transformers import EsmConfig, EsmForProteinFolding

    place = tmp_path_factory.mktemp("esmfold")
    trunk = {"num_blocks": 1, "sequence_state_dim": 32, "pairwise_state_dim": 16, "max_recycles": 1}
    trunk |= {"sequence_head_width": 8, "pairwise_head_width": 8, "position_bins": 4, "chunk_size": None}
    trunk["structure_module"] = {"sequence_dim": 32, "pairwise_dim": 16, "ipa_dim": 4, "resnet_dim": 16}
    trunk["structure_module"] |= {"num_heads_ipa": 2, "num_blocks": 1}
    config = EsmConfig(
        vocab_size=len(LETTERS),
        mask_token_id=LETTERS.index("<mask>"),
        pad_token_id=1,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        position_embedding_type="rotary",
        is_folding_model=True,
        vocab_list=LETTERS,
        esmfold_config={"lddt_head_hid_dim": 8, "trunk": trunk},
    )
    EsmForProteinFolding(config).save_pretrained(place)
    return place


def test_each_sequence_gets_its_file_and_none_twice(folder, tmp_path, monkeypatch):
    (tmp_path / "x.fasta").write_text(">long some words\nMKVAE\nLLKA\n>short\nGAVLI\n")
    call = ["esmfold", str(tmp_path / "x.fasta"), str(tmp_path / "out"), "--model", str(folder)]
    monkeypatch.setattr("sys.argv", call)
    esmfold.main()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["long.pdb", "short.pdb"]
    read = read_structure(tmp_path / "out/long.pdb")
    made = read.backbone(np.arange(len(read.chain))[None], "long")
    assert made.sequence == "MKVAELLKA"
    assert np.isfinite(made.coords[0, :, CA]).all()
    monkeypatch.setattr(esmfold, "load", lambda *_: pytest.fail("loaded for nothing"))
    esmfold.main()


def test_weights_that_are_not_there_are_told(tmp_path):
    with pytest.raises(UserError, match="expected the files of ESMFold"):
        esmfold.load(str(tmp_path / "nowhere"), "cpu")
