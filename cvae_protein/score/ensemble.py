"""Conformations drawn around one domain, compared with its known ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from Bio.Align import PairwiseAligner
from scipy.optimize import linprog
from scipy.sparse import eye as identity
from scipy.sparse import kron, vstack

from ..config.settings import ScoreSettings
from ..core.elastic_network import anisotropic_modes, contact_fluctuations, overlap
from ..core.errors import UserError
from ..core.files import write_table
from ..core.geometry import move, radius_of_gyration, rmsd, superpose
from ..core.progress import say
from ..core.structure import CA
from ..similarity.sequences import near_identical, plain
from ..store.read import Store
from .inputs import read_samples
from .metrics.metric import MOST_RESAMPLINGS, SCORE_COLUMNS, Estimate, Metric, ScoreRow, bounds, generator

COVERED = 2.0  # Å from a known state to the nearest sample
FEWEST_FOR_SPREAD = 3  # conformations of each kind whose distributions are compared
FEWEST_FOR_HISTOGRAM = 8
APART = 3  # residues along the chain, the least separation of a distance that counts
ROUNDS = 5  # of superposition on the mean, after which it no longer moves
COMPONENTS = 2
MOST_COMPONENTS = 20  # of the samples' motion
FEWEST_FOR_HALVES = 10  # states, for each half to have a meaningful fluctuation


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Conformations of one domain in Å: `samples` (n, L, 3), and known `states` (m, L, 3), first the one drawn around.

    L counts the residues with CA in every sample and every state.
    """

    samples: np.ndarray
    states: np.ndarray

    @property
    def others(self) -> np.ndarray:
        """The states except the one drawn around."""
        return self.states[1:]

    @cached_property
    def to_others(self) -> np.ndarray:
        """RMSD of each other state to each sample, Å (m - 1, n)."""
        return rmsd(self.samples[None], self.others[:, None]).reshape(len(self.others), len(self.samples))

    @cached_property
    def own_to_others(self) -> np.ndarray:
        """RMSD of each other state to the state drawn around, Å (m - 1,)."""
        return np.atleast_1d(rmsd(self.states[:1], self.others))

    @cached_property
    def samples_laid(self) -> np.ndarray:
        """The samples superposed on their mean."""
        return on_mean(self.samples)

    @cached_property
    def states_laid(self) -> np.ndarray:
        """The states superposed on their mean."""
        return on_mean(self.states)


def on_mean(traces: np.ndarray) -> np.ndarray:
    """Traces (n, L, 3) superposed on their mean, found iteratively (generalised Procrustes, Gower 1975)."""
    laid = np.asarray(traces, np.float64)
    target = laid[0]
    for _ in range(ROUNDS):
        laid = move(laid, *superpose(laid, target))
        target = laid.mean(axis=0)
    return laid


def rmsf(laid: np.ndarray) -> np.ndarray:
    """Root mean square fluctuation of each residue (L,) in Å about the mean of superposed traces (n, L, 3)."""
    return np.sqrt(np.square(laid - laid.mean(axis=0)).sum(axis=-1).mean(axis=0))


def rmsf_correlation(ensemble: Ensemble) -> float:
    """Pearson's r of the residues' fluctuations (RMSF) in samples and in states, each about its own mean.

    Jing, Berger & Jaakkola 2024, arXiv:2402.04845 (AlphaFlow).
    """
    ours, theirs = rmsf(ensemble.samples_laid), rmsf(ensemble.states_laid)
    if min(ours.std(), theirs.std()) < 1e-6:
        return float("nan")
    return float(np.corrcoef(ours, theirs)[0, 1])


def mean_rmsf(ensemble: Ensemble) -> float:
    """Mean over residues of the samples' RMSF in Å."""
    return float(rmsf(ensemble.samples_laid).mean())


def state_rmsf(ensemble: Ensemble) -> float:
    """Mean over residues of the states' RMSF in Å, which `sample_rmsf` should match."""
    return float(rmsf(ensemble.states_laid).mean())


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in nats of distributions over the last axis, at most ln 2 (Lin 1991)."""
    middle = (p + q) / 2

    def relative(a: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(a > 0, a * np.log(a / middle), 0.0).sum(axis=-1)

    return (relative(p) + relative(q)) / 2


def _histograms(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of values (n, K) and (m, K) in bins over the range of both; their number is the root of the smaller n."""
    bins = max(2, int(np.sqrt(min(len(ours), len(theirs)))))
    low = np.minimum(ours.min(axis=0), theirs.min(axis=0))
    width = np.maximum(np.maximum(ours.max(axis=0), theirs.max(axis=0)) - low, 1e-9)

    def shares(values: np.ndarray) -> np.ndarray:
        index = np.minimum((bins * (values - low) / width).astype(int), bins - 1)
        return np.stack([(index == k).mean(axis=0) for k in range(bins)], axis=-1)

    return shares(ours), shares(theirs)


def js_rg(ensemble: Ensemble) -> float:
    """Jensen-Shannon divergence in nats of the radii of gyration of samples and of states, in √n bins.

    Lu et al. 2024, arXiv:2306.03117 (Str2Str), with fewer bins as there are few conformations.
    """
    ours, theirs = (radius_of_gyration(traces)[:, None] for traces in (ensemble.samples, ensemble.states))
    return float(jensen_shannon(*_histograms(ours, theirs))[0])


def _distances(traces: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(traces.shape[1], APART)
    return np.linalg.norm(traces[:, i] - traces[:, j], axis=-1)


def js_distances(ensemble: Ensemble) -> float:
    """Mean over residue pairs, three or more apart, of the Jensen-Shannon divergence of their CA distance, in nats.

    Lu et al. 2024, arXiv:2306.03117 (Str2Str), in √n bins.
    """
    return float(jensen_shannon(*_histograms(_distances(ensemble.samples), _distances(ensemble.states))).mean())


def wasserstein_2(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Wasserstein-2 distance of two sets of points (n, K), (m, K) of equal weight, by the optimal transport plan.

    Linear programme of Kantorovich 1942, solved exactly.
    """
    n, m = len(ours), len(theirs)
    cost = np.square(ours[:, None] - theirs[None]).sum(axis=-1)
    given = kron(identity(n), np.ones((1, m)))
    taken = kron(np.ones((1, n)), identity(m))
    weights = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    plan = linprog(cost.ravel(), A_eq=vstack([given, taken]), b_eq=weights, method="highs")
    return float(np.sqrt(max(plan.fun, 0.0)))


def pca_w2(ensemble: Ensemble) -> float:
    """Wasserstein-2 distance in Å of samples and states on the first two principal components of both together.

    All traces are superposed on the mean of the states; samples and states have equal weight in the components, and
    are scaled by 1/√L, so that a distance is an RMSD. Jing et al. 2024, arXiv:2402.04845 (joint PCA W2).
    """
    target = ensemble.states_laid.mean(axis=0)
    sets = [move(x, *superpose(x, target)) for x in (ensemble.samples, ensemble.states)]
    flat = [(x - target).reshape(len(x), -1) / np.sqrt(x.shape[1]) for x in sets]
    middle = (flat[0].mean(axis=0) + flat[1].mean(axis=0)) / 2
    weighted = np.concatenate([(x - middle) / np.sqrt(len(x)) for x in flat])
    axes = np.linalg.svd(weighted, full_matrices=False)[2][:COMPONENTS]
    return wasserstein_2(*((x - middle) @ axes.T for x in flat))


def state_coverage(ensemble: Ensemble) -> float:
    """Share of the other states with a sample within 2.0 Å."""
    return float((ensemble.to_others.min(axis=1) <= COVERED).mean())


def state_rmsd(ensemble: Ensemble) -> float:
    """Mean over the other states of the RMSD in Å to the nearest sample."""
    return float(ensemble.to_others.min(axis=1).mean())


def state_ratio(ensemble: Ensemble) -> float:
    """Mean over the other states of the nearest sample's RMSD over that of the state drawn around.

    1 if the samples come no closer to a state than the domain itself, 0 if they reach it.
    """
    return float((ensemble.to_others.min(axis=1) / ensemble.own_to_others).mean())


def state_improved(ensemble: Ensemble) -> float:
    """Share of the other states to which a sample is nearer than the state drawn around."""
    return float((ensemble.to_others.min(axis=1) < ensemble.own_to_others).mean())


def state_halfway(ensemble: Ensemble) -> float:
    """Share of the other states to which a sample is at most half as far as the state drawn around."""
    return float((ensemble.to_others.min(axis=1) <= ensemble.own_to_others / 2).mean())


def motion_overlap(ensemble: Ensemble) -> float:
    """How much of the displacement to other states lies in the first 20 principal components of the samples, 0 to 1.

    Mean over states of the root of the summed squared overlaps (Marques & Sanejouand 1995, Proteins 23, 557).
    """
    own = ensemble.states[0]
    laid = move(ensemble.samples, *superpose(ensemble.samples, own))
    axes = np.linalg.svd((laid - laid.mean(axis=0)).reshape(len(laid), -1), full_matrices=False)[2][:MOST_COMPONENTS]
    vectors = axes[: len(laid) - 1].reshape(-1, *own.shape)
    moved = move(ensemble.others, *superpose(ensemble.others, own)) - own
    return float(np.mean([np.sqrt(np.square(overlap(vectors, one)).sum()) for one in moved]))


def spread_ratio(ensemble: Ensemble) -> float:
    """Mean RMSD between two samples over that between two states: below 1 too little spread, above 1 too much."""
    ours, theirs = (
        np.concatenate([np.atleast_1d(rmsd(x[k], x[k + 1 :])) for k in range(len(x) - 1)]).mean()
        for x in (ensemble.samples, ensemble.states)
    )
    return float(ours / theirs)


def _baseline(ensemble: Ensemble, fluctuations: np.ndarray) -> float:
    return float(np.corrcoef(rmsf(ensemble.states_laid), fluctuations)[0, 1])


def anm_rmsf_correlation(ensemble: Ensemble) -> float:
    """`rmsf_correlation` for the anisotropic network model of the state drawn around, which needs no sample."""
    return _baseline(ensemble, anisotropic_modes(ensemble.states[0]).fluctuations)


def contact_rmsf_correlation(ensemble: Ensemble) -> float:
    """`rmsf_correlation` for the number of contacts in the state drawn around, which needs no sample."""
    return _baseline(ensemble, contact_fluctuations(ensemble.states[0]))


def split_half_rmsf_correlation(ensemble: Ensemble) -> float:
    """Pearson's r of the RMSF of every second state with that of the others: the most to be expected of samples."""
    even, odd = (rmsf(on_mean(ensemble.states[first::2])) for first in (0, 1))
    return float(np.corrcoef(even, odd)[0, 1])


def state_spread(ensemble: Ensemble) -> float:
    """Mean RMSD in Å of the other states to the one drawn around."""
    return float(ensemble.own_to_others.mean())


def sample_spread(ensemble: Ensemble) -> float:
    """Mean RMSD in Å of the samples to the state drawn around."""
    return float(rmsd(ensemble.samples, ensemble.states[0]).mean())


@dataclass(frozen=True)
class EnsembleMetric(Metric):
    """A metric of an `Ensemble`, and how many samples and states it needs."""

    samples: int = 1
    states: int = 2

    def reason(self, ensemble: Ensemble) -> str:
        """Why the number is not given; empty where it is."""
        n, m = len(ensemble.samples), len(ensemble.states)
        if ensemble.states.shape[1] < FEWEST_RESIDUES:
            return f"{ensemble.states.shape[1]} residues in common, needs {FEWEST_RESIDUES}"
        if n < self.samples:
            return f"{n} samples, needs {self.samples}"
        return f"{m} known conformations, needs {self.states}" if m < self.states else ""


FEWEST_RESIDUES = 5
METRICS = (
    EnsembleMetric("rmsf_correlation", "r", "high", rmsf_correlation, FEWEST_FOR_SPREAD),
    EnsembleMetric("sample_rmsf", "Å", "none", mean_rmsf, 2, 1),
    EnsembleMetric("state_rmsf", "Å", "none", state_rmsf),
    EnsembleMetric("js_rg", "nat", "low", js_rg, FEWEST_FOR_HISTOGRAM, FEWEST_FOR_HISTOGRAM),
    EnsembleMetric("js_distances", "nat", "low", js_distances, FEWEST_FOR_HISTOGRAM, FEWEST_FOR_HISTOGRAM),
    EnsembleMetric("pca_w2", "Å", "low", pca_w2, FEWEST_FOR_SPREAD),
    EnsembleMetric("state_coverage", "share", "high", state_coverage),
    EnsembleMetric("state_rmsd", "Å", "low", state_rmsd),
    EnsembleMetric("state_ratio", "ratio", "low", state_ratio),
    EnsembleMetric("state_improved", "share", "high", state_improved),
    EnsembleMetric("state_halfway", "share", "high", state_halfway),
    EnsembleMetric("motion_overlap", "cosine", "high", motion_overlap, FEWEST_FOR_SPREAD),
    EnsembleMetric("spread_ratio", "ratio", "none", spread_ratio, 2),
    EnsembleMetric("anm_rmsf_correlation", "r", "none", anm_rmsf_correlation),
    EnsembleMetric("contact_rmsf_correlation", "r", "none", contact_rmsf_correlation),
    EnsembleMetric("split_half_rmsf_correlation", "r", "none", split_half_rmsf_correlation, 1, FEWEST_FOR_HALVES),
    EnsembleMetric("state_spread", "Å", "none", state_spread),
    EnsembleMetric("sample_spread", "Å", "none", sample_spread, 1, 1),
)
"""Metrics of an `Ensemble`."""
IDENTICAL = 0.9  # of the aligned residues, in two conformers of one protein
IN_COMMON = 0.8  # of the domain's residues, which another conformer must have
DISTINCT = 0.2  # Å of RMSD, below which two entries are one conformation


def _matched(first: str, second: str) -> np.ndarray:
    """For each residue of `first`, the index of the identical residue in `second` aligned with it, or -1.

    Global alignment (Needleman & Wunsch 1970) without a cost for gaps at the ends.
    """
    aligner = PairwiseAligner(mode="global", match_score=2, mismatch_score=-3, open_gap_score=-5, extend_gap_score=-0.5)
    aligner.end_gap_score = 0.0
    partner = np.full(len(first), -1)
    same = columns = 0
    for (start, stop), (begin, _) in zip(*aligner.align(plain(first), plain(second))[0].aligned, strict=True):
        for k in range(stop - start):
            columns += 1
            if first[start + k] == second[begin + k]:
                partner[start + k], same = begin + k, same + 1
    return (
        partner if same >= IDENTICAL * max(columns, 1) and same >= IN_COMMON * len(first) else np.full(len(first), -1)
    )


def families(store: Store) -> dict[str, list[str]]:
    """For each domain, the possible other conformers of it: domains of its `group`, or of near-identical sequence."""
    names = store.ids
    numbers = near_identical([store.sequence(name) for name in names])
    members: dict[object, list[str]] = {}
    groups = {name: str(store.fact(name, "group", "")) for name in names}
    for name, number in zip(names, numbers, strict=True):
        members.setdefault(number, []).append(name)
        if groups[name]:
            members.setdefault(groups[name], []).append(name)
    return {
        name: [other for other in dict.fromkeys([*members[number], *members.get(groups[name], [])]) if other != name]
        for name, number in zip(names, numbers, strict=True)
    }


def known_states(store: Store, name: str, family: list[str]) -> tuple[np.ndarray, list[str]]:
    """CA traces (m, L, 3) in Å, NaN where missing, of all known conformations of a domain, and the name of each.

    The first is the domain's own first model, then its further models (NMR), then the first models of those in `family`
    with the same residues: at least 90 % of those aligned are identical, and 80 % of the domain's are present.
    """
    traces, said = [], []
    for index, row in enumerate(store.rows(name)):
        traces.append(store.coords(row)[:, CA].astype(np.float64))
        said.append(f"{name} model {index + 1}")
    sequence = store.sequence(name)
    for other in family:
        partner = _matched(sequence, store.sequence(other))
        if (partner >= 0).any():
            theirs = store.coords(store.rows(other)[0])[:, CA].astype(np.float64)
            traces.append(np.where(partner[:, None] >= 0, theirs[partner], np.nan))
            said.append(other)
    return np.stack(traces), said


def common(samples: np.ndarray, states: np.ndarray) -> Ensemble:
    """The ensemble over the residues that every state has.

    `samples` (n, L, 3) have all residues of the domain; `states` (m, L, 3) have NaN for missing ones.
    """
    has = np.isfinite(states).all(axis=(0, 2)) & np.isfinite(samples).all(axis=(0, 2))
    return Ensemble(samples[:, has], states[:, has])


def distinct(ensemble: Ensemble) -> Ensemble:
    """The ensemble without the states that are within 0.2 Å of an earlier one."""
    kept: list[int] = [0]
    for index in range(1, len(ensemble.states)):
        if rmsd(ensemble.states[index][None], ensemble.states[kept]).min() > DISTINCT:
            kept.append(index)
    return Ensemble(ensemble.samples, ensemble.states[kept])


def read_ensemble(samples: Path, store: Path, domain: str) -> tuple[Ensemble, list[str]]:
    """The samples of a store or of structure files with the known conformations of `domain`, and the names of these.

    `UserError` if a sample has other residues than the domain, or the domain is not stored. The residues of a sample
    are those of the domain that have a CA, as drawn by `sample --around`, or all of them.
    """
    with Store(store) as file:
        file.rows(domain)  # says so where the store lacks it
        states, said = known_states(file, domain, families(file)[domain])
    found = read_samples(samples)
    for row in found.rejected:
        say("ensemble", f"{row['domain_id']} cannot be used: {row['detail']}")
    if not found.samples:
        raise UserError(f"{samples}: expected conformations of {domain}, found none that can be used")
    present = np.isfinite(states[0]).all(axis=1)
    placed = []
    for sample in found.samples:
        trace = sample.structure.coords[:, CA]
        if len(trace) not in (len(present), present.sum()):
            raise UserError(
                f"{samples}: expected samples of {present.sum()} residues, as {domain} has, "
                f"{sample.backbone.id} has {len(trace)}; draw them with `cvae-protein sample --around {domain}`"
            )
        whole = np.full((len(present), 3), np.nan)
        whole[present if len(trace) == present.sum() else slice(None)] = trace
        placed.append(whole)
    return common(np.stack(placed), states), said


def _row(metric: EnsembleMetric, domain: str, ensemble: Ensemble, settings: ScoreSettings) -> ScoreRow:
    """A metric with its interval from resampling the samples, or the reason why there is none."""
    count, nan = len(ensemble.samples), float("nan")
    if reason := metric.reason(ensemble):
        return metric.row(domain, Estimate(n=count), note=reason)
    random = generator(settings, metric.name, domain)
    drawn = [
        metric(Ensemble(ensemble.samples[random.integers(count, size=count)], ensemble.states))
        for _ in range(min(settings.bootstrap, MOST_RESAMPLINGS) if count > 1 else 0)
    ]
    limits = bounds(np.array(drawn), settings) if drawn else (nan, nan)
    estimate = Estimate(metric(ensemble), *limits, count)
    return metric.row(domain, estimate, note=f"{len(ensemble.states)} states")


def score_ensemble(
    samples: Path, store: Path, domain: str, variant: str, seed: int, settings: ScoreSettings, output: Path
) -> None:
    """Write the ensemble metrics of samples around one domain as a table with the columns of `scores.tsv`."""
    whole, said = read_ensemble(samples, store, domain)
    ensemble = distinct(whole) if whole.states.shape[1] >= FEWEST_RESIDUES else whole
    rows = [_row(metric, domain, ensemble, settings) for metric in METRICS]
    write_table(output, SCORE_COLUMNS, (row.cells(variant, str(seed)) for row in rows))
    say(
        "ensemble", f"{domain}: {len(ensemble.samples)} samples, {len(ensemble.states)} states of {', '.join(said[:8])}"
    )
