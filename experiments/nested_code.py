"""Print what the first k dimensions of a nested code carry, compared with codes trained at their own size.

    python experiments/nested_code.py RESULTS WORK [--kept 4 8 16 32 64] [--steps 1200] [--most 200]

Trains `concat` with nested dropout, and without it at sizes 64 and 16, each for `--steps` steps and conditioned on the
class; trainings are kept in WORK/models, which `leaks.py` also uses. For the encoder's codes of at most `--most` test
domains per rung, prints the RMSD of the decoded posterior mean and its ratio to the code trained at that size
(intervals over superfamilies); the rate in nats of the kept dimensions; the balanced accuracy with which a classifier
of real contact maps (`founding.py`) finds in the decoded trace the class under which it was decoded, the domain's own
or, swapped, another; and the leak of the class in a draw.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from founding import Data as Maps
from founding import contact_maps, points_of, profiles, swapped
from leaks import Data, trained
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from cvae_protein.config.settings import ScoreSettings
from cvae_protein.model.codes import codes_of
from cvae_protein.model.cvae import CVAE
from cvae_protein.model.priors import Gaussian
from cvae_protein.sampling.reconstruct import trace_errors
from cvae_protein.sampling.sampler import decode_all
from cvae_protein.score.metrics.metric import bootstrap_means, bounds

ALONE = {64: "concat", 16: "concat 16"}  # latent sizes trained without nesting
COLUMNS = (
    "code",
    "numbers",
    "RMSD, Å",
    "of that size's own",
    "nats",
    "class own",
    "class swapped",
    "leak of the class",
)


def interval(values: np.ndarray, groups: np.ndarray, digits: int) -> str:
    """The mean with its interval over superfamilies."""
    low, high = bounds(bootstrap_means(values, groups, 1000, np.random.default_rng(0)), ScoreSettings())
    return f"{values.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


@torch.no_grad()
def measure(model: CVAE, kept: int, data: Data, maps: Maps) -> tuple[np.ndarray, list[str]]:
    """RMSD in Å of each domain's trace from the first `kept` dimensions, and the remaining cells of the row."""
    domains = data.by_split["test"].take(data.asked.numpy())
    codes = codes_of(model, domains, 0)
    labels, lengths, posterior = codes.labels, codes.lengths, codes.posterior
    prior: Gaussian = model.prior(model.condition(labels, lengths))

    def told(asked: Tensor, traces: list[Tensor]) -> float:
        points = torch.from_numpy(np.stack([points_of(trace.numpy()) for trace in traces])).float()
        guess = maps.classifier.predict(profiles(contact_maps(points).numpy()))
        names = np.array(model.spec.vocabulary[0])[asked[:, 0].numpy() - 1]
        return float(balanced_accuracy_score(names, guess))

    size = 0 if kept == model.spec.model.latent else kept
    own = decode_all(model, posterior.mean, labels, lengths, size)
    others = [
        told(each, decode_all(model, posterior.mean, each, lengths, size)) for each in swapped(labels, model.spec)
    ]
    cells = [
        f"{posterior.kl(prior)[:, :kept].sum(1).mean():.0f}",
        f"{told(labels, own):.2f}",
        f"{np.mean(others):.2f}",
        data.leaks(posterior.sample(torch.Generator().manual_seed(1))[:, :kept], (1,))["level 1"],
    ]
    return trace_errors(model, domains, own).numpy(), cells


def main() -> None:
    """Run the missing trainings and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a run, with domains.h5 and splits.tsv")
    parser.add_argument("work", type=Path, help="folder for trainings")
    parser.add_argument("--kept", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument(
        "--alone", type=int, nargs="*", choices=ALONE, default=[64, 16], help="latent sizes trained alone"
    )
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--most", type=int, default=200)
    given = parser.parse_args()
    data = Data(given.results, given.most)
    maps = Maps(given.results / "domains.h5", given.results / "splits.tsv")
    domains = data.by_split["test"].take(data.asked.numpy())
    groups = np.array([data.facts[name]["superfamily"] or name for name in domains.ids])
    print("\t".join(COLUMNS))
    alone: dict[int, np.ndarray] = {}
    for size in given.alone:
        name = ALONE[size]
        alone[size], cells = measure(trained(data, given.work, name, given.steps), size, data, maps)
        print("\t".join((name, str(size), interval(alone[size], groups, 2), "", *cells)), flush=True)
    nested = trained(data, given.work, "nested", given.steps)
    for kept in given.kept:
        errors, cells = measure(nested, kept, data, maps)
        ratio = interval(1 + (errors - alone[kept]) / alone[kept].mean(), groups, 3) if kept in alone else ""
        print("\t".join(("nested", str(kept), interval(errors, groups, 2), ratio, *cells)), flush=True)


if __name__ == "__main__":
    main()
