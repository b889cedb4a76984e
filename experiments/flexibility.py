"""The linear model of residues' flexibility: fitted to ensembles, judged on the ensembles of other proteins.

    python experiments/flexibility.py ENSEMBLES.h5 PROTEINS.tsv [--write]

ENSEMBLES.h5 is what `experiments/conformations.py --store` makes. Every protein of five or more conformers is predicted
by a model that has seen none of its sequence cluster (ten folds); prints the median Pearson r of the predicted and the
true RMSF in the core range beside those of elastic networks and contacts, with 95 % bootstrap intervals over clusters.
`--write` fits all of them and writes cvae_protein/sampling/flexibility.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from conformations import Protein, interval, read_proteins

from cvae_protein.core.elastic_network import anisotropic_modes, contact_fluctuations, gaussian_fluctuations
from cvae_protein.core.files import atomic_path
from cvae_protein.sampling.flexibility import WEIGHTS, features, standardized
from cvae_protein.score.ensemble import on_mean, rmsf

FEWEST = 5  # conformers whose RMSF is worth fitting to
FOLDS = 10
RIDGE = 1000.0  # of features of unit variance, where a chain weighs 100
LEAST = 0.05  # Å; a fluctuation below it is as good as none


def fit(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, float]:
    """Weights (F,) by least squares with a ridge, each chain of equal weight, and the mean spread of what is fitted."""
    x = np.concatenate([inputs for inputs, _ in pairs])
    y = np.concatenate([standardized(logs) for _, logs in pairs])
    weight = np.concatenate([np.full(len(logs), 100 / len(logs)) for _, logs in pairs])[:, None]
    centre = (weight * x).sum(axis=0) / weight.sum()
    scale = np.sqrt((weight * (x - centre) ** 2).sum(axis=0) / weight.sum())
    z = (x - centre) / scale
    found = np.linalg.solve(z.T @ (weight * z) + RIDGE * np.eye(z.shape[1]), z.T @ (weight[:, 0] * y))
    return found / scale, float(np.mean([logs.std() for _, logs in pairs]))


def examples(protein: Protein) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features, and the logarithm of the true RMSF, of the whole chain and of its core alone."""
    parts = [protein.states, protein.states[:, protein.core]]
    return [(features(part[0]), np.log(np.maximum(rmsf(on_mean(part)), LEAST))) for part in parts]


def correlations(protein: Protein, predicted: np.ndarray) -> dict[str, float]:
    """Pearson's r with the true RMSF of the core, by the model and by what needs none, all of the core alone."""
    core = protein.states[:, protein.core]
    true, trace = rmsf(on_mean(core)), core[0]
    profiles = {
        "this model": predicted,
        "ANM": anisotropic_modes(trace).fluctuations,
        "GNM": gaussian_fluctuations(trace),
        "contact number": contact_fluctuations(trace),
    }
    return {name: float(np.corrcoef(profile, true)[0, 1]) for name, profile in profiles.items()}


def main() -> None:
    """Cross-validate, print, and fit all where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("proteins", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    proteins = [one for one in read_proteins(given.store, given.proteins) if len(one.states) >= FEWEST]
    known = {one.name: examples(one) for one in proteins}
    clusters = sorted({one.cluster for one in proteins})
    fold = {name: number % FOLDS for number, name in enumerate(clusters)}
    rows = []
    for number in range(FOLDS):
        weights, spread = fit([pair for one in proteins if fold[one.cluster] != number for pair in known[one.name]])
        for one in proteins:
            if fold[one.cluster] == number:
                core, _ = known[one.name][1]
                rows.append((one, correlations(one, np.exp(spread * standardized(core @ weights)))))
    others = ("ANM", "GNM", "contact number")
    print(
        "| kind | proteins | " + " | ".join(rows[0][1]) + " | " + " | ".join(f"less {name}" for name in others) + " |"
    )
    print("|---" * (len(rows[0][1]) + 2 + len(others)) + "|")
    for kind in dict.fromkeys(one.kind for one, _ in rows):
        part = [(one.cluster, found) for one, found in rows if one.kind == kind]
        names = [name for name, _ in part]
        cells = [interval(names, [found[name] for _, found in part]) for name in rows[0][1]]
        cells += [interval(names, [found["this model"] - found[name] for _, found in part]) for name in others]
        print(f"| {kind} | {len(part)} | " + " | ".join(cells) + " |")
    if given.write:
        weights, spread = fit([pair for one in proteins for pair in known[one.name]])
        stored = {"weights": [float(f"{w:.4g}") for w in weights], "spread": round(spread, 4)}
        with atomic_path(WEIGHTS) as temporary:
            temporary.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
