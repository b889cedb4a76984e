"""Tables of ensembles: conformers under one id, and what is no conformer."""

import numpy as np
from synthetic import chain_lines, helix, write

from cvae_protein.config.settings import FeaturizeSettings, LabelSettings
from cvae_protein.core.files import read_table, write_table
from cvae_protein.dataset.featurize import featurize_folder
from cvae_protein.store.read import Store

COLUMNS = ("domain_id", "pdb_id", "model", "chain", "residue_range")


def stored(tmp_path, rows):
    """The store of a table of ensembles, and what was rejected."""
    write_table(tmp_path / "table.tsv", COLUMNS, (dict(zip(COLUMNS, row, strict=True)) for row in rows))
    labels = LabelSettings(min_length=10, max_length=100)
    output, rejected = tmp_path / "store.h5", tmp_path / "rejected.tsv"
    featurize_folder(tmp_path / "in", FeaturizeSettings(), labels, output, rejected, domains=tmp_path / "table.tsv")
    return Store(output), {row["domain_id"]: row["reason"] for row in read_table(rejected)}


def models(*structures):
    """Lines of a file with a model for each of the coordinates (L, 5, 3)."""
    lines = []
    for number, coords in enumerate(structures, 1):
        lines += [f"MODEL     {number:>4}", *chain_lines(coords), "ENDMDL"]
    return lines


def files(tmp_path):
    """One file of three models, and one of a longer chain in which the same residues stand elsewhere."""
    (tmp_path / "in").mkdir()
    bent = [helix(30, psi=psi) for psi in (-47.0, -40.0, -30.0)]
    write(tmp_path / "in/nmr.pdb", models(*bent))
    write(tmp_path / "in/long.pdb", chain_lines(helix(34, psi=120.0)))
    return bent


def test_conformers_of_several_files_models_and_ranges_have_one_id(tmp_path):
    bent = files(tmp_path)
    rows = [("p", "nmr", "2", "A", ""), ("other", "nmr", "", "A", ""), ("p", "long", "1", "A", "3-32")]
    store, dropped = stored(tmp_path, rows)
    with store:
        assert store.ids == ["p", "other"]
        assert store.backbone("p").models == 2
        assert store.backbone("other").models == 3
        np.testing.assert_allclose(store.backbone("p").coords[0], bent[1], atol=0.02)
        np.testing.assert_allclose(store.backbone("p").coords[1], helix(34, psi=120.0)[2:32], atol=0.02)
    assert dropped == {}


def test_what_is_no_conformer_is_told_and_the_others_stay(tmp_path):
    files(tmp_path)
    other = ["GLY"] * 3 + ["ALA"] * 27
    write(tmp_path / "in/mutant.pdb", chain_lines(helix(30), residues=["GLY"] + ["ALA"] * 29))
    write(tmp_path / "in/homologue.pdb", chain_lines(helix(30), residues=other))
    rows = [
        ("p", "nmr", "1", "A", ""),
        ("p", "nmr", "7", "A", ""),
        ("p", "long", "", "A", ""),
        ("p", "homologue", "", "A", ""),
        ("p", "mutant", "", "A", ""),
        ("p", "nmr", "first", "A", ""),
    ]
    store, dropped = stored(tmp_path, rows)
    with store:
        assert store.backbone("p").models == 2
        assert store.sequence("p") == "A" * 30
    assert dropped == {"p/2": "model_not_found", "p/3": "other_sequence", "p/4": "other_sequence", "p": "bad_row"}


def test_a_table_without_models_keeps_ids_apart(tmp_path):
    files(tmp_path)
    labels = LabelSettings(min_length=10, max_length=100)
    rows = [{"domain_id": "p", "pdb_id": "nmr", "chain": "A", "residue_range": part} for part in ("1-20", "11-30")]
    write_table(tmp_path / "t.tsv", tuple(rows[0]), rows)
    featurize_folder(
        tmp_path / "in", FeaturizeSettings(), labels, tmp_path / "s.h5", tmp_path / "r.tsv", domains=tmp_path / "t.tsv"
    )
    assert [row["reason"] for row in read_table(tmp_path / "r.tsv")] == ["duplicate_id"]
