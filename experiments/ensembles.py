"""Sample conformations around domains with other known conformers: coverage of these, and fluctuations.

    python experiments/ensembles.py results [--variants concat,pca] [--domains 20] [--samples 32] [--write NAME]

Takes the domains of a finished run (training or held out) whose known conformers are farthest from them, samples around
each at temperatures 0.7 and 1.0, and compares each variant with noise: the domain's own CA with uniform Gaussian noise
of the same mean RMSF. `pca` is the linear baseline. Prints medians over domains with 95 % bootstrap intervals and
writes one row per domain to experiments/results/NAME.tsv (default: ensembles).
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cvae_protein.config.settings import SampleSettings
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.progress import track
from cvae_protein.core.structure import CA
from cvae_protein.model.batch import read_domain
from cvae_protein.sampling.sample import sample_around
from cvae_protein.score.ensemble import METRICS, Ensemble, common, distinct, families, known_states, on_mean
from cvae_protein.score.ensemble import rmsf as fluctuation
from cvae_protein.store.read import Store

COLUMNS = (
    *("variant", "temperature", "domain", "split", "length", "states"),
    *(metric.name for metric in METRICS),
    *("samples", "machine", "date"),
)
SHOWN = (
    "rmsf_correlation",
    "sample_rmsf",
    "sample_spread",
    "state_coverage",
    "state_ratio",
    "state_improved",
    "pca_w2",
)
FARTHEST = 8.0  # Å; above this, two entries with one sequence differ in fold or have a misplaced range
NEAREST = 0.5  # Å; below this, two entries are the same conformation


def chosen(store: Path, splits: dict[str, str], count: int) -> dict[str, np.ndarray]:
    """The domains whose known conformers are farthest from them, with their states (m, L, 3); one per family."""
    found: list[tuple[float, str, np.ndarray]] = []
    with Store(store) as file:
        related = families(file)
        first: set[str] = set()  # first domain of each family
        for name in file.ids:
            if splits.get(name) not in ("train", "test") or first.intersection(related[name]):
                continue
            first.add(name)
            states = known_states(file, name, related[name])[0]
            if len(states) > 1 and np.isfinite(states[0]).all():
                own = distinct(common(states[:1], states))
                spread = float(own.own_to_others.max()) if len(own.states) > 1 else 0.0
                if NEAREST < spread < FARTHEST:
                    found.append((spread, name, states))
    return {name: states for _, name, states in sorted(found, key=lambda each: -each[0])[:count]}


def noise(own: np.ndarray, rmsf: float, count: int, seed: int) -> np.ndarray:
    """`count` copies (n, L, 3) of a CA trace (L, 3) with uniform Gaussian noise of a given mean RMSF in Å."""
    steps = np.random.default_rng(seed).standard_normal((count, *own.shape))
    return (
        own + steps * rmsf / fluctuation(on_mean(own + 0.1 * steps)).mean() * 0.1
    )  # corrects for what superposition removes


def drawn(results: Path, variant: str, domain: str, temperature: float, count: int, seed: int) -> np.ndarray:
    """CA traces (n, L, 3) of conformations sampled by a variant around a domain."""
    settings = SampleSettings(per_class=count, temperature=temperature)
    model, refiner = results / f"models/{variant}/seed{seed}", results / "models/refiner"
    refiner = refiner if (refiner / "spec.json").is_file() else refiner / f"seed{seed}"
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "around.h5"
        own = read_domain(results / "domains.h5", results / "splits.tsv", domain)
        sample_around(model, refiner, own, settings, seed, path)
        with Store(path) as file:
            return np.stack([file.backbone(name).coords[0, :, CA] for name in file.ids]).astype(np.float64)


def measured(ensemble: Ensemble) -> dict[str, float]:
    """All metrics, NaN if there are too few samples or states."""
    return {m.name: float("nan") if m.reason(ensemble) else m.function(ensemble) for m in METRICS}


def rows(given: argparse.Namespace, splits: dict[str, str]) -> Iterator[dict[str, object]]:
    """One row per variant, temperature and domain, each followed by a row for the equivalent noise."""
    cases = [(variant, t) for variant in given.variants.split(",") for t in (0.7, 1.0)]
    domains = chosen(given.results / "domains.h5", splits, given.domains)
    for domain, states in track(domains.items(), "ensembles", len(domains), "domains"):
        for variant, temperature in cases:
            samples = drawn(given.results, variant, domain, temperature, given.samples, given.seed)
            ensemble = distinct(common(samples, states))
            found = measured(ensemble)
            jittered = noise(states[0], found["sample_rmsf"], given.samples, given.seed)
            facts = {"domain": domain, "split": splits[domain], "length": len(states[0]), "samples": given.samples}
            facts |= {"temperature": temperature, "states": len(ensemble.states)}
            yield facts | {"variant": variant} | found
            yield facts | {"variant": f"noise like {variant}"} | measured(distinct(common(jittered, states)))


def interval(values: np.ndarray) -> str:
    """Median of the finite values with its 95 % bootstrap interval over domains."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    picked = values[np.random.default_rng(0).integers(len(values), size=(1000, len(values)))]
    low, high = np.quantile(np.median(picked, axis=1), [0.025, 0.975])
    return f"{np.median(values):.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Sample, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--variants", default="concat,pca")
    parser.add_argument("--domains", type=int, default=20)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", metavar="NAME", default="ensembles")
    given = parser.parse_args()
    splits = {
        row["domain_id"]: row["split"] for row in read_table(given.results / "splits.tsv", ("domain_id", "split"))
    }
    where = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "date": datetime.date.today().isoformat()}
    table = [row | where for row in rows(given, splits)]
    print("| variant, temperature | domains | " + " | ".join(SHOWN) + " |\n" + "|---" * (len(SHOWN) + 2) + "|")
    for variant, temperature in dict.fromkeys((row["variant"], row["temperature"]) for row in table):
        part = [row for row in table if (row["variant"], row["temperature"]) == (variant, temperature)]
        cells = [interval(np.array([row[name] for row in part], float)) for name in SHOWN]
        print(f"| {variant}, {temperature} | {len(part)} | " + " | ".join(cells) + " |")
    text = ({name: f"{v:.4g}" if isinstance(v, float) else v for name, v in row.items()} for row in table)
    write_table(Path(__file__).parent / "results" / f"{given.write}.tsv", COLUMNS, text)


if __name__ == "__main__":
    main()
