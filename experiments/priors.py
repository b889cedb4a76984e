"""Print the quality of samples of one trained model when only the prior or the temperature changes.

    python experiments/priors.py results/benchmark concat [--number 16]

Each row draws `number` samples of every class; nearest held-out domains are found by TM-score as in scores.tsv.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from cvae_protein.config.settings import SampleSettings, ScoreSettings
from cvae_protein.core.labels import is_within
from cvae_protein.model.batch import as_backbone
from cvae_protein.sampling.sample import draw_samples
from cvae_protein.sampling.sampler import load_sampler
from cvae_protein.score.inputs import read_domains
from cvae_protein.score.metrics.metric import PreparedStructure
from cvae_protein.score.metrics.physical_validity import helix, physically_valid, strand
from cvae_protein.similarity.nearest_structures import Library, Search

ROWS = (
    ("flow", 0.7),
    ("flow", 1.0),
    ("gaussian", 0.7),
    ("gaussian", 1.0),
    ("model", 0.7),
    ("model", 1.0),
)


def main() -> None:
    """Sample, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("variant")
    parser.add_argument("--number", type=int, default=16, help="samples per class")
    given = parser.parse_args()
    models = given.results / "models"
    sampler = load_sampler(models / given.variant / "seed0", models / "refiner/seed0")
    domains = read_domains(given.results / "domains.h5", given.results / "splits.tsv")
    library = Library(domains.held_out)
    classes = sampler.spec.vocabulary[0]
    print(
        "prior\ttemperature\tnearest TM\tclass kept\tphysically valid\t"
        + "\t".join(f"helix/strand {c}" for c in classes)
    )
    for prior, temperature in ROWS:
        settings = replace(SampleSettings(), prior=prior, temperature=temperature, per_class=given.number)
        drawn = draw_samples(sampler, classes, None, settings, 0)
        prepared = [
            PreparedStructure.of(as_backbone(name, coords), label)
            for name, label, coords in zip(drawn.names, drawn.labels, drawn.relaxed, strict=True)
        ]
        search = Search(ScoreSettings().neighbours)  # a new one per draw: it caches by id, and ids repeat between draws
        hits = search.all(prepared, library, f"nearest for {prior} {temperature}", lambda *_: True)
        kept = np.mean([is_within(hit.label, j.label) for j, hit in zip(prepared, hits, strict=True)])
        shares = [
            f"{np.mean([helix(j) for j in prepared if j.label == c]):.2f}/"
            f"{np.mean([strand(j) for j in prepared if j.label == c]):.2f}"
            for c in classes
        ]
        tm, whole = np.mean([hit.tm for hit in hits]), np.mean([physically_valid(j) for j in prepared])
        print(f"{prior}\t{temperature}\t{tm:.3f}\t{kept:.2f}\t{whole:.2f}\t" + "\t".join(shares), flush=True)


if __name__ == "__main__":
    main()
