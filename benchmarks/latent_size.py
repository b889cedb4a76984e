"""Print held-out RMSD of the smooth trace against the size of the latent, variants beside `pca`, and rate in nats.

    python benchmarks/latent_size.py results/benchmark [--latent 16 32 64] [--variants concat] [--steps 1500]

Trains each model on the store and split of a finished run; RMSD by posterior means over the split `test`, with its 95 %
interval.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from cvae_protein.model import variants
from cvae_protein.model.batch import read_split
from cvae_protein.model.checkpoint import load_tensors
from cvae_protein.model.spec import Spec
from cvae_protein.settings import ModelSettings, RefineSettings, TrainSettings
from cvae_protein.train import train


def heldout(folder: Path, store: Path, splits: Path) -> tuple[np.ndarray, float]:
    """RMSD in Å of each held-out trace, and the mean rate in nats, of a trained model."""
    spec = Spec.read(folder / "spec.json")
    model = variants.variant(spec.variant).build(spec)
    tensors, _ = load_tensors(folder / "weights.safetensors")
    model.load_state_dict({k.removeprefix("cvae."): v for k, v in tensors.items() if k.startswith("cvae.")})
    model.eval()
    batch = read_split(store, splits)["test"].first_conformations().batch(spec)
    with torch.no_grad():
        target = model.describe(batch)
        posterior = model.posterior(target, batch.labels, batch.lengths)
        prior = model.prior(model.condition(batch.labels, batch.lengths))
        made = model.decode(posterior.mean, batch.labels, batch.lengths)
    error = (target - made).square().sum((1, 2)).sqrt().numpy()
    return error, posterior.kl(prior).sum(-1).mean().item()


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--latent", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--variants", nargs="+", default=["concat"])
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    store, splits = given.results / "domains.h5", given.results / "splits.tsv"
    settings = TrainSettings(steps=given.steps, flow_steps=1)
    random = np.random.default_rng(0)
    print("latent\tvariant\theld-out trace RMSD, Å\tlow\thigh\trate, nats\tn")
    for latent in given.latent:
        for variant in ("pca", *given.variants):
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / variant
                train(store, splits, variant, 0, folder, ModelSettings(latent=latent), settings, RefineSettings(), 1)
                error, rate = heldout(folder, store, splits)
            means = error[random.integers(0, len(error), (1000, len(error)))].mean(1)
            low, high = np.quantile(means, [0.025, 0.975])
            print(
                f"{latent}\t{variant}\t{error.mean():.3f}\t{low:.3f}\t{high:.3f}\t{rate:.0f}\t{len(error)}", flush=True
            )


if __name__ == "__main__":
    main()
