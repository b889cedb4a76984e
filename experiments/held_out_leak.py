"""Print what fresh probes read from held-out codes, and from the noise that a flow makes of them, beside its norm.

    python experiments/held_out_leak.py RESULTS VARIANT [--most 200]

Codes are the encoder's, of at most `--most` test domains of a rung. "Whitened" are codes whitened by one Gaussian for
all classes, whose norm a flow's is held against. Skill: best of the project's three probes, superfamilies apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.core.files import read_table
from cvae_protein.core.labels import RUNGS, truncate
from cvae_protein.model.batch import read_split
from cvae_protein.model.codes import codes_of
from cvae_protein.model.priors import AggregatePosterior, LatentFlow
from cvae_protein.model.registry import load_model, load_weights
from cvae_protein.model.spec import load_tensors
from cvae_protein.score.metrics.latent import PROBES, probe_predictions

LEVELS = (1, 2, 3)


def main() -> None:
    """Encode, run the flow backwards, probe, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("variant")
    parser.add_argument("--most", type=int, default=200)
    given = parser.parse_args()
    folder = given.results / "models" / given.variant / "seed0"
    model, tensors = load_model(folder), load_tensors(folder / "weights.safetensors")[0]
    flow = LatentFlow(model.spec)
    load_weights(flow, "flow.", folder, tensors)
    by_split = read_split(given.results / "domains.h5", given.results / "splits.tsv")
    facts = {row["domain_id"]: row for row in read_table(given.results / "splits.tsv", ("superfamily", "rung"))}
    training = codes_of(model, by_split["train"].first_conformations(), 0)
    aggregate = AggregatePosterior(model.spec.model.latent, len(model.spec.vocabulary[0]))
    aggregate.fit(training.posterior.mean, training.posterior.logvar, training.labels[:, 0], training.lengths)
    whitening = LatentFlow(model.spec)
    whitening.whiten(aggregate)
    test = by_split["test"].first_conformations()
    codes = codes_of(model, test, 0)
    rungs = np.array([facts[name]["rung"] for name in test.ids])
    order = np.random.default_rng(0).permutation(len(rungs))
    chosen = torch.from_numpy(np.concatenate([order[rungs[order] == rung][: given.most] for rung in RUNGS]))
    z, labels, lengths = codes.draw(chosen, torch.Generator().manual_seed(1))
    views = {"codes": z, "whitened": whitening.to_noise(z, labels, lengths), "noise": flow.to_noise(z, labels, lengths)}
    names = [test.labels[row] for row in chosen.tolist()]
    groups = np.array([facts[test.ids[row]]["superfamily"] or test.ids[row] for row in chosen.tolist()])
    print("\t".join(("view", "n", "squared norm / size", *(f"level {level}" for level in LEVELS))))
    for view, values in views.items():
        cells = []
        for level in LEVELS:
            own = np.array([truncate(name, level) for name in names])
            found = [probe_predictions(values.numpy(), own, groups, probe, 0) for probe in PROBES]
            best = max(found, key=lambda each: each.skill if np.isfinite(each.skill) else -1)
            estimate = best.estimate(ScoreSettings(), np.random.default_rng(0))
            cells.append(f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})")
        norm = float(values.square().sum(-1).mean()) / values.shape[1]
        print("\t".join((view, str(len(values)), f"{norm:.2f}", *cells)), flush=True)


if __name__ == "__main__":
    main()
