"""Print what a few hundred domains of one's own become from scratch and from the package's model.

    python experiments/fine_tuning.py domains.h5 splits.tsv [--number 200] [--scheme scope] [--steps 400 4000]
        [--samples 40] [--seed 0]

The user's domains are `--number` of the split `test` whose topologies the package's model has not seen (rung
`new_topology`), labelled by the first level of `--scheme`; superfamilies are held out, a fifth for the test and a tenth
for validation. `concat` and `fine_tuned` are trained on the same rows with the same settings, in so many steps each, of
which validation chooses the weights. Rows: RMSD of held-out traces, samples that are physically valid, whose nearest
held-out domain has the label asked for, its TM-score, and wall seconds of the training. What is forgotten is told by
the RMSD of validation domains of the package's own split, none of which are among the user's; the first row is the
package's model as it is. In brackets 95 % intervals and n.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

import cvae_protein as cvae
from cvae_protein.config.settings import ModelSettings, RefineSettings, SampleSettings, ScoreSettings, TrainSettings
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.labels import first_level, superfamily
from cvae_protein.core.pretrained import package_model
from cvae_protein.model.batch import DomainSet, as_backbone, read_split
from cvae_protein.model.registry import load_model
from cvae_protein.sampling.sample import draw_samples, folds_to_draw
from cvae_protein.sampling.sampler import load_sampler
from cvae_protein.score.metrics.metric import mean_estimate
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import Store
from cvae_protein.store.write import write_store
from cvae_protein.training.train import train
from cvae_protein.training.validation import validate

FEWEST = 8  # domains of a class
SHOWN = ("physically_valid", "nearest_same_class", "nearest_tm")


def own_rows(domains: Path, splits: Path, number: int, scheme: str) -> list[dict[str, str]]:
    """The table of splits of the user's domains, whole superfamilies on one side."""
    rows = [row for row in read_table(splits, ["domain_id", "split", "rung"]) if row["rung"] == "new_topology"]
    with Store(domains) as store:
        codes = {row["domain_id"]: str(store.fact(row["domain_id"], scheme)) for row in rows if row["split"] == "test"}
    names = [name for name, code in codes.items() if superfamily(code)]
    rng = np.random.default_rng(0)
    names = [names[place] for place in rng.permutation(len(names))[:number]]
    sizes = Counter(first_level(codes[name]) for name in names)
    families: dict[str, list[str]] = {}
    for name in names:
        if sizes[first_level(codes[name])] >= FEWEST:
            families.setdefault(superfamily(codes[name]), []).append(name)
    found, held = [], Counter[tuple[str, str]]()
    for family, members in families.items():  # in random order
        label = first_level(codes[members[0]])
        wanted = {"test": sizes[label] / 5, "validation": sizes[label] / 10}
        split = next((s for s, most in wanted.items() if held[label, s] + len(members) <= max(most, 1)), "train")
        held[label, split] += len(members)
        shared = {"split": split, "label": label, "superfamily": family, "group": family}
        found += [{"domain_id": name, **shared} for name in members]
    return found


def write_own(folder: Path, domains: Path, rows: list[dict[str, str]]) -> tuple[Path, Path]:
    """Store and table of splits of the user's domains."""
    labels = {row["domain_id"]: row["label"] for row in rows}
    with Store(domains) as store:
        entries = store.entries(list(labels))
        write_store(folder / "own.h5", (Entry(e.backbone, {"label": labels[e.backbone.id]}) for e in entries))
    write_table(folder / "own.tsv", list(rows[0]), rows)
    return folder / "own.h5", folder / "own.tsv"


def trace_rmsd(model: Path, domains: DomainSet) -> str:
    """RMSD in Å of traces decoded from refined codes, with its interval over domains."""
    net = load_model(model)
    values = [validate(net, {"validation": [domains.batch(net.spec, [row])]}) for row in range(len(domains))]
    return shown(np.array([value["validation_rmsd"] for value in values]))


def shown(values: np.ndarray) -> str:
    """A mean with its interval and n."""
    one = mean_estimate(values, ScoreSettings(), np.random.default_rng(0))
    return f"{one.value:.2f} ({one.low:.2f}-{one.high:.2f}, {len(values)})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", type=Path)
    parser.add_argument("splits", type=Path)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--scheme", choices=["cath", "scope"], default="scope")
    parser.add_argument("--steps", type=int, nargs="+", default=[400, 4000])
    parser.add_argument("--samples", type=int, default=40, help="samples of a class")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    package = package_model()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = own_rows(asked.domains, asked.splits, asked.number, asked.scheme)
        own = write_own(folder, asked.domains, rows)
        sizes = Counter((row["split"], row["label"]) for row in rows)
        print(", ".join(f"{n} {split} of {label}" for (split, label), n in sorted(sizes.items())), flush=True)
        held_out = read_split(*own)["test"]
        others = read_split(asked.domains, asked.splits)["validation"]
        others = others.take(np.random.default_rng(0).permutation(len(others))[:100])
        columns = ["model", "steps", "training, s", "held-out trace, Å", "validation trace of the package's split, Å"]
        print("| " + " | ".join([*columns, *SHOWN]) + " |\n" + "|---" * (len(columns) + len(SHOWN)) + "|")
        first = [trace_rmsd(package / "model", held_out), trace_rmsd(package / "model", others)]
        print(f"| pretrained | – | – | {first[0]} | {first[1]} |" + " |" * len(SHOWN), flush=True)
        for variant in ("concat", "fine_tuned"):
            for steps in asked.steps:
                made, began = folder / f"{variant}{steps}", time.monotonic()
                settings = TrainSettings(steps=steps, report_every=max(10, steps // 20))
                train(*own, variant, asked.seed, made, ModelSettings(), settings, RefineSettings(), 1)
                seconds = time.monotonic() - began
                sampler = load_sampler(made, package / "refiner")
                own_settings = SampleSettings(per_class=asked.samples)
                drawn = draw_samples(sampler, folds_to_draw(sampler.spec, 1), None, own_settings, asked.seed)
                samples = made / "samples.h5"
                relaxed = zip(drawn.names, drawn.labels, drawn.relaxed, strict=True)
                write_store(samples, (Entry(as_backbone(name, c), {"label": label}) for name, label, c in relaxed))
                table = cvae.score(samples, own[0], splits=own[1])
                scores = table[table["fold"] == "all"].set_index("metric")
                cells = [
                    f"{row['value']:.2f} ({row['low']:.2f}-{row['high']:.2f}, {row['n']})"
                    for row in (scores.loc[name] for name in SHOWN)
                ]
                rebuilt = f"{trace_rmsd(made, held_out)} | {trace_rmsd(made, others)}"
                print(f"| {variant} | {steps} | {seconds:.0f} | {rebuilt} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
