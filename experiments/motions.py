"""Compare the motions encoded by the code with modes of an elastic network, and test which states single steps reach.

    python experiments/motions.py ../shared/conformations --store ENSEMBLES.h5 [--proteins 0] [--pairs] [--show]

Folder and store are those of `experiments/conformations.py`; an interrupted call resumes. For every protein, without
its flexible ends, it prints medians by kind with 95 % bootstrap intervals over sequence clusters of

- the share of the displacement from the first state to the farthest one that a set of directions explains together
  (root of the summed squared overlaps), and the share explained by the best of the first 20 of them alone;
- Pearson's r of their fluctuations with the true RMSF, if there are five states or more;
- the share of the other states for which the nearest of the first n traces is within half the distance. Traces are not
  relaxed, which favours none of the methods; all have the spread of the states.

Directions are modes of the network; those of the code; those of the code sorted by stiffness in the network, softest
first; and the principal components of code differences between conformers of proteins of other clusters (`--pairs`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from conformations import (
    FEWEST_FOR_RMSF,
    MODES,
    Protein,
    in_turn,
    interval,
    motions_of,
    number,
    read_proteins,
    single_steps,
)

from cvae_protein.core.elastic_network import anisotropic_modes, overlap, scale_to
from cvae_protein.core.files import read_table, write_table
from cvae_protein.core.geometry import move, rmsd, superpose
from cvae_protein.core.progress import track
from cvae_protein.model.batch import DomainSet, one_domain
from cvae_protein.model.registry import resolve
from cvae_protein.sampling.motion import soft_motions
from cvae_protein.sampling.sampler import Sampler, load_sampler
from cvae_protein.score.ensemble import on_mean, rmsf
from cvae_protein.store.read import Store

COUNTS = (1, 10, 20, 50, 100)  # numbers of traces
MANY = 64  # number of directions, as many as a code has
SHRUNK = 0.1  # share of isotropic noise in the code differences
FOLDS = 10
OVERLAPS = ("ANM, 1 of 20", "ANM, 20", "ANM, 64", "code, 64", "soft code, 1 of 20", "soft code, 20", "pairs, 20")
FLUCTUATIONS = ("posterior", "even codes", "soft codes", "ANM")
STEPS = ("one mode of ANM", "one soft code", "one direction of pairs", "ANM", "soft codes", "pairs", "noise")
COLUMNS = (
    *("protein", "kind", "cluster", "trained"),
    *(f"overlap: {name}" for name in OVERLAPS),
    *(f"r: {name}" for name in FLUCTUATIONS),
    *(f"{name}: {count}" for name in STEPS for count in COUNTS),
)


def together(motions: np.ndarray, motion: np.ndarray) -> float:
    """Share of a displacement (L, 3) that lies in the span of some motions (K, L, 3), 0 to 1."""
    axes = np.linalg.qr(motions.reshape(len(motions), -1).T)[0].T
    return float(np.sqrt(np.square(overlap(axes.reshape(-1, *motion.shape), motion)).sum()))


def alone(motions: np.ndarray, motion: np.ndarray) -> float:
    """Overlap of a displacement (L, 3) with the best of some motions (K, L, 3), 0 to 1."""
    unit = motions / np.linalg.norm(motions, axis=(1, 2))[:, None, None]
    return float(overlap(unit, motion).max())


def code_of(sampler: Sampler, state: DomainSet) -> np.ndarray:
    """The posterior mean of a state (Z,)."""
    return sampler.model.infer_all(state, sampler.spec.model.inference_steps).mean[0].double().numpy()


def differences(sampler: Sampler, proteins: Sequence[Protein], domains: Callable) -> dict[str, np.ndarray]:
    """Second moment (Z, Z) of unit-length code differences in other cross-validation folds, by cluster."""
    found: dict[str, list[np.ndarray]] = {}
    for one in track(proteins, "codes", len(proteins), "proteins"):
        farthest = 1 + int(one.trimmed.far.argmax())
        first, other = (code_of(sampler, domains(one, state)) for state in (0, farthest))
        found.setdefault(one.cluster, []).append((other - first) / np.linalg.norm(other - first))
    fold = {name: number % FOLDS for number, name in enumerate(sorted(found))}
    size = sampler.spec.model.latent
    moments = {}
    for own in range(FOLDS):
        of = np.stack([one for name, many in found.items() if fold[name] != own for one in many])
        moment = of.T @ of / len(of)
        moments |= {name: moment + SHRUNK * np.eye(size) / size for name in found if fold[name] == own}
    return moments


def halfway(protein: Protein, traces: np.ndarray) -> list[float]:
    """Share of the other states within half their distance of the nearest of the first n traces, for n in COUNTS."""
    apart = rmsd(traces[None], protein.states[1:, None])
    return [float((apart[:, :count].min(axis=1) <= protein.far / 2).mean()) for count in COUNTS]


def measured(sampler: Sampler, protein: Protein, domain: DomainSet, moment: np.ndarray | None) -> dict[str, float]:
    """All columns for a protein without its flexible ends."""
    trace, spread = protein.states[0], float(protein.far.mean())
    other = protein.states[1 + int(protein.far.argmax())]
    motion = move(other, *superpose(other, trace)) - trace
    modes, code = anisotropic_modes(trace), motions_of(sampler, domain, trace)
    soft, soft_rmsf = soft_motions(trace, code)
    row = {
        "overlap: ANM, 1 of 20": alone(modes.vectors[:MODES], motion),
        "overlap: ANM, 20": together(modes.vectors[:MODES], motion),
        "overlap: ANM, 64": together(modes.vectors[:MANY], motion),
        "overlap: code, 64": together(code, motion),
        "overlap: soft code, 1 of 20": alone(soft[:MODES], motion),
        "overlap: soft code, 20": together(soft[:MODES], motion),
    }
    if len(protein.states) >= FEWEST_FOR_RMSF:
        true = rmsf(on_mean(protein.states))
        posterior = sampler.model.infer_all(domain, sampler.spec.model.inference_steps)
        wide = np.exp(0.5 * posterior.logvar.double().numpy()).reshape(-1, 1, 1) * code
        profiles = (*(np.sqrt(np.square(x).sum(axis=(0, 2))) for x in (wide, code)), soft_rmsf, modes.fluctuations)
        row |= {f"r: {k}": float(np.corrcoef(true, v)[0, 1]) for k, v in zip(FLUCTUATIONS, profiles, strict=True)}
    rng, count = np.random.default_rng(0), max(COUNTS)
    thermal = modes.vectors / np.sqrt(modes.stiffness)[:, None, None]
    mixed, single = {"ANM": thermal, "soft codes": soft}, {"one mode of ANM": modes.vectors, "one soft code": soft}
    if moment is not None:
        axes = np.linalg.eigh(moment)
        pairs = np.einsum("zk,zli->kli", axes.eigenvectors[:, ::-1], code)  # largest differences first
        row["overlap: pairs, 20"] = together(pairs[:MODES], motion)
        mixed["pairs"] = np.sqrt(axes.eigenvalues[::-1])[:, None, None] * pairs
        single["one direction of pairs"] = pairs
    steps = {name: np.einsum("nk,kli->nli", rng.standard_normal((count, len(x))), x) for name, x in mixed.items()}
    steps["noise"] = rng.standard_normal((count, *trace.shape))
    traces = {name: trace + scale_to(trace, step, spread) * step for name, step in steps.items()}
    traces |= {name: single_steps(trace, vectors[:MODES], spread, count) for name, vectors in single.items()}
    for name, drawn in traces.items():
        row |= {f"{name}: {n}": share for n, share in zip(COUNTS, halfway(protein, drawn), strict=True)}
    return row


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("pretrained"))
    parser.add_argument("--proteins", type=int, default=0)
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/motions.tsv")
    given = parser.parse_args()
    table: list[Mapping[str, object]] = [*read_table(given.output, COLUMNS)] if given.output.exists() else []
    if not given.show:
        sampler = load_sampler(*resolve(given.model, None))
        proteins = in_turn(read_proteins(given.store, given.folder / "proteins.tsv"))
        with Store(given.store) as store:

            def domain(one: Protein, state: int) -> DomainSet:
                return one_domain(store.coords(store.rows(one.name)[state])[one.core], one.name, "")

            moments = differences(sampler, proteins, domain) if given.pairs else {}
            done = {row["protein"] for row in table}
            wanted = [one for one in proteins[: given.proteins or None] if one.name not in done]
            for one in track(wanted, "motions", len(wanted), "proteins"):
                found = measured(sampler, one.trimmed, domain(one, 0), moments.get(one.cluster))
                facts = {"protein": one.name, "kind": one.kind, "cluster": one.cluster, "trained": one.trained}
                cells = {name: f"{found[name]:.4g}" if name in found else "" for name in COLUMNS[len(facts) :]}
                table.append({**facts, **cells})
                write_table(given.output, COLUMNS, table)
    show(table)


def show(table: Sequence[Mapping[str, object]]) -> None:
    """Print medians of overlaps and correlations by kind, and means of the shares of states that are reached."""
    kinds = sorted({str(row["kind"]) for row in table})
    of = {kind: [row for row in table if row["kind"] == kind] for kind in kinds}
    print("| | " + " | ".join(f"{kind} ({len(of[kind])})" for kind in kinds) + " |\n|---" + "|---" * len(kinds) + "|")
    for column in COLUMNS[4 : 4 + len(OVERLAPS) + len(FLUCTUATIONS)]:
        cells = [
            interval([str(row["cluster"]) for row in of[kind]], [number(row, column) for row in of[kind]])
            for kind in kinds
        ]
        print(f"| {column} | " + " | ".join(cells) + " |")
    print(f"\n| states within half their distance, n = | {' | '.join(map(str, COUNTS))} |")
    print("|---" * (len(COUNTS) + 1) + "|")
    for kind in kinds:
        for name in STEPS:
            cells = [
                interval(
                    [str(row["cluster"]) for row in of[kind]],
                    [number(row, f"{name}: {count}") for row in of[kind]],
                    np.mean,
                )
                for count in COUNTS
            ]
            print(f"| {kind}, {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
