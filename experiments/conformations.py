"""Sample conformations around one state of proteins with several known states, and compare with baselines.

    python experiments/conformations.py ../shared/conformations --store ENSEMBLES.h5 [--samples 20] [--proteins 0]
        [--ways "soft codes, flexibility" ANM noise] [--show]

The folder holds `proteins.tsv` and `conformers.tsv`: proteins with near-identical conformers, and their files. The
store is created if it does not exist. For each core protein, without its flexible ends, conformations are sampled
around the first state, with the spread of the other states, by each of `WAYS` or those given. Rows are appended to
`--output` as they are made, and an interrupted call resumes. Proteins that the package's model was not trained on come
first, with the kinds in turn. Prints medians over proteins with 95 % bootstrap intervals over sequence clusters, by
kind and by whether the model was trained on a near-identical sequence; `--show` prints them without sampling.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch

from cvae_protein.config.settings import SampleSettings
from cvae_protein.core.elastic_network import (
    anisotropic_modes,
    contact_fluctuations,
    gaussian_fluctuations,
    scale_to,
)
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.geometry import rmsd
from cvae_protein.core.progress import track
from cvae_protein.core.structure import CA
from cvae_protein.model.batch import DomainSet, as_backbone, one_domain
from cvae_protein.model.registry import resolve
from cvae_protein.sampling.flexibility import features, standardized
from cvae_protein.sampling.motion import HOLD, TRIED, correction, motions_around, soft_motions, tangent, turned
from cvae_protein.sampling.sample import draw_around
from cvae_protein.sampling.sampler import Sampler, load_sampler, relax_all
from cvae_protein.score.ensemble import METRICS as OF_ENSEMBLES
from cvae_protein.score.ensemble import Ensemble, on_mean, rmsf
from cvae_protein.score.metrics.metric import PreparedStructure
from cvae_protein.score.metrics.physical_validity import physically_valid
from cvae_protein.similarity.tm_score import tm_score
from cvae_protein.store.read import Store

ENDS, FEWEST_ENDS, MOST_ENDS = 0.05, 3, 8  # share of a chain cut at each end if no core range is given
FEWEST_FOR_RMSF = 5  # minimum number of states for a comparison of fluctuations
MODES = 20  # number of lowest modes along which single steps are made
AMPLITUDES = (1.0, 0.6, 1.4)  # of such steps, relative to the requested spread
NAMES = {
    "rmsf_r": "rmsf_correlation",
    "nearest": "state_ratio",
    "halfway": "state_halfway",
    "pairs": "spread_ratio",
    "js": "js_distances",
    "w2": "pca_w2",
}
METRICS = (*NAMES, "given", "valid", "tm")
COLUMNS = ("protein", "kind", "cluster", "trained", "length", "states", "samples", "way", *METRICS)
SPLITS = Path(__file__).parents[1] / "data/union/splits.tsv.gz"  # the split that the package's model was trained on


@dataclass(frozen=True, eq=False)
class Protein:
    """A protein in several states (m, L, 3), Å; `core` (L,) excludes the flexible ends.

    `trained` is yes if the package's model was trained on a near-identical sequence, whole or in crops, else no.
    """

    name: str
    kind: str
    cluster: str
    trained: str
    states: np.ndarray
    core: np.ndarray

    @property
    def far(self) -> np.ndarray:
        """RMSD in Å of each other state to the first (m - 1,)."""
        return np.atleast_1d(rmsd(self.states[:1], self.states[1:]))

    @property
    def trimmed(self) -> Protein:
        """The protein without its flexible ends."""
        return replace(self, states=self.states[:, self.core], core=np.ones(self.core.sum(), bool))


def tables(folder: Path) -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    """Core proteins by name, and their conformers."""

    def rows(name: str) -> list[dict[str, str]]:
        with open(folder / name, encoding="utf-8") as file:
            return list(csv.DictReader(file, delimiter="\t"))

    proteins = {row["protein"]: row for row in rows("proteins.tsv") if row["use"] == "core"}
    return proteins, [row for row in rows("conformers.tsv") if row["protein"] in proteins]


def make_store(folder: Path, output: Path) -> None:
    """Featurize the conformers as ensembles; those of groups come from the mirrors, whose CB atoms are complete."""
    _, conformers = tables(folder)
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "structures"
        inputs.mkdir()
        rows = []
        for row in conformers:
            in_mirror = row["kind"] == "PDB group (union)"
            if not (in_mirror or row["data_file"]):
                continue
            file = folder.parent / row["path_in_package"] if in_mirror else folder / row["data_file"]
            place = (row["model"], row["chain"], row["residue_range"]) if in_mirror else (row["data_model"], "", "")
            if not (link := inputs / file.name).exists():
                link.symlink_to(file.resolve())
            rows.append((row["protein"], file.name.split(".")[0], *place))
        table, columns = Path(scratch) / "ensembles.tsv", ("domain_id", "pdb_id", "model", "chain", "residue_range")
        write_table(table, columns, (dict(zip(columns, row, strict=True)) for row in rows))
        command = [sys.executable, "-m", "cvae_protein.cli.main", "featurize", "--input", str(inputs)]
        command += ["--domains", str(table), "-o", str(output), "--rejected", str(output.with_suffix(".rejected.tsv"))]
        subprocess.run(command, check=True)


def _kind(text: str) -> str:
    return "NMR" if text == "NMR" else "MD" if text.startswith("MD") else "group" if "group" in text else "pair"


def _core(row: dict[str, str], ids: Sequence[str]) -> np.ndarray:
    found = re.fullmatch(r"(-?\d+)-(-?\d+)", row["core_range"])
    if row["kind"] == "NMR" and found:
        numbers = [int(re.sub(r"[^-\d]", "", name)) for name in ids]
        return np.array([int(found[1]) <= number <= int(found[2]) for number in numbers])
    ends = int(np.clip(round(ENDS * len(ids)), FEWEST_ENDS, MOST_ENDS))
    return (np.arange(len(ids)) >= ends) & (np.arange(len(ids)) < len(ids) - ends)


def read_proteins(store: Path, table: Path) -> list[Protein]:
    """The core proteins of a store that are in the table and have all CA in all states."""
    known, _ = tables(table.parent)
    with gzip.open(SPLITS, "rt", encoding="utf-8") as rows:
        split = {row["domain_id"]: row["split"] for row in csv.DictReader(rows, delimiter="\t")}
    found = []
    with Store(store) as file:
        for name in file.ids:
            if name not in known:
                continue
            row, states = known[name], np.stack([file.coords(k)[:, CA] for k in file.rows(name)]).astype(np.float64)
            if len(states) < 2 or not np.isfinite(states).all():
                continue
            core = _core(row, file.backbone(name).residue_ids)
            trained = "yes" if split.get(row["union_id"]) in ("train", "crops") else "no"
            found.append(Protein(name, _kind(row["kind"]), row["cluster"], trained, states, core))
    return found


def interval(
    clusters: Sequence[str], values: Sequence[float], middle: Callable[[np.ndarray], float] = np.median
) -> str:
    """Median (or another `middle`) of the finite values with its 95 % bootstrap interval over sequence clusters."""
    array, names = np.array(values, float), np.array(clusters)
    array, names = array[np.isfinite(array)], names[np.isfinite(array)]
    if not len(array):
        return "-"
    members = [array[names == name] for name in dict.fromkeys(names)]
    rng = np.random.default_rng(0)
    medians = [
        middle(np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))])) for _ in range(1000)
    ]
    low, high = np.quantile(medians, [0.025, 0.975])
    return f"{middle(array):.2f} ({low:.2f} to {high:.2f})"


@dataclass(frozen=True, eq=False)
class Start:
    """The first state of a protein and everything needed to sample conformations around it.

    `sampler` completes traces with the refiner, `decoder` with the decoder over whole chains; `count` is the number of
    conformations to sample; `profile` (L,) is the relative mobility of each residue.
    """

    sampler: Sampler
    decoder: Sampler
    protein: Protein
    domain: DomainSet
    count: int
    profile: np.ndarray

    @property
    def trace(self) -> np.ndarray:
        """Its CA (L, 3) in Å."""
        return self.protein.states[0]

    @property
    def spread(self) -> float:
        """Mean RMSD in Å of the other states to this one: the requested spread."""
        return float(self.protein.far.mean())

    @property
    def noise(self) -> torch.Tensor:
        """Standard normal deviates for `count` codes (n, Z)."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.count, self.sampler.spec.model.latent, generator=generator)

    @cached_property
    def motions(self) -> np.ndarray:
        """Derivative of the trace with respect to each dimension of its code (Z, L, 3)."""
        return motions_of(self.sampler, self.domain, self.trace)

    @cached_property
    def soft(self) -> np.ndarray:
        """Combinations of these motions with independent energies in an elastic network, softest first (Z, L, 3)."""
        return soft_motions(self.trace, self.motions)[0]

    def moved(self, steps: np.ndarray) -> np.ndarray:
        """Relaxed atoms (n, L, 5, 3) of the trace moved by steps (n, L, 3), scaled for the spread after relaxation."""
        steps = scale_to(self.trace, steps, self.spread) * steps
        tried = self.trace + np.concatenate([steps[:TRIED], 0 * steps[:1]])
        *found, still = rmsd(self.completed(tried)[:, :, CA], self.trace)
        before = float(rmsd(tried[:-1], self.trace).mean())
        return self.completed(self.trace + correction(before, float(np.mean(found)), float(still)) * steps)

    def completed(self, traces: np.ndarray) -> np.ndarray:
        """Relaxed atoms (n, L, 5, 3) of traces (n, L, 3) derived from its own, with its peptide planes."""
        carbonyl = self.domain.batch(self.sampler.spec, [0]).carbonyl[0].double().numpy()
        planes = turned(self.trace, traces, carbonyl)
        parts = [
            (torch.from_numpy(x).float(), torch.from_numpy(u).float()) for x, u in zip(traces, planes, strict=True)
        ]
        steps, name = SampleSettings().relax_steps, self.protein.name
        return np.stack(relax_all(parts, steps, HOLD, name, [x for x, _ in parts], said=False))


def as_asked(start: Start) -> np.ndarray:
    """As `sample --around --spread`, except that the profile is fitted to ensembles of other clusters."""
    settings, name = SampleSettings(), start.protein.name
    motions = motions_around(start.sampler, start.domain, "", start.spread, settings, name, start.profile)
    return np.stack(motions.draw(start.sampler, start.noise, settings, name))


def thermal(start: Start) -> np.ndarray:
    """Along all modes of the network, with normal amplitudes of variance 1 / stiffness, as in thermal equilibrium."""
    modes = anisotropic_modes(start.trace)
    drawn = np.random.default_rng(0).standard_normal((start.count, len(modes.stiffness))) / np.sqrt(modes.stiffness)
    return start.moved(np.einsum("nk,kli->nli", drawn, modes.vectors))


def widened(start: Start) -> np.ndarray:
    """Along the motions of the code, with the widths of its posterior."""
    posterior = start.sampler.model.infer_all(start.domain, start.sampler.spec.model.inference_steps)
    widths = torch.exp(0.5 * posterior.logvar).double().numpy()
    return start.moved(np.einsum("nz,zli->nli", start.noise.double().numpy() * widths, start.motions))


def single_steps(trace: np.ndarray, vectors: np.ndarray, spread: float, count: int) -> np.ndarray:
    """Traces (n, L, 3), each a single step along one vector of (K, L, 3): both signs of each, then other amplitudes."""
    unit = vectors / np.sqrt(np.square(vectors).sum(axis=-1).mean(axis=-1))[:, None, None]
    steps = [sign * size * unit[k] for size in AMPLITUDES for k in range(len(unit)) for sign in (1, -1)]
    return trace + spread * np.stack(steps[:count])


def renoised(kept: float, numbers: int) -> Callable[[Start], np.ndarray]:
    """Keep the first `numbers` dimensions of the code and a share of the decoder's noise; redraw the other noise."""

    def draw(start: Start) -> np.ndarray:
        settings = SampleSettings(per_class=start.count, temperature=0.0, numbers=numbers)
        return np.stack(draw_around(start.decoder, start.domain, settings, 0, noise_kept=kept).relaxed)

    return draw


WAYS: dict[str, Callable[[Start], np.ndarray]] = {
    "soft codes, flexibility": as_asked,
    "ANM": thermal,
    "noise": lambda start: start.moved(np.random.default_rng(0).standard_normal((start.count, *start.trace.shape))),
    "soft codes": lambda start: start.moved(np.einsum("nz,zli->nli", start.noise.double().numpy(), start.soft)),
    "posterior's codes": widened,
    "one mode of ANM": lambda start: start.completed(
        single_steps(start.trace, anisotropic_modes(start.trace).vectors[:MODES], start.spread, start.count)
    ),
    "one soft code": lambda start: start.completed(
        single_steps(start.trace, start.soft[:MODES], start.spread, start.count)
    ),
    **{f"half the noise, {k} numbers": renoised(0.5, k) for k in (16, 32, 64)},
    "0.9 of the noise, 64 numbers": renoised(0.9, 64),
}


def motions_of(sampler: Sampler, domain: DomainSet, trace: np.ndarray) -> np.ndarray:
    """Derivative of the trace with respect to each dimension of its code (Z, L, 3)."""
    code = sampler.model.infer_all(domain, sampler.spec.model.inference_steps).mean
    return tangent(sampler, code, torch.zeros(1, sampler.spec.depth, dtype=torch.long), trace)


def measured(protein: Protein, atoms: np.ndarray) -> dict[str, float]:
    """`METRICS` of conformations (n, L, 5, 3) against the states of a protein, without those that need more states."""
    ensemble = Ensemble(atoms[:, :, CA], protein.states)
    row = {name: metric.function(ensemble) for name, metric in FUNCTIONS.items() if not metric.reason(ensemble)}
    if len(protein.states) < FEWEST_FOR_RMSF:
        row.pop("rmsf_r", None)
        row.pop("pairs", None)
    row["given"] = float(rmsd(ensemble.samples, protein.states[0]).mean() / protein.far.mean())
    row["valid"] = float(np.mean([physically_valid(PreparedStructure.of(as_backbone("x", one), "")) for one in atoms]))
    own, length = protein.states[0], len(protein.states[0])
    row["tm"] = float(np.mean([tm_score(one, own, length) for one in ensemble.samples]))
    return row


FUNCTIONS = {short: metric for metric in OF_ENSEMBLES for short, name in NAMES.items() if name == metric.name}


def without_samples(protein: Protein, profile: np.ndarray) -> dict[str, dict[str, float]]:
    """RMSF correlations that need no samples, and the values reached by other states of the protein itself."""
    found: dict[str, dict[str, float]] = {}
    if len(protein.states) >= FEWEST_FOR_RMSF:
        true, trace = rmsf(on_mean(protein.states)), protein.states[0]
        profiles = {
            "profile: flexibility": profile,
            "profile: ANM": anisotropic_modes(trace).fluctuations,
            "profile: GNM": gaussian_fluctuations(trace),
            "profile: contact number": contact_fluctuations(trace),
        }
        found = {name: {"rmsf_r": float(np.corrcoef(true, one)[0, 1])} for name, one in profiles.items()}
        halves = [rmsf(on_mean(protein.states[first::2])) for first in (0, 1)]
        found["half of the states"] = {"rmsf_r": float(np.corrcoef(*halves)[0, 1])}
    if len(protein.states) > 2:
        apart = rmsd(protein.states[1:, None], protein.states[None, 1:])
        np.fill_diagonal(apart, np.inf)
        share = apart.min(axis=1) / protein.far
        found["the other states"] = {"nearest": float(share.mean()), "halfway": float((share <= 0.5).mean())}
    return found


def profiler(proteins: Sequence[Protein]) -> Callable[[Protein], np.ndarray]:
    """A function predicting residue flexibility with a model fitted without the protein's sequence cluster."""
    from flexibility import FOLDS, examples, fit

    many = [one for one in proteins if len(one.states) >= FEWEST_FOR_RMSF]
    fold = {name: number % FOLDS for number, name in enumerate(sorted({one.cluster for one in proteins}))}
    known = {one.name: examples(one) for one in many}
    fits = [fit([pair for one in many if fold[one.cluster] != own for pair in known[one.name]]) for own in range(FOLDS)]

    def profile(protein: Protein) -> np.ndarray:
        weights, spread = fits[fold[protein.cluster]]
        return np.exp(spread * standardized(features(protein.trimmed.states[0]) @ weights))

    return profile


def in_turn(proteins: Sequence[Protein]) -> list[Protein]:
    """The kinds in turn; in each, proteins not trained on first, then those with enough states for RMSF."""
    kinds: dict[str, list[Protein]] = {}
    for one in sorted(proteins, key=lambda one: (one.trained, len(one.states) < FEWEST_FOR_RMSF)):
        kinds.setdefault(one.kind, []).append(one)
    return [one for turn in zip_longest(*kinds.values()) for one in turn if one is not None]


def new_rows(given: argparse.Namespace, table: Sequence[Mapping[str, str]]) -> Iterator[list[dict[str, object]]]:
    """The rows that the table lacks, one protein and sampling method at a time."""
    sampler, decoder = (load_sampler(*resolve(given.model, level)) for level in (given.refiner, Path("decoder")))
    proteins = read_proteins(given.store, given.folder / "proteins.tsv")
    profile_of = profiler(proteins)
    done = {(row["protein"], row["way"]) for row in table if int(row["samples"]) in (given.samples, 0)}
    wanted = in_turn(proteins)[: given.proteins or None]
    for one in track(wanted, "conformations", len(wanted), "proteins"):
        if all((one.name, way) in done for way in given.ways):
            continue
        core, profile = one.trimmed, profile_of(one)
        facts = {"protein": one.name, "kind": one.kind, "cluster": one.cluster, "trained": one.trained}
        facts |= {"length": int(one.core.sum()), "states": len(one.states)}
        needless = without_samples(core, profile)
        yield [_row(facts, 0, way, found) for way, found in needless.items() if (one.name, way) not in done]
        with Store(given.store) as file:
            domain = one_domain(file.coords(file.rows(one.name)[0])[one.core], one.name, "")
        start = Start(sampler, decoder, core, domain, given.samples, profile)
        for way in given.ways:
            if (one.name, way) not in done:
                yield [_row(facts, given.samples, way, measured(core, WAYS[way](start)))]


def _row(facts: Mapping[str, object], samples: int, way: str, found: Mapping[str, float]) -> dict[str, object]:
    cells = {name: f"{found[name]:.4g}" if name in found else "" for name in METRICS}
    return {**facts, "samples": samples, "way": way, **cells}


def main() -> None:
    """Sample, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("pretrained"))
    parser.add_argument("--refiner", type=Path)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--proteins", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/conformations.tsv")
    given = parser.parse_args()
    table = read_table(given.output, COLUMNS) if given.output.exists() else []
    if not given.show:
        if not given.store.exists():
            make_store(given.folder, given.store)
        for rows in new_rows(given, list(table)):
            table += rows
            write_table(given.output, COLUMNS, table)
    show(table)


def number(row: Mapping[str, object], name: str) -> float:
    """A cell as a number, NaN if it is empty."""
    return float(str(row.get(name) or "nan"))


BASELINES = ("profile: ANM", "profile: contact number")


def show(table: Sequence[Mapping[str, object]]) -> None:
    """Print medians over proteins, by kind and by whether the model was trained on them."""
    columns = ("kind, trained on", "way", "proteins", *METRICS, *(f"r less {name[9:]}" for name in BASELINES))
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    r = {name: {row["protein"]: number(row, "rmsf_r") for row in table if row["way"] == name} for name in BASELINES}
    for kind, trained in sorted({(str(row["kind"]), str(row["trained"])) for row in table}):
        of = [row for row in table if row["kind"] == kind and row["trained"] == trained]
        for way in dict.fromkeys(str(row["way"]) for row in of):
            part = [row for row in of if row["way"] == way]
            names = [str(row["cluster"]) for row in part]
            cells = [interval(names, [number(row, m) for row in part]) for m in METRICS]
            for base in r.values():
                less = [number(row, "rmsf_r") - base.get(row["protein"], np.nan) for row in part]
                cells.append(interval(names, less))
            print(f"| {kind}, {trained} | {way} | {len(part)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
