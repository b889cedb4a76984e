"""Signs that a model is broken: a number of the score table beside its limit, fired, quiet or unknown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

YES, NO, UNKNOWN, NOT_APPLICABLE = "yes", "no", "unknown", "not_applicable"


@dataclass(frozen=True)
class Score:
    """A row of the score table over all classes; NaN where undefined, and `note` says why."""

    value: float
    low: float
    high: float
    count: int
    note: str = ""

    @property
    def shown(self) -> str:
        """Value, interval and count in words."""
        interval = f" ({self.low:.3g} to {self.high:.3g})" if math.isfinite(self.low + self.high) else ""
        return f"{self.value:.3g}{interval}, n = {self.count}"


ABSENT = Score(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Sign:
    """One number beside its limit: `fired` is one of yes, no, unknown, not_applicable."""

    fired: str
    evidence: str
    threshold: str


def sign_of(scores: Mapping[str, Score], name: str, threshold: str, fires: Callable[[Score], bool]) -> Sign:
    """The sign of a metric: unknown where the table has no number for it."""
    score = scores.get(name)
    if score is None:
        return Sign(UNKNOWN, f"{name}: no row in the score table", threshold)
    if not math.isfinite(score.value):
        why = f", {score.note}" if score.note else ""
        return Sign(UNKNOWN, f"{name}: undefined (n = {score.count}{why})", threshold)
    return Sign(YES if fires(score) else NO, f"{name} = {score.shown}", threshold)


def against(own: Sign, scores: Mapping[str, Score], name: str, of: str = "") -> Sign:
    """`own`, with the number beside it that it was set against; unknown where that one is. `of` says whose it is."""
    other = sign_of(scores, name, own.threshold, lambda score: False)
    fired = UNKNOWN if UNKNOWN in (own.fired, other.fired) else own.fired
    return Sign(fired, f"{own.evidence}; {of}{other.evidence}", own.threshold)


def any_of(signs: Iterable[Sign], notes: Sequence[str] = ()) -> Sign:
    """Fires where one sign does, and then tells those alone; else unknown where one is."""
    signs = list(signs)
    states = {sign.fired for sign in signs}
    fired = next(state for state in (YES, UNKNOWN, NO) if state in states)
    telling = [sign.evidence for sign in signs if sign.fired == fired or fired != YES]
    return Sign(fired, "; ".join([*telling, *notes]), " or ".join(dict.fromkeys(sign.threshold for sign in signs)))
