"""What the small run, the profiles and the rules are made of."""

import re
from pathlib import Path

import pytest
import yaml

from cvae_protein.config.load import load
from cvae_protein.core.files import read_table

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "workflow/rules").glob("*.smk"))


def test_small_run_is_valid_and_of_embedded_domains():
    settings = load(ROOT / ".test/config/config.yaml")
    assert settings.labels.table == ".test/domains.tsv"
    embedded = {row["domain_id"]: row for row in read_table(ROOT / "data/domains.tsv")}
    for row in read_table(ROOT / ".test/domains.tsv"):
        assert embedded.get(row["domain_id"]) == row


@pytest.mark.parametrize(
    "path", sorted((ROOT / "workflow/profiles").glob("*/config.yaml")), ids=lambda p: p.parent.name
)
def test_profiles_are_read_and_avoid_known_traps(path):
    profile = yaml.safe_load(path.read_text())
    assert profile["rerun-incomplete"] is True
    assert profile["nolock"] is True  # the lock of run.json stands for Snakemake's, which outlives a killed run
    assert profile.get("software-deployment-method") != []  # an empty one breaks every command
    assert "cores" not in profile


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_rules_call_the_command_line_alone(path):
    text = path.read_text()
    assert not re.search(r"^    (run|script|notebook|retries):", text, re.M)
    for rule in re.findall(r"^rule \w+:\n(?:.*\n)+?(?=\n\n|\Z)", text, re.M):
        assert "cvae-protein " in rule
        assert "sources(" in rule
        assert "2>&1 | tee {log:q} >&2" in rule


def test_what_comes_before_every_command_keeps_the_strict_mode():
    """Each rule ends in a pipe to its log: without `pipefail` its failure would be lost, and a prefix replaces it."""
    text = (ROOT / "workflow/rules/common.smk").read_text()
    prefixes = re.findall(r"shell\.prefix\(\s*f?\"([^\"]*)", text)
    assert len(prefixes) == 1
    assert prefixes[0].startswith("set -euo pipefail; ")
