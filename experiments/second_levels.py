"""Compare samples of one model completed by different second levels with real domains, at equal n.

    python experiments/second_levels.py MODEL domains.h5 splits.tsv --level refiner=models/refiner/seed0
        --level decoder=models/decoder/seed0:64:0.5:0.2 --level decoder16=models/decoder/seed0:16:1
        [--columns FOLDER] [--number 100] [--rebuilt 50] [--temperature 0.9] [--classifier models/classifier] [--seed 0]
        [--lengths 40 128] [--fold 2.60.40 --length 110]

The codes are drawn once per seed and are the same for every level. `FOLDER:k:noise:error:steps:relax` keeps the first k
dimensions of a code, starts the second level from that much noise, gives a decoder that error of the code, integrates
in that many steps and relaxes in that many; whatever is left out has its default. With `--lengths` all samples and real
domains have lengths in that range. `--fold` draws one fold instead of all classes, and the real domains are then its
members; `--length` draws samples of one length. Samples are compared with domains of the splits `test` and `train`, at
most `--reference` of each class and split, drawn at random and the same for every column. The column `real` holds
validation domains of superfamilies and topologies that are not in training, `new_member` those of trained
superfamilies, at most as many per class as there are samples. In brackets are 95 % intervals over structures, and n.
Samples per second are wall-clock times of drawing and relaxation together, on as many cores as OMP_NUM_THREADS. Each
finished column is written to `--columns`, under a name that encodes the settings, so that an interrupted command
continues.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

import cvae_protein as cvae
from cvae_protein.config.settings import SampleSettings, ScoreSettings
from cvae_protein.core.files import atomic_path, read_table, write_table
from cvae_protein.core.geometry import rmsd
from cvae_protein.core.labels import RUNGS, first_level, is_within
from cvae_protein.model.batch import as_backbone
from cvae_protein.sampling.draw import Samples
from cvae_protein.sampling.sample import draw_samples
from cvae_protein.sampling.sampler import load_sampler
from cvae_protein.score.metrics.metric import PreparedStructure, mean_estimate
from cvae_protein.score.metrics.physical_validity import physically_valid, strand
from cvae_protein.score.metrics.reconstruction import Pair, backbone_rmsd, ca_tm_score, ss_q3
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import Store
from cvae_protein.store.write import write_store

METRICS = (
    *("helix", "strand", "wasserstein_helix", "wasserstein_strand", "ramachandran_favoured", "physically_valid"),
    *("nearest_tm", "nearest_same_class", "classifier_accuracy", "memorisation_ratio", "tm_coverage"),
    "mean_pairwise_tm",
)
Cells = list[tuple[str, str, str]]
REAL = {"real": ("new_superfamily", "new_topology"), "new_member": ("new_member",)}  # rungs of validation domains


def parsed(text: str) -> tuple[str, Path, dict[str, float]]:
    """Name, folder and settings of a `--level`."""
    name, _, rest = text.partition("=")
    folder, *own = rest.split(":")
    kinds = {"numbers": int, "refine_noise": float, "code_error": float, "refine_steps": int, "relax_steps": int}
    return name, Path(folder), {key: kinds[key](value) for key, value in zip(kinds, own, strict=False)}


def write_samples(path: Path, samples: Samples) -> None:
    """A store of relaxed samples with their target labels."""
    rows = zip(samples.names, samples.labels, samples.relaxed, strict=True)
    write_store(path, (Entry(as_backbone(name, atoms), {"label": label}) for name, label, atoms in rows))


def some_of_each(rows: list[dict[str, str]], most: int) -> list[dict[str, str]]:
    """Rows of a table of splits, at random at most so many of each class."""
    chosen: dict[str, list[dict[str, str]]] = {}
    for place in np.random.default_rng(0).permutation(len(rows)):
        chosen.setdefault(first_level(rows[place]["label"]), []).append(rows[place])
    return [row for own in chosen.values() for row in own[:most]]


def write_real(
    path: Path, domains: Path, rows: list[dict[str, str]], rungs: tuple[str, ...], most: int, fold: str
) -> None:
    """A store of validation domains of some rungs, at most so many of each class, or of a fold."""
    rows = [row for row in rows if row["split"] == "validation" and row["rung"] in rungs]
    rows = some_of_each([row for row in rows if not fold or is_within(row["label"], fold)], most)
    labels = {row["domain_id"]: fold or first_level(row["label"]) for row in rows}
    with Store(domains) as store:
        write_store(path, (Entry(e.backbone, {"label": labels[e.backbone.id]}) for e in store.entries(list(labels))))


def raw_rows(samples: Samples) -> Cells:
    """Class, name and value of the metrics of unrelaxed samples: validity, strand, and how far relaxation moves CA."""
    found = []
    for label in [*sorted(set(samples.labels)), "all"]:
        rows = [row for row, own in enumerate(samples.labels) if label in (own, "all")]
        prepared = [PreparedStructure.of(as_backbone(samples.names[row], samples.raw[row]), label) for row in rows]
        moved = [rmsd(samples.raw[row][:, 1], samples.relaxed[row][:, 1]) for row in rows]
        for name, values in (("valid", map(physically_valid, prepared)), ("strand", map(strand, prepared))):
            one = mean_estimate(np.array(list(values)), ScoreSettings(), np.random.default_rng(0))
            found.append((label, f"{name} before relaxation", f"{one.value:.3f} ({one.low:.3f}-{one.high:.3f})"))
        found.append((label, "moved by relaxation, Å (median)", f"{np.median(moved):.2f}"))
    return found


def rebuilt_rows(model: Path, folder: Path, domains: Path, rows: list[dict[str, str]]) -> Cells:
    """Rung (or all), name and value of the reconstruction error of held-out domains."""
    labels, rungs = ({row["domain_id"]: row[name] for row in rows} for name in ("label", "rung"))
    with Store(domains) as store:
        real = cvae.Structures(entry.backbone for entry in store.entries(list(labels)))
    made = cvae.load(model, refiner=folder).reconstruct(
        cvae.Structures(replace(one, label=labels[one.id]) for one in real)
    )
    pairs = [
        Pair(PreparedStructure.of(own, labels[own.id]), PreparedStructure.of(other, labels[own.id]))
        for own, other in zip(made, real, strict=True)
    ]
    own_rung, found = np.array([rungs[one.id] for one in real]), []
    for name, function in (("backbone RMSD, Å", backbone_rmsd), ("TM-score", ca_tm_score), ("Q3", ss_q3)):
        values = np.array([function(pair) for pair in pairs])
        for rung in ("all", *RUNGS):
            chosen = values[(own_rung == rung) | (rung == "all")]
            if not len(chosen):
                continue
            one = mean_estimate(chosen, ScoreSettings(), np.random.default_rng(0))
            found.append((rung, f"rebuilt: {name}", f"{one.value:.2f} ({one.low:.2f}-{one.high:.2f}, {one.n})"))
    return found


def cells_of_scores(store: Path, domains: Path, splits: Path, classifier: Path | None) -> Cells:
    """Class, metric and value with interval and n of the scores of a store."""
    table = cvae.score(store, domains, splits=splits, classifier=classifier)
    return [
        (row["fold"], row["metric"], f"{row['value']:.3f} ({row['low']:.3f}-{row['high']:.3f}, {row['n']})")
        for row in table[table["metric"].isin(METRICS)].to_dict("records")
        if pd.notna(row["value"])
    ]


def main() -> None:
    """Print a table with a column per level."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("domains", type=Path)
    parser.add_argument("splits", type=Path)
    parser.add_argument(
        "--level", action="append", required=True, type=parsed, metavar="NAME=FOLDER[:k:noise:error:steps:relax]"
    )
    parser.add_argument("--columns", type=Path, default=Path("second_levels"), help="folder of finished columns")
    parser.add_argument("--number", type=int, default=100, help="samples per class; 0: only reconstruct domains")
    parser.add_argument("--reference", type=int, default=150, help="most domains per class and split to compare with")
    parser.add_argument("--rebuilt", type=int, default=50, help="held-out domains per class that are reconstructed")
    parser.add_argument(
        "--temperature", type=float, default=SampleSettings().temperature, help="at which codes are drawn"
    )
    parser.add_argument("--classifier", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lengths", type=int, nargs=2, default=(0, 10_000), help="range in residues")
    parser.add_argument("--fold", default="", help="fold to draw; by default all classes")
    parser.add_argument("--length", type=int, help="residues of each sample; by default as in training")
    asked = parser.parse_args()
    shortest, longest = asked.lengths
    with Store(asked.domains) as store:
        sizes = {name: int(store.lengths[store.rows(name)[0]]) for name in store.ids}
    rows = read_table(asked.splits, ["domain_id", "split", "label", "rung"])
    rows = [row if shortest <= sizes[row["domain_id"]] <= longest else row | {"split": "excluded"} for row in rows]
    parts = ([row for row in rows if row["split"] == split] for split in ("test", "train"))
    kept = {row["domain_id"] for part in parts for row in some_of_each(part, asked.reference)}
    held = some_of_each([row for row in rows if row["split"] == "test"], asked.rebuilt)

    def real(name: str, scratch: Path) -> Cells:
        store = scratch / "real.h5"
        write_real(store, asked.domains, rows, REAL[name], asked.number, asked.fold)
        return cells_of_scores(store, asked.domains, scratch / "splits.tsv", asked.classifier)

    def level(folder: Path, changes: dict[str, float], scratch: Path) -> Cells:
        if not asked.number:
            return rebuilt_rows(asked.model, folder, asked.domains, held)
        sampler = load_sampler(asked.model, folder)
        spec = sampler.spec
        fitting = {fold: tuple(n for n in sizes if shortest <= n <= longest) for fold, sizes in spec.lengths.items()}
        sampler.model.spec = replace(spec, lengths=fitting)
        own = SampleSettings(per_class=asked.number, temperature=asked.temperature)
        own = replace(own, **changes)  # type: ignore[arg-type]
        began, spent = time.monotonic(), time.process_time()
        folds, lengths = [asked.fold] if asked.fold else sampler.spec.vocabulary[0], asked.length and [asked.length]
        samples = draw_samples(sampler, folds, lengths, own, asked.seed)
        found = [("all", "samples a second", f"{len(samples.names) / (time.monotonic() - began):.1f}")]
        found += [("all", "samples a CPU second", f"{len(samples.names) / (time.process_time() - spent):.1f}")]
        found += rebuilt_rows(asked.model, folder, asked.domains, held)
        found += raw_rows(samples)
        write_samples(scratch / "samples.h5", samples)
        return found + cells_of_scores(scratch / "samples.h5", asked.domains, scratch / "splits.tsv", asked.classifier)

    work = {name: partial(real, name) for name in REAL if asked.number}
    work |= {name: partial(level, folder, changes) for name, folder, changes in asked.level}
    asked.columns.mkdir(parents=True, exist_ok=True)
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for name, make in work.items():
        facts = vars(asked) | {"level": make.args, "columns": ""}
        if name in REAL:  # the real domains do not depend on these
            facts |= dict.fromkeys(("model", "seed", "temperature", "rebuilt", "length"))
        path = asked.columns / f"{name}-{hashlib.sha256(f'{facts}'.encode()).hexdigest()[:12]}.json"
        if not path.exists():
            with tempfile.TemporaryDirectory() as scratch:
                excluded = (row if row["domain_id"] in kept else row | {"split": "excluded"} for row in rows)
                write_table(Path(scratch) / "splits.tsv", list(rows[0]), excluded)
                found = make(Path(scratch))
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(found), encoding="utf-8")
        for label, metric, value in json.loads(path.read_text(encoding="utf-8")):
            cells.setdefault((label, metric), {})[name] = value
    print("| class | | " + " | ".join(work) + " |\n|---|---|" + "---|" * len(work))
    for label in sorted({label for label, _ in cells if label != "worst_decile"}):
        for metric in dict.fromkeys([*METRICS, *(name for own, name in cells if own == label)]):
            if row := cells.get((label, metric)):
                print(f"| {label} | {metric} | " + " | ".join(row.get(name, "") for name in work) + " |")


if __name__ == "__main__":
    main()
