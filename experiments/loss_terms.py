"""Print the effect of each loss term on `concat`: one term at a usual weight, compared with the plain bound.

    python experiments/loss_terms.py results/benchmark [--steps 400] [--terms mmd hsic] [--output FILE]

Trains on the store and split of a finished run, a minute or two per term, and writes results/loss_terms.tsv by default.
All figures are for held-out domains: CA RMSD of the decoded trace (with its 95 % interval), rate and active units on
the split `test`; skill of the best of three fresh probes for the class, trained on codes of `test` and `validation`,
with no superfamily on both sides; and, for test codes decoded under each other class, the RMSD divided by that under
the own class, and how often a linear probe trained on real training traces predicts the requested class (in the row
`real`: its accuracy on real test domains). The probe sees what the critic of the term `classifier` sees, distances
along the trace, and is trained independently of it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from cvae_protein.config import load
from cvae_protein.config.settings import ModelSettings, RefineSettings, TrainSettings
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.labels import first_level
from cvae_protein.model.batch import DomainSet, read_split
from cvae_protein.model.cvae import CVAE
from cvae_protein.model.losses.critics import profile
from cvae_protein.model.registry import load_model
from cvae_protein.model.representation import decode_trace, encode_trace
from cvae_protein.sampling.reconstruct import trace_errors
from cvae_protein.sampling.sampler import decode_all
from cvae_protein.score.metrics.latent import PROBES, probe_predictions
from cvae_protein.training.train import train

ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "kl constant": {"kl": {"kind": "constant"}},
    "kl cosine": {"kl": {"kind": "cosine"}},
    "kl cycle": {"kl": {"kind": "cycle"}},
    "kl target_rate 60": {"kl": {"kind": "target_rate", "rate": 60.0}},
    "free_bits 0.5": {"free_bits": 0.5},
    **{
        f"{name} {weight:g}": {"terms": {name: weight}}
        for name, weight in {
            "variance_floor": 10.0,
            "mmd": 1000.0,
            "total_correlation": 4.0,
            "class_mmd": 1000.0,
            "hsic": 1000.0,
            "label_adversary": 30.0,
            "club": 1.0,
            "classifier": 10.0,
            "label_seeking": 30.0,
            "mode_seeking": 100.0,
            "fape": 300.0,
            "step_length": 1.0,
        }.items()
    },
}
COLUMNS = (
    "term",
    "rmsd",
    "low",
    "high",
    "rate",
    "active_units",
    "class_leakage",
    "swap_ratio",
    "swap_class",
    "n",
    "seconds",
)
MODEL = ModelSettings(inference_steps=0)  # no latent refinement for the codes of the flow, which are not used here
PROBED = 48  # cosine coefficients kept when traces are smoothed for the probe


def settings_of(changes: Mapping[str, Any], steps: int) -> TrainSettings:
    """Settings of a training of so many steps; all weights reach their full value after half of them."""
    rise = {"steps": max(1, steps // (4 if changes.get("kl", {}).get("kind") == "cycle" else 2))}
    terms = changes.get("terms", {}) | {"schedule": {"steps": max(1, steps // 2)}}
    given = {**changes, "kl": changes.get("kl", {}) | rise, "terms": terms, "steps": steps, "flow_steps": 1}
    return load.load({"train": given}).train


def classes_of(domains: DomainSet) -> np.ndarray:
    """First level of each label (D,)."""
    return np.array([first_level(label) for label in domains.labels])


def real_probe(domains: DomainSet, model: CVAE) -> Pipeline:
    """A linear probe that predicts the class of a real trace from distances along it."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
    return probe.fit(seen_by_probe(real_traces(domains, model)), classes_of(domains))


def real_traces(domains: DomainSet, model: CVAE) -> list[torch.Tensor]:
    """CA traces (L, 3) in Å of domains, in their chain frames."""
    return [model.describe(domains.batch(model.spec, [row]))[1][0] for row in range(len(domains))]


def seen_by_probe(traces: list[torch.Tensor]) -> np.ndarray:
    """Distances along the smoothed traces (D, columns), so that real and decoded ones differ only in their fold."""
    rows = []
    for trace in traces:
        mask = torch.ones(1, len(trace), dtype=torch.bool)
        smooth = decode_trace(encode_trace(trace[None], mask, PROBED)[0], mask.sum(1), len(trace))
        rows.append(profile(smooth, mask)[0])
    return torch.stack(rows).numpy()


def swapped(model: CVAE, mean: torch.Tensor, domains: DomainSet, probe: Pipeline) -> tuple[float, float]:
    """RMSD under every other class over that under the own one, and the share where the probe predicts that class."""
    labels, lengths = domains.label_ids(model.spec), torch.from_numpy(domains.lengths)
    own = trace_errors(model, domains, decode_all(model, mean, labels, lengths)).mean()
    errors, kept = [], []
    for index, name in enumerate(model.spec.vocabulary[0], 1):
        rows = torch.nonzero(labels[:, 0] != index)[:, 0]
        targets = torch.zeros_like(labels)
        targets[:, 0] = index
        made = decode_all(model, mean[rows], targets[rows], lengths[rows])
        others = DomainSet(
            *(tuple(part[i] for i in rows) for part in (domains.coords, domains.ids, domains.labels)),
            domains.weights[rows],
        )
        errors.append(trace_errors(model, others, made).mean())
        kept.append(np.mean(probe.predict(seen_by_probe(made)) == name))
    return (torch.stack(errors).mean() / own).item(), float(np.mean(kept))


def measure(
    model: CVAE, by_split: Mapping[str, DomainSet], groups: Mapping[str, str], probe: Pipeline
) -> dict[str, Any]:
    """One row of the table."""
    test, watched = by_split["test"], by_split.get("validation")
    codes = {name: model.infer_all(domains, ModelSettings().inference_steps) for name, domains in by_split.items()}
    posterior, labels = codes["test"], test.label_ids(model.spec)
    lengths = torch.from_numpy(test.lengths)
    with torch.no_grad():
        error = trace_errors(model, test, decode_all(model, posterior.mean, labels, lengths)).numpy()
        prior = model.prior(model.condition(labels, lengths))
        rate = posterior.kl(prior).sum(-1).mean().item()
        ratio, kept = swapped(model, posterior.mean, test, probe)
    means = error[np.random.default_rng(0).integers(0, len(error), (1000, len(error)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    parts = [test, watched] if watched else [test]
    every = torch.cat([each.mean for each in codes.values()]).numpy()
    truth = np.concatenate([classes_of(domains) for domains in parts])
    families = np.array([groups[name] or name for domains in parts for name in domains.ids])
    skill = max(probe_predictions(every, truth, families, name, 0).skill for name in PROBES)
    active = int((posterior.mean.var(0) > 0.01).sum())
    values = (float(error.mean()), low, high, rate, active, skill, ratio, kept, len(error))
    return dict(zip(COLUMNS[1:-1], values, strict=True))


def rows(results: Path, names: list[str], steps: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table as they are measured."""
    store, splits = results / "domains.h5", results / "splits.tsv"
    groups = {row["domain_id"]: row["superfamily"] for row in read_table(splits, ["domain_id", "superfamily"])}
    by_split = {name: domains.first_conformations() for name, domains in read_split(store, splits).items()}
    known = by_split.pop("train")
    held_out = {name: by_split[name] for name in ("test", "validation") if name in by_split}
    probe = None
    for name in names:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            train(store, splits, "concat", 0, folder, MODEL, settings_of(ROWS[name], steps), RefineSettings(), 1)
            model = load_model(folder)
        seconds = time.monotonic() - started
        if probe is None:
            probe = real_probe(known, model)
            predicted = probe.predict(seen_by_probe(real_traces(by_split["test"], model)))
            skill = balanced_accuracy_score(classes_of(by_split["test"]), predicted)
            yield {**dict.fromkeys(COLUMNS, ""), "term": "real", "swap_class": skill, "n": len(predicted)}
        yield {"term": name, **measure(model, held_out, groups, probe), "seconds": seconds}


def main() -> None:
    """Train, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--terms", nargs="+", choices=[name.split()[0] for name in ROWS], help="default: all")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/loss_terms.tsv")
    given = parser.parse_args()
    names = [name for name in ROWS if name == "plain" or not given.terms or name.split()[0] in given.terms]
    print("\t".join(COLUMNS))
    table = []
    for row in rows(given.results, names, given.steps):
        shown = {key: f"{value:.3f}" if isinstance(value, float) else str(value) for key, value in row.items()}
        print("\t".join(shown[column] for column in COLUMNS), flush=True)
        table.append(shown)
    write_table(given.output, COLUMNS, table)


if __name__ == "__main__":
    main()
