import sys
from dataclasses import replace

import numpy as np
import pytest
from score_synthetic import backbone, chain, moved
from tmtools import tm_align

from cvae_protein.config.settings import DesignSettings, ScoreSettings
from cvae_protein.core.errors import UserError
from cvae_protein.io.write import write_pdb
from cvae_protein.score import designability as module
from cvae_protein.score.designability import assess, command, compare, length_bin

DESIGNER = """
import numpy, sys
with numpy.load(sys.argv[1]) as file, open(sys.argv[2], "w") as out:
    out.write("id\\tdesign\\tsequence\\tnll\\trecovery\\n")
    for name in [name for name in file.files if not name.startswith("native/")]:
        for design in range(1, 3):
            out.write(f"{name}\\t{design}\\t{'A' * len(file[name])}\\t{design / 10}\\t0.5\\n")
"""
PREDICTOR = """
import pathlib, shutil, sys
names = [line[1:].strip() for line in open(sys.argv[1]) if line[0] == ">"]
open(LOG, "a").write(f"{len(names)}\\n")
for name in names:
    shutil.copy(pathlib.Path(FOLDER) / f"{name[-1]}.pdb", pathlib.Path(sys.argv[2]) / f"{name}.pdb")
"""
SCORES = ScoreSettings(bootstrap=20)


@pytest.fixture
def tools(tmp_path):
    """A designer of poly-alanine and a predictor that answers design 1 and 2 with a poor and a good copy."""
    own = chain(60, 1)
    for name, noise in (("1", 3.0), ("2", 0.4)):
        near = moved(own + np.random.default_rng(int(name)).normal(0, noise, own.shape))
        write_pdb([backbone(near)], tmp_path / f"{name}.pdb")
    (tmp_path / "designer.py").write_text(DESIGNER)
    text = PREDICTOR.replace("FOLDER", repr(str(tmp_path))).replace("LOG", repr(str(tmp_path / "calls")))
    (tmp_path / "predictor.py").write_text(text)
    programs = [f"{sys.executable} {tmp_path / name}.py {{}} {{}}" for name in ("designer", "predictor")]
    return DesignSettings(designer=programs[0], predictor=programs[1], number=2), backbone(own, "own"), tmp_path


def trace_of(path):
    lines = [line for line in path.read_text().splitlines() if line[:4] == "ATOM" and line[12:16].strip() == "CA"]
    return np.array([[float(line[k : k + 8]) for k in (30, 38, 46)] for line in lines])


def test_the_best_design_counts_and_agrees_with_tm_align(tools):
    settings, own, folder = tools
    rows, table = assess([own], ["3.10"], settings, SCORES, folder / "cache")
    found = table[0]
    assert compare(own, folder / "2.pdb")[0] < 1 < compare(own, folder / "1.pdb")[0]
    aligned = tm_align(trace_of(folder / "2.pdb"), own.ca[0].astype(float), "A" * 60, "A" * 60, ["A" * 60] * 2)
    assert float(found["sc_tm"]) == pytest.approx(aligned.tm_norm_chain1, abs=1e-3)
    assert float(found["sc_rmsd"]) == pytest.approx(aligned.rmsd, abs=1e-3)
    assert (found["designable"], found["design_nll"], found["design_recovery"]) == ("1", "0.15", "0.5")
    kept = {(row.metric, row.fold) for row in rows}
    assert {("designable", "all"), ("designable", "3"), ("designable", "length_to_79")} <= kept


def test_what_is_there_is_not_made_again(tools):
    settings, own, folder = tools
    first = assess([own], ["3"], settings, SCORES, folder / "cache")
    (folder / "designer.py").write_text("raise SystemExit(1)")
    assert assess([own], ["3"], settings, SCORES, folder / "cache") == first
    next((folder / "cache/predicted").glob("*_2.pdb")).unlink()
    assert assess([own], ["3"], settings, SCORES, folder / "cache") == first
    assert (folder / "calls").read_text().split() == ["2", "1"]
    other = backbone(moved(chain(60, 1)), "other")  # another place in space is another input
    with pytest.raises(UserError, match="failed with exit code 1"):
        assess([other], ["3"], settings, SCORES, folder / "cache")


def test_without_a_predictor_nothing_is_called_designable(tools):
    settings, own, folder = tools
    rows, table = assess([own], [""], replace(settings, predictor=""), SCORES, folder / "cache")
    assert {row.metric for row in rows} == {"design_nll", "design_recovery"}
    assert table[0].keys() == set(module.STRUCTURE_COLUMNS)  # which `designs.tsv` has
    assert table[0]["designable"] is None


def test_programs_that_do_not_do_as_they_should_are_told(tools):
    settings, own, folder = tools
    with pytest.raises(UserError, match="expected 3 sequences of 60 residues for each backbone, got 2"):
        assess([own], ["3"], replace(settings, number=3), SCORES, folder / "a")
    (folder / "predictor.py").write_text("")
    with pytest.raises(UserError, match=r"_1.pdb, and 1 more, found none"):
        assess([own], ["3"], settings, SCORES, folder / "b")
    with pytest.raises(UserError, match="cannot be started"):
        assess([own], ["3"], replace(settings, designer="/nowhere/x {} {}"), SCORES, folder / "c")
    with pytest.raises(UserError, match=r"a command with 2 times \{\}"):
        command("colabfold {}", "", folder, folder)
    write_pdb([backbone(chain(30))], folder / "short.pdb")
    with pytest.raises(UserError, match="expected 60 residues, found 30"):
        compare(own, folder / "short.pdb")


def test_adapters_are_called_by_their_name_in_their_python(tmp_path):
    call = command("proteinmpnn", "/env/bin/python", tmp_path / "a", tmp_path / "b")
    assert call[:3] == ["/env/bin/python", "-m", "cvae_protein.designability.proteinmpnn"]
    assert command("esmfold", "", tmp_path, tmp_path)[0] == sys.executable


@pytest.mark.parametrize(
    ("length", "name"),
    [(40, "length_to_79"), (80, "length_80_to_127"), (128, "length_from_128"), (900, "length_from_128")],
)
def test_bins_of_length(length, name):
    assert length_bin(length) == name


def test_every_adapter_has_its_file():
    folder = module.Path(module.__file__).parents[1] / "designability"
    assert sorted(path.stem for path in folder.glob("[a-z]*.py")) == sorted(module.ADAPTERS)
