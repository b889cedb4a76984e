"""The how-to on conformations, run from its first line to its last, with fewer conformations and shorter relaxation."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
from synthetic import DATA

from cvae_protein.cli.main import run
from cvae_protein.core.files import read_table

PAGE = (Path(__file__).parents[2] / "docs/how-to/conformations.md").read_text(encoding="utf-8")
FEW = ["--settings", '{"relax_steps": 20}']


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "1ubi.cif.gz", tmp_path / "structure.cif.gz")
    page = PAGE.replace("structure.pdb", "structure.cif.gz").replace("n=50", "n=4").replace("-n 50", "-n 4")
    names: dict = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.S)[0], names)
    assert names["near"].trajectory.n_frames == 4
    assert {path.name for path in tmp_path.glob("drawn.*")} == {"drawn.pdb", "drawn.xtc"}
    (tmp_path / "structures").mkdir()
    shutil.copy(DATA / "1ubi.cif.gz", tmp_path / "structures/1ubq.cif.gz")
    (tmp_path / "known.tsv").write_text(
        "domain_id\tpdb_id\tchain\tresidue_range\n1ubqA00\t1ubq\tA\t\n", encoding="utf-8"
    )
    words = "featurize --input structures --domains known.tsv -o domains.h5 --rejected no.tsv"
    assert run(words.split()) == 0
    table = [re.findall(r"[^|]+", line) for line in page.splitlines() if line.startswith("|") and "--" not in line]
    rows = [[cell.strip() for cell in row] for row in table]
    for row in rows[1:]:  # any structure does, where the page names those of a stranger
        shutil.copy(DATA / "1ubi.cif.gz", tmp_path / f"structures/{row[1]}.cif.gz")
        row[4] = row[4].replace("1-214", "1-76")
    (tmp_path / "ensembles.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n", encoding="utf-8")
    calls = [shlex.split(line)[1:] for line in page.splitlines() if line.startswith("    cvae-protein ")]
    assert [words[0] for words in calls] == ["sample", "sample", "rmsf", "ensemble", "featurize"]
    for words in calls:
        assert run([*words, *(FEW if words[0] == "sample" else []), "--force"]) == 0
    fluctuations = read_table(tmp_path / "near/rmsf.tsv", ["residue", "rmsf"])
    assert len(fluctuations) == 76
    assert 0.5 < np.mean([float(row["rmsf"]) for row in fluctuations]) < 2.5
    assert (tmp_path / "rejected.tsv").read_text(encoding="utf-8").count("\n") == 1  # its header
