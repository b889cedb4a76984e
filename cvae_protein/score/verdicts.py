"""Diagnosis of a model: signs with evidence and thresholds, and the verdicts based on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ..config.settings import VerdictSettings
from ..core.errors import UserError
from ..core.files import read_table, write_table
from ..core.progress import say
from ..core.variants import NEW_MEMBER, REAL, REAL_SHUFFLED, REFERENCES, find
from .metrics.metric import ALL

FLAGGED, PASS, UNKNOWN, NOT_APPLICABLE = "flagged", "pass", "unknown", "not applicable"


@dataclass(frozen=True)
class Score:
    """A row of the score table over all classes; NaN if undefined, with the reason in `note`."""

    value: float
    low: float
    high: float
    count: int
    note: str = ""

    @property
    def shown(self) -> str:
        """Value, interval and count as text."""
        interval = f" ({self.low:.3g} to {self.high:.3g})" if math.isfinite(self.low + self.high) else ""
        return f"{self.value:.3g}{interval}, n = {self.count}"


ABSENT = Score(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Sign:
    """One number compared with its limit; `state` is one of flagged, pass, unknown, not applicable."""

    state: str
    evidence: str
    threshold: str


FEWEST = 5  # domains or samples that a number must rest on to support a verdict


def read_sign(
    scores: Mapping[str, Score], name: str, threshold: str, flags: Callable[[Score], bool], fewest: int = FEWEST
) -> Sign:
    """The sign of a metric; unknown if the table has no number for it or one from fewer than `fewest` structures."""
    score = scores.get(name)
    if score is None:
        return Sign(UNKNOWN, f"{name}: no row in the score table", threshold)
    if not math.isfinite(score.value):
        why = f", {score.note}" if score.note else ""
        return Sign(UNKNOWN, f"{name}: undefined (n = {score.count}{why})", threshold)
    if score.count < fewest:
        return Sign(UNKNOWN, f"{name} = {score.shown}: {fewest} or more are needed", threshold)
    return Sign(FLAGGED if flags(score) else PASS, f"{name} = {score.shown}", threshold)


def relative_to(own: Sign, scores: Mapping[str, Score], name: str, of: str = "", fewest: int = FEWEST) -> Sign:
    """`own` with the evidence of the metric it is compared with, led by `of`; unknown if either sign is."""
    other = read_sign(scores, name, own.threshold, lambda score: False, fewest)
    state = UNKNOWN if UNKNOWN in (own.state, other.state) else own.state
    return Sign(state, f"{own.evidence}; {of}{other.evidence}", own.threshold)


def any_of(signs: Iterable[Sign], notes: Sequence[str] = ()) -> Sign:
    """Flagged if any sign is, with the evidence of the flagged ones only; otherwise unknown if any sign is."""
    signs = list(signs)
    states = {sign.state for sign in signs}
    state = next(state for state in (FLAGGED, UNKNOWN, PASS) if state in states)
    evidence = [sign.evidence for sign in signs if sign.state == state or state != FLAGGED]
    return Sign(state, "; ".join([*evidence, *notes]), " or ".join(dict.fromkeys(sign.threshold for sign in signs)))


NEEDED = ("variant", "seed", "fold", "metric", "value", "low", "high", "n")
NOT_HELD_OUT = ("train", "validation")  # splits whose rows are used only if no other split has the metric
VERDICT_COLUMNS = ("variant", "seed", "verdict", "state", "evidence", "threshold", "remedy")
OF_A_CODE = ("active_share", "mutual_information", "permuted_code_ratio", "class_leakage", "rate", "prior_gain")
DEEPER_LEAKS = ("class_leakage_level2", "class_leakage_level3")
NOISE_LEAKS = ("noise_leakage", "noise_leakage_level2", "noise_leakage_level3")


@dataclass(frozen=True)
class Case:
    """The scores of one variant and seed by metric, those of real domains, and the limits.

    `real` are validation domains; `ideal` are new members of trained superfamilies, as a perfect sampler draws them.
    """

    variant: str
    scores: Mapping[str, Score]
    real: Mapping[str, Score]
    ideal: Mapping[str, Score]
    limits: VerdictSettings

    @property
    def has_code(self) -> bool:
        """Whether the scores are those of a model, and not of structures alone."""
        return any(name in self.scores for name in OF_A_CODE)

    @property
    def takes_label(self) -> bool:
        """Whether the decoder is conditioned on a label."""
        return self.has_code and find(self.variant).trained


def _not_applicable(case: Case, why: str) -> Sign:
    return Sign(NOT_APPLICABLE, why if case.has_code else "structures without a code", "")


def collapse(case: Case) -> Sign:
    """COLLAPSE: few dimensions of the code vary with the structure, it is uninformative, or the decoder ignores it.

    `active_share` (Burda et al. 2016), `mutual_information` in nats, and `permuted_code_ratio`, the held-out error with
    another domain's code divided by that with the domain's own code.
    """
    if not case.has_code:
        return _not_applicable(case, "")
    scores, limits = case.scores, case.limits
    least, nats, changed = (f"{limits.active:g}", f"{limits.information:g} nat", f"{limits.permutation:g}")
    active = read_sign(scores, "active_share", f"active_share < {least}", lambda s: s.value < limits.active)
    informed = read_sign(
        scores, "mutual_information", f"mutual_information < {nats}", lambda s: s.value < limits.information
    )
    bound = scores.get("mutual_information_bound", ABSENT)
    if informed.state == FLAGGED and bound.value <= limits.information:
        few = f"mutual_information: {bound.count} domains can show no more than {bound.value:.3g} nat"
        informed = Sign(UNKNOWN, few, informed.threshold)
    permuted = read_sign(
        scores,
        "permuted_code_ratio",
        f"permuted_code_ratio within {changed} of 1",
        lambda s: abs(s.value - 1) < limits.permutation,
    )
    return any_of([active, informed, permuted])


def _leak(case: Case, name: str) -> Sign:
    """The sign of one probe; a high skill whose interval reaches 0 is unknown, as few domains give skill by chance."""
    limit, margin = case.limits.leak, case.limits.leak_margin
    threshold = f"skill > {limit:g} or its interval above {margin:g}"
    found = read_sign(case.scores, name, threshold, lambda score: score.value > limit or score.low > margin)
    if found.state == FLAGGED and case.scores[name].low <= 0:
        return Sign(UNKNOWN, f"{found.evidence}: too few domains, the interval reaches 0", threshold)
    return found


def leak(case: Case) -> Sign:
    """LEAK: the best of several newly trained probes predicts the label from the code or the second level's noise.

    Any level of the label counts. The noise of a decoder may carry what a code of few dimensions leaves out.

    In a model with a block `fold`, which is meant to know the label, only the other block is probed. Levels whose
    labels have too few superfamilies to probe have no row and are skipped; so are levels on which the model is not
    conditioned, since its code has to carry them.
    """
    if not case.takes_label:
        return _not_applicable(case, "no label is given beside the code, which has to carry the class")
    noise = [_leak(case, name) for name in NOISE_LEAKS if name in case.scores]
    if "class_leakage_fold" in case.scores:
        return any_of([_leak(case, "class_leakage_shape"), *noise], ["the block fold is meant to know the label"])
    levels = case.scores["given_levels"].value if "given_levels" in case.scores else math.nan
    given = [name for level, name in enumerate(DEEPER_LEAKS, 2) if not level > levels]
    absent = [f"{name}: a level that the model is not conditioned on" for name in DEEPER_LEAKS if name not in given]
    absent += [f"{name}: too few superfamilies per label" for name in given if name not in case.scores]
    probed = ("class_leakage", *(name for name in given if name in case.scores))
    return any_of([*(_leak(case, name) for name in probed), *noise], absent)


def condition_ignored(case: Case) -> Sign:
    """CONDITION-IGNORED: decoding a held-out domain's code under another class rarely gives a structure of that class.

    `swap_followed` is the share whose predicted class is the target, `swap_followed_chance` that of random guesses.
    If twice chance is hardly below 1, as with two classes, half way from chance to 1 is required.
    """
    if not case.takes_label:
        return _not_applicable(case, "the decoder is given no label")
    chance = case.scores.get("swap_followed_chance", ABSENT).value
    least = min(case.limits.swap_followed * chance, (1 + chance) / 2)
    threshold = f"swap_followed < {case.limits.swap_followed:g} x swap_followed_chance, or half way from it to 1"
    own = read_sign(case.scores, "swap_followed", threshold, lambda score: score.value < least)
    if chance == 1:
        return Sign(UNKNOWN, f"{own.evidence}; there is no other class to swap to", threshold)
    return relative_to(own, case.scores, "swap_followed_chance", fewest=1)  # its n is a number of classes


def mode_collapse(case: Case) -> Sign:
    """MODE-COLLAPSE: the samples cover far fewer of the held-out domains than real domains do (Naeem et al. 2020).

    Coverage grows with the number of samples, at most in proportion, so the limit is lower for fewer samples.
    """
    own, real = case.scores.get("coverage", ABSENT), case.real.get("coverage", ABSENT)
    fewer = min(1.0, own.count / real.count) if real.count else math.nan
    least = case.limits.coverage * fewer * real.value
    threshold = f"coverage < {case.limits.coverage:g} x that of real domains, for as many samples"
    sign = read_sign(case.scores, "coverage", threshold, lambda score: score.value < least)
    sign = relative_to(sign, case.real, "coverage", "real: ")
    if sign.state != UNKNOWN and real.low <= 0:
        return Sign(UNKNOWN, f"{sign.evidence}: real domains cover next to nothing", threshold)
    return sign


def _nearer_than_ideal(case: Case, name: str) -> Sign:
    """Whether a metric's interval is above that of new members by more than a margin; unknown without intervals."""
    margin = case.limits.memorisation
    most = case.ideal.get(name, ABSENT).high + margin
    threshold = f"interval of {name} more than {margin:g} above that of new members of trained superfamilies"
    found = relative_to(
        read_sign(case.scores, name, threshold, lambda score: score.low > most), case.ideal, name, f"{NEW_MEMBER}: "
    )
    if found.state == PASS and not math.isfinite(case.scores[name].low + most):
        return Sign(UNKNOWN, f"{found.evidence}: too few for an interval", threshold)
    return found


def _as_near_as_rebuilt(case: Case) -> Sign:
    """Whether samples are as close to training as reconstructions are to their domains, and closer than new members.

    A coarse decoder cannot bring a copy any closer to its original than it brings a reconstruction.
    """
    rebuilt, share = case.scores.get("tm_score", ABSENT).value, case.limits.copy_tm
    threshold = f"training_tm > {share:g} x tm_score of reconstructions, and its interval above that of new members"
    most = case.ideal.get("training_tm", ABSENT).high
    own = read_sign(case.scores, "training_tm", threshold, lambda s: s.value > share * rebuilt and s.low > most)
    return relative_to(own, case.scores, "tm_score", "reconstructions: ")


def memorisation(case: Case) -> Sign:
    """MEMORISATION: samples are closer to training than new members of trained superfamilies, the ideal samples.

    Closer to all of training (`training_tm`), or to as many training domains as are held out, relative to the held-out
    ones (`memorisation_ratio`), or as close as the decoder can bring a copy (`tm_score`, if the model reconstructs).
    """
    signs = [_nearer_than_ideal(case, name) for name in ("training_tm", "memorisation_ratio")]
    return any_of([*signs, _as_near_as_rebuilt(case)] if "tm_score" in case.scores else signs)


def prior_overfit(case: Case) -> Sign:
    """PRIOR-OVERFIT: held-out codes are less likely under the prior than under one Gaussian of the same training codes.

    `prior_gain` is the difference in nats, domain by domain. An interval that includes 0 is inconclusive.
    """
    if not case.has_code:
        return _not_applicable(case, "")
    threshold = "interval of prior_gain below 0 nat"
    found = read_sign(case.scores, "prior_gain", threshold, lambda score: score.high < 0)
    if found.state != UNKNOWN and not (case.scores["prior_gain"].high < 0 or case.scores["prior_gain"].low > 0):
        return Sign(UNKNOWN, f"{found.evidence}: the interval holds 0, or there is none", threshold)
    return found


def overfit(case: Case) -> Sign:
    """OVERFIT: held-out domains are reconstructed far worse than training domains.

    `generalisation_ratio` is the held-out error over the training error. Held-out domains are from other superfamilies,
    so a ratio above 1 is no fault; an interval that includes the limit is inconclusive.
    """
    if not case.has_code:
        return _not_applicable(case, "")
    limit = case.limits.overfit
    threshold = f"interval of generalisation_ratio above {limit:g}"
    found = read_sign(case.scores, "generalisation_ratio", threshold, lambda score: score.low > limit)
    if found.state == PASS and not case.scores["generalisation_ratio"].high <= limit:
        return Sign(UNKNOWN, f"{found.evidence}: the interval holds {limit:g}, or there is none", threshold)
    return found


VERDICTS: Mapping[str, tuple[Callable[[Case], Sign], str]] = MappingProxyType(
    {
        "COLLAPSE": (
            collapse,
            "Steer the rate with train.kl.kind: target_rate and train.kl.rate, or lower train.kl.weight "
            "(findings: What each term does).",
        ),
        "LEAK": (
            leak,
            "Train branched or adversarial, whose components take mean and covariance of each label out of the code, "
            "with labels.depth at the level that leaks (findings: What each variant shows, three seeds).",
        ),
        "CONDITION-IGNORED": (
            condition_ignored,
            "Nothing that was tried makes a decoder follow the label; train.terms.classifier moves it a little, at "
            "the cost of reconstruction (findings: What each term does). Samples get their class from the prior of the "
            "codes.",
        ),
        "MODE-COLLAPSE": (
            mode_collapse,
            "Raise sample.temperature towards 1 (findings: Temperature and guidance of the draw).",
        ),
        "MEMORISATION": (
            memorisation,
            "Raise sample.temperature towards 1, which brings samples a little away from training (findings: "
            "Temperature and guidance of the draw).",
        ),
        "PRIOR-OVERFIT": (
            prior_overfit,
            "Hold domains out for validation (split.validation), which ends the flow's training, train on more, "
            "or draw from sample.prior: gaussian (findings: A flow that starts as one Gaussian).",
        ),
        "OVERFIT": (
            overfit,
            "Train on more domains (labels.table, labels.max_length), and raise model.inference_steps, whose descent "
            "mends the encoder's guess, which overfits most "
            "(findings: A decoder along the chain, and codes bettered by descent, beat `pca`).",
        ),
    }
)
"""Name of a verdict -> its function and its remedy: keys of the configuration, and the section of the findings
that shows their effect; settings measured to have no effect, or a harmful one, are not remedies."""


def judge(table: Path, limits: VerdictSettings) -> list[dict[str, str]]:
    """Rows of `verdicts.tsv` for every variant and seed of a score table, in its order.

    Raises `UserError` where the table lacks a column or holds text where a number belongs.
    """
    scores: dict[tuple[str, str], dict[str, Score]] = {}
    for row in read_table(table, NEEDED):
        if row["fold"] != ALL:
            continue
        found = scores.setdefault((row["variant"], row["seed"]), {})
        if not (row["metric"] in found and row.get("split") in NOT_HELD_OUT):
            found[row["metric"]] = _score(row, table)
    real, ideal = (scores.get((name, ""), {}) for name in (REAL, NEW_MEMBER))
    cases = [
        (key, Case(key[0], found, real, ideal, limits)) for key, found in scores.items() if key[0] != REAL_SHUFFLED
    ]
    return [
        {"variant": variant, "seed": seed, "verdict": name} | _cells(function(case), remedy)
        for (variant, seed), case in cases
        for name, (function, remedy) in VERDICTS.items()
    ]


def _score(row: Mapping[str, str], table: Path) -> Score:
    try:
        value, low, high = (float(row[name]) for name in ("value", "low", "high"))
        return Score(value, low, high, int(row["n"]), row.get("note", ""))
    except ValueError as error:
        where = f"{row['variant']} {row['seed']} {row['metric']}"
        raise UserError(f"{table}: expected numbers in value, low, high and n of {where} ({error})") from None


def _cells(sign: Sign, remedy: str) -> dict[str, str]:
    return {
        "state": sign.state,
        "evidence": sign.evidence,
        "threshold": sign.threshold,
        "remedy": remedy if sign.state == FLAGGED else "",
    }


def flagged_models(rows: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The flagged verdicts on chosen models, without those on the references of every run."""
    return [row for row in rows if row["state"] == FLAGGED and row["variant"] not in REFERENCES]


def write_verdicts(table: Path, limits: VerdictSettings, output: Path) -> list[Mapping[str, str]]:
    """Write `verdicts.tsv` of a score table, and return what `flagged_models` finds in it."""
    rows = judge(table, limits)
    write_table(output, VERDICT_COLUMNS, rows)
    for row in rows:
        if row["state"] == FLAGGED:
            say("verdicts", f"{row['variant']} seed {row['seed'] or '-'}: {row['verdict']}: {row['evidence']}")
    counts = {state: sum(row["state"] == state for row in rows) for state in (FLAGGED, PASS, UNKNOWN, NOT_APPLICABLE)}
    say("verdicts", ", ".join(f"{count} {state}" for state, count in counts.items()))
    return flagged_models(rows)
