"""Tables of `founding.py`: the results of each training, designs, remedies, statements and verdicts.

python experiments/founding_tables.py    # by statement and by verdict, from the recorded results
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvae_protein.config.settings import VerdictSettings
from cvae_protein.core.files import read_table, write_table
from cvae_protein.score.verdicts import VERDICTS

RESULTS = Path(__file__).parent / "results"
RECORDED = {"full form": RESULTS / "founding_union.tsv", "short form": RESULTS / "founding.tsv"}
LIMITS = VerdictSettings()
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # two-sided 95 % quantile by number of seeds
CHANCE = 1 / 3  # for three classes
SAID = ("form", "design", "group", "change")
Row = Mapping[str, float | str]
AS_IT_STANDS = "as it stands"


@dataclass(frozen=True)
class Mean:
    """Mean over seeds and half-width of its 95 % interval by Student's t (NaN for one seed)."""

    value: float
    half: float
    count: int

    def __str__(self) -> str:
        """Three significant digits, with the half-width if there is one and the seeds differ."""
        if not math.isfinite(self.value):
            return "-"
        digits = max(0, 2 - math.floor(math.log10(abs(self.value)))) if self.value else 2
        shown = f"{self.value:.{min(digits, 3)}f}"
        return f"{shown} ± {self.half:.{min(digits, 3)}f}" if self.half > 0 else shown


def mean_of(values: Iterable[float]) -> Mean:
    """Mean and interval of one value per seed."""
    known = np.array([value for value in values if math.isfinite(value)])
    if not len(known):
        return Mean(math.nan, math.nan, 0)
    factor = STUDENT.get(len(known), 1.96 if len(known) > 5 else math.nan)
    half = factor * known.std(ddof=1) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return Mean(float(known.mean()), float(half), len(known))


@dataclass(frozen=True)
class Setting:
    """One design under one change, with its measures by name, each over the seeds."""

    form: str
    design: str
    group: str
    change: str
    measures: Mapping[str, Mean]

    @property
    def title(self) -> str:
        """The change, preceded by the design unless it is the first."""
        return self.change if self.design == "concat" else f"{self.design}: {self.change}"

    def __getitem__(self, name: str) -> float:
        return self.measures[name].value

    @property
    def count(self) -> int:
        """Number of seeds of the measures."""
        return self.measures["error_held"].count

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The flagged verdicts, by the limits of the package.

        The swap is judged by a classifier of contact maps, coverage is compared with that of equally many training
        domains, and held-out errors with training errors in nats (for traces in Å, as in the package). A leak of
        training or held-out codes has a question mark if its interval over seeds reaches 0 or only one seed was run: it
        is neither shown nor excluded.
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
            "OVERFIT": self["generalisation"] > LIMITS.overfit,
        }
        return tuple(name for name, flagged in signs.items() if flagged)


def recorded(path: Path) -> list[Setting]:
    """The settings of a table written by `write_tables`."""
    rows = read_table(path, [*SAID, "seed"])
    return settings([{"row": {k: v if k in SAID else float(v or "nan") for k, v in row.items()}} for row in rows])


def settings(done: Sequence[Mapping]) -> list[Setting]:
    """Trainings grouped by setting, in order of first appearance."""
    grouped: dict[tuple[str, ...], list[Row]] = {}
    for each in done:
        row = each["row"]
        ratio = {"generalisation": row["error_held"] / row["error_train"]}
        grouped.setdefault(tuple(row[name] for name in SAID), []).append(row | ratio)
    return [
        Setting(*key, {name: mean_of(row[name] for row in rows) for name in rows[0] if name not in (*SAID, "seed")})
        for key, rows in grouped.items()
    ]


def find(found: Sequence[Setting], form: str, design: str, change: str = AS_IT_STANDS) -> Setting | None:
    """One setting, or None if it was not trained."""
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
    """The unmodified designs, one column each."""
    chosen = [s for s in found if s.form == form and s.change in (AS_IT_STANDS, "as the package has it")]
    if not chosen:
        return ""
    rows = [[title, *(s.measures[name] for s in chosen)] for name, title in COLUMNS]
    rows.append(["leak of the architecture", *(s.measures["leak2_held"] for s in chosen)])
    rows.append(["real: class told, coverage", *(f"{s['class_real']:.2f}, {s['coverage_real']:.2f}" for s in chosen)])
    rows.append(["flagged", *(", ".join(s.verdicts) or "nothing" for s in chosen)])
    return table([form, *(s.design for s in chosen)], rows)


def changes(found: Sequence[Setting], form: str) -> str:
    """All settings, including the unmodified designs."""
    chosen = [s for s in found if s.form == form]
    rows = [
        [
            s.design,
            s.change,
            s.count,
            *(s.measures[name] for name, _ in COLUMNS),
            ", ".join(s.verdicts) or "nothing",
        ]
        for s in chosen
    ]
    return table(["design", "change", "seeds", *(title for _, title in COLUMNS), "flagged"], rows)


WORDS = dict(COLUMNS) | {"coverage_real": "of training domains", "generalisation": "ratio", "class_own": "own label"}


def figures(setting: Setting, names: Sequence[str]) -> str:
    """Measures of a setting, in the order of `names`."""
    return f"{setting.title}: " + " / ".join(str(setting.measures[name]) for name in names)


@dataclass(frozen=True)
class Statement:
    """A claim, the measures that decide it, and the settings on contact maps to compare: design and change."""

    claim: str
    measures: tuple[str, ...]
    where: tuple[tuple[str, str], ...]


def _concat(*changes: str) -> tuple[tuple[str, str], ...]:
    return tuple(("concat", change) for change in changes)


OF_COLLAPSE = ("active_held", "information_held", "permuted_held")
EACH_DESIGN = (("concat", AS_IT_STANDS), ("branched", AS_IT_STANDS), ("adversarial", AS_IT_STANDS))
STATEMENTS = (
    Statement(
        "a conditional VAE can be built, though with difficulty",
        ("active_held", "class_swapped", "coverage", "coverage_real"),
        EACH_DESIGN,
    ),
    Statement("concatenation tends to posterior collapse: the label does the work", OF_COLLAPSE, EACH_DESIGN[:1]),
    Statement(
        "in a collapsed model the code is the same for every structure",
        OF_COLLAPSE,
        _concat("KL weight 8", "KL weight 30", "loss averaged over x"),
    ),
    Statement(
        "mode collapse: few different samples, whatever code and label",
        ("spread", "coverage", "coverage_real"),
        EACH_DESIGN,
    ),
    Statement(
        "the difficulty is a code free of the label beside a decoder that obeys it",
        ("leak_held", "leak_train", "class_swapped", "class_own"),
        EACH_DESIGN,
    ),
    Statement(
        "where code and label are not told apart, collapse follows",
        ("leak_held", "active_held", "information_held"),
        _concat(AS_IT_STANDS, "KL weight 8", "KL weight 0.1"),
    ),
    Statement(
        "separate paths tell label and structure apart better, but may not suffice",
        ("leak_held", "class_swapped", "error_held"),
        EACH_DESIGN[:2],
    ),
    Statement(
        "an adversary gives the latent space more meaning and lessens mode collapse, if it is tuned",
        ("leak_held", "active_held", "spread", "coverage"),
        (EACH_DESIGN[0], EACH_DESIGN[2], ("adversarial", "adversary 30")),
    ),
    Statement(
        "too small an encoder or decoder contributes",
        ("active_held", "information_held", "coverage", "error_held"),
        _concat(AS_IT_STANDS, "width 16", "encoder width 16", "decoder width 16", "depth 6", "width 2048"),
    ),
    Statement(
        "wrong regularisation contributes",
        ("active_held", "information_held", "class_swapped"),
        _concat("KL weight 0.1", AS_IT_STANDS, "KL weight 8"),
    ),
    Statement(
        "a wrong loss contributes",
        ("active_held", "information_held"),
        _concat(AS_IT_STANDS, "loss averaged over x", "Gaussian, sigma 1", "Gaussian, sigma learnt"),
    ),
    Statement(
        "other penalties on the latent space are worth trying",
        ("leak_held", "class_swapped", "coverage"),
        _concat(AS_IT_STANDS, "HSIC 1000", "class MMD 300", "CLUB 10", "label adversary 30"),
    ),
    Statement(
        "what is best depends on the data",
        ("leak_held", "error_held", "error_train"),
        _concat("10% of the data", "30% of the data", AS_IT_STANDS),
    ),
)


def statements(forms: Mapping[str, Sequence[Setting]]) -> str:
    """Each claim with the figures that decide it, one column per form."""

    def cell(statement: Statement, found: Sequence[Setting]) -> str:
        known = [find(found, "contacts", design, change) for design, change in statement.where]
        return "; ".join(figures(each, statement.measures) for each in known if each) or "not trained"

    rows = [
        [each.claim, " / ".join(WORDS[name] for name in each.measures)]
        + [cell(each, found) for found in forms.values()]
        for each in STATEMENTS
    ]
    return table(["claim", "figures", *forms], rows)


@dataclass(frozen=True)
class Fault:
    """A verdict, its measures, and two changes of the first design: one with the fault, one with a remedy."""

    verdict: str
    measures: tuple[str, ...]
    fault: str
    remedy: str


FAULTS = (
    Fault("COLLAPSE", OF_COLLAPSE, "KL weight 8", AS_IT_STANDS),
    Fault("COLLAPSE", OF_COLLAPSE, "KL weight 8", "KL weight 8, free bits 0.5"),
    Fault("LEAK", ("leak_held", "leak_train"), AS_IT_STANDS, "nested 0.5, the first 4"),
    Fault("LEAK", ("leak_held", "leak_train"), AS_IT_STANDS, "latent 4"),
    Fault("LEAK", ("leak_held", "leak_train"), AS_IT_STANDS, "10% of the data"),
    Fault("CONDITION-IGNORED", ("class_swapped",), "KL weight 0.1", AS_IT_STANDS),
    Fault("CONDITION-IGNORED", ("class_swapped",), "KL weight 0.1", "latent 4"),
    Fault("CONDITION-IGNORED", ("class_swapped",), "KL weight 0.1", "KL weight 0.1, latent 4"),
    Fault("MODE-COLLAPSE", ("coverage", "coverage_real"), "decoder width 16", AS_IT_STANDS),
    Fault("OVERFIT", ("error_held", "error_train", "generalisation"), "10% of the data", AS_IT_STANDS),
    Fault("OVERFIT", ("error_held", "error_train", "generalisation"), AS_IT_STANDS, "nested 0.5, the first 4"),
)
NOT_MEASURED = {
    "MEMORISATION": "a contact map has no TM-score to training domains; a run of the designs on traces judges it",
    "PRIOR-OVERFIT": "the prior N(0, I) is fitted to nothing",
}
"""Verdicts of the package without a measure here, and why."""


def verdict_by_verdict(forms: Mapping[str, Sequence[Setting]]) -> str:
    """For each verdict of the package, a setting with the fault and one with a remedy, and the result for both."""
    unsure = "neither shown nor excluded"

    def state(setting: Setting, verdict: str) -> str:
        states = {verdict: "flagged", f"{verdict}?": unsure}
        return next((states[each] for each in setting.verdicts if each in states), "passes")

    rows: list[list[object]] = []
    for verdict in VERDICTS:
        if verdict in NOT_MEASURED:
            rows.append([verdict, "-", "-", NOT_MEASURED[verdict], "-", "-"])
            continue
        for form, found in forms.items():
            maps = [s for s in found if s.form == "contacts"]
            counts = Counter(state(s, verdict) for s in maps)
            share = f"{counts['flagged']} of {len(maps)}" + (f", {counts[unsure]} {unsure}" if counts[unsure] else "")
            chosen = [each for each in FAULTS if each.verdict == verdict]
            pairs = [
                (each, [find(maps, "contacts", "concat", x) for x in (each.fault, each.remedy)]) for each in chosen
            ]
            shown = [(each, pair) for each, pair in pairs if all(pair) and state(pair[0], verdict) == "flagged"]
            for each, pair in shown:
                words = [
                    f"{figures(s, each.measures)} ({state(s, verdict)}, {s.count} seed{'s' * (s.count > 1)})"
                    for s in pair
                ]
                rows.append([verdict, form, " / ".join(WORDS[name] for name in each.measures), *words, share])
            if not shown:
                rows.append([verdict, form, "-", "no such setting was trained", "-", share])
    return table(["verdict", "form", "figures", "fault", "remedy", "flagged in, of settings"], rows)


def clean(found: Sequence[Setting]) -> str:
    """Settings without a flag, in order of increasing error."""
    passed = sorted((s for s in found if not s.verdicts), key=lambda s: (s.form, s["error_held"]))
    return (
        "\n".join(f"- {s.form}, {s.design}, {s.change}: error {s.measures['error_held']}" for s in passed) or "- none"
    )


SPOKEN = 0.01  # nats; a unit above this carries information
FOLLOWED = (AS_IT_STANDS, "KL weight 0.1", "KL weight 8", "KL weight 30", "KL weight 8, free bits 0.5")


def of_training(each: Mapping) -> list[dict[str, object]]:
    """Distribution of the rate of training domains over the units in the course of a training."""
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
    """Write one row per training to `output` and the rates of units next to it, and print the tables."""
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
    of_this = {"contact maps": found}
    print(f"\n## Statement by statement\n\n{statements(of_this)}")
    print(f"\n## Verdict by verdict\n\n{verdict_by_verdict(of_this)}")
    for form in ("contacts", "traces", "own"):
        print(f"\n## Every setting: {form}\n\n{changes(found, form)}")
    print(f"\n## Nothing flagged\n\n{clean(found)}")


def main() -> None:
    """Print the recorded results for each statement and each verdict."""
    forms = {form: recorded(path) for form, path in RECORDED.items()}
    print(f"## Statement by statement\n\n{statements(forms)}\n\n## Verdict by verdict\n\n{verdict_by_verdict(forms)}")


if __name__ == "__main__":
    main()
