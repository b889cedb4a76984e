"""The benchmark of sampling: its input is as crowded as a domain, its table says what is measured and what quoted."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from cvae_protein.config.settings import RefineSettings, SampleSettings


@pytest.fixture(scope="module")
def script():
    """benchmarks/sample.py as a module."""
    spec = importlib.util.spec_from_file_location("bench_sample", Path(__file__).parents[3] / "benchmarks/sample.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the names of its annotations
    spec.loader.exec_module(module)
    return module


def test_chains_have_steps_of_a_peptide_and_neighbours_of_a_domain(script) -> None:
    ca = script.compact_chains(8, 128, torch.Generator().manual_seed(0))
    torch.testing.assert_close((ca[:, 1:] - ca[:, :-1]).norm(dim=-1), torch.full((8, 127), 3.8), atol=1e-3, rtol=0)
    near = (torch.cdist(ca, ca) < 8).sum(-1).float().mean() - 1
    assert 6 < near < 16  # CA within 8 Å; in domains of this length about 10


def test_table_has_each_stage_and_quotes_the_peer_for_the_whole(script, monkeypatch: pytest.MonkeyPatch) -> None:
    small = functools.partial(RefineSettings, width=8, depth=1, heads=1)
    monkeypatch.setattr(script, "RefineSettings", small)
    rows = script.rows_of(torch.device("cpu"), 30, 2, 1, SampleSettings(refine_steps=1, relax_steps=3))
    assert [row["what"].split(",")[0] for row in rows[::2]] == ["codes", "decode", "refine", "relax", "whole draw"]
    assert all(row["what"].endswith("30 residues, 1 + 3 steps") for row in rows)
    assert all(float(row["ours"]) > 0 for row in rows)
    assert [row["peer"] for row in rows if row["goal"]] == ["3.448"]
    assert "not measured" in rows[-2]["peer_name"]
    assert {row["unit"] for row in rows} == {"structures/s", "structures/CPU s"}
