import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
from Bio.PDB.PDBParser import PDBParser
from biotite.structure.io.pdb import PDBFile
from synthetic import chain_lines, helix, residue_lines, write

from cvae_protein.core.errors import StructureError
from cvae_protein.core.structure import CB, Backbone
from cvae_protein.io.objects import backbone_of, chains_of, to_biopython, to_biotite, to_mdtraj
from cvae_protein.io.read import extract_domain, read_structure

mdtraj = pytest.importorskip("mdtraj")
DATA = Path(__file__).parents[2] / "data"
MAKERS = [to_biotite, to_mdtraj, to_biopython]


@pytest.fixture(scope="module", params=["1ubi", "1ejg"])
def entry(request, tmp_path_factory):
    """A deposited entry as a PDB file; 1ejg has alternative locations, and residues of two types."""
    path = tmp_path_factory.mktemp("entry") / f"{request.param}.pdb"
    gemmi.read_structure(str(DATA / f"{request.param}.cif.gz")).write_pdb(str(path))
    return path


@pytest.fixture(scope="module")
def ensemble():
    whole = extract_domain(read_structure(DATA / "1ubi.cif.gz"), "A", "", "1ubi")
    noise = np.random.default_rng(0).normal(scale=0.05, size=(7, len(whole), 5, 3))
    ids = ("-1", "0", *map(str, range(1, 40)), "40A", *map(str, range(41, len(whole) - 1)))
    return replace(whole, coords=whole.coords + noise, residue_ids=ids)


def assert_same(found, expected, ids=True):
    assert found.sequence == expected.sequence
    assert found.models == expected.models
    np.testing.assert_allclose(found.coords, expected.coords, atol=1e-3)  # NaN stands where NaN stands
    if ids:
        assert found.residue_ids == expected.residue_ids


@pytest.mark.parametrize("make", MAKERS)
def test_round_trip(make, ensemble):
    for backbone in (ensemble, ensemble.model(3)):
        found = backbone_of(make(backbone), name="x")
        assert found.id == "x"
        assert_same(found, backbone, ids=make is not to_mdtraj)


def test_mdtraj_keeps_numbers_and_residues_of_one_number_apart(ensemble):
    ids = [*ensemble.residue_ids[:10], "8A", "8B", *map(str, range(9, len(ensemble) - 3))]
    assert backbone_of(to_mdtraj(replace(ensemble, residue_ids=tuple(ids)))).residue_ids == tuple(ids)


@pytest.mark.parametrize("make", MAKERS)
def test_what_one_conformation_lacks(make, ensemble):
    coords = ensemble.coords.copy()
    coords[:, 4, CB] = np.nan
    coords[2, 9, CB] = np.nan
    found = backbone_of(make(replace(ensemble, coords=coords)))
    if make is to_mdtraj:
        coords[:, 9, CB] = np.nan  # a trajectory has every atom in every frame
    np.testing.assert_allclose(found.coords, coords, atol=1e-3)


def test_a_deposited_entry_is_what_its_file_is(entry):
    expected = extract_domain(read_structure(entry), "A", "", "x")
    assert_same(backbone_of(PDBFile.read(entry).get_structure(1, altloc="all", extra_fields=["occupancy"])), expected)
    structure = PDBParser(QUIET=True).get_structure("x", entry)
    for part in (structure, structure[0], structure[0]["A"]):
        assert_same(backbone_of(part), expected)
    if entry.stem == "1ubi":  # mdtraj reads no alternative locations
        assert_same(backbone_of(mdtraj.load(str(entry))), expected)


def odd_lines(altlocs):
    """Two chains with modified and mirrored residues, an insertion, missing atoms, and an amino acid as a ligand."""
    coords = helix(14)
    lines = residue_lines(coords[0], "MSE", number=-1, hetero=True)
    for index in range(1, 14):
        name = {4: "DAL", 7: "SEP"}.get(index, "ALA")
        options = {"number": 5 if index == 6 else index, "insertion": "A" if index == 6 else ""}
        if index == 9 and altlocs:
            lines += residue_lines(coords[index], name, altloc="A", occupancy=0.4, **options)
            lines += residue_lines(coords[index] + 0.2, name, altloc="B", occupancy=0.6, **options)
        else:
            atoms = {2: ("CA",), 11: ("N", "CA", "C")}.get(index, ("N", "CA", "C", "O", "CB"))
            lines += residue_lines(coords[index], name, atoms=atoms, hetero=index in (4, 7), **options)
    free = residue_lines(coords[0] + 40, "GLU", number=900, hetero=True)
    return [*lines, "TER", *chain_lines(coords[:9] + 50, chain="B"), *free]


@pytest.mark.parametrize("altlocs", [True, False])
def test_odd_structures_are_what_their_file_is(tmp_path, altlocs):
    lines = odd_lines(altlocs)
    path = write(tmp_path / "x.pdb", ["MODEL        1", *lines, "ENDMDL", "MODEL        2", *lines, "ENDMDL"])
    parsed = read_structure(path)
    objects = [PDBParser(QUIET=True).get_structure("x", path)]
    file = PDBFile.read(path)
    if altlocs:
        objects.append(file.get_structure(1, altloc="all", extra_fields=["occupancy"]))
    else:
        objects += [file.get_structure(), file.get_structure(2), mdtraj.load(str(path)), mdtraj.load(str(path))[1]]
    for held in objects:
        assert chains_of(held) == ["A", "B"]
        for chain in "AB":
            expected = extract_domain(parsed, chain, "", "x")
            found = backbone_of(held, chain)
            assert_same(found, expected if found.models == 2 else expected.model(0), ids=not hasattr(held, "topology"))


@pytest.mark.parametrize("make", MAKERS)
def test_round_trip_of_odd_structures(tmp_path, make):
    parsed = read_structure(write(tmp_path / "x.pdb", odd_lines(True)))
    for chain in "AB":
        backbone = extract_domain(parsed, chain, "", "x")
        assert_same(backbone_of(make(backbone)), backbone, ids=make is not to_mdtraj)


def test_other_programs_measure_what_we_hold(ensemble):
    """Distances, torsions and atoms of the objects by the packages' own functions."""
    from biotite.structure import dihedral_backbone

    from cvae_protein.core.geometry import torsions

    phi = torsions(ensemble.coords[:1], ensemble.breaks)[0][:, 0]
    one = ensemble.model(0)
    np.testing.assert_allclose(dihedral_backbone(to_biotite(one))[0][1:], phi[1:], atol=1e-3)
    np.testing.assert_allclose(mdtraj.compute_phi(to_mdtraj(one))[1][0], phi[1:], atol=1e-3)
    assert to_mdtraj(one).topology.n_bonds == to_mdtraj(one).n_atoms - 1
    steps = [a["CA"] - b["CA"] for a, b in zip(*([list(to_biopython(one)[0]["A"])[i:] for i in (0, 1)]), strict=False)]
    np.testing.assert_allclose(steps, np.linalg.norm(np.diff(one.ca[0], axis=0), axis=-1), atol=1e-3)


def test_chains_and_ranges(ensemble):
    first = to_biotite(ensemble.model(0))
    second = to_biotite(ensemble.model(1))
    second.chain_id[:] = "B"
    both = first + second
    assert chains_of(both) == ["A", "B"]
    assert_same(backbone_of(both, "B"), ensemble.model(1))
    assert backbone_of(both, "B", "5-9,20-21").residue_ids == ("5", "6", "7", "8", "9", "20", "21")
    with pytest.raises(StructureError, match="expected the name of one of A, B"):
        backbone_of(both)
    with pytest.raises(StructureError, match="no chain 'C'"):
        backbone_of(both, "C")


def test_many_frames_come_in_parts(ensemble, monkeypatch):
    monkeypatch.setattr("cvae_protein.io.objects.FRAMES_AT_ONCE", 3)
    assert_same(backbone_of(to_biotite(ensemble)), ensemble)


def test_other_objects_are_refused(ensemble):
    assert backbone_of(ensemble) is ensemble
    with pytest.raises(TypeError, match=r"Trajectory of mdtraj.*got builtins\.str"):
        backbone_of("1ubi.pdb")
    with pytest.raises(StructureError, match="no amino acid"):
        backbone_of(to_biotite(Backbone("x", "A", np.zeros((1, 1, 5, 3)), ("1",)))[:0])


def test_packages_are_loaded_where_they_are_used():
    program = (
        "import sys, cvae_protein.io.objects; print([m for m in ('mdtraj', 'Bio', 'biotite') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"
