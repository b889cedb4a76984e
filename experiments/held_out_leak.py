"""Print what fresh probes read from held-out codes and from a flow's noise for these codes, with the squared norms.

    python experiments/held_out_leak.py RESULTS VARIANT [--seed 0] [--most 200] [--inference-steps 20 | --codes FILE]

Codes are those of at most `--most` test domains per rung. "Whitened" codes are whitened by the model's Gaussian for all
classes; their norm is the reference for that of the flow. Skill is that of the best of the project's three probes, with
superfamilies kept apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from prior_likelihood import some_of_each

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.core.files import read_table
from cvae_protein.core.labels import truncate
from cvae_protein.model.batch import read_split
from cvae_protein.model.codes import codes_of, read_codes
from cvae_protein.model.priors import AggregatePosterior, LatentFlow
from cvae_protein.model.registry import load_model, load_weights
from cvae_protein.model.spec import load_tensors
from cvae_protein.score.metrics.latent import PROBES, probe_predictions

LEVELS = (1, 2, 3)


def main() -> None:
    """Infer codes, run the flow backwards, probe and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("variant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=200)
    parser.add_argument("--inference-steps", type=int, default=0, help="latent refinement steps; 0: encoder's codes")
    parser.add_argument("--codes", type=Path, help="codes of `prior_likelihood.py --steps 0` with the same `--most`")
    given = parser.parse_args()
    folder = given.results / "models" / given.variant / f"seed{given.seed}"
    model, tensors = load_model(folder), load_tensors(folder / "weights.safetensors")[0]
    flow, whitening = LatentFlow(model.spec), LatentFlow(model.spec)
    load_weights(flow, "flow.", folder, tensors)
    aggregate = AggregatePosterior(model.spec.model.latent, len(model.spec.vocabulary[0]))
    load_weights(aggregate, "aggregate.", folder, tensors)
    whitening.whiten(aggregate)
    by_split = read_split(given.results / "domains.h5", given.results / "splits.tsv")
    facts = {row["domain_id"]: row for row in read_table(given.results / "splits.tsv", ("superfamily", "rung"))}
    test = by_split["test"].first_conformations()
    test = test.take(some_of_each(np.array([facts[name]["rung"] for name in test.ids]), given.most))
    codes = read_codes(given.codes)["test"] if given.codes else codes_of(model, test, given.inference_steps)
    z, labels, lengths = codes.draw(torch.arange(len(test)), torch.Generator().manual_seed(1))
    views = {"codes": z, "whitened": whitening.to_noise(z, labels, lengths), "noise": flow.to_noise(z, labels, lengths)}
    groups = np.array([facts[name]["superfamily"] or name for name in test.ids])
    print("\t".join(("view", "n", "squared norm / size", *(f"level {level}" for level in LEVELS))))
    for view, values in views.items():
        cells = []
        for level in LEVELS:
            own = np.array([truncate(name, level) for name in test.labels])
            found = [probe_predictions(values.numpy(), own, groups, probe, 0) for probe in PROBES]
            best = max(found, key=lambda each: each.skill if np.isfinite(each.skill) else -1)
            estimate = best.estimate(ScoreSettings(), np.random.default_rng(0))
            cells.append(f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})")
        norm = float(values.square().sum(-1).mean()) / values.shape[1]
        print("\t".join((view, str(len(values)), f"{norm:.2f}", *cells)), flush=True)


if __name__ == "__main__":
    main()
