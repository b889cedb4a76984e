"""Domains that are made up and settings of models that train on them in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cvae_protein.config.settings import ModelSettings, RefineSettings, Schedule, TrainSettings
from cvae_protein.core.files import write_table
from cvae_protein.core.structure import Backbone
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store

MODEL = ModelSettings(
    latent=5, coefficients=12, width=24, depth=1, decoder_width=16, decoder_depth=1, inference_steps=3
)
REFINE = RefineSettings(width=16, depth=1, heads=2, crop=24, steps=4, batch_size=4)
TRAIN = TrainSettings(
    steps=12, flow_steps=3, batch_size=8, report_every=4, checkpoint_seconds=1e9, kl=Schedule(steps=4)
)


def write_chains(folder: Path, chains: Iterable[tuple[np.ndarray, str, str]], stored: str = "") -> tuple[Path, Path]:
    """Write a store of chains and its split, given coordinates (models, L, 5, 3), split and label of each.

    Their ids are d00, d01 and so on; `stored` is their label in the store, by default that of the split.
    """
    entries, rows = [], []
    for index, (coords, split, label) in enumerate(chains):
        length = coords.shape[1]
        chain = Backbone(f"d{index:02d}", "A" * length, coords.astype(np.float32), tuple(map(str, range(length))))
        entries.append(Entry(chain, {"label": stored or label}))
        rows.append({"domain_id": chain.id, "split": split, "label": label})
    write_store(folder / "domains.h5", entries, compression="gzip")
    write_table(folder / "splits.tsv", list(rows[0]), rows)
    return folder / "domains.h5", folder / "splits.tsv"


def write_two_classes(folder: Path, tested: int = 0) -> tuple[Path, Path]:
    """Write a store of 16 chains of two classes and its split: 4 to validate, and the `tested` before them."""
    rng, chains = np.random.default_rng(0), []
    for index in range(16):
        length = int(rng.integers(42, 60))
        split = "validation" if index >= 12 else "test" if index >= 12 - tested else "train"
        chains.append((a_chain(length, rng)[None], split, f"{index % 2 + 1}.{index % 4}"))
    return write_chains(folder, chains)


def a_chain(length: int, rng: np.random.Generator) -> np.ndarray:
    """Backbone (L, 5, 3) in Å that wanders like a protein; good enough for what no metric looks at."""
    ca = np.cumsum(rng.normal(0, 2.2, (length, 1, 3)), axis=0)
    return (ca + rng.normal(0, 1.2, (1, 5, 3))).astype(np.float32)


def write_domains(folder: Path) -> tuple[Path, Path]:
    """Write a store of 24 chains of three classes and a long one for crops, and its split."""
    rng, chains = np.random.default_rng(0), []
    for index in range(25):
        length, label = 100 if index == 24 else int(rng.integers(42, 70)), f"{index % 3 + 1}.10.{index}.1"
        models = 2 if index == 4 else 1
        coords = np.stack([a_chain(length, rng) for _ in range(models)])
        split = (
            "crops"
            if index == 24
            else "test"
            if index >= 20
            else "validation"
            if index >= 18
            else "excluded"
            if index == 0
            else "train"
        )
        chains.append((coords, split, label))
    return write_chains(folder, chains, stored="not this")
