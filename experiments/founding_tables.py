"""The tables of `founding.py`: what each training showed, the designs, the axis, the remedies, the statements."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvae_protein.config.settings import VerdictSettings
from cvae_protein.core.files import write_table

LIMITS = VerdictSettings()
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # two-sided 95 % of so many seeds
CHANCE = 1 / 3  # of three classes
SAID = ("form", "design", "group", "change")
Row = Mapping[str, float | str]
AS_IT_STANDS = "as it stands"


@dataclass(frozen=True)
class Mean:
    """Mean over seeds and half the width of its 95 % interval by Student's t, NaN for one seed."""

    value: float
    half: float
    count: int

    def __str__(self) -> str:
        """Three significant digits, and the half width where there is one."""
        if not math.isfinite(self.value):
            return "-"
        digits = max(0, 2 - math.floor(math.log10(abs(self.value)))) if self.value else 2
        shown = f"{self.value:.{min(digits, 3)}f}"
        return shown if not math.isfinite(self.half) else f"{shown} ± {self.half:.{min(digits, 3)}f}"


def mean_of(values: Iterable[float]) -> Mean:
    """Mean and interval of one value a seed."""
    known = np.array([value for value in values if math.isfinite(value)])
    if not len(known):
        return Mean(math.nan, math.nan, 0)
    factor = STUDENT.get(len(known), 1.96 if len(known) > 5 else math.nan)
    half = factor * known.std(ddof=1) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return Mean(float(known.mean()), float(half), len(known))


@dataclass(frozen=True)
class Setting:
    """One design under one change: its measures by name, each over its seeds."""

    form: str
    design: str
    group: str
    change: str
    measures: Mapping[str, Mean]

    def __getitem__(self, name: str) -> float:
        return self.measures[name].value

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What is flagged, by the limits of the package's verdicts.

        The swap is told by a classifier of contact maps, coverage beside that of as many training domains. A leak, of
        training or of held-out codes, whose interval over seeds reaches 0, or that one seed alone shows, has a question
        mark: it is neither shown nor excluded.
        """
        leaks = [self.measures[name] for name in ("leak_train", "leak_held")]
        leaks = [leak for leak in leaks if leak.value > LIMITS.leak]
        sure = any(leak.value - leak.half > 0 for leak in leaks)
        signs = {
            "COLLAPSE": self["active_held"] / self["units"] < LIMITS.active
            or self["information_held"] < LIMITS.information
            or abs(self["permuted_held"] - 1) < LIMITS.permutation,
            "LEAK" if sure else "LEAK?": bool(leaks),
            "CONDITION-IGNORED": self["class_swapped"] < LIMITS.swap_followed * CHANCE,
            "MODE-COLLAPSE": self["coverage"] < LIMITS.coverage * self["coverage_real"],
        }
        return tuple(name for name, flagged in signs.items() if flagged)


def settings(done: Sequence[Mapping]) -> list[Setting]:
    """The trainings of each setting together, in the order in which they first come."""
    grouped: dict[tuple[str, ...], list[Row]] = {}
    for each in done:
        row = each["row"]
        grouped.setdefault(tuple(row[name] for name in SAID), []).append(row)
    return [
        Setting(*key, {name: mean_of(row[name] for row in rows) for name in rows[0] if name not in (*SAID, "seed")})
        for key, rows in grouped.items()
    ]


def find(found: Sequence[Setting], form: str, design: str, change: str = AS_IT_STANDS) -> Setting | None:
    """One setting, if it was trained."""
    return next((s for s in found if (s.form, s.design, s.change) == (form, design, change)), None)


COLUMNS = (
    ("error_held", "error, held out"),
    ("error_train", "in training"),
    ("rate_held", "rate, nats"),
    ("active_held", "active units"),
    ("information_held", "I(x;z), nats"),
    ("permuted_held", "another's code, x error"),
    ("leak_held", "leak, held out"),
    ("leak_train", "in training"),
    ("class_swapped", "swap followed"),
    ("class_samples", "class of samples"),
    ("spread", "spread of samples"),
    ("coverage", "coverage"),
)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def designs(found: Sequence[Setting], form: str) -> str:
    """The designs as they stand, a column each."""
    chosen = [s for s in found if s.form == form and s.change in (AS_IT_STANDS, "as the package has it")]
    if not chosen:
        return ""
    rows = [[title, *(s.measures[name] for s in chosen)] for name, title in COLUMNS]
    rows.append(["leak of the architecture", *(s.measures["leak2_held"] for s in chosen)])
    rows.append(["real: class told, coverage", *(f"{s['class_real']:.2f}, {s['coverage_real']:.2f}" for s in chosen)])
    rows.append(["flagged", *(", ".join(s.verdicts) or "nothing" for s in chosen)])
    return table([form, *(s.design for s in chosen)], rows)


def changes(found: Sequence[Setting], form: str) -> str:
    """Every setting beside the design as it stands."""
    chosen = [s for s in found if s.form == form]
    rows = [
        [
            s.design,
            s.change,
            s.measures["error_held"].count,
            *(s.measures[name] for name, _ in COLUMNS),
            ", ".join(s.verdicts) or "nothing",
        ]
        for s in chosen
    ]
    return table(["design", "change", "seeds", *(title for _, title in COLUMNS), "flagged"], rows)


Decide = Callable[[Sequence[Setting]], str]


def _figures(change: str, design: str, *names: str) -> Decide:
    """The measures of one setting on contact maps, in words."""

    def decide(found: Sequence[Setting]) -> str:
        setting = find(found, "contacts", design, change)
        if setting is None:
            return "not trained"
        titles = dict(COLUMNS)
        return ", ".join(f"{titles.get(name, name)} {setting.measures[name]}" for name in names)

    return decide


def _both(*parts: tuple[str, Decide]) -> Decide:
    return lambda found: "; ".join(f"{title}: {decide(found)}" for title, decide in parts)


STATEMENTS: tuple[tuple[str, Decide], ...] = (
    (
        "plain concatenation often suffers from posterior collapse, as the model relies on the label",
        _figures(AS_IT_STANDS, "concat", "active_held", "information_held", "permuted_held"),
    ),
    (
        "posterior collapse: the encoder ignores the input (where it does occur)",
        _both(
            ("KL weight 30", _figures("KL weight 30", "concat", "active_held", "information_held", "permuted_held")),
            (
                "loss averaged over x",
                _figures("loss averaged over x", "concat", "active_held", "information_held", "permuted_held"),
            ),
        ),
    ),
    (
        "mode collapse: few samples even with varying codes and conditions",
        _figures(AS_IT_STANDS, "concat", "spread", "coverage", "coverage_real"),
    ),
    (
        "separate paths improve the learning of distinct features, but may not suffice",
        _figures(AS_IT_STANDS, "branched", "leak_held", "class_swapped", "active_held", "error_held"),
    ),
    (
        "an adversary enforces a more meaningful latent space and mitigates mode collapse",
        _both(
            ("weight 0", _figures("adversary 0", "adversarial", "leak_held", "spread", "coverage")),
            ("weight 1", _figures(AS_IT_STANDS, "adversarial", "leak_held", "spread", "coverage")),
            ("weight 50", _figures("adversary 50", "adversarial", "leak_held", "spread", "coverage")),
        ),
    ),
    (
        "insufficient capacity of encoder or decoder contributes to collapse",
        _both(
            ("width 16", _figures("width 16", "concat", "active_held", "spread", "error_held")),
            ("encoder 16", _figures("encoder width 16", "concat", "active_held", "spread", "error_held")),
            ("decoder 16", _figures("decoder width 16", "concat", "active_held", "spread", "error_held")),
        ),
    ),
    (
        "improper regularisation contributes to collapse",
        _both(
            ("KL weight 8", _figures("KL weight 8", "concat", "active_held", "spread", "class_swapped")),
            ("KL weight 0.1", _figures("KL weight 0.1", "concat", "active_held", "spread", "class_swapped")),
        ),
    ),
    (
        "an inappropriate loss contributes to collapse",
        _both(
            ("averaged", _figures("loss averaged over x", "concat", "active_held", "spread")),
            ("Gaussian, sigma 1", _figures("Gaussian, sigma 1", "concat", "active_held", "spread")),
            ("Gaussian, learnt", _figures("Gaussian, sigma learnt", "concat", "active_held", "spread")),
        ),
    ),
    (
        "z has to capture what is independent of y while the decoder follows y",
        _figures(AS_IT_STANDS, "concat", "leak_held", "leak_train", "class_swapped"),
    ),
)


def statements(found: Sequence[Setting]) -> str:
    """What the document claims, and the figures that decide it."""
    return table(["claim", "figures (contact maps)"], [[claim, decide(found)] for claim, decide in STATEMENTS])


def clean(found: Sequence[Setting]) -> str:
    """Settings that nothing is flagged in, the least error first."""
    passed = sorted((s for s in found if not s.verdicts), key=lambda s: (s.form, s["error_held"]))
    return (
        "\n".join(f"- {s.form}, {s.design}, {s.change}: error {s.measures['error_held']}" for s in passed) or "- none"
    )


SPOKEN = 0.01  # nats, from which a unit says something
FOLLOWED = (AS_IT_STANDS, "KL weight 0.1", "KL weight 8", "KL weight 30", "KL weight 8, free bits 0.5")


def of_training(each: Mapping) -> list[dict[str, object]]:
    """How the rate of training domains spreads over the units in the course of a training."""
    row, lines = each["row"], []
    for seen in each["history"] if row["change"] in FOLLOWED else ():
        units = np.array([value for name, value in seen.items() if name.startswith("unit_")])
        if len(units):
            said = {name: row[name] for name in (*SAID, "seed")} | {"step": int(seen["step"])}
            spread = {"rate": units.sum(), "largest": units.max(), "smallest": units.min()}
            lines.append(
                said | {"units": int((units > SPOKEN).sum())} | {key: f"{value:.3g}" for key, value in spread.items()}
            )
    return lines


def write_tables(done: Sequence[Mapping], output: Path) -> None:
    """Write a row a training to `output`, the units' rates in training beside it, and print the tables."""
    if not done:
        return
    columns = list(dict.fromkeys(name for each in done for name in each["row"]))
    rows = [{k: f"{v:.4g}" if isinstance(v, float) else v for k, v in each["row"].items()} for each in done]
    write_table(output, columns, rows)
    steps = [line for each in done for line in of_training(each)]
    write_table(output.with_stem(f"{output.stem}_units"), list(steps[0]) if steps else SAID, steps)
    found = settings(done)
    for form in ("contacts", "traces", "own"):
        print(f"\n## Designs as they stand: {form}\n\n{designs(found, form)}")
    print(f"\n## Statement by statement\n\n{statements(found)}")
    for form in ("contacts", "traces", "own"):
        print(f"\n## Every setting: {form}\n\n{changes(found, form)}")
    print(f"\n## Nothing flagged\n\n{clean(found)}")
