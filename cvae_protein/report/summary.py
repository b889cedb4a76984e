"""The head of the page, generated from the results: what was run, what failed, and how far to trust it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ..core.variants import PRETRAINED, REFERENCES
from .results import Results, number

FEW_DOMAINS, FEW_STEPS = 1000, 2000  # of a training, below which a run shows that it works and little else
FEW_HELD_OUT = 100  # domains, below which intervals are wide
OVERFIT = 1.5  # validation error over training error, above which the head of the page mentions it


def trainings(results: Results) -> dict[str, dict[str, float]]:
    """Steps, and CA RMSD (Å) of training and validation domains in the row whose weights are kept, by variant and seed.

    Only for models that were trained in the run.
    """
    found = {}
    for variant, seed, parts in results.runs("models", "history.tsv"):
        rows = results.table(*parts)
        if not rows:
            continue
        kept = next((row for row in rows if row.get("best") == "1"), rows[-1])
        name = f"{variant} {seed}" if len(results.seeds) > 1 else variant
        errors = {key: number(kept.get(key)) for key in ("rmsd", "validation_rmsd")}
        found[name] = {"steps": number(rows[-1].get("step"))} | errors
    return found


def demonstration(results: Results, domains: int) -> str:
    """Why the run is a demonstration, in words; empty if it had enough domains and steps."""
    steps = [each["steps"] for each in trainings(results).values()]
    reasons = []
    if 0 < domains < FEW_DOMAINS:
        reasons.append(f"{domains} training domains")
    if steps and max(steps) < FEW_STEPS:
        reasons.append(f"{max(steps):.0f} steps")
    return " and ".join(reasons)


def overfitted(results: Results) -> list[str]:
    """Training and validation error (CA RMSD), in words, of each training whose second is far above the first."""
    return [
        f"{name} {each['rmsd']:.2f} and {each['validation_rmsd']:.2f} Å"
        for name, each in trainings(results).items()
        if each["validation_rmsd"] > OVERFIT * each["rmsd"] > 0
    ]


def failures(verdicts: Mapping | None) -> list[dict[str, str]]:
    """Each verdict flagged for a model: its name, its meaning, and the models; references are left out."""
    flagged: dict[str, list[str]] = {}
    meanings = verdicts["names"] if verdicts else {}
    for cell in _of_models(verdicts):
        if cell["state"] == "flagged":
            flagged.setdefault(cell["verdict"], []).append(cell["variant"])
    return [
        {"verdict": name, "meaning": meanings.get(name, ""), "models": ", ".join(dict.fromkeys(models))}
        for name, models in flagged.items()
    ]


def _of_models(verdicts: Mapping | None) -> list[Mapping]:
    lines = verdicts["lines"] if verdicts else []
    return [cell for line in lines if not line["reference"] for cell in line["cells"].values()]


def judged(verdicts: Mapping | None) -> str:
    """How many of the verdicts on models are flagged, and how many are unknown, in words."""
    if not verdicts:
        return "No verdicts were given."
    counts = Counter(cell["state"] for cell in _of_models(verdicts) if cell["state"] != "not applicable")
    unknown = f", {counts['unknown']} unknown" if counts["unknown"] else ""
    return f"{counts['flagged']} of {counts.total()} verdicts flagged{unknown}."


def ran(results: Results, head: Mapping) -> str:
    """What was run, in one sentence; empty without a table of splits."""
    if not head["domains"]:
        return ""
    models, counts = [name for name in results.variants if name not in (*REFERENCES, PRETRAINED)], head["splits"]
    steps = sorted({each["steps"] for each in trainings(results).values()} - {0})  # a closed-form fit has none
    over = f" for {' to '.join(dict.fromkeys(f'{steps[k]:,.0f}' for k in (0, -1)))} steps" if steps else ""
    named = f"{len(models)} model{'s' if len(models) != 1 else ''} ({', '.join(models)})"
    what = [f"{named} trained on {counts['train']} domains{over}"] if models else []
    what += ["the package's trained model (pretrained)"] if PRETRAINED in results.variants else []
    said = " and ".join(what) or f"the references ({', '.join(results.variants)})"
    return (
        f"{said[0].upper()}{said[1:]}, judged on {counts['test']} domain{'s' if counts['test'] != 1 else ''} "
        f"{head['novelty']}; "
        f"{head['samples']} samples were drawn."
    )


def trust(seeds: int, held_out: int, seen: int, packaged: Sequence[str]) -> list[str]:
    """What limits the conclusions, one sentence each; what is `packaged` may know `seen` of the held-out domains."""
    found = [
        "Every model was trained once: what another seed would change, intervals do not show."
        if seeds == 1
        else f"Every model was trained with {seeds} seeds."
    ]
    if 0 < held_out < FEW_HELD_OUT:
        found.append(f"{held_out} held-out domains are few: models whose intervals overlap (≈) are not told apart.")
    if seen and packaged:
        found.append(
            f"{' and '.join(packaged)} may have learnt from relatives of {seen} of the domains held out here, which "
            f"flatters {'it' if len(packaged) == 1 else 'them'}."
        )
    return found


def summary(results: Results, head: Mapping, verdicts: Mapping | None) -> dict[str, object]:
    """What the head of the page says, and why the run is a demonstration."""
    counts = head["splits"]
    packaged = [PRETRAINED] if PRETRAINED in results.variants else []
    packaged += ["the fold classifier"] if results.classifier_start else []
    return {
        "ran": ran(results, head),
        "failures": failures(verdicts),
        "judged": judged(verdicts),
        "overfitted": overfitted(results),
        "trust": trust(len(results.seeds), counts["test"], len(results.seen) if packaged else 0, packaged),
        "demonstration": demonstration(results, counts["train"]),
    }
