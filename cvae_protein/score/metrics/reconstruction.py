"""How close a reconstruction is to the held-out domain it was made from, residue by residue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...config.settings import ScoreSettings
from ...core.geometry import rmsd
from ...core.structure import CA, CB
from ...similarity.tm_score import tm_score
from .latent import Codes
from .metric import (
    ALL,
    UNASSIGNED,
    UNDEFINED,
    Estimate,
    Metric,
    PreparedStructure,
    ScoreRow,
    bootstrap_means,
    bounds,
    generator,
)

LDDT_RADIUS = 15.0  # Å, pairs of the reference that count
LDDT_THRESHOLDS = (0.5, 1.0, 2.0, 4.0)  # Å
FEWEST = 3  # residues that a superposition needs
THREE_STATES = str.maketrans("HGIEBTS-", "HHHEECCC")
MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Pair:
    """A reconstruction, its reference, and what was recorded with it (`rate`, `trace_rmsd`, ...)."""

    model: PreparedStructure
    reference: PreparedStructure
    facts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.model) != len(self.reference):
            raise ValueError(
                f"{self.model.id}: the reconstruction has {len(self.model)} residues, its reference "
                f"{len(self.reference)}; expected the same number"
            )

    @property
    def id(self) -> str:
        """Name of the domain."""
        return self.reference.id

    @property
    def label(self) -> str:
        """Class of the domain."""
        return self.model.label

    def atoms(self, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Atoms `first` to `stop` - 1 that are present in both, Å (n, 3) each."""
        ours = self.model.coords[:, first:stop].reshape(-1, 3)
        theirs = self.reference.coords[:, first:stop].reshape(-1, 3)
        both = np.isfinite(ours).all(axis=1) & np.isfinite(theirs).all(axis=1)
        return ours[both], theirs[both]


def _rmsd(mobile: np.ndarray, target: np.ndarray) -> float:
    return float(rmsd(mobile, target)) if len(mobile) >= FEWEST else float("nan")


def backbone_rmsd(pair: Pair) -> float:
    """RMSD over N, CA, C, O after least-squares superposition (Kabsch 1976)."""
    return _rmsd(*pair.atoms(0, CB))


def ca_rmsd(pair: Pair) -> float:
    """RMSD over CA after least-squares superposition."""
    return _rmsd(*pair.atoms(CA, CA + 1))


def mirror_rmsd(pair: Pair) -> float:
    """RMSD over N, CA, C, O to the mirror image of the reference; far above `backbone_rmsd` if the hand is right."""
    ours, theirs = pair.atoms(0, CB)
    return _rmsd(ours, theirs * MIRROR)


def right_handed(pair: Pair) -> float:
    """1 where the reconstruction is nearer to the reference than to its mirror image, else 0."""
    own, mirrored = backbone_rmsd(pair), mirror_rmsd(pair)
    return float("nan") if np.isnan(own) else float(own < mirrored)


def ca_tm_score(pair: Pair) -> float:
    """TM-score over CA, residue i on residue i, normalised by the reference (Zhang & Skolnick 2004)."""
    ours, theirs = pair.atoms(CA, CA + 1)
    return tm_score(ours, theirs, len(pair.reference))


def lddt(pair: Pair) -> float:
    """Share of the CA distances below 15 Å in the reference that are kept within 0.5, 1, 2 and 4 Å, mean of the four.

    All pairs of different residues, pooled over the structure (Mariani et al. 2013, doi:10.1093/bioinformatics/btt473).
    """
    ours, theirs = pair.atoms(CA, CA + 1)
    i, j = np.triu_indices(len(theirs), 1)
    wanted = np.linalg.norm(theirs[i] - theirs[j], axis=1)
    near = wanted < LDDT_RADIUS
    if not near.any():
        return float("nan")
    error = np.abs(np.linalg.norm(ours[i[near]] - ours[j[near]], axis=1) - wanted[near])
    return float(np.mean([(error < threshold).mean() for threshold in LDDT_THRESHOLDS]))


def ss_q3(pair: Pair) -> float:
    """Share of residues with the reference's secondary structure in three states (H G I, E B, other): Q3."""
    known = [
        (ours, theirs)
        for ours, theirs in zip(pair.model.ss, pair.reference.ss, strict=True)
        if UNASSIGNED not in (ours, theirs)
    ]
    if not known:
        return float("nan")
    return float(np.mean([ours.translate(THREE_STATES) == theirs.translate(THREE_STATES) for ours, theirs in known]))


def _fact(pair: Pair, name: str) -> float:
    return float(pair.facts.get(name, float("nan")))


def _ratio(pair: Pair, name: str) -> float:
    own = _fact(pair, "trace_rmsd")
    return _fact(pair, name) / own if own > 0 else float("nan")


def rate(pair: Pair) -> float:
    """Kullback-Leibler divergence of the posterior from the prior for this domain, as recorded."""
    return _fact(pair, "rate")


def trace_rmsd(pair: Pair) -> float:
    """CA RMSD of the trace decoded from the domain's own code, as recorded."""
    return _fact(pair, "trace_rmsd")


def permuted_code_rmsd(pair: Pair) -> float:
    """CA RMSD of the trace decoded from the code of another domain of the class, as recorded."""
    return _fact(pair, "permuted_code_rmsd")


def swapped_label_rmsd(pair: Pair) -> float:
    """CA RMSD of the trace decoded from the domain's own code with another class's label, as recorded."""
    return _fact(pair, "swapped_label_rmsd")


def permuted_code_ratio(pair: Pair) -> float:
    """`permuted_code_rmsd` over `trace_rmsd`: 1 where the decoder ignores the code."""
    return _ratio(pair, "permuted_code_rmsd")


def swapped_label_ratio(pair: Pair) -> float:
    """`swapped_label_rmsd` over `trace_rmsd`: 1 where the decoder ignores the label."""
    return _ratio(pair, "swapped_label_rmsd")


METRICS = (
    Metric("backbone_rmsd", "Å", "low", backbone_rmsd),
    Metric("ca_rmsd", "Å", "low", ca_rmsd),
    Metric("tm_score", "score", "high", ca_tm_score),
    Metric("lddt", "score", "high", lddt),
    Metric("mirror_rmsd", "Å", "none", mirror_rmsd),
    Metric("right_handed", "share", "high", right_handed),
    Metric("ss_q3", "share", "high", ss_q3),
    Metric("rate", "nat", "none", rate),
    Metric("trace_rmsd", "Å", "low", trace_rmsd),
    Metric("permuted_code_rmsd", "Å", "none", permuted_code_rmsd),
    Metric("permuted_code_ratio", "ratio", "high", permuted_code_ratio),
    Metric("swapped_label_rmsd", "Å", "none", swapped_label_rmsd),
    Metric("swapped_label_ratio", "ratio", "none", swapped_label_ratio),
)
"""Metrics of a `Pair`."""

GENERALISATION = "generalisation_ratio"


def generalisation_rows(codes: Codes, superfamily: Mapping[str, str], settings: ScoreSettings) -> list[ScoreRow]:
    """Rows of `generalisation_ratio` and of the `trace_rmsd` of training domains, both over all classes.

    The ratio is the mean error of held-out domains over that of training domains, both decoded from the mean of their
    posterior: 1 if a model reconstructs unseen domains as well as seen ones. Intervals are over superfamilies.
    """

    def row(metric: str, unit: str, estimate: Estimate, split: str, note: str = "") -> ScoreRow:
        return ScoreRow(metric, unit, "low", ALL, estimate, split, note)

    if codes.trace_rmsd is None:
        note = "latents.h5 does not say how well training domains are rebuilt"
        return [row(GENERALISATION, "ratio", UNDEFINED, "test", note)]
    groups = np.array([superfamily.get(name, "") or name for name in codes.ids.tolist()])
    means: dict[str, float] = {}
    counts: dict[str, int] = {}
    drawn: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        here = (codes.splits == split) & np.isfinite(codes.trace_rmsd)
        counts[split] = int(here.sum())
        if not counts[split]:
            return [row(GENERALISATION, "ratio", UNDEFINED, "test", f"no domain of the split {split} was decoded")]
        means[split] = float(codes.trace_rmsd[here].mean())
        random = generator(settings, GENERALISATION, split)
        several = len(np.unique(groups[here])) > 1
        drawn[split] = (
            bootstrap_means(codes.trace_rmsd[here], groups[here], settings.bootstrap, random)
            if several
            else np.full(settings.bootstrap, np.nan)
        )
    ratio = means["test"] / means["train"] if means["train"] > 0 else float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        limits = bounds(drawn["test"] / drawn["train"], settings)
    training = Estimate(means["train"], *bounds(drawn["train"], settings), counts["train"])
    return [
        row(GENERALISATION, "ratio", Estimate(ratio, *limits, counts["test"]), "test"),
        row("trace_rmsd", "Å", training, "train"),
    ]
