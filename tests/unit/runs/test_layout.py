"""A folder to run in, from a checkout; from a wheel in `tests/packaging`."""

import pytest

from cvae_protein.cli import main
from cvae_protein.core.errors import UserError
from cvae_protein.runs.layout import lay_out


def test_init_lays_out_what_a_run_needs(tmp_path, capsys, root):
    folder = tmp_path / "project"
    assert main.run(["init", str(folder)]) == 0
    assert capsys.readouterr().err.startswith(f"init: wrote {folder}/workflow")
    for name in ("workflow/Snakefile", "workflow/rules/common.smk", "config/config.yaml", "data/domains.tsv"):
        assert (folder / name).read_bytes() == (root / name).read_bytes()
    assert list((folder / "data/embedded").iterdir())


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="expected a new or empty folder"):
        lay_out(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
