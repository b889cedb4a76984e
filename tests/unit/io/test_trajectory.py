import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cvae_protein.cli.main import run as call
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.io.objects import to_mdtraj
from cvae_protein.io.read import extract_domain, read_structure
from cvae_protein.io.trajectory import read_trajectory
from cvae_protein.io.write import write_pdb
from cvae_protein.store.read import Store

mdtraj = pytest.importorskip("mdtraj")
DATA = Path(__file__).parents[2] / "data"
FRAMES = 7


@pytest.fixture(scope="module")
def moving():
    """Ubiquitin in seven conformations."""
    whole = extract_domain(read_structure(DATA / "1ubi.cif.gz"), "A", "", "run")
    coords = whole.coords + np.random.default_rng(1).normal(scale=0.05, size=(FRAMES, len(whole), 5, 3))
    return replace(whole, coords=coords)


@pytest.fixture(scope="module")
def folder(moving, tmp_path_factory):
    """The same as mdtraj writes it, with a topology, and with water behind it as of a simulation."""
    folder = tmp_path_factory.mktemp("moving")
    write_pdb([moving.model(0)], folder / "run.pdb")
    trajectory = to_mdtraj(moving)
    topology = trajectory.topology.copy()
    water = topology.add_residue("HOH", topology.add_chain())
    topology.add_atom("O", mdtraj.element.oxygen, water)
    xyz = np.concatenate([trajectory.xyz, np.zeros((FRAMES, 1, 3))], axis=1)
    wet = mdtraj.Trajectory(
        xyz, topology, unitcell_lengths=np.full((FRAMES, 3), 9.0), unitcell_angles=[[90.0] * 3] * FRAMES
    )
    for name in ("run.xtc", "run.dcd", "run.trr", "run.nc"):
        wet.save(str(folder / name))
    wet[0].save_pdb(str(folder / "wet.pdb"))
    wet[0].save_gro(str(folder / "wet.gro"))
    wet.xyz[2:, wet.topology.select("resSeq 20 to 40")] -= [9.0, 0, 9.0]
    wet.save_xtc(str(folder / "cut.xtc"))
    return folder


@pytest.mark.parametrize("name", ["run.xtc", "run.dcd", "run.trr", "run.nc"])
def test_frames_are_conformations(folder, moving, name, monkeypatch):
    monkeypatch.setattr("cvae_protein.io.trajectory.FRAMES_AT_ONCE", 3)
    for stride in (1, 2, 4):
        (((chain, backbone),), lost) = read_trajectory(folder / name, folder / "wet.pdb", stride)
        assert (chain, lost, backbone.sequence) == ("A", "", moving.sequence)
        np.testing.assert_allclose(backbone.coords, moving.coords[::stride], atol=0.011)  # XTC keeps 0.01 Å
        assert backbone.residue_ids == moving.residue_ids


def test_a_topology_of_gromacs(folder, moving):
    (((_, backbone),), _) = read_trajectory(folder / "run.xtc", folder / "wet.gro")
    np.testing.assert_allclose(backbone.coords, moving.coords, atol=0.011)


@pytest.mark.parametrize("name", ["WET.PDB", "wet.ent", "wet.pdb.gz"])
def test_endings_of_a_topology(folder, moving, tmp_path, name):
    content = (folder / "wet.pdb").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (((_, backbone),), _) = read_trajectory(folder / "run.xtc", tmp_path / name)
    np.testing.assert_allclose(backbone.coords, moving.coords, atol=0.011)


def test_a_chain_that_the_box_cuts_is_made_whole(folder, moving):
    (((_, backbone),), _) = read_trajectory(folder / "cut.xtc", folder / "wet.pdb")
    assert not backbone.breaks.any()
    np.testing.assert_allclose(np.diff(backbone.ca, axis=1), np.diff(moving.ca, axis=1), atol=0.03)


def test_what_cannot_be_read_is_told(folder, tmp_path):
    with pytest.raises(UserError, match=r"run\.xtc: \d+ atoms a frame, and \d+ in .*run\.pdb"):
        read_trajectory(folder / "run.xtc", folder / "run.pdb")
    with pytest.raises(UserError, match="found no file at"):
        read_trajectory(folder / "run.xtc", folder / "nosuch.pdb")
    (tmp_path / "t.pdb").write_text("no atoms\n")
    with pytest.raises(UserError, match="not readable as a topology"):
        read_trajectory(folder / "run.xtc", tmp_path / "t.pdb")


def test_the_commands(folder, moving, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    common = ["-o", "x.h5", "--rejected", "x.tsv"]
    run = ["featurize", "--input", str(folder / "run.xtc")]
    assert call([*run, "--topology", str(folder / "wet.pdb"), "--stride", "3", *common]) == 0
    with Store(tmp_path / "x.h5") as store:
        assert store.ids == ["run_A"]
        assert store.backbone("run_A").models == 3
        assert store.fact("run_A", "method") == "simulation"
    assert read_table(tmp_path / "x.tsv") == []
    write_pdb([moving], tmp_path / "models.pdb")
    assert call(["featurize", "--input", "models.pdb", "--stride", "2", "-o", "m.h5", "--rejected", "m.tsv"]) in (
        0,
        None,
    )
    with Store(tmp_path / "m.h5") as store:
        assert store.backbone("models_A").models == 4
    wild = replace(moving, coords=moving.coords * np.linspace(1, 1.4, FRAMES)[:, None, None, None])
    write_pdb([wild], tmp_path / "wild.pdb")
    to_mdtraj(wild).save_dcd(str(tmp_path / "wild.dcd"))
    for reference in (["wild.dcd", "--topology", "wild.pdb"], ["wild.pdb"]):
        out = f"{len(reference)}.tsv"
        assert call(["ensemble", "--samples", "wild.pdb", "--reference", *reference, "-o", out]) == 0
        rows = {row["metric"]: row for row in read_table(tmp_path / out)}
        assert (rows["state_coverage"]["note"], float(rows["state_coverage"]["value"])) == ("7 states", 1)
        assert float(rows["state_rmsd"]["value"]) < 0.01
    assert call([*run, *common, "--force"]) == 1
    assert "expected --topology" in capsys.readouterr().err
