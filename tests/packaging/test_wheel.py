"""The wheel works outside the checkout: it draws, and lays out a workflow that plans a run."""

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

NOT_IN_CORE = [
    "biotite",
    "scipy",
    "pandas",
    "sklearn",
    "Bio",
    "httpx",
    "snakemake",
    "hdf5plugin",
    "tmtools",
    "numba",
    "matplotlib",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory, root_of_project):
    """An empty folder beside an environment in which the wheel is installed; what it needs is this environment's."""
    folder = tmp_path_factory.mktemp("outside")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root_of_project, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if (root_of_project / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root_of_project / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", folder / "source", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "env", with_pip=False)
    (library,) = (folder / "env/lib").glob("python*/site-packages")
    (wheel,) = folder.glob("*.whl")
    install = [*pip, f"--python={folder}/env/bin/python", "install", "--no-deps", wheel]
    subprocess.run(install, check=True, env=clean_environment(), cwd=folder)
    own = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (library / "needed.pth").write_text("".join(f"{path}\n" for path in own))
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def root_of_project():
    return Path(__file__).parents[2]


def clean_environment():
    """The environment without what leads Python to the checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def call(place, *words, program="cvae-protein", folder="empty"):
    environment = clean_environment()
    environment["PATH"] = f"{place}/env/bin:{Path(sys.executable).parent}:{environment['PATH']}"
    script = place / "env/bin" / program
    return subprocess.run([script, *words], cwd=place / folder, env=environment, capture_output=True, text=True)


def test_the_installed_package_is_the_one_that_runs(place):
    found = call(place, "-c", "import cvae_protein; print(cvae_protein.__file__)", program="python")
    assert found.stdout.startswith(f"{place}/env/lib")
    assert call(place, "--version").stdout.startswith("cvae-protein 0.")


def test_it_draws_with_the_core_alone(place):
    blocked = (
        "import sys\n"
        f"class Blocked:\n    def find_spec(self, name, *_):\n        if name.split('.')[0] in {NOT_IN_CORE}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from cvae_protein.cli.main import main\nmain()\n"
    )
    words = [
        "-c",
        blocked,
        "sample",
        "--model",
        "pretrained",
        "--fold",
        "2",
        "--length",
        "50",
        "-n",
        "1",
        "-o",
        "x.pdb",
    ]
    found = call(place, *words, program="python")
    assert found.returncode == 0, found.stderr
    assert found.stderr.splitlines()[-1] == "sample: wrote x.pdb"
    assert (place / "empty/x.pdb").read_text().count(" CA ") == 50
    found = call(
        place, "-c", blocked, "score", "--samples", "x.pdb", "--reference", "y.h5", "-o", "z", program="python"
    )
    assert found.returncode == 1
    assert "is not installed: pip install 'cvae_protein[" in found.stderr


def test_init_lays_out_a_workflow_that_plans_a_run(place):
    assert call(place, "init", "project").returncode == 0
    found = call(place, "run", "--cores", "1", "-n", folder="empty/project")
    assert found.returncode == 0, found.stderr
    found = call(place, "run", "--cores", "1", "results/domains.tsv", folder="empty/project")
    assert found.returncode == 0, found.stderr
    assert len((place / "empty/project/results/domains.tsv").read_text().splitlines()) > 100
