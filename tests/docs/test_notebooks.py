"""The notebooks run from the first cell to the last, in a folder with two structures; what a cell ends with shows."""

import ast
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def run_cell(source, names):
    """What a cell ends with, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None  # noqa: S307


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_notebook(path, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "tests/data", tmp_path / "structures", ignore=shutil.ignore_patterns("*.md"))
    monkeypatch.chdir(tmp_path)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    names = {}
    shown = [run_cell("".join(cell["source"]), names) for cell in cells if cell["cell_type"] == "code"]
    assert len(shown) > 5
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code")
    for value in shown:
        assert value is not None
        assert getattr(value, "_repr_html_", value.__repr__)()


def test_there_are_both():
    assert [path.stem for path in NOTEBOOKS] == ["own_data", "sample_and_look"]
