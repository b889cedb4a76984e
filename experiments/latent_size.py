"""Print held-out CA RMSD of the decoded trace and rate in nats by latent size, for variants and for `pca`.

    python experiments/latent_size.py results/benchmark [--latent 16 32 64] [--variants concat] [--by-code SEED]

Trains each model as in the reference run, on the store and split of a finished run. The RMSD is that of posterior means
over the split `test`, with its 95 % interval. For a variant with a flow of its own, the rate is that of the flow's
noise. `--by-code` holds out label codes one by one instead, as a careless split would: domains whose code ends at the
topology then have relatives on both sides.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cvae_protein.config import load
from cvae_protein.config.settings import ModelSettings, RefineSettings
from cvae_protein.core import variants
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.pretrained import FOLDER
from cvae_protein.model.batch import read_split
from cvae_protein.sampling.reconstruct import trace_errors
from cvae_protein.sampling.sampler import load_sampler
from cvae_protein.training.train import train

REFERENCE_RUN = Path(__file__).parents[1] / "config/examples/benchmark.yaml"


def split_by_code(splits: Path, seed: int, output: Path) -> None:
    """Hold out a fifth of the label codes for testing and a tenth for validation, regardless of their relatives."""
    rows = read_table(splits, ["domain_id", "split", "label"])
    codes = sorted({row["label"] for row in rows})
    np.random.default_rng(seed).shuffle(codes)
    first, second = len(codes) // 5, len(codes) * 3 // 10
    place = {code: "test" if i < first else "validation" if i < second else "train" for i, code in enumerate(codes)}
    kept = ({**row, "split": "excluded" if row["split"] == "excluded" else place[row["label"]]} for row in rows)
    write_table(output, ["domain_id", "split", "label"], kept)


def heldout(folder: Path, store: Path, splits: Path) -> tuple[np.ndarray, float]:
    """RMSD in Å of each held-out trace and mean rate in nats of a trained model."""
    sampler = load_sampler(folder, FOLDER / "refiner")  # not needed for traces
    domains = read_split(store, splits)["test"].first_conformations()
    posterior = sampler.infer(domains)
    labels, lengths = domains.label_ids(sampler.spec), torch.from_numpy(domains.lengths)
    error = trace_errors(sampler.model, domains, sampler.decode(posterior.mean, labels, lengths))
    return error.numpy(), posterior.kl(sampler.prior(labels, lengths)).sum(-1).mean().item()


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--latent", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--variants", nargs="+", default=["concat"])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--by-code", type=int, metavar="SEED", help="hold out random label codes one by one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store, splits = given.results / "domains.h5", given.results / "splits.tsv"
        if given.by_code is not None:
            split_by_code(splits, given.by_code, Path(scratch) / "splits.tsv")
            splits = Path(scratch) / "splits.tsv"
        compare(store, splits, given.latent, given.variants, given.steps)


def compare(store: Path, splits: Path, latents: list[int], names: list[str], steps: int) -> None:
    """Train each model at each latent size and print its row."""
    usual, random = replace(load.load(REFERENCE_RUN).train, steps=steps), np.random.default_rng(0)
    print("latent\tvariant\theld-out trace RMSD, Å\tlow\thigh\trate, nats\tn")
    for latent in latents:
        for variant in ("pca", *names):
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / variant
                settings = replace(usual, flow_steps=usual.flow_steps if variants.find(variant).view else 1)
                train(store, splits, variant, 0, folder, ModelSettings(latent=latent), settings, RefineSettings(), 1)
                error, rate = heldout(folder, store, splits)
            means = error[random.integers(0, len(error), (1000, len(error)))].mean(1)
            low, high = np.quantile(means, [0.025, 0.975])
            print(
                f"{latent}\t{variant}\t{error.mean():.3f}\t{low:.3f}\t{high:.3f}\t{rate:.0f}\t{len(error)}", flush=True
            )


if __name__ == "__main__":
    main()
