"""RMSF of conformations: as a table, as B-factors of the mean structure, and on a page."""

import re

import gemmi
import numpy as np
import pytest

from cvae_protein.cli.main import run
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table
from cvae_protein.core.structure import Backbone
from cvae_protein.io.write import write_pdb
from cvae_protein.score.fluctuations import Fluctuations


def conformations(count=40, length=30, loose=5.0):
    """A helix, each time turned anew, whose last residue moves by `loose` Å along each axis and no other at all."""
    rng = np.random.default_rng(0)
    angles = np.radians(100 * np.arange(length))
    ca = np.stack([2.3 * np.cos(angles), 2.3 * np.sin(angles), 1.5 * np.arange(length)], axis=1)
    made = []
    for number in range(count):
        atoms = ca[:, None] + 0.5 * np.eye(5, 3)[None]
        atoms[-1] += loose * rng.standard_normal(3)
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        turn *= np.linalg.det(turn)
        ids = tuple(str(k) for k in range(11, 11 + length))
        made.append(Backbone(f"x{number}", "A" * length, (atoms @ turn)[None].astype(np.float32), ids))
    return made


def test_a_loose_end_fluctuates_and_the_rest_lies_on_itself():
    found = Fluctuations.of(conformations(loose=0.3))
    assert found.rmsf[-1] == pytest.approx(0.3 * np.sqrt(3), rel=0.2)
    assert found.rmsf[:-1].max() < 0.1
    steps = np.linalg.norm(np.diff(found.mean.coords[0, :, 1], axis=0), axis=1)
    np.testing.assert_allclose(steps[:-1], steps[0], atol=0.02)  # a mean of unlaid conformations would shrink
    np.testing.assert_allclose(found.b_factors, 8 * np.pi**2 / 3 * found.rmsf**2)
    assert Fluctuations.of(conformations(loose=20.0)).b_factors[-1] == 999.0


def test_conformations_of_two_lengths_and_one_alone_are_refused():
    with pytest.raises(UserError, match="expected two conformations or more of one length, got 1 of 30 residues"):
        Fluctuations.of(conformations(count=1))
    with pytest.raises(UserError, match="got 3 of 20 and 30 residues"):
        Fluctuations.of([*conformations(count=2), *conformations(count=1, length=20)])


def test_the_command_writes_table_structure_and_page(tmp_path):
    write_pdb(conformations(loose=1.0), tmp_path / "near.pdb")
    assert run(["rmsf", "--samples", str(tmp_path / "near.pdb"), "-o", str(tmp_path / "near")]) == 0
    rows = read_table(tmp_path / "near/rmsf.tsv", ["residue", "rmsf", "b_factor"])
    chain = gemmi.read_structure(str(tmp_path / "near/mean.pdb"))[0][0]
    assert [row["residue"] for row in rows] == [str(number) for number in range(11, 41)]
    assert [str(residue.seqid) for residue in chain] == [row["residue"] for row in rows]
    for row, residue in zip(rows, chain, strict=True):
        assert [atom.b_iso for atom in residue] == pytest.approx([float(row["b_factor"])] * 5, abs=0.011)
    page = (tmp_path / "near/page.html").read_text(encoding="utf-8")
    assert "RMSF of 40 conformations of 30 residues" in page
    assert page.count("</script>") == 2
    told = re.findall(r"<title>residue (\d+): (.+) Å</title>", page)
    assert [residue for residue, _ in told] == [row["residue"] for row in rows]
    assert [float(value) for _, value in told] == pytest.approx([float(row["rmsf"]) for row in rows], abs=0.006)
    named = [number for number in range(11, 41) if f">{number}</text>" in page]
    assert named == [11, 17, 23, 28, 34, 40]
    assert "ATOM" in page
