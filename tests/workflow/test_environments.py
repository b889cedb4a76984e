"""Every way to install the programs of a run gives the versions of requirements.txt, and the package itself."""

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "workflow/envs"
LOCKED = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]


def test_lock_file_pins_everything_to_one_version():
    assert all(re.fullmatch(r"[\w.-]+==[\w.!+-]+", line) for line in LOCKED)
    names = [re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in LOCKED]
    assert len(set(names)) == len(names)


def test_conda_environment_is_the_lock_file():
    *_, python_packages = yaml.safe_load((ENVS / "cvae_protein.yaml").read_text())["dependencies"]
    assert python_packages == {"pip": LOCKED}, "make envs"


def test_container_installs_the_lock_file_and_the_package():
    text = (ENVS / "cvae_protein.def").read_text()
    copied = dict(re.findall(r"^    (\S+) (/opt/\S+)$", text, re.M))
    assert all((ROOT / name).exists() for name in copied)
    assert f"--requirement {copied['requirements.txt']}\n" in text
    assert "--no-deps /opt/cvae_protein\n" in text


def deploy(tmp_path, **variables):
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    script = ENVS / "cvae_protein.post-deploy.sh"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", **variables}
    return subprocess.run(["bash", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_the_package_goes_into_the_conda_environment(tmp_path):
    done = deploy(tmp_path, CVAE_PROTEIN_SOURCE=str(ROOT))
    assert done.stdout.split()[-2:] == ["--editable", str(ROOT)]
    refused = deploy(tmp_path)
    assert refused.returncode == 1
    assert f"{tmp_path}: expected the folder of cvae_protein" in refused.stderr
