"""The frozen split and the domain table that come with the project: a ladder that any run takes over as it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import yaml

from cvae_protein.config.settings import SplitSettings
from cvae_protein.core.files import columns_of
from cvae_protein.core.labels import RUNGS, topology
from cvae_protein.dataset.split import read_frozen

ROOT = Path(__file__).parents[3]
SETTINGS = yaml.safe_load((ROOT / "config/examples/benchmark.yaml").read_text(encoding="utf-8"))


def column(path: str, *names: str) -> list[list[str]]:
    return [row[1] for row in columns_of(ROOT / path, names)]


def test_the_frozen_split_is_a_ladder_of_five_hundred_domains_a_rung(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    frozen = read_frozen(SplitSettings(**SETTINGS["split"]))  # it checks the hash
    rungs = dict(column(SETTINGS["split"]["file"], "domain_id", "rung"))
    held = {split: [name for name, (own, _) in frozen.items() if own == split] for split in ("test", "validation")}
    assert {rungs[name] for names in held.values() for name in names} == set(RUNGS)
    counts = Counter(rungs[name] for name in held["test"])
    assert min(counts.values()) >= 500
    for names in held.values():
        assert max(Counter(topology(frozen[name][1]) for name in names).values()) <= 20
    assert sum(split == "train" for split, _ in frozen.values()) > 3500


def test_every_domain_of_the_split_is_in_the_table_with_what_its_range_counts() -> None:
    rows = column(SETTINGS["labels"]["table"], "domain_id", "residue_range", "numbering")
    numbering = {name: counts for name, _, counts in rows}
    assert set(numbering.values()) == {"author", "label"}
    used = [name for name, split in column(SETTINGS["split"]["file"], "domain_id", "split") if split != "excluded"]
    assert len(used) > 10_000
    assert not [name for name in used if name not in numbering]


def test_the_split_of_whole_domains_differs_in_longer_ones_alone(monkeypatch) -> None:
    """What trains by crops in the one trains whole in the other, and what was held out or trained stays so."""
    monkeypatch.chdir(ROOT)
    longer = yaml.safe_load((ROOT / "config/examples/whole_domains.yaml").read_text(encoding="utf-8"))
    before, after = (read_frozen(SplitSettings(**(SETTINGS["split"] | more))) for more in ({}, longer["split"]))
    moved = Counter((before[name][0], split) for name, (split, _) in after.items() if before[name][0] != split)
    assert set(moved) == {("crops", "train"), ("excluded", "test"), ("excluded", "validation")}
    assert moved["crops", "train"] == sum(split == "crops" for split, _ in before.values())
    known = {label for split, label in after.values() if split == "train"}
    rungs = dict(column(longer["split"]["file"], "domain_id", "rung"))
    new = [label for name, (split, label) in after.items() if split == "test" and rungs[name] != RUNGS[0]]
    assert len(new) > 1500
    assert not known & set(new)
