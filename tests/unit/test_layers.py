"""Who may import whom, read from the text of the imports; docs/architecture.md, law 2."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "cvae_protein"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

SHARED = {"errors", "files", "progress", "structure", "geometry", "settings", "dataset.store"}
SCIENCE_PARTY = {"numpy", "scipy", "gemmi", "mdtraj", "Bio", "biotite", "tmtools", "sklearn", "h5py", "hdf5plugin"}
LEARNING_PARTY = {"torch", "numpy", "h5py", "safetensors"}

# Files by the beginning of their path, the first that fits: own modules, and third parties, that they may import.
LAYERS = [
    ("errors.py", set(), set()),
    ("progress.py", set(), set()),
    ("settings/", {"settings"}, set()),
    ("files.py", {"errors"}, set()),
    ("gpu_slots.py", {"errors", "progress"}, set()),
    ("run_record.py", {"errors", "files"}, set()),
    ("resume.py", {"errors", "files", "progress", "run_record"}, set()),
    ("structure.py", {"errors"}, {"numpy"}),
    ("geometry.py", {"errors", "structure"}, {"numpy", "scipy"}),
    (
        "dataset/store",
        SHARED | {"dataset.store_file", "dataset.store_layout", "dataset.store_write"},
        {"numpy", "h5py", "hdf5plugin"},
    ),
    ("io/read.py", {"errors"}, {"biotite"}),
    ("dataset/fetch/download.py", {"errors", "dataset"}, {"httpx"}),
    ("dataset/fetch/download.py", SHARED | {"dataset"}, {"httpx"}),
    ("dataset/", SHARED | {"dataset"}, SCIENCE_PARTY),
    ("score/", SHARED | {"score", "dataset"}, SCIENCE_PARTY),
    ("report/", SHARED | {"report", "score", "export"}, SCIENCE_PARTY | {"matplotlib", "PIL", "jinja2", "markupsafe"}),
    ("model/", SHARED | {"model"}, LEARNING_PARTY),
    ("train.py", SHARED | {"model", "train", "loop"}, LEARNING_PARTY),
    ("sample.py", SHARED | {"model", "sample"}, LEARNING_PARTY),
    ("oracle.py", SHARED | {"model", "oracle"}, LEARNING_PARTY),
    ("loop.py", SHARED | {"model"}, LEARNING_PARTY),
    ("export.py", SHARED, {"numpy", "gemmi", "mdtraj"}),
    ("config_checks.py", {"settings"}, set()),
    ("config.py", {"config_checks", "errors", "settings"}, {"pydantic", "pydantic_core", "yaml"}),
    ("grid.py", {"config", "errors", "settings"}, set()),
    ("tune.py", SHARED | {"grid", "train"}, {"optuna", "yaml"}),
    ("job_record.py", {"files"}, set()),
    ("manifest.py", {"errors", "files", "job_record"}, set()),
    ("reproduce.py", {"errors", "job_record", "manifest"}, {"yaml"}),
    ("schema.py", {"config", "settings"}, {"yaml"}),
    ("commands/", None, {"typer"}),
    ("cli.py", {"commands", "errors", "job_record"}, {"typer"}),
    ("__init__.py", set(), set()),
]


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


def layer(name):
    return next((rule for rule in LAYERS if name.startswith(rule[0])), None)


def is_below(module, allowed):
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("name", FILES)
def test_imports_stay_within_the_layer(name):
    rule = layer(name)
    assert rule, f"{name} stands in no layer: add it to LAYERS"
    _, own_allowed, third_allowed = rule
    own, third = imports(name)
    assert "cvae_protein" not in third, "import own modules relatively"
    assert third <= third_allowed, f"{name} imports {sorted(third - third_allowed)}"
    if own_allowed is not None:
        wrong = sorted(module for module in own if not is_below(module, own_allowed))
        assert not wrong, f"{name} imports {wrong}"


def test_commands_import_stages_when_they_run():
    for path in sorted((PACKAGE / "commands").glob("*.py")):
        top = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom) and node.level == 2
        ]
        assert {node.module for node in top} <= {"errors", "files", "progress"}, path.name


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("dataset.features", ["torch", "typer", "pydantic"]),
        ("dataset.split", ["torch"]),
        ("score.table", ["torch"]),
        ("report.page", ["torch"]),
        ("export", ["torch"]),
        ("score.sweep", ["torch"]),
        ("tune", ["optuna", "gemmi", "mdtraj", "snakemake", "typer"]),
        ("train", ["gemmi", "mdtraj", "Bio", "pydantic", "snakemake", "typer", "scipy"]),
        ("sample", ["gemmi", "mdtraj", "Bio", "pydantic", "snakemake", "typer"]),
        ("oracle", ["gemmi", "mdtraj", "Bio", "pydantic", "snakemake", "typer", "scipy"]),
        ("cli", ["torch", "numpy", "pydantic", "h5py", "gemmi", "rich"]),
    ],
)
def test_what_a_stage_loads(module, absent):
    program = f"import sys, cvae_protein.{module}; print([m for m in {absent!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
