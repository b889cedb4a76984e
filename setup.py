"""Beside the package itself, a wheel has the workflow that `cvae-protein init` lays out, as data of `cvae_protein.laid_out`."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

LAID_OUT = "cvae_protein.laid_out"
FOLDERS = ("workflow", "config", "data")

packages = find_namespace_packages(include=["cvae_protein*"])
places = {}
for folder in FOLDERS:
    for path in [Path(folder), *Path(folder).rglob("*")]:
        if path.is_dir() and not any(part.startswith((".", "__")) for part in path.parts):
            name = ".".join((LAID_OUT, *path.parts))
            places[name] = path.as_posix()
setup(
    packages=[*packages, *places],
    package_dir=places,
    package_data={name: ["*"] for name in places},
)
