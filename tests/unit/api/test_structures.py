"""Structures as a sequence, as files, and made of whatever a person has."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import cvae_protein as cvae
from cvae_protein.io.read import read_structure


def test_they_are_a_sequence(samples):
    assert len(samples) == 3
    assert [len(one) for one in samples] == samples.lengths.tolist() == [60, 60, 50]
    assert samples[-1] is samples[2] is samples[samples.ids[2]] is list(samples)[2]
    assert samples[1:].ids == samples[[1, 2]].ids == samples[samples.ids[1:]].ids == samples.ids[1:]
    assert samples[samples.lengths > 55].ids == samples.ids[:2]
    assert samples[np.int64(1)] is samples[1]
    assert isinstance(samples[:1] + samples[2:], cvae.Structures)
    assert not samples[:0]
    assert samples.ids[2] in samples
    assert "x" not in samples
    assert pickle.loads(pickle.dumps(samples)).ids == copy.deepcopy(samples).ids == samples.ids  # noqa: S301  (its own)
    assert "60 residues" in repr(samples[0])
    assert repr(samples) == "<Structures: 3 of 50 to 60 residues, labels 1, 2>"
    with pytest.raises(KeyError, match="no structure with the id 'x'"):
        samples["x"]
    with pytest.raises(IndexError, match="a mask of 2 for 3"):
        samples[np.array([True, False])]


def test_arrays_of_a_structure(samples):
    one = samples[0]
    assert isinstance(one, cvae.Backbone)
    assert one.coords.shape == (1, 60, 5, 3)
    assert one.ca.shape == (1, 60, 3)
    assert np.stack(samples[:2].ca).shape == (2, 60, 3)
    assert np.array_equal(samples.coords[0][:, 1], samples.ca[0])
    assert one.torsions.shape == (1, 60, 3)
    assert np.abs(one.torsions[0, 1:-1, :2]).max() <= np.pi
    assert len(one.secondary_structure) == 60
    assert one.sequence == "A" * 60
    assert (one.label, one.facts["variant"]) == ("2", "concat")
    assert list(samples.table["length"]) == [60, 60, 50]
    assert set(samples.table) > {"id", "label", "length", "draw_seed", "temperature"}


@pytest.mark.parametrize("suffix", ["pdb", "cif"])
def test_a_folder_has_one_file_each(samples, tmp_path, suffix):
    files = samples.to(tmp_path / "out", format=suffix)
    assert [file.name for file in files] == [f"{name}.{suffix}" for name in samples.ids]
    back = cvae.read(tmp_path / "out")
    assert back.lengths.tolist() == [50, 60, 60]  # by name
    for name in samples.ids:
        assert np.allclose(back[name].ca, samples[name].ca, atol=2e-3)
    assert samples.to(tmp_path / "out", format=suffix) == files  # again, in a notebook


def test_files_hold_all_or_say_why_not(samples, tmp_path):
    assert samples[:2].to(tmp_path / "x.cif") == [tmp_path / "x.cif"]
    assert len(read_structure(tmp_path / "x.cif").models) == 2
    assert [file.name for file in samples[:2].to(tmp_path / "x.xtc")] == ["x.xtc", "x.pdb"]
    for suffix in ("xtc", "pdb", "cif"):
        with pytest.raises(cvae.UserError, match="a file holds structures of one length, got 50, 60"):
            samples.to(tmp_path / f"y.{suffix}")
    with pytest.raises(cvae.UserError, match="expected one of the formats pdb, cif, xtc, got 'docx'"):
        samples.to(tmp_path / "x.docx")
    with pytest.raises(cvae.UserError, match="two structures have one id"):
        (samples + samples).to(tmp_path / "twice")
    with pytest.raises(cvae.UserError, match="expected one structure or more to write"):
        samples[:0].to(tmp_path / "twice")
    assert not (tmp_path / "twice").exists()
    assert samples[0].to(tmp_path / "one.pdb") == [tmp_path / "one.pdb"]


def test_a_store_keeps_all(samples, tmp_path):
    samples.to(tmp_path / "x.h5")
    back = cvae.read_store(tmp_path / "x.h5")
    assert (back.ids, back.labels) == (samples.ids, samples.labels)
    assert dict(back[0].facts) == dict(samples[0].facts)
    assert np.allclose(back[0].coords, samples[0].coords, atol=6e-3)  # steps of 0.01 Å
    assert cvae.read_store(tmp_path / "x.h5", fold="1").ids == samples.ids[2:]
    assert cvae.read_store(tmp_path / "x.h5", length=60).ids == samples.ids[:2]


def test_read_takes_what_people_have(folder, samples):
    assert cvae.read(samples) is samples
    assert cvae.read(samples[0])[0] is samples[0]
    plain = cvae.Backbone("b", "AG", np.zeros((1, 2, 5, 3)), ("1", "2"))
    assert cvae.read(plain)[0].label == ""
    assert cvae.read(folder / "domains.h5").ids == ["1ubi_A", "1ejg_A"]
    assert cvae.read([str(folder / "structures/1ubi.cif.gz"), samples[0]]).lengths.tolist() == [76, 60]
    assert cvae.read(one for one in samples).ids == samples.ids
    assert cvae.read_store(folder / "domains.h5", fold=3).ids == ["1ubi_A", "1ejg_A"]
    assert cvae.read(samples.coords[0]).lengths.tolist() == [60]
    assert np.isnan(cvae.read(np.zeros((7, 4, 3)))[0].coords[0, :, 4]).all()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (np.zeros((4, 2)), r"expected \(L, 3\), \(L, 4, 3\) or \(L, 5, 3\) in Å, got \(4, 2\)"),
        (5, "expected a path, a Backbone"),
        ("nowhere", "nowhere: expected structures or a folder"),
        ("nowhere.h5", "expected an HDF5 store, found no file there"),
    ],
)
def test_what_is_no_structure(source, said):
    with pytest.raises(cvae.UserError, match=said):
        cvae.read(source)


def test_objects_of_other_packages(samples):
    one, atoms, trajectory = samples[0], samples[0].atoms, samples[:2].trajectory
    assert atoms.coord.shape == (300, 3)
    assert trajectory.xyz.shape == (2, 300, 3)
    assert len(list(samples[:2].structure.get_models())) == 2
    assert [len(array) for array in samples.atoms] == [300, 300, 250]
    for given in (atoms, one.trajectory, one.structure):
        assert np.allclose(cvae.read(given)[0].coords, one.coords, atol=1e-3)
    assert cvae.read(trajectory)[0].models == 2
    atoms.chain_id[150:] = "B"
    assert cvae.read(atoms, "two").ids == ["two_A", "two_B"]
    with pytest.raises(cvae.UserError, match="a trajectory has one number of residues, these 3 have 50, 60"):
        samples.trajectory  # noqa: B018


def test_what_is_rejected_is_told(folder, tmp_path):
    (tmp_path / "empty.pdb").touch()
    (tmp_path / "ubi.cif.gz").write_bytes((folder / "structures/1ubi.cif.gz").read_bytes())
    with pytest.warns(UserWarning, match=r"1 rejected, 1 read; the first: empty, empty_file"):
        found = cvae.featurize(tmp_path)
    assert found.rejected[["domain_id", "reason"]].to_numpy().tolist() == [["empty", "empty_file"]]
    (tmp_path / "ubi.cif.gz").unlink()
    with pytest.raises(cvae.UserError, match="none of its structures can be used"):
        cvae.read(tmp_path)
    with pytest.warns(UserWarning, match="1ubi_A, too_long"):
        assert len(cvae.featurize(folder / "structures", max_length=60)) == 1


def test_a_notebook_shows_them_without_a_network(samples):
    shown = samples._repr_html_()
    assert "<iframe srcdoc=" in shown
    assert "3 of 50 to 60 residues" in shown
    inside = shown.partition("srcdoc=")[2]
    assert "src=&quot;http" not in inside
    evil = cvae.Structure("</script><b>", "A" * 5, samples[0].coords[:, :5], tuple("12345"), "<i>")
    text = evil._repr_html_()
    assert "<b>" not in text
    assert "&lt;b&gt;" not in text.partition("application/json")[2].partition("3Dmol")[0]
    assert cvae.Structures([])._repr_html_() == "<p>no structures</p>"


def test_only_structures_go_into_structures():
    with pytest.raises(cvae.UserError, match="expected a Backbone or Structure, got PosixPath"):
        cvae.Structures([Path("x")])
