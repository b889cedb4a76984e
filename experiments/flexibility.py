"""Fit the linear model of residue flexibility to ensembles and evaluate it on the ensembles of other proteins.

    python experiments/flexibility.py ENSEMBLES.h5 PROTEINS.tsv [--attempts | --write]

ENSEMBLES.h5 is made by `experiments/conformations.py --store`. Every protein with five or more conformers is predicted
by a model fitted without its sequence cluster (ten folds). Prints the median Pearson r of predicted and true RMSF in
the core range, next to those of elastic networks and contact numbers, with 95 % bootstrap intervals over clusters.
`--attempts` does the same for other ways of fitting or predicting, on the same folds. `--write` fits to all proteins
and writes cvae_protein/sampling/flexibility.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from conformations import Protein, interval, read_proteins

from cvae_protein.core.elastic_network import anisotropic_modes, contact_fluctuations, gaussian_fluctuations
from cvae_protein.core.files import atomic_path
from cvae_protein.sampling.flexibility import WEIGHTS, features, standardized
from cvae_protein.score.ensemble import on_mean, rmsf

FEWEST = 5  # minimum number of conformers for an RMSF to be fitted
FOLDS = 10
RIDGE = 1000.0  # for features of unit variance, where each chain has a total weight of 100
LEAST = 0.05  # Å; smaller fluctuations count as this


Examples = list[tuple[np.ndarray, np.ndarray]]  # features (L, F) and targets (L,)


@dataclass(frozen=True)
class Attempt:
    """What the model is fitted to and what it is given for prediction."""

    few: bool = False  # proteins with fewer states, such as pairs, are also fitted
    own_kind: bool = False  # NMR ensembles and crystal structures are fitted separately
    by_states: bool = False  # chains are weighted by the square root of their number of states, not equally
    whole_given: bool = False  # the model is given the whole chain instead of its core; the core is evaluated


ATTEMPTS = {
    "as it is": Attempt(),
    "the whole chain given": Attempt(whole_given=True),
    "fitted to pairs too": Attempt(few=True),
    "each kind for itself": Attempt(own_kind=True),
    "each kind for itself, pairs too": Attempt(few=True, own_kind=True),
    "weighed by states": Attempt(by_states=True),
    "pairs too, weighed by states": Attempt(few=True, by_states=True),
    "pairs too, weighed, whole chain given": Attempt(few=True, by_states=True, whole_given=True),
}


def fit(pairs: Examples, weights: Sequence[float] | None = None) -> tuple[np.ndarray, float]:
    """Weights (F,) by ridge regression, and the mean standard deviation of the targets.

    Chains have equal weights, or those given.
    """
    x = np.concatenate([inputs for inputs, _ in pairs])
    y = np.concatenate([standardized(logs) for _, logs in pairs])
    shares = np.ones(len(pairs)) if weights is None else np.array(weights) / np.mean(weights)
    weight = np.concatenate(
        [np.full(len(logs), 100 * w / len(logs)) for (_, logs), w in zip(pairs, shares, strict=True)]
    )
    weight = weight[:, None]
    centre = (weight * x).sum(axis=0) / weight.sum()
    scale = np.sqrt((weight * (x - centre) ** 2).sum(axis=0) / weight.sum())
    z = (x - centre) / scale
    found = np.linalg.solve(z.T @ (weight * z) + RIDGE * np.eye(z.shape[1]), z.T @ (weight[:, 0] * y))
    return found / scale, float(np.mean([logs.std() for _, logs in pairs]))


def examples(protein: Protein) -> Examples:
    """Features and logarithm of the true RMSF, for the whole chain and for its core alone."""
    parts = [protein.states, protein.states[:, protein.core]]
    return [(features(part[0]), np.log(np.maximum(rmsf(on_mean(part)), LEAST))) for part in parts]


def predicted(proteins: Sequence[Protein], known: dict[str, Examples], attempt: Attempt) -> dict[str, np.ndarray]:
    """Profiles of the cores of proteins with at least `FEWEST` states, by models fitted without their cluster."""
    fold = {name: number % FOLDS for number, name in enumerate(sorted({one.cluster for one in proteins}))}
    kinds = {one.name: one.kind == "NMR" for one in proteins}
    found = {}
    for number in range(FOLDS):
        for nmr in (True, False) if attempt.own_kind else (None,):
            of = [one for one in proteins if nmr in (None, kinds[one.name])]
            used = [one for one in of if fold[one.cluster] != number and (attempt.few or len(one.states) >= FEWEST)]
            pairs = [pair for one in used for pair in known[one.name]]
            states = [np.sqrt(len(one.states)) for one in used for _ in known[one.name]]
            weights, spread = fit(pairs, states if attempt.by_states else None)
            for one in of:
                if fold[one.cluster] == number and len(one.states) >= FEWEST:
                    (whole, _), (core, _) = known[one.name]
                    given = (whole @ weights)[one.core] if attempt.whole_given else core @ weights
                    found[one.name] = np.exp(spread * standardized(given))
    return found


def correlations(protein: Protein) -> tuple[np.ndarray, dict[str, float]]:
    """The true RMSF of the core (L,) in Å, and its Pearson r with predictors that need no fit, for the core alone."""
    core = protein.states[:, protein.core]
    true, trace = rmsf(on_mean(core)), core[0]
    profiles = {
        "ANM": anisotropic_modes(trace).fluctuations,
        "GNM": gaussian_fluctuations(trace),
        "contact number": contact_fluctuations(trace),
    }
    return true, {name: float(np.corrcoef(profile, true)[0, 1]) for name, profile in profiles.items()}


def show(rows: list[tuple[str, Protein, dict[str, float]]], first: str) -> None:
    """Print medians by attempt and kind, and paired differences to the baselines."""
    names = list(rows[0][2])
    print(f"| {first} | proteins | {' | '.join([*names, *(f'less {name}' for name in names[1:])])} |")
    print("|---" * (2 * len(names) + 1) + "|")
    for said in dict.fromkeys(said for said, _, _ in rows):
        part = [(one.cluster, found) for own, one, found in rows if own == said]
        clusters = [name for name, _ in part]
        cells = [interval(clusters, [found[name] for _, found in part]) for name in names]
        cells += [interval(clusters, [found[names[0]] - found[name] for _, found in part]) for name in names[1:]]
        print(f"| {said} | {len(part)} | " + " | ".join(cells) + " |")


def main() -> None:
    """Cross-validate and print; fit to all proteins if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("proteins", type=Path)
    parser.add_argument("--attempts", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    proteins = read_proteins(given.store, given.proteins)
    if not given.attempts:
        proteins = [one for one in proteins if len(one.states) >= FEWEST]
    known = {one.name: examples(one) for one in proteins}
    others = {one.name: correlations(one) for one in proteins if len(one.states) >= FEWEST}
    rows = []
    for name, attempt in ATTEMPTS.items() if given.attempts else [("", ATTEMPTS["as it is"])]:
        profiles = predicted(proteins, known, attempt)
        for one in proteins:
            if one.name in profiles:
                said = f"{name}, {one.kind}" if name else one.kind
                true, found = others[one.name]
                rows.append((said, one, {"this model": float(np.corrcoef(profiles[one.name], true)[0, 1]), **found}))
    show(rows, "attempt, kind" if given.attempts else "kind")
    if given.write:
        weights, spread = fit([pair for one in proteins if len(one.states) >= FEWEST for pair in known[one.name]])
        stored = {"weights": [float(f"{w:.4g}") for w in weights], "spread": round(spread, 4)}
        with atomic_path(WEIGHTS) as temporary:
            temporary.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
