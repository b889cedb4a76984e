"""Where a chain goes: conformations drawn around one state of proteins that were seen in several, beside baselines.

    python experiments/conformations.py ../shared/conformations --store ENSEMBLES.h5 [--samples 100] [--proteins 0]

The folder holds `proteins.tsv` and `conformers.tsv`: proteins of near-identical conformers, with their files. The store
is made where it is not there. Of each core protein, without its loose ends, conformations are drawn around its first
state, with the spread that its other states have: by the model's codes moved along what an elastic network finds soft
(`sample --around --spread`), from the model's posterior, along all modes of an elastic network, and by even noise.
Prints, by kind and by overlap with what the model may have seen, medians over proteins with 95 % bootstrap intervals
over sequence clusters.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cvae_protein.config.settings import SampleSettings
from cvae_protein.core.elastic_network import Modes, anisotropic_modes, scale_to
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.geometry import rmsd
from cvae_protein.core.progress import track
from cvae_protein.core.structure import CA
from cvae_protein.model.batch import DomainSet, as_backbone, one_domain
from cvae_protein.model.registry import resolve
from cvae_protein.sampling.flexibility import features, standardized
from cvae_protein.sampling.motion import motions_around, soft_motions, tangent, turned
from cvae_protein.sampling.relax import FREE
from cvae_protein.sampling.sampler import Sampler, load_sampler, relax_all
from cvae_protein.score.ensemble import on_mean, rmsf
from cvae_protein.score.metrics.metric import PreparedStructure
from cvae_protein.score.metrics.physical_validity import physically_valid
from cvae_protein.store.read import Store

ENDS, FEWEST_ENDS, MOST_ENDS = 0.05, 3, 8  # share of a chain cut at each end where no core range is told
FEWEST_FOR_RMSF = 5  # states whose fluctuations are compared
WAYS = 5  # to draw
METRICS = ("rmsf_r", "nearest", "halfway", "spread", "valid")
COLUMNS = ("protein", "kind", "cluster", "seen", "length", "states", "samples", "way", *METRICS)


@dataclass(frozen=True, eq=False)
class Protein:
    """A protein in several states (m, L, 3), Å; `core` (L,) is without the loose ends, `seen` the union's relation."""

    name: str
    kind: str
    cluster: str
    seen: str
    states: np.ndarray
    core: np.ndarray

    @property
    def far(self) -> np.ndarray:
        """RMSD in Å of each other state to the first one (m - 1,)."""
        return np.atleast_1d(rmsd(self.states[:1], self.states[1:]))

    @property
    def trimmed(self) -> Protein:
        """The protein without its loose ends."""
        return replace(self, states=self.states[:, self.core], core=np.ones(self.core.sum(), bool))


def tables(folder: Path) -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    """Core proteins by name, and their conformers."""

    def rows(name: str) -> list[dict[str, str]]:
        with open(folder / name, encoding="utf-8") as file:
            return list(csv.DictReader(file, delimiter="\t"))

    proteins = {row["protein"]: row for row in rows("proteins.tsv") if row["use"] == "core"}
    return proteins, [row for row in rows("conformers.tsv") if row["protein"] in proteins]


def make_store(folder: Path, output: Path) -> None:
    """Featurize the conformers as ensembles; those of groups come from the mirrors, whose CB are whole."""
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
    """The core proteins of a store that are in the table and have every CA in every state."""
    known, _ = tables(table.parent)
    found = []
    with Store(store) as file:
        for name in file.ids:
            if name not in known:
                continue
            row, states = known[name], np.stack([file.coords(k)[:, CA] for k in file.rows(name)]).astype(np.float64)
            if len(states) < 2 or not np.isfinite(states).all():
                continue
            core = _core(row, file.backbone(name).residue_ids)
            found.append(Protein(name, _kind(row["kind"]), row["cluster"], row["union_overlap"], states, core))
    return found


def interval(clusters: Sequence[str], values: Sequence[float]) -> str:
    """Median of the finite values and its 95 % bootstrap interval over sequence clusters."""
    array, names = np.array(values, float), np.array(clusters)
    array, names = array[np.isfinite(array)], names[np.isfinite(array)]
    if not len(array):
        return "-"
    members = [array[names == name] for name in dict.fromkeys(names)]
    rng = np.random.default_rng(0)
    medians = [
        np.median(np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))]))
        for _ in range(1000)
    ]
    low, high = np.quantile(medians, [0.025, 0.975])
    return f"{np.median(array):.2f} ({low:.2f} to {high:.2f})"


class Drawn(NamedTuple):
    """Conformations of a protein (n, L, 5, 3), Å, by one way to draw them; CA alone is (n, L, 3)."""

    ca: np.ndarray
    atoms: np.ndarray | None = None


def along(sampler: Sampler, protein: Protein, domain: DomainSet, traces: np.ndarray) -> Drawn:
    """Traces (n, L, 3) made of the protein's own, with its peptide planes and relaxed like every sample."""
    carbonyl = domain.batch(sampler.spec, [0]).carbonyl[0].double().numpy()
    planes = turned(protein.states[0], traces, carbonyl)
    parts = [(torch.from_numpy(x).float(), torch.from_numpy(u).float()) for x, u in zip(traces, planes, strict=True)]
    made = relax_all(parts, SampleSettings().relax_steps, FREE, protein.name, [x for x, _ in parts], said=False)
    return Drawn(np.stack([one[:, CA] for one in made]), np.stack(made))


def draw(sampler: Sampler, protein: Protein, domain: DomainSet, count: int, profile: np.ndarray) -> dict[str, Drawn]:
    """Conformations by every way, all with the mean RMSD to the first state that the other states have."""
    trace, spread = protein.states[0], float(protein.far.mean())
    noise = torch.randn(count, sampler.spec.model.latent, generator=torch.Generator().manual_seed(0))
    settings = SampleSettings()
    motions = motions_around(sampler, domain, "", spread, settings, protein.name, profile)
    soft = np.stack(motions.draw(sampler, noise, settings, protein.name))
    moved = motions_of(sampler, domain, trace)
    plain, _ = soft_motions(trace, moved)
    posterior = sampler.model.infer_all(domain, sampler.spec.model.inference_steps)
    widths = torch.exp(0.5 * posterior.logvar).double().numpy()
    steps = noise.double().numpy()
    modes = anisotropic_modes(trace)
    jitter = np.random.default_rng(0).standard_normal((count, *trace.shape))

    def moved_by(motion: np.ndarray) -> np.ndarray:
        return trace + scale_to(trace, motion, spread) * motion

    return {
        "soft codes, flexibility": Drawn(soft[:, :, CA], soft),
        "soft codes": along(sampler, protein, domain, moved_by(np.einsum("nz,zli->nli", steps, plain))),
        "posterior's codes": along(sampler, protein, domain, moved_by(np.einsum("nz,zli->nli", steps * widths, moved))),
        "ANM": along(sampler, protein, domain, normal_mode_traces(trace, modes, count, spread, 0)),
        "noise": along(sampler, protein, domain, moved_by(jitter)),
    }


def normal_mode_traces(trace: np.ndarray, modes: Modes, count: int, spread: float, seed: int) -> np.ndarray:
    """Traces (n, L, 3) displaced along all modes as in thermal equilibrium, mean RMSD to `trace` as asked for, in Å.

    The amplitude of a mode is normal with variance 1 / stiffness, times one factor for all that gives the `spread`.
    """
    drawn = np.random.default_rng(seed).standard_normal((count, len(modes.stiffness))) / np.sqrt(modes.stiffness)
    steps = np.einsum("nk,kli->nli", drawn, modes.vectors)
    return trace + scale_to(trace, steps, spread) * steps


def motions_of(sampler: Sampler, domain: DomainSet, trace: np.ndarray) -> np.ndarray:
    """How the trace moves with each number of its code (Z, L, 3)."""
    code = sampler.model.infer_all(domain, sampler.spec.model.inference_steps).mean
    return tangent(sampler, code, torch.zeros(1, sampler.spec.depth, dtype=torch.long), trace)


def measured(protein: Protein, drawn: Drawn) -> dict[str, float]:
    """Correlation of RMSF, nearness to the other states, spread and validity of conformations."""
    first, others = protein.states[0], protein.far
    nearest = rmsd(drawn.ca[None], protein.states[1:, None]).min(axis=1)
    row = {
        "nearest": float((nearest / others).mean()),
        "halfway": float((nearest <= others / 2).mean()),
        "spread": float(rmsd(drawn.ca, first).mean() / others.mean()),
    }
    if len(protein.states) >= FEWEST_FOR_RMSF:
        true, ours = (rmsf(on_mean(x)) for x in (protein.states, drawn.ca))
        row["rmsf_r"] = float(np.corrcoef(true, ours)[0, 1])
    if drawn.atoms is not None:
        prepared = [PreparedStructure.of(as_backbone("sample", one), "") for one in drawn.atoms]
        row["valid"] = float(np.mean([physically_valid(one) for one in prepared]))
    return row


def profiles(proteins: Sequence[Protein]) -> dict[str, np.ndarray]:
    """The flexibility of each protein's residues by a model that has seen none of its sequence cluster."""
    from flexibility import FOLDS, examples, fit

    many = [one for one in proteins if len(one.states) >= FEWEST_FOR_RMSF]
    fold = {name: number % FOLDS for number, name in enumerate(sorted({one.cluster for one in proteins}))}
    known = {one.name: examples(one) for one in many}
    found = {}
    for number in range(FOLDS):
        weights, spread = fit([pair for one in many if fold[one.cluster] != number for pair in known[one.name]])
        for one in proteins:
            if fold[one.cluster] == number:
                found[one.name] = np.exp(spread * standardized(features(one.trimmed.states[0]) @ weights))
    return found


def rows(given: argparse.Namespace, done: Collection[str]) -> Iterator[dict[str, object]]:
    """A row a protein and way to draw, of the proteins not done yet."""
    sampler = load_sampler(*resolve(given.model, given.refiner))
    proteins = read_proteins(given.store, given.folder / "proteins.tsv")
    profile = profiles(proteins)
    wanted = [one for one in proteins if one.seen != "same" or len(one.states) >= FEWEST_FOR_RMSF]
    wanted = [one for one in wanted if one.name not in done][: given.proteins or None]
    for one in track(wanted, "conformations", len(wanted), "proteins"):
        with Store(given.store) as file:
            domain = one_domain(file.coords(file.rows(one.name)[0])[one.core], one.name, "")
        facts = {"protein": one.name, "kind": one.kind, "cluster": one.cluster, "seen": one.seen}
        facts |= {"length": int(one.core.sum()), "states": len(one.states), "samples": given.samples}
        core = one.trimmed
        for way, drawn in draw(sampler, core, domain, given.samples, profile[one.name]).items():
            yield facts | {"way": way} | {k: f"{v:.4g}" for k, v in measured(core, drawn).items()}


def main() -> None:
    """Draw, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("pretrained"))
    parser.add_argument("--refiner", type=Path)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--proteins", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/conformations.tsv")
    given = parser.parse_args()
    if not given.store.exists():
        make_store(given.folder, given.store)
    before = read_table(given.output, COLUMNS) if given.output.exists() else []
    done = {row["protein"] for row in before if int(row["samples"]) == given.samples}
    table = [row for row in before if row["protein"] in done]
    part: list[dict[str, object]] = []
    for row in rows(given, done):
        part.append(row)
        if len(part) % WAYS == 0:
            write_table(given.output, COLUMNS, [*table, *part])
    show([*table, *part])


def number(row: Mapping[str, object], name: str) -> float:
    """A cell as a number, NaN where it is empty."""
    return float(str(row.get(name) or "nan"))


def show(table: Sequence[Mapping[str, object]]) -> None:
    """Medians over proteins by kind, and whether the union has a near-identical sequence."""
    print("| kind, near-identical in the union | way | proteins | " + " | ".join(METRICS) + " | rmsf_r less ANM's |")
    print("|---" * (4 + len(METRICS)) + "|")
    network = {row["protein"]: number(row, "rmsf_r") for row in table if row["way"] == "ANM"}
    groups = {(str(row["kind"]), "yes" if row["seen"] == "same" else "no") for row in table}
    for kind, seen in sorted(groups):
        of = [row for row in table if row["kind"] == kind and (row["seen"] == "same") == (seen == "yes")]
        for way in dict.fromkeys(str(row["way"]) for row in of):
            part = [row for row in of if row["way"] == way]
            names = [str(row["cluster"]) for row in part]
            cells = [interval(names, [number(row, m) for row in part]) for m in METRICS]
            cells.append(interval(names, [number(row, "rmsf_r") - network[row["protein"]] for row in part]))
            print(f"| {kind}, {seen} | {way} | {len(part)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
