"""Compare training from scratch with fine-tuning of the package's model on a few hundred domains of a user.

    python experiments/fine_tuning.py domains.h5 splits.tsv [--number 200] [--scheme scope] [--steps 400 4000]
        [--scratch 20000] [--samples 40] [--seed 0] [--family 2.60.40]

The user's domains are `--number` domains of the split `test` whose topologies the package's model has not seen (rung
`new_topology`), labelled by the first level of `--scheme`; a fifth is held out for testing and a tenth for validation,
by whole superfamilies. With `--family` they are domains of that topology instead, all under one label of the user's:
those held out from the package's model are used for testing and validation, and as many of its training domains as
needed for training.

`concat` and `fine_tuned` are trained on the same rows with the same settings for each number of steps, and the weights
are chosen on validation; `--scratch` adds numbers of steps for `concat` alone.
Columns: CPU seconds of training; trace RMSD on held-out domains; as a measure of forgetting,
trace RMSD on validation domains of the package's own split, none of which are the user's; the shares of samples that
are physically valid and whose nearest held-out domain has the requested label; the TM-score to that domain; and the
share of samples that a judge assigns to the requested label. The judge is a fold classifier of these labels (with
`--family`, of CATH labels), trained on the package's training domains without any of the user's. The first row scores
the user's domains as if they were samples (training domains against held-out ones; all of them for the judge), the
second the unchanged package's model. Values in brackets are 95 % intervals and n.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

import cvae_protein as cvae
from cvae_protein.config.settings import (
    ClassifierSettings,
    ModelSettings,
    RefineSettings,
    SampleSettings,
    ScoreSettings,
    TrainSettings,
)
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.labels import depth_of, first_level, is_within, superfamily, truncate
from cvae_protein.core.pretrained import package_model
from cvae_protein.core.structure import CA
from cvae_protein.model.batch import DomainSet, as_backbone, read_split
from cvae_protein.model.fold_classifier import describe_traces, load_classifier
from cvae_protein.model.registry import load_model
from cvae_protein.sampling.sample import draw_samples, folds_to_draw
from cvae_protein.sampling.sampler import load_sampler
from cvae_protein.score.metrics.metric import mean_estimate
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import Store
from cvae_protein.store.write import write_store
from cvae_protein.training.fold_classifier import train_classifier
from cvae_protein.training.train import train
from cvae_protein.training.validation import validate

FEWEST = 8  # minimum number of domains in a class
MINE = "mine"  # the user's label in case of --family
SHOWN = ("physically_valid", "nearest_same_class", "nearest_tm")
SPLITS = ("train", "validation", "test")


def own_rows(domains: Path, splits: Path, number: int, scheme: str) -> list[dict[str, str]]:
    """The split table of the user's domains; each superfamily is on one side."""
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


def family_rows(domains: Path, splits: Path, number: int, family: str) -> list[dict[str, str]]:
    """The split table of `number` domains of a topology; the package's model was trained on the training domains."""
    rng, rows = np.random.default_rng(0), list(read_table(splits, ["domain_id", "split"]))
    with Store(domains) as store:
        codes = {row["domain_id"]: str(store.fact(row["domain_id"], "cath")) for row in rows if row["split"] in SPLITS}
    own = [row for row in rows if is_within(codes.get(row["domain_id"], ""), family)]
    found = [row for row in own if row["split"] != "train"]
    seen = [row for row in own if row["split"] == "train"]
    found += [seen[place] for place in rng.permutation(len(seen))[: max(number - len(found), 0)]]
    groups = [codes[row["domain_id"]] for row in found]
    return [
        row | {"label": MINE, "superfamily": group, "group": group} for row, group in zip(found, groups, strict=True)
    ]


def train_judge(folder: Path, domains: Path, splits: Path, rows: list[dict[str, str]], scheme: str, depth: int) -> Path:
    """Train a fold classifier of a scheme's labels, to `depth` levels, on domains of the package's split.

    None of the user's domains are used. If these have labels of the scheme, only domains that share a first level with
    them are used.
    """
    own = {row["domain_id"] for row in rows}
    known = {row["label"] for row in rows} - {MINE}
    told = []
    with Store(domains) as store:
        for row in read_table(splits, ["domain_id", "split"]):
            code = str(store.fact(row["domain_id"], scheme)) if row["split"] in (*SPLITS, "crops") else ""
            label = truncate(code, depth) if superfamily(code) else ""
            split = {"crops": "train"}.get(row["split"], row["split"])
            if row["domain_id"] in own or split == "test" or not label or (known and first_level(code) not in known):
                split = "excluded"
            told.append({"domain_id": row["domain_id"], "split": split, "label": label})
    write_table(folder / "judge.tsv", list(told[0]), told)
    train_classifier(domains, folder / "judge.tsv", folder / "judge", ClassifierSettings(levels=depth, seed=1))
    return folder / "judge"


def judged(judge: Path, traces: Sequence[np.ndarray], labels: Sequence[str], means: Mapping[str, str]) -> str:
    """Share of CA traces that a fold classifier assigns to the meaning of their label, as a mean over labels."""
    net = load_classifier(judge)
    wanted = [means.get(label, label) for label in labels]
    with torch.no_grad():
        levels = net.posterior(net.features(describe_traces(traces, torch.device("cpu"))))
    names = net.spec.vocabulary[depth_of(wanted[0]) - 1]
    seen = [names[place] for place in levels[depth_of(wanted[0]) - 1].argmax(1)]
    right = np.array([a == b for a, b in zip(seen, wanted, strict=True)], float)
    each = [right[np.array(labels) == label] for label in sorted(set(labels))]
    rng = np.random.default_rng(0)
    draws = [np.mean([rng.choice(one, len(one)).mean() for one in each]) for _ in range(1000)]
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{np.mean([one.mean() for one in each]):.2f} ({low:.2f}-{high:.2f}, {len(right)})"


def write_own(folder: Path, domains: Path, rows: list[dict[str, str]]) -> tuple[Path, Path]:
    """Write the store and the split table of the user's domains."""
    labels = {row["domain_id"]: row["label"] for row in rows}
    with Store(domains) as store:
        entries = store.entries(list(labels))
        write_store(folder / "own.h5", (Entry(e.backbone, {"label": labels[e.backbone.id]}) for e in entries))
    write_table(folder / "own.tsv", list(rows[0]), rows)
    return folder / "own.h5", folder / "own.tsv"


def write_labelled(path: Path, names: Sequence[str], labels: Sequence[str], coords: Sequence[np.ndarray]) -> None:
    """Write a store of structures (L, 5, 3) in Å with their labels."""
    rows = zip(names, labels, coords, strict=True)
    write_store(path, (Entry(as_backbone(name, c), {"label": label}) for name, label, c in rows))


def scored(samples: Path, own: tuple[Path, Path]) -> list[str]:
    """The metrics `SHOWN` of a store of samples against the user's held-out domains, with intervals."""
    table = cvae.score(samples, own[0], splits=own[1])
    scores = table[table["fold"] == "all"].set_index("metric")
    rows = (scores.loc[name] for name in SHOWN)
    return [f"{row['value']:.2f} ({row['low']:.2f}-{row['high']:.2f}, {row['n']})" for row in rows]


def trace_rmsd(model: Path, domains: DomainSet) -> str:
    """Mean RMSD in Å of traces decoded from refined codes, with its interval over domains."""
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
    parser.add_argument("--scratch", type=int, nargs="*", default=[], help="further steps, from scratch alone")
    parser.add_argument("--samples", type=int, default=40, help="samples per class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", default="", help="CATH topology of the user's domains")
    asked = parser.parse_args()
    package, means = package_model(), {MINE: asked.family}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if asked.family:
            rows = family_rows(asked.domains, asked.splits, asked.number, asked.family)
        else:
            rows = own_rows(asked.domains, asked.splits, asked.number, asked.scheme)
        own = write_own(folder, asked.domains, rows)
        sizes = Counter((row["split"], row["label"]) for row in rows)
        print(", ".join(f"{n} {split} of {label}" for (split, label), n in sorted(sizes.items())), flush=True)
        by_split = read_split(*own)
        others = read_split(asked.domains, asked.splits)["validation"]
        others = others.take(
            [row for row, name in enumerate(others.ids) if name not in set(by_split["validation"].ids)]
        )
        others = others.take(np.random.default_rng(0).permutation(len(others))[:100])
        scheme, depth = ("cath", depth_of(asked.family)) if asked.family else (asked.scheme, 1)
        judge = train_judge(folder, asked.domains, asked.splits, rows, scheme, depth)
        columns = [
            "model",
            "steps",
            "training, CPU s",
            "held-out trace, Å",
            "validation trace of the package's split, Å",
        ]
        print("| " + " | ".join([*columns, *SHOWN, "judged as asked"]) + " |")
        print("|---" * (len(columns) + len(SHOWN) + 1) + "|")
        held_out, real = by_split["test"], by_split["train"]
        write_labelled(folder / "real.h5", [f"own_{name}" for name in real.ids], real.labels, real.coords)
        pairs = [
            (c[:, CA], label) for one in by_split.values() for c, label in zip(one.coords, one.labels, strict=True)
        ]
        cells = [*scored(folder / "real.h5", own), judged(judge, *zip(*pairs, strict=True), means)]
        print("| the user's domains" + " |" * len(columns), " | ".join(cells), "|", flush=True)
        first = [trace_rmsd(package / "model", held_out), trace_rmsd(package / "model", others)]
        print(f"| pretrained | | | {first[0]} | {first[1]} |" + " |" * (len(SHOWN) + 1), flush=True)
        for variant, lengths in (("concat", [*asked.steps, *asked.scratch]), ("fine_tuned", asked.steps)):
            for steps in lengths:
                made, began = folder / f"{variant}{steps}", time.process_time()
                settings = TrainSettings(steps=steps, report_every=max(10, steps // 20))
                train(*own, variant, asked.seed, made, ModelSettings(), settings, RefineSettings(), 1)
                seconds = time.process_time() - began
                sampler = load_sampler(made, package / "refiner")
                own_settings = SampleSettings(per_class=asked.samples)
                drawn = draw_samples(sampler, folds_to_draw(sampler.spec, 1), None, own_settings, asked.seed)
                samples = made / "samples.h5"
                write_labelled(samples, drawn.names, drawn.labels, drawn.relaxed)
                cells = scored(samples, own)
                cells.append(judged(judge, [c[:, CA] for c in drawn.relaxed], drawn.labels, means))
                rebuilt = f"{trace_rmsd(made, held_out)} | {trace_rmsd(made, others)}"
                history = read_table(made / "history.tsv", ["step", "best"])
                best = next(row["step"] for row in history if int(row["best"]))
                first = f"| {variant} | {steps}, kept {best} | {seconds:.0f} | {rebuilt} | "
                print(first + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
