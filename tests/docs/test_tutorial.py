"""The tutorial, run as it stands: its blocks one after the other in an empty folder, with an empty home."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.workflow
def test_the_tutorial_leads_to_samples_of_own_classes(tmp_path):
    blocks = BLOCK.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8"))
    assert [language for language, _ in blocks] == ["python", "bash", "bash", "python", "bash", "python"]
    lines = [f"python - <<'PYTHON'\n{text}PYTHON\n" if language == "python" else text for language, text in blocks]
    (tmp_path / "home").mkdir()
    environment = os.environ | {
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home/.cache"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    script = "set -e\n" + "".join(lines)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    project = tmp_path / "project"
    assert len(list((tmp_path / "first").glob("*.pdb"))) == 2
    assert (project / "results/report.html").stat().st_size > 100_000
    drawn = sorted(path.name for path in (project / "mine").iterdir())
    assert len(drawn) == 7  # six samples and their table
    assert "concat-0-helical-1-0000.cif" in drawn
    assert "physically_valid" in done.stdout
