"""Print which moments of the codes carry the label: probes of component scores without the label's mean or covariance.

    python experiments/code_moments.py results/benchmark [--write NAME]

Needs a finished run with `pca`; trains nothing. Uses the scores of all domains except `excluded` ones. Means and
covariances are estimated on training domains, for labels of one, two or three levels (`model/representation.py`).
Prints the skill of the best of three fresh probes at each level, with no superfamily on both sides (0 = chance), and
its 95 % interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cvae_protein.config.settings import RefineSettings, ScoreSettings
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.labels import truncate
from cvae_protein.model.batch import read_split
from cvae_protein.model.registry import load_model
from cvae_protein.model.representation import ClassWhitening
from cvae_protein.score.metrics.latent import PROBES, probe_predictions
from cvae_protein.score.metrics.metric import Estimate
from cvae_protein.training.train import make_spec

LEVELS = {1: "class", 2: "architecture", 3: "topology"}


def views(results: Path) -> Iterator[tuple[str, str, np.ndarray, list[str], list[str]]]:
    """What was removed, at which levels; codes (D, Z); labels and ids of the domains."""
    by_split = read_split(results / "domains.h5", results / "splits.tsv")
    by_split = {
        split: by_split[split].first_conformations() for split in ("train", "validation", "test") if split in by_split
    }
    model = load_model(results / "models/pca/seed0")
    scores = torch.cat([model.infer_all(domains, 0).mean for domains in by_split.values()])
    labels = [label for domains in by_split.values() for label in domains.labels]
    ids = [name for domains in by_split.values() for name in domains.ids]
    yield "nothing", "", scores.numpy(), labels, ids
    trained, variance = len(by_split["train"]), model.linear.decode.weight.detach().square().sum(0)
    for depth in LEVELS:
        spec = make_spec("pca", 0, model.spec.model, RefineSettings(), depth, by_split["train"], {})
        components = ClassWhitening(spec)
        label_ids = torch.tensor([spec.label_ids(label) for label in labels])
        components.fit(scores[:trained], label_ids[:trained], torch.ones(trained), variance)
        levels = " ".join(list(LEVELS.values())[:depth])
        mean = components.to_scores(torch.zeros_like(scores), label_ids)
        yield "mean", levels, (scores - mean).numpy(), labels, ids
        yield "mean and covariance", levels, components.to_codes(scores, label_ids).numpy(), labels, ids


def skill(codes: np.ndarray, labels: list[str], groups: np.ndarray, level: int, settings: ScoreSettings) -> Estimate:
    """Skill of the best probe at a level of the label."""
    at_level = np.array([truncate(label, level) for label in labels])
    found = [probe_predictions(codes, at_level, groups, name, settings.seed) for name in PROBES]
    return max(found, key=lambda each: each.skill).estimate(settings, np.random.default_rng(0))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", metavar="NAME", help="write the table to experiments/results/NAME.tsv")
    given = parser.parse_args()
    superfamily = {
        row["domain_id"]: row["superfamily"] or row["domain_id"]
        for row in read_table(given.results / "splits.tsv", ["domain_id", "superfamily"])
    }
    columns = ["taken_out", "levels", *(f"{name}{end}" for name in LEVELS.values() for end in ("", "_low", "_high"))]
    table = []
    print("| taken out | of the label's | " + " | ".join(LEVELS.values()) + " |\n" + "|---" * (len(LEVELS) + 2) + "|")
    for name, levels, codes, labels, ids in views(given.results):
        groups = np.array([superfamily[each] for each in ids])
        found = {LEVELS[level]: skill(codes, labels, groups, level, ScoreSettings()) for level in LEVELS}
        cells = [f"{e.value:.2f} ({e.low:.2f}-{e.high:.2f})" for e in found.values()]
        print(f"| {name} | {levels} | " + " | ".join(cells) + " |", flush=True)
        row: dict[str, object] = {"taken_out": name, "levels": levels}
        for level, e in found.items():
            row |= {level: e.value, f"{level}_low": e.low, f"{level}_high": e.high}
        table.append(row)
    if given.write:
        write_table(Path(__file__).parent / "results" / f"{given.write}.tsv", columns, table)


if __name__ == "__main__":
    main()
