"""A folder as a person has it: structure files and a store of labelled domains; the package's model, loaded once."""

import shutil
from pathlib import Path

import pytest

import cvae_protein as cvae

TABLE = """domain_id\tpdb_id\tchain\tresidue_range\tcath
1ubi_A\t1ubi\tA\t\t3.10.20.90
1ejg_A\t1ejg\tA\t\t3.30.1350.10
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """`structures/`, `domains.tsv` and `domains.h5`."""
    place = tmp_path_factory.mktemp("api")
    data = Path(__file__).parents[2] / "data"
    shutil.copytree(data, place / "structures", ignore=shutil.ignore_patterns("*.md"))
    (place / "domains.tsv").write_text(TABLE)
    cvae.featurize(place / "structures", place / "domains.tsv").to(place / "domains.h5")
    return place


@pytest.fixture(scope="session")
def model():
    return cvae.load("pretrained")


@pytest.fixture(scope="session")
def samples(model):
    """Two samples of 60 residues and one of 50, of two classes."""
    return model.sample(fold="2", length=60, n=2) + model.sample(fold="1", length=50)
