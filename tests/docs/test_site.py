"""The site is built strictly, needs no network, and has the pages that are generated."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cvae_protein.cli.options import app

ROOT = Path(__file__).parents[2]
FETCHED = re.compile(
    r"""<(?:script|img|iframe)[^>]+src=["']?(?:https?:)?//|<link[^>]+rel=["']?(?:stylesheet|preconnect)[^>]+//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_no_page_fetches_anything(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        found = FETCHED.search(page.read_text(encoding="utf-8"))
        assert not found, f"{page.name}: {found[0]}"
    assert "assets/iframe-worker/index.js" in (site / "how-to/cluster.html").read_text(encoding="utf-8")


def test_reference_pages_are_generated(site):
    commands = (site / "reference/cli.html").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f">{command.callback.__name__.replace('_', '-')}<" in commands
    python = (site / "reference/python.html").read_text(encoding="utf-8")
    for name in ("Model.interpolate", "Structures.to", "read_store", "score"):
        assert name in python
    assert "guidance" in (site / "reference/configuration.html").read_text(encoding="utf-8")
    assert (site / "search/search_index.js").is_file()  # read without a server
