"""Domains that are made up and settings of models that train on them in seconds."""

from __future__ import annotations

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


def a_chain(length: int, rng: np.random.Generator) -> np.ndarray:
    """Backbone (L, 5, 3) in Å that wanders like a protein; good enough for what no metric looks at."""
    ca = np.cumsum(rng.normal(0, 2.2, (length, 1, 3)), axis=0)
    return (ca + rng.normal(0, 1.2, (1, 5, 3))).astype(np.float32)


def write_domains(folder: Path) -> tuple[Path, Path]:
    """Write a store of 24 chains of three classes and a long one for crops, and its split."""
    rng = np.random.default_rng(0)
    entries, rows = [], []
    for index in range(25):
        length, label = 100 if index == 24 else int(rng.integers(42, 70)), f"{index % 3 + 1}.10.{index}.1"
        models = 2 if index == 4 else 1
        coords = np.stack([a_chain(length, rng) for _ in range(models)])
        chain = Backbone(f"d{index:02d}", "A" * length, coords, tuple(map(str, range(length))))
        entries.append(Entry(chain, {"label": "not this"}))
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
        rows.append({"domain_id": chain.id, "split": split, "label": label})
    write_store(folder / "domains.h5", entries, compression="gzip")
    write_table(folder / "splits.tsv", ["domain_id", "split", "label"], rows)
    return folder / "domains.h5", folder / "splits.tsv"
