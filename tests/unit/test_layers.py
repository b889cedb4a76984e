"""Who may import whom, one rule per folder, in the table of docs/architecture.md, and the text of the imports."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cvae_protein"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def rules():
    """By the beginning of a path: own folders or files besides its own (`None` for any), and third parties."""
    text = (PACKAGE.parent / "docs/architecture.md").read_text(encoding="utf-8")
    table = text.split("## Who imports whom")[1].split("\n## ")[0]
    found = {}
    for path, own, third in re.findall(r"^\| `(.*?)` \| (.*?) \| (.*?) \|$", table, re.M):
        found[path] = None if own == "any" else re.findall("`(.*?)`", own), set(re.findall("`(.*?)`", third))
    return found


RULES = rules()


def imports(name):
    """Own modules (dotted, below the package) and third parties that a file of the package imports anywhere."""
    own, third = set(), set()
    path = PACKAGE / name
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            third |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            third.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1]
            base = [*folder.relative_to(PACKAGE).parts, *(node.module or "").split(".")]
            base = [part for part in base if part]
            for alias in node.names:
                deeper = PACKAGE.joinpath(*base, alias.name)
                is_module = deeper.with_suffix(".py").is_file() or deeper.is_dir()
                own.add(".".join([*base, alias.name] if is_module else base))
    return own - {""}, {module for module in third if module not in sys.stdlib_module_names}


def rule_of(name):
    return RULES[max((start for start in RULES if name.startswith(start)), key=len)]


def is_below(module, allowed):
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("name", FILES)
def test_imports_stay_within_the_rule_of_the_folder(name):
    own_allowed, third_allowed = rule_of(name)
    own, third = imports(name)
    assert "cvae_protein" not in third, "import own modules relatively"
    assert third <= third_allowed, f"{name} imports {sorted(third - third_allowed)}"
    if own_allowed is not None:
        wrong = sorted(module for module in own if not is_below(module, (*own_allowed, name.split("/")[0])))
        assert not wrong, f"{name} imports {wrong}"


def test_every_folder_has_its_rule():
    folders = {name.split("/")[0] for name in FILES if "/" in name}
    assert folders == {start.split("/")[0] for start in RULES if "/" in start}


def test_files_that_the_architecture_names_are_there():
    text = (PACKAGE.parent / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_/]+\.py)`", text))
    there = {f"/{path.relative_to(PACKAGE.parent).as_posix()}" for path in PACKAGE.parent.glob("*/**/*.py")}
    assert [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in there)] == []


def test_folders_import_each_other_one_way():
    """No folder imports one that imports it, by any way round."""
    below = {}
    for name in FILES:
        if "/" in name:
            folder = name.split("/")[0]
            below.setdefault(folder, set()).update(module.split(".")[0] for module in imports(name)[0])
    done = set()
    while remaining := {folder: below[folder] - {folder} - done for folder in below.keys() - done}:
        free = {folder for folder, others in remaining.items() if not others}
        assert free, f"folders that import each other in a circle: {remaining}"
        done |= free


def test_what_defines_nothing_is_empty():
    """A folder's `__init__.py` holds its docstring: names are imported from the file that defines them."""
    for name in FILES:
        if name.endswith("/__init__.py"):
            assert len(ast.parse((PACKAGE / name).read_text(encoding="utf-8")).body) == 1, name


def test_commands_import_stages_when_they_run():
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        top = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom) and node.level == 2
        ]
        stages = {node.module for node in top if not str(node.module).startswith("core.")}
        assert stages <= {"config.settings"}, path.name


ABSENT = ["gemmi", "mdtraj", "Bio", "pydantic", "snakemake", "typer"]  # from the side that learns


@pytest.mark.parametrize(
    "stages",
    [
        [
            ("dataset.featurize", ["torch", "typer", "pydantic"]),
            ("dataset.split", ["torch"]),
            ("io.write", ["torch"]),
            ("score.score", ["torch"]),
            ("report.page", ["torch"]),
        ],
        [
            ("training.train", [*ABSENT, "scipy"]),
            ("training.fold_classifier", [*ABSENT, "scipy"]),
            ("sampling.sample", ABSENT),
        ],
        [("runs.tune", ["optuna", "gemmi", "mdtraj", "snakemake", "typer"])],
        [("api.model", ["torch", "pandas", "pydantic", "h5py", "gemmi"])],
        [("cli.main", ["torch", "numpy", "pydantic", "h5py", "gemmi", "rich"])],
    ],
    ids=lambda stages: ", ".join(module for module, _ in stages),
)
def test_what_stages_load(stages):
    """Loaded one after the other in one process: what is absent after the last was absent after each."""
    program = "import sys\n" + "".join(
        f"import cvae_protein.{module}; print([m for m in {absent!r} if m in sys.modules])\n"
        for module, absent in stages
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[]"] * len(stages)
