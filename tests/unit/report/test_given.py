import pytest

from cvae_protein.config.settings import ReportSettings
from cvae_protein.core.files import write_rejected, write_table
from cvae_protein.report.given import OF_MODELS, given
from cvae_protein.report.page import render
from cvae_protein.report.results import Results
from cvae_protein.score.external import SAMPLE_COLUMNS


@pytest.fixture
def results(tmp_path):
    rows = [
        {"id": f"s{k}", "file": f"f{k // 2}.pdb", "model": 1, "chain": "A", "label": "", "length": 60 + k}
        | {"atoms": "CA alone" if k == 2 else "backbone", "duplicate_of": "s0" if k == 1 else ""}
        for k in range(3)
    ]
    place = tmp_path / "scores/designs/seed0"
    write_table(place / "samples.tsv", SAMPLE_COLUMNS, rows)
    lost = {"domain_id": "<b>x", "source": "x.pdb", "reason": "too_short", "detail": "3 residues"}
    write_rejected(place / "rejected.tsv", [lost])
    return Results(tmp_path, ["designs"], ["0"])


def test_what_was_given_is_counted(results, tmp_path):
    (found,) = given(results)
    assert (found["read"], found["files"], found["lost"], found["labelled"], found["repeated"]) == (3, 2, 1, 0, 1)
    assert found["lengths"] == (60, 62)
    assert found["atoms"] == [("backbone", 2), ("CA alone", 1)]
    assert given(Results(tmp_path / "run", ["concat"], ["0"])) is None


def test_the_page_of_a_set_speaks_of_no_models(results):
    page = render(results, ReportSettings())
    assert "3 structures of 2 files were read, of 60 to 62 residues" in page
    assert "autoencoder" not in page.split("</header>")[0]
    assert not [name for name in OF_MODELS if f'id="{name}"' in page or f'href="#{name}"' in page]
    assert 'id="given"' in page
    assert "No verdicts were given" not in page
    assert "demonstration" not in page.lower()
