"""Secondary structure beside two programs of others, on real files, and in closed cases."""

import shutil
from dataclasses import replace

import gemmi
import mdtraj
import numpy as np
import pytest
from synthetic import DATA, helix

from cvae_protein.core.secondary_structure import secondary_structure, secondary_structures
from cvae_protein.core.structure import Backbone
from cvae_protein.io.read import extract_domain, read_structure

EMBEDDED = DATA.parents[1] / "data/embedded"


@pytest.fixture(scope="module")
def ubiquitin():
    return extract_domain(read_structure(DATA / "1ubi.cif.gz"), "A", "", "1ubi")


@pytest.mark.parametrize("name", ["1ubi", "1ejg"])
@pytest.mark.filterwarnings("ignore:Unlikely unit cell")
def test_that_of_mdtraj_from_the_file(tmp_path, name):
    structure = gemmi.read_structure(str(DATA / f"{name}.cif.gz"))
    structure.remove_alternative_conformations()
    for residue in structure[0][0]:
        if residue.name == "PRO":  # a proline gives bonds as every residue does
            residue.name = "ALA"
    structure.write_pdb(str(tmp_path / "x.pdb"))
    expected = mdtraj.compute_dssp(mdtraj.load(str(tmp_path / "x.pdb")), simplified=False)[0]
    backbone = extract_domain(read_structure(tmp_path / "x.pdb"), "A", "", "x")
    (found,) = secondary_structure(backbone)
    assert found == "".join(expected).replace(" ", "-")
    assert {"H", "E", "T"} <= set(found)


FILES = sorted(path.relative_to(EMBEDDED).as_posix() for path in EMBEDDED.rglob("*.cif.gz"))


@pytest.mark.parametrize("name", FILES[::10])
def test_that_of_mdtraj_for_ensembles_and_broken_chains(name):
    structure = read_structure(EMBEDDED / name)
    backbone = extract_domain(structure, structure.chains[0], "", "x")
    coords = backbone.coords.copy()
    coords[:, len(backbone) // 3, 1] = np.nan  # leaves a residue out, and breaks the chain
    topology = mdtraj.Topology()
    complete = [index for index in range(len(backbone)) if index != len(backbone) // 3 and backbone.complete[index]]
    after_break = set()
    for place, index in enumerate(complete):
        if not place or index != complete[place - 1] + 1 or backbone.breaks[index - 1]:
            chain = topology.add_chain()
            after_break.add(index)
        # mdtraj makes the hydrogen behind a break from the carbonyl before it; we make none, as for a proline.
        residue = topology.add_residue("PRO" if index in after_break else "ALA", chain)
        for atom in ("N", "CA", "C", "O"):
            topology.add_atom(atom, mdtraj.element.carbon, residue)
    positions = coords[:, complete, :4].reshape(backbone.models, -1, 3) / 10
    expected = mdtraj.compute_dssp(mdtraj.Trajectory(positions, topology), simplified=False)
    found = secondary_structure(Backbone("x", backbone.sequence, coords, backbone.residue_ids))
    assert ["".join(np.array(list(row))[complete]).replace("-", " ") for row in found] == ["".join(r) for r in expected]


@pytest.mark.skipif(shutil.which("mkdssp") is None, reason="needs the program mkdssp (Debian: apt-get install dssp)")
@pytest.mark.parametrize("path", [DATA / "1ubi.cif.gz", DATA / "1ejg.cif.gz"], ids=lambda path: path.name)
def test_that_of_mkdssp(tmp_path, monkeypatch, path):
    monkeypatch.syspath_prepend(DATA.parents[1] / "benchmarks")
    from featurize_peers import mkdssp

    backbone = extract_domain(read_structure(path), "A", "", "x")
    expected = mkdssp(replace(backbone, sequence="A" * len(backbone)), tmp_path).replace(
        "P", "-"
    )  # a polyproline helix, which DSSP knows since 4.0
    assert secondary_structure(backbone) == (expected,)


def test_an_ideal_helix():
    backbone = Backbone("x", "A" * 20, helix(20)[None], tuple(map(str, range(20))))
    assert secondary_structure(backbone)[0][2:-2] == "H" * 16


def test_an_ensemble(ubiquitin):
    both = np.concatenate([ubiquitin.coords, helix(76)[None]])
    found = secondary_structure(Backbone("x", ubiquitin.sequence, both, ubiquitin.residue_ids))
    assert found[0] == secondary_structure(ubiquitin)[0]
    assert found[1][2:17] == "H" * 15


@pytest.mark.parametrize("length", range(9))
def test_chains_too_short_for_any_pattern(length):
    backbone = Backbone("x", "A" * length, helix(length)[None] if length else np.zeros((1, 0, 5, 3)), ("1",) * length)
    assert len(secondary_structure(backbone)[0]) == length


def test_incomplete_residues_are_not_assigned(ubiquitin):
    coords = ubiquitin.coords.copy()
    coords[0, [5, 30], 3] = np.nan
    found = secondary_structure(Backbone("x", ubiquitin.sequence, coords, ubiquitin.residue_ids))[0]
    assert [index for index, letter in enumerate(found) if letter == "?"] == [5, 30]
    gone = Backbone("x", ubiquitin.sequence, np.full_like(coords, np.nan), ubiquitin.residue_ids)
    assert secondary_structure(gone) == ("?" * 76,)


def test_chains_at_once_are_as_one_by_one():
    backbones = []
    for number, name in enumerate(FILES[::12]):
        structure = read_structure(EMBEDDED / name)
        backbone = extract_domain(structure, structure.chains[0], "", "x")
        coords = backbone.coords.copy()
        coords[:, number % 50, 1] = np.nan
        backbones += [backbone, replace(backbone, coords=coords)]
    nothing = Backbone("x", "", np.zeros((1, 0, 5, 3)), ())
    gone = Backbone("x", "AA", np.full((2, 2, 5, 3), np.nan), ("1", "2"))
    backbones = [nothing, *backbones, gone, nothing]
    assert secondary_structures(backbones) == [secondary_structure(one) for one in backbones]
    assert secondary_structures([nothing, nothing]) == [("",), ("",)]
