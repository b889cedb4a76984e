"""Print how often samples of a label at each level have that label, compared with real domains.

    python experiments/label_levels.py RESULTS MODEL REFINER [--number 8] [--members 20] [--guidance 2]

RESULTS is a finished run, MODEL a model trained on it with `--depth 3`, and REFINER a refiner of it. For every label
with at least `members` training domains and some held-out ones, `number` samples are drawn; a sample counts as correct
if the nearest held-out domain by TM-score has the requested label. The ceiling is the same measure for equally many
training domains of the label (no superfamily is on both sides). Macro means over labels.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from cvae_protein.config.settings import SampleSettings, ScoreSettings
from cvae_protein.core.labels import depth_of, is_within, truncate
from cvae_protein.model.batch import as_backbone
from cvae_protein.sampling.sample import draw_samples
from cvae_protein.sampling.sampler import load_sampler
from cvae_protein.score.inputs import read_domains
from cvae_protein.score.metrics.metric import PreparedStructure
from cvae_protein.score.metrics.novelty import RealDomains
from cvae_protein.score.metrics.physical_validity import physically_valid
from cvae_protein.similarity.nearest_structures import Library, Search

LEVELS = ("class", "architecture", "topology")


def folds_of(domains: RealDomains, level: int, members: int) -> list[str]:
    """Labels of a level (1 = class) with enough training domains and some held-out ones."""
    names = [truncate(d.label, level) for d in domains.training if depth_of(d.label) >= level]
    held_out = {truncate(d.label, level) for d in domains.held_out}
    return [name for name in sorted(set(names)) if names.count(name) >= members and name in held_out]


def judge(
    structures: list[PreparedStructure], wanted: list[str], library: Library, stage: str
) -> tuple[np.ndarray, np.ndarray]:
    """For each structure, whether the nearest held-out domain has the requested label, and its TM-score."""
    hits = Search(ScoreSettings().neighbours).all(structures, library, stage)
    kept = [is_within(hit.label, label) for label, hit in zip(wanted, hits, strict=True)]
    return np.array(kept, float), np.array([hit.tm for hit in hits])


def macro(values: np.ndarray, wanted: list[str], folds: list[str]) -> float:
    """Mean over labels of the mean over a label's structures."""
    return float(np.mean([values[np.array(wanted) == fold].mean() for fold in folds]))


def main() -> None:
    """Sample, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("refiner", type=Path)
    parser.add_argument("--number", type=int, default=8, help="samples per label")
    parser.add_argument("--members", type=int, default=20, help="minimum number of training domains of a label")
    parser.add_argument("--guidance", type=float, default=SampleSettings().guidance)
    parser.add_argument("--temperature", type=float, default=SampleSettings().temperature)
    given = parser.parse_args()
    sampler = load_sampler(given.model, given.refiner)
    domains = read_domains(given.results / "domains.h5", given.results / "splits.tsv")
    library, rng = Library(domains.held_out), np.random.default_rng(0)
    chosen = {"per_class": given.number, "temperature": given.temperature, "guidance": given.guidance}
    settings = replace(SampleSettings(), **chosen)
    print("level\tlabels\tn\tkept\treal kept\tratio\tnearest TM\treal nearest TM\tphysically valid")
    for level, name in enumerate(LEVELS, 1):
        folds = folds_of(domains, level, given.members)
        drawn = draw_samples(sampler, folds, None, settings, 0)
        samples = [
            PreparedStructure.of(as_backbone(key, coords), label)
            for key, label, coords in zip(drawn.names, drawn.labels, drawn.relaxed, strict=True)
        ]
        real, targets = [], []
        for fold in folds:
            own = [d for d in domains.training if is_within(d.label, fold)]
            real += [own[i] for i in rng.choice(len(own), min(given.number, len(own)), replace=False)]
            targets += [fold] * min(given.number, len(own))
        kept, tm = judge(samples, drawn.labels, library, f"samples by {name}")
        ceiling, real_tm = judge(real, targets, library, f"real by {name}")
        ours, best = macro(kept, drawn.labels, folds), macro(ceiling, targets, folds)
        whole = np.mean([physically_valid(sample) for sample in samples])
        print(
            f"{name}\t{len(folds)}\t{len(samples)}\t{ours:.2f}\t{best:.2f}\t{ours / best:.2f}\t{tm.mean():.3f}"
            f"\t{real_tm.mean():.3f}\t{whole:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
