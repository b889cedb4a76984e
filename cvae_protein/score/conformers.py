"""The known conformations of a domain in a store, and the ensemble metrics of samples drawn around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from Bio.Align import PairwiseAligner

from ..config.settings import ScoreSettings
from ..core.errors import UserError
from ..core.files import write_table
from ..core.geometry import rmsd
from ..core.progress import say
from ..core.structure import CA
from ..similarity.sequences import near_identical, plain
from ..store.read import Store
from .ensemble import FEWEST_RESIDUES, METRICS, Ensemble, EnsembleMetric
from .intervals import Estimate, bounds, generator
from .rows import SCORE_COLUMNS, Row
from .sample_files import read_samples

IDENTICAL = 0.9  # of the aligned residues, in two conformers of one protein
IN_COMMON = 0.8  # of the domain's residues, that another conformer must have
DISTINCT = 0.2  # Å of RMSD, below which two entries are one conformation
MOST_RESAMPLINGS = 200


def _matched(first: str, second: str) -> np.ndarray:
    """For each residue of `first` the index of its partner in `second`, -1 where it has none; identical ones only.

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


def sequence_of(store: Store, name: str) -> str:
    """One letter a residue of a domain of a store."""
    return "".join(store.text(store.rows(name)[0], "sequence"))


def families(store: Store) -> dict[str, list[str]]:
    """For each domain the domains that may be other conformers of it: of its `group`, or of near-identical sequence."""
    names = store.ids
    numbers = near_identical([sequence_of(store, name) for name in names])
    members: dict[object, list[str]] = {}
    groups = {name: str(store.fact(name, "group")) if "group" in store.columns else "" for name in names}
    for name, number in zip(names, numbers, strict=True):
        members.setdefault(number, []).append(name)
        if groups[name]:
            members.setdefault(groups[name], []).append(name)
    return {
        name: [other for other in dict.fromkeys([*members[number], *members.get(groups[name], [])]) if other != name]
        for name, number in zip(names, numbers, strict=True)
    }


def known_states(store: Store, name: str, family: list[str]) -> tuple[np.ndarray, list[str]]:
    """CA traces (m, L, 3) in Å, NaN where missing, of all known conformations of a domain, and what each is.

    The first is the domain's own first model; then its further models (NMR), then the first models of `family` whose
    residues are the domain's: at least 90 % of those aligned are identical, and 80 % of the domain's are there.
    """
    traces, said = [], []
    for index, row in enumerate(store.rows(name)):
        traces.append(store.coords(row)[:, CA].astype(np.float64))
        said.append(f"{name} model {index + 1}")
    sequence = sequence_of(store, name)
    for other in family:
        partner = _matched(sequence, sequence_of(store, other))
        if (partner >= 0).any():
            theirs = store.coords(store.rows(other)[0])[:, CA].astype(np.float64)
            traces.append(np.where(partner[:, None] >= 0, theirs[partner], np.nan))
            said.append(other)
    return np.stack(traces), said


def common(samples: np.ndarray, states: np.ndarray) -> Ensemble:
    """The ensemble over the residues that every state has.

    `samples` (n, L, 3) have all residues of the domain, `states` (m, L, 3) NaN where one is missing.
    """
    has = np.isfinite(states).all(axis=(0, 2)) & np.isfinite(samples).all(axis=(0, 2))
    return Ensemble(samples[:, has], states[:, has])


def distinct(ensemble: Ensemble) -> Ensemble:
    """The ensemble without the states that lie within 0.2 Å of an earlier one."""
    kept: list[int] = [0]
    for index in range(1, len(ensemble.states)):
        if rmsd(ensemble.states[index][None], ensemble.states[kept]).min() > DISTINCT:
            kept.append(index)
    return Ensemble(ensemble.samples, ensemble.states[kept])


def read_ensemble(samples: Path, store: Path, domain: str) -> tuple[Ensemble, list[str]]:
    """The samples of a store or of structure files beside the known conformations of `domain`, and what these are.

    `UserError` where a sample has other residues than the domain, or the domain is not stored. The residues of a sample
    are those of the domain that have a CA, as `sample --around` draws them, or all of them.
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


def _row(metric: EnsembleMetric, domain: str, ensemble: Ensemble, settings: ScoreSettings) -> Row:
    """A metric with its interval from resampled samples, or the reason why there is none."""
    count, nan = len(ensemble.samples), float("nan")
    if reason := metric.reason(ensemble):
        return Row(metric.name, metric.unit, metric.better, domain, Estimate(nan, nan, nan, count), note=reason)
    random = generator(settings, metric.name, domain)
    drawn = [
        metric.function(Ensemble(ensemble.samples[random.integers(count, size=count)], ensemble.states))
        for _ in range(min(settings.bootstrap, MOST_RESAMPLINGS) if count > 1 else 0)
    ]
    limits = bounds(np.array(drawn), settings) if drawn else (nan, nan)
    estimate = Estimate(metric.function(ensemble), *limits, count)
    return Row(metric.name, metric.unit, metric.better, domain, estimate, note=f"{len(ensemble.states)} states")


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
