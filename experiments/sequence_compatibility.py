"""Print ProteinMPNN's assessment of real domains, noisy real domains, and samples before and after relaxation.

    python experiments/sequence_compatibility.py [results] [--variant concat] [--number 16] [--output FILE]

Needs ProteinMPNN (`make install-designer`) and a finished run. All kinds have the same number of structures of similar
lengths: for every sample, the held-out domain nearest in length that has not been used yet. Figures are means over
structures, with two sequences each at temperature 0.1, and bootstrap intervals: negative log-likelihood in nats per
residue, and the share of native residues recovered, which is undefined for samples. Both are given for the ProteinMPNN
models of whole backbones and of CA traces.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from cvae_protein.config.settings import DesignSettings, ScoreSettings
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.structure import Backbone
from cvae_protein.score.designability import assess
from cvae_protein.store.read import Store

OUTPUT = Path(__file__).parent / "results/sequence_compatibility.tsv"
COLUMNS = ("structures", "model", "n", "metric", "value", "low", "high")
NOISES = (0.2, 0.5, 1.0)  # Å, standard deviation of each coordinate
SEQUENCES = 2


def matched(lengths: list[int], store: Store, held_out: list[str]) -> list[Backbone]:
    """For each length, the domain nearest to it that has not been used yet, in its first conformation."""
    left = {name: len(store.sequence(name)) for name in held_out}
    found = []
    for length in lengths:
        name = min(left, key=lambda name: (abs(left[name] - length), name))
        del left[name]
        found.append(store.backbone(name).model(0))
    return found


def jittered(backbone: Backbone, noise: float, random: np.random.Generator) -> Backbone:
    """The structure with normal noise on every coordinate."""
    moved = backbone.coords + random.normal(0, noise, backbone.coords.shape)
    return replace(backbone, id=f"{backbone.id}_{noise}", coords=moved.astype(np.float32))


def main() -> None:
    """Assess every kind; write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"))
    parser.add_argument("--variant", default="concat")
    parser.add_argument("--number", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    folder = given.results / f"samples/{given.variant}/seed0"
    held_out = [
        row["domain_id"]
        for row in read_table(given.results / "splits.tsv", ("domain_id", "split"))
        if row["split"] == "test"
    ]
    with Store(folder / "samples.h5") as samples, Store(folder / "raw.h5") as raw:
        chosen = [samples.ids[index] for index in sorted(random.permutation(len(samples.ids))[: given.number].tolist())]
        sets = {"samples, relaxed": [samples.backbone(name) for name in chosen]}
        sets["samples, raw"] = [raw.backbone(name) for name in chosen]
    with Store(given.results / "domains.h5") as store:
        sets["real"] = matched([len(each) for each in sets["samples, raw"]], store, held_out)
    for noise in NOISES:
        sets[f"real, noise {noise} Å"] = [jittered(each, noise, random) for each in sets["real"]]
    rows: list[dict[str, object]] = []
    for ca_only, model in ((False, "backbone"), (True, "CA trace")):
        settings = DesignSettings(number=SEQUENCES, ca_only=ca_only)
        for name, structures in sets.items():
            labels, cache = [""] * len(structures), given.results / "sequence_compatibility"
            found, _ = assess(structures, labels, settings, ScoreSettings(), cache)
            for row in found:
                if row.fold != "all" or (row.metric == "design_recovery" and not name.startswith("real")):
                    continue
                low, value, high = (f"{x:.3f}" for x in (row.estimate.low, row.estimate.value, row.estimate.high))
                facts = {"structures": name, "model": model, "n": row.estimate.n, "metric": row.metric}
                rows.append(facts | {"value": value, "low": low, "high": high})
            write_table(given.output, COLUMNS, rows)
    print(given.output.read_text())


if __name__ == "__main__":
    main()
