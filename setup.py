"""Beside the package itself, a wheel holds the workflow that `cvae-protein init` lays out."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FOLDERS = ("workflow", "config", "data")


class WithWorkflow(build_py):
    """The usual build of the package, and the workflow in `cvae_protein/laid_out`."""

    def run(self) -> None:
        """Copy the modules, then the folders of the workflow."""
        super().run()
        if self.editable_mode:
            return  # a checkout has them beside the package
        for folder in FOLDERS:
            place = Path(self.build_lib, "cvae_protein/laid_out", folder)
            shutil.copytree(folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))


setup(packages=find_packages(include=["cvae_protein*"]), cmdclass={"build_py": WithWorkflow})
