"""Make a model of a finished run the package's reference model, with its model card.

    python tools/make_pretrained.py results --version 1 --variant concat --seed 0 --about about.md [--output FOLDER]

Copies the model, refiner and (if there is one) decoder of that seed, and the run's fold classifier with its accuracy on
held-out domains, and lists the superfamilies they were trained on. The fold classifier's weights are stored as float16.
If all weights together exceed 15 MB, so are those of the other networks except the flow. The script then draws the same
samples with both versions and stops if one has moved by more than 0.1 Å RMSD; single atoms may move more, since a flow
diverges at some points. The card contains the text of `--about` (data, split, purpose), the figures of scores.tsv or of
`--figures`, and the fold classifier's accuracy.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from cvae_protein.config.settings import SampleSettings
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import atomic_path, read_table, sha256
from cvae_protein.core.labels import label_order, superfamily
from cvae_protein.core.pretrained import FOLDER, SUPERFAMILIES, VERSION
from cvae_protein.core.variants import PRETRAINED
from cvae_protein.model.spec import Spec, load_tensors, save_tensors
from cvae_protein.sampling.sampler import complete, decode_all, draw_codes, load_sampler, noise_seeds, start_noise
from cvae_protein.store.read import Store

LARGEST = 15_000_000  # bytes of all weights together
EXACT = ("aggregate.", "cvae.linear.", "cvae.encoder.linear.", "cvae.decoder.linear.", "flow.")
EXACT += ("middle", "spread", "centre", "scale")  # used by the fold classifier to standardise
FARTHEST = 0.1  # Å RMSD, without superposition, by which rounding may move a sample
LEVELS = ("class", "architecture", "topology")
COLUMNS = ["split", "level", "labels", "n", "accuracy", "low", "high"]  # columns of classifier.tsv
METRICS = {
    "trace_rmsd": "held-out domains rebuilt: decoded trace, Å",
    "backbone_rmsd": "held-out domains rebuilt: backbone, Å",
    "physically_valid": "physically valid samples",
    "ramachandran_favoured": "samples: Ramachandran favoured",
    "helix": "samples: helix share",
    "strand": "samples: strand share",
    "nearest_tm": "samples: TM-score to the nearest held-out domain",
    "training_tm": "samples: TM-score to the nearest training domain",
    "memorisation_ratio": "samples: memorisation ratio",
}
LIMITS = """\
- Samples are poly-alanine backbones; peptides are trans, and chains have no breaks.
- Lengths and labels that training did not have are drawn from what is nearest: `cvae-protein sample` says so.
- A physical backbone need not be designable or fold; no sample was tested by a structure prediction or in a laboratory.
- Figures hold for the split above. Domains of other splits may have been trained on.
"""


def copy_model(source: Path, target: Path, rounded: bool) -> None:
    """Copy spec, weights and accuracy of a model to a folder; `rounded` stores network weights as float16."""
    target.mkdir(parents=True)
    for name in ("spec.json", "classifier.tsv"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    if not rounded:
        shutil.copyfile(source / "weights.safetensors", target / "weights.safetensors")
        return
    tensors, facts = load_tensors(source / "weights.safetensors")
    kept = {n: v if n.startswith(EXACT) or not v.is_floating_point() else v.half() for n, v in tensors.items()}
    save_tensors(target / "weights.safetensors", kept, facts)


def drawn(model: Path, refiner: Path) -> list[np.ndarray]:
    """Atoms (L, 5, 3) in Å of two samples per class, before relaxation."""
    sampler = load_sampler(model, refiner)
    generator, spec = torch.Generator().manual_seed(0), sampler.spec
    names = [name for name in spec.vocabulary[0] for _ in range(2)]
    labels = torch.tensor([spec.label_ids(name) for name in names])
    lengths = torch.tensor([int(np.median(spec.lengths[name])) for name in names])
    settings = SampleSettings(relax_steps=0)
    codes = draw_codes(sampler, labels, lengths, settings, generator)
    traces = decode_all(sampler.model, codes, labels, lengths)
    noise = start_noise([len(trace) for trace in traces], noise_seeds(len(traces), generator), settings.refine_noise)
    return complete(sampler, traces, names, settings, noise, "compare")[0]


def figures_of_run(results: Path, variant: str, seed: int) -> str:
    """The figures from `scores.tsv` as a Markdown table."""
    rows = {}
    for row in read_table(results / "scores.tsv", ["variant", "seed", "fold", "metric", "value", "low", "high", "n"]):
        if row["fold"] == "all" and (row["variant"], row["seed"]) in ((variant, str(seed)), ("real", "")):
            rows[row["variant"], row["metric"]] = row
    if not any(name == variant for name, _ in rows):
        raise UserError(f"{results / 'scores.tsv'}: expected rows of {variant}, seed {seed}; score the run first")
    lines = (f"| {text} | {cell(rows, variant, name)} | {cell(rows, 'real', name)} |" for name, text in METRICS.items())
    head = "Mean and 95 % interval; `real` are validation domains scored as if they were samples.\n"
    return "\n".join([head, f"| | {variant} | real |", "|---|---|---|", *lines, ""])


def accuracies_of_run(checks: Path) -> list[str]:
    """The fold classifier's accuracy on held-out domains as a Markdown table; empty if there is none."""
    if not checks.exists():
        return []
    rows = {(row["labels"], row["level"]): row for row in read_table(checks, COLUMNS) if row["split"] == "test"}
    lines = [
        f"| {name} | {accuracy(rows.get(('all', str(level))))} | {accuracy(rows.get(('trained', str(level))))} |"
        for level, name in enumerate(LEVELS, 1)
    ]
    head = "| fold classifier, right of held-out domains | all | whose label training has |\n|---|---|---|"
    return ["\n".join([head, *lines, ""])]


def accuracy(row: dict[str, str] | None) -> str:
    """An accuracy with its interval and number of domains; empty if there is none."""
    return f"{float(row['accuracy']):.3f} ({row['low'][:5]} to {row['high'][:5]}, n = {row['n']})" if row else ""


def card(results: Path, spec: Spec, variant: str, seed: int, about: str, version: int, figures: str = "") -> str:
    """The model card as Markdown; `figures` default to those of the run."""
    counts = Counter(row["split"] for row in read_table(results / "splits.tsv", ["split"]))
    lengths = [n for name in spec.vocabulary[0] for n in spec.lengths[name]]
    origin = spec.origin
    return "\n".join(
        [
            f"# {PRETRAINED}@{version}\n",
            f"`cvae-protein sample --model pretrained` draws from this model: variant `{variant}`, seed {seed}.\n",
            "## Data and split\n",
            *([about.strip() + "\n"] if about.strip() else []),
            f"- Domains: {', '.join(f'{count} {split}' for split, count in sorted(counts.items()))}",
            f"- Trained on {len(lengths)} labelled domains of {min(lengths)} to {max(lengths)} residues"
            f"{', and on crops of longer ones' if counts['crops'] else ''}, of the superfamilies in `{SUPERFAMILIES}`",
            f"- Label levels: {spec.depth}, with {', '.join(str(len(names)) for names in spec.vocabulary)} labels each",
            f"- SHA-256 of the store: {origin.get('store', 'unknown')}",
            f"- SHA-256 of the splits: {origin.get('splits', 'unknown')}",
            f"- PyTorch {origin.get('torch', 'unknown')}\n",
            "## Figures\n",
            figures.strip() + "\n" if figures else figures_of_run(results, variant, seed),
            *accuracies_of_run(results / "models/classifier/classifier.tsv"),
            "## Limits\n",
            LIMITS,
        ]
    )


def cell(rows: dict[tuple[str, str], dict[str, str]], variant: str, metric: str) -> str:
    """A figure with its interval and number of structures; empty if there is none."""
    row = rows.get((variant, metric))
    if row is None:
        return ""
    value, low, high = (float(row[key]) for key in ("value", "low", "high"))
    return f"{value:.3g} ({low:.3g} to {high:.3g}, n = {row['n']})"


def trained_superfamilies(results: Path) -> list[str]:
    """Superfamilies, by all names in the store, of the domains used for training (whole or as crops)."""
    rows = read_table(results / "splits.tsv", ["domain_id", "split"])
    with Store(results / "domains.h5") as store:
        codes = (
            str(store.fact(row["domain_id"], key))
            for row in rows
            if row["split"] in ("train", "crops")
            for key in ("label", "cath", "scope")
        )
        return sorted({name for code in codes if (name := superfamily(code))}, key=label_order)


def adopt(
    results: Path,
    variant: str,
    seed: int,
    about: str,
    output: Path,
    version: int,
    figures: str = "",
    largest: int = LARGEST,
) -> None:
    """Write the folder `output` with model, second levels, fold classifier, card, version and superfamilies.

    `UserError` if it becomes too large or too inexact.
    """
    models = {"model": results / "models" / variant / f"seed{seed}"}
    models |= {name: results / "models" / name / f"seed{seed}" for name in ("refiner", "decoder")}
    models["classifier"] = results / "models/classifier"
    models = {name: folder for name, folder in models.items() if folder.is_dir()}
    text = card(results, Spec.read(models["model"] / "spec.json"), variant, seed, about, version, figures)
    size = sum((folder / "weights.safetensors").stat().st_size for folder in models.values())
    rounded = size > largest
    with atomic_path(output) as folder:
        for name, source in models.items():
            copy_model(source, folder / name, rounded or name == "classifier")
        (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")
        (folder / SUPERFAMILIES).write_text("".join(f"{name}\n" for name in trained_superfamilies(results)))
        hashes = {f"{name}/weights.safetensors": sha256(folder / name / "weights.safetensors") for name in models}
        (folder / VERSION).write_text(json.dumps({"version": version, "sha256": hashes}, indent=2) + "\n")
        if rounded:
            size = sum(path.stat().st_size for path in folder.rglob("weights.safetensors"))
            if size > largest:
                raise UserError(f"{results}: expected at most {largest} bytes of weights, got {size} as float16")
            for name in models.keys() & {"refiner", "decoder"}:
                pairs = zip(drawn(folder / "model", folder / name), drawn(models["model"], models[name]), strict=True)
                apart = [np.square(one - other).sum(-1) for one, other in pairs]
                moved, atom = math.sqrt(max(map(np.mean, apart))), math.sqrt(max(map(np.max, apart)))
                print(f"stored as float16; with the {name}, samples move by up to {moved:.3f} Å, atoms {atom:.3f} Å")
                if moved > FARTHEST:
                    raise UserError(f"{models[name]}: rounding moves a sample by {moved:.3f} Å, more than {FARTHEST} Å")
    print(f"{output}: {variant}, seed {seed}, {size / 1e6:.1f} MB of weights")


def main() -> None:
    """Write the package's model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--version", type=int, required=True, help="its number, one more than the last released one's")
    parser.add_argument("--variant", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--about", type=Path, help="text on data, split and purpose, in Markdown")
    parser.add_argument("--figures", type=Path, help="Markdown in place of the figures in scores.tsv")
    parser.add_argument("--output", type=Path, default=FOLDER)
    given = parser.parse_args()
    about, figures = (path.read_text(encoding="utf-8") if path else "" for path in (given.about, given.figures))
    adopt(given.results, given.variant, given.seed, about, given.output, given.version, figures)


if __name__ == "__main__":
    main()
