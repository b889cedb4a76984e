"""Measure how far rounding separates samples: the same draw with blocks of samples computed alone and side by side.

    python experiments/rounding_of_draws.py --number 40

For samples of three folds of the pretrained model, prints how many are identical to the last bit, and percentiles of
the RMSD in Å of all five backbone atoms after superposition.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from cvae_protein.config.settings import SampleSettings
from cvae_protein.model.registry import resolve
from cvae_protein.sampling import draw as drawing
from cvae_protein.sampling.sample import draw_samples
from cvae_protein.sampling.sampler import load_sampler

FOLDS = ("1", "2", "3")


def rmsd(a: np.ndarray, b: np.ndarray) -> float:
    """RMSD in Å of two sets of points (N, 3) after superposition. Kabsch 1976."""
    a, b = a - a.mean(0), b - b.mean(0)
    u, s, v = np.linalg.svd(a.T.astype(float) @ b)
    s[-1] *= np.sign(np.linalg.det(u @ v))
    return float(np.sqrt(max(0.0, (np.square(a).sum() + np.square(b).sum() - 2 * s.sum()) / len(a))))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=40, help="samples per fold")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sampler = load_sampler(*resolve(Path("pretrained"), None))
    settings = SampleSettings(per_class=given.number)
    alone = draw_samples(sampler, FOLDS, None, settings, 0)
    drawing.UNIT["cpu"] = 1_000
    together = draw_samples(sampler, FOLDS, None, settings, 0)
    print("what\tn\tequal\tmedian\t90%\tmaximum")
    for name in ("raw", "relaxed"):
        pairs = zip(getattr(alone, name), getattr(together, name), strict=True)
        apart = [0.0 if np.array_equal(a, b) else rmsd(a.reshape(-1, 3), b.reshape(-1, 3)) for a, b in pairs]
        found = "\t".join(f"{value:.2g}" for value in (np.median(apart), np.quantile(apart, 0.9), max(apart)))
        print(f"{name}\t{len(apart)}\t{sum(each == 0 for each in apart)}\t{found}")


if __name__ == "__main__":
    main()
