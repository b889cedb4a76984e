"""Commands that print the figures of the documentation keep up with the package."""

import ast
from importlib import import_module
from pathlib import Path

import pytest
from reference import ROOT

SCRIPTS = [path for folder in ("benchmarks", "experiments", "tools") for path in sorted((ROOT / folder).glob("*.py"))]


def imported_of_ours(path: Path) -> list[tuple[str, str]]:
    """Module and name of everything that a script takes from the package, wherever in the file."""
    statements = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
    ]
    return [
        (node.module, alias.name)
        for node in statements
        if node.module and node.module.split(".")[0] == "cvae_protein"
        for alias in node.names
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_a_script_takes_from_the_package_is_there(path: Path) -> None:
    for module, name in imported_of_ours(path):
        assert hasattr(import_module(module), name) or import_module(f"{module}.{name}"), f"{module}: no {name}"
