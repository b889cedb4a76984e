"""Exported files hold what went in, read back by programs that did not write them."""

import warnings
from dataclasses import replace

import gemmi
import mdtraj
import numpy as np
import pytest
from Bio.PDB import MMCIFParser, PDBParser
from biotite.structure.io import load_structure

from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.core.structure import ATOMS, Backbone
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.io.write import export, file_name, write_each, write_mmcif, write_pdb, write_xtc
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import read_backbones
from cvae_protein.store.write import write_store

TOLERANCE = 0.0005001  # Å, half of the last digit of a PDB file


@pytest.fixture
def awkward(make_backbone):
    """Two structures with a negative number, an insertion code, an unknown residue and missing atoms."""
    first = make_backbone("first", 5, models=2)
    coords = first.coords.copy()
    coords[:, 3, 4] = np.nan
    coords[1, 0, 0] = np.nan
    first = Backbone("first", "ACXGW", coords, ("-1", "1", "1A", "2", "30"))
    return [first, make_backbone("second", 7, seed=1)]


def flat_models(backbones):
    return [(backbone, backbone.coords[index]) for backbone in backbones for index in range(backbone.models)]


@pytest.mark.parametrize("write", [write_pdb, write_mmcif])
def test_gemmi_reads_back_what_was_written(awkward, tmp_path, write):
    path = tmp_path / ("x.pdb" if write is write_pdb else "x.cif")
    write(awkward, path)
    structure = gemmi.read_structure(str(path))
    assert len(structure) == 3
    for model, (backbone, coords) in zip(structure, flat_models(awkward), strict=True):
        assert [chain.name for chain in model] == ["A"]
        assert tuple(str(residue.seqid) for residue in model[0]) == backbone.residue_ids
        letters = "".join(gemmi.find_tabulated_residue(residue.name).one_letter_code for residue in model[0])
        assert letters.replace(" ", "X").upper() == backbone.sequence
        for residue, expected in zip(model[0], coords, strict=True):
            present = [name for name, xyz in zip(ATOMS, expected, strict=True) if np.isfinite(xyz).all()]
            assert [atom.name for atom in residue] == present
            for atom in residue:
                assert np.abs(atom.pos.tolist() - expected[ATOMS.index(atom.name)]).max() <= TOLERANCE
                assert atom.element.name == atom.name[0]


@pytest.mark.parametrize(
    ("write", "parser", "suffix"), [(write_pdb, PDBParser, "pdb"), (write_mmcif, MMCIFParser, "cif")]
)
def test_biopython_reads_back_what_was_written(make_backbone, tmp_path, write, parser, suffix):
    backbone = make_backbone(length=12, models=3)
    write([backbone], tmp_path / f"x.{suffix}")
    structure = parser(QUIET=True).get_structure("x", str(tmp_path / f"x.{suffix}"))
    found = np.array([[[atom.coord for atom in residue] for residue in model["A"]] for model in structure])
    assert found.shape == (3, 12, 5, 3)
    assert np.abs(found - backbone.coords).max() <= TOLERANCE


def test_mdtraj_reads_back_the_trajectory_in_nanometres(make_backbone, tmp_path):
    backbones = [make_backbone(f"s{seed}", 9, seed=seed) for seed in range(4)]
    write_xtc(backbones, tmp_path / "x.xtc")
    trajectory = mdtraj.load(str(tmp_path / "x.xtc"), top=str(tmp_path / "x.pdb"))
    expected = np.stack([backbone.coords[0] for backbone in backbones]).reshape(4, -1, 3)
    assert np.abs(trajectory.xyz * 10 - expected).max() <= 0.0051  # XTC keeps 0.001 nm
    assert [atom.name for atom in trajectory.topology.atoms] == list(ATOMS) * 9


def test_trajectory_drops_atoms_that_a_frame_lacks(make_backbone, tmp_path):
    first, second = make_backbone("a", 4), make_backbone("b", 4, seed=1)
    coords = second.coords.copy()
    coords[0, 2, 4] = np.nan
    write_xtc([first, replace(second, coords=coords)], tmp_path / "x.xtc")
    assert mdtraj.load(str(tmp_path / "x.xtc"), top=str(tmp_path / "x.pdb")).n_atoms == 19


@pytest.mark.parametrize("suffix", ["xtc", "pdb", "cif"])
def test_a_file_of_several_lengths_is_refused(make_backbone, tmp_path, suffix):
    backbones = [make_backbone("a", 4), make_backbone("b", 9)]
    with pytest.raises(UserError, match=r"one length, got 4, 9 residues.*--by-length"):
        export(backbones, tmp_path / f"x.{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_by_length_writes_one_trajectory_a_length(make_backbone, tmp_path):
    backbones = [make_backbone("a", 4), make_backbone("b", 9), make_backbone("c", 4)]
    written = export(backbones, tmp_path / "x.xtc", by_length=True)
    assert [path.name for path in written] == ["x-L4.xtc", "x-L4.pdb", "x-L9.xtc", "x-L9.pdb"]


def test_models_are_named_in_the_remarks(awkward, tmp_path):
    write_pdb(awkward, tmp_path / "x.pdb")
    lines = (tmp_path / "x.pdb").read_text().splitlines()
    remarks = [line.split(" IS ")[1].strip() for line in lines if line.startswith("REMARK 250 MODEL")]
    assert remarks == ["first", "first", "second"]


def test_pdb_refuses_what_its_columns_cannot_hold(make_backbone, tmp_path):
    far = make_backbone()
    with pytest.raises(UserError, match="coordinates from -999 to 9999 Å"):
        write_pdb([replace(far, coords=far.coords + 10_000)], tmp_path / "x.pdb")
    with pytest.raises(UserError, match="up to 9999, got 10001"):
        write_pdb([replace(far, residue_ids=("10001", *far.residue_ids[1:]))], tmp_path / "x.pdb")
    write_mmcif([replace(far, coords=far.coords + 10_000)], tmp_path / "x.cif")


def test_unknown_format_and_nothing_to_write(make_backbone, tmp_path):
    with pytest.raises(UserError, match="expected one of the formats pdb, cif, xtc, got 'mol2'"):
        export([make_backbone()], tmp_path / "x.mol2")
    with pytest.raises(UserError, match="got none"):
        export([], tmp_path / "x.pdb")


@pytest.mark.parametrize(
    "label", ["../../etc/x", "/tmp/x", "a/b", "", ".", "..", ".hidden", "a b", "a\n", "-rf", "a\0"]
)
def test_a_label_never_becomes_an_unchecked_path(make_backbone, tmp_path, label):
    with pytest.raises(UserError, match="can name a file"):
        file_name(label)
    with pytest.raises(UserError):
        write_each([(replace(make_backbone(), id=label), {})], tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("format", ["pdb", "cif"])
def test_a_file_a_structure_which_others_and_we_read(make_backbone, tmp_path, format):
    backbones = [make_backbone("a", 12), make_backbone("b", 15, models=2)]
    folder = tmp_path / "folder"
    facts = [{"label": "2"}, {"label": "3", "weights": "x"}]
    written = write_each(zip(backbones, facts, strict=True), folder, format)
    rows = read_table(folder / "samples.tsv", ("id", "file", "length", "label", "weights"))
    assert [(row["id"], row["file"], row["length"]) for row in rows] == [
        ("a", f"a.{format}", "12"),
        ("b", f"b.{format}", "15"),
    ]
    assert written == [folder / row["file"] for row in rows]
    for path, backbone in zip(written, backbones, strict=True):
        atoms = backbone.coords.shape[1] * 5
        assert len(gemmi.read_structure(str(path))) == backbone.models
        parser = PDBParser(QUIET=True) if format == "pdb" else MMCIFParser(QUIET=True)
        assert len(list(parser.get_structure("x", path).get_atoms())) == backbone.models * atoms
        assert np.shape(load_structure(path).coord)[-2] == atoms
        assert mdtraj.load(str(path)).xyz.shape[1] == atoms
        ours = extract_domain(read_structure(path), "A", "", "x")
        np.testing.assert_allclose(ours.coords, backbone.coords, atol=TOLERANCE)


def test_one_id_for_two_structures(make_backbone, tmp_path):
    with pytest.raises(UserError, match="two structures have the id a"):
        write_each([(make_backbone("a"), {}), (make_backbone("a"), {})], tmp_path)
    with pytest.raises(UserError, match="pdb, cif, got 'xtc'"):
        write_each([(make_backbone("a"), {})], tmp_path, "xtc")


def test_stored_structures_are_chosen_by_fold_and_length(make_backbone, tmp_path):
    def entry(name, length, label):
        backbone = make_backbone(name, length)
        return Entry(backbone, {"label": label})

    entries = [entry("a", 5, "3.40.50.1"), entry("b", 6, "3.4.1.1"), entry("c", 5, "1.10.8.1")]
    write_store(tmp_path / "s.h5", entries)
    assert [b.id for b in read_backbones(tmp_path / "s.h5")] == ["a", "b", "c"]
    assert [b.id for b in read_backbones(tmp_path / "s.h5", "3")] == ["a", "b"]
    assert [b.id for b in read_backbones(tmp_path / "s.h5", "3.4")] == ["b"]
    assert [b.id for b in read_backbones(tmp_path / "s.h5", "3", 5)] == ["a"]


def test_no_warning_of_a_reader(make_backbone, tmp_path):
    write_pdb([make_backbone()], tmp_path / "x.pdb")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        PDBParser().get_structure("x", str(tmp_path / "x.pdb"))
    assert not said
