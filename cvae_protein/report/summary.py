"""The first paragraph of the page, written by the numbers: what was run, what did best, what failed, what to trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.variants import REFERENCES
from .results import Results, number

FEW_DOMAINS, FEW_STEPS = 1000, 2000  # of a training, below which a run shows that it works and little else
OVERFIT = 1.5  # validation error over training error, from which the paragraph names it


def trainings(results: Results) -> dict[str, dict[str, float]]:
    """Steps, and CA RMSD (Å) of training and validation domains in the row whose weights are kept, by variant and seed.

    Only of models that were trained for the run.
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
    """Why the run is a demonstration, in words; empty where it had domains and steps enough."""
    steps = [each["steps"] for each in trainings(results).values()]
    reasons = []
    if 0 < domains < FEW_DOMAINS:
        reasons.append(f"{domains} training domains")
    if steps and max(steps) < FEW_STEPS:
        reasons.append(f"{max(steps):.0f} steps")
    return " and ".join(reasons)


def overfitted(results: Results) -> list[str]:
    """A clause on each training whose validation error is far above its training error."""
    return [
        f"{name} rebuilds training domains to {each['rmsd']:.2f} Å and unseen ones to {each['validation_rmsd']:.2f} Å"
        for name, each in trainings(results).items()
        if each["validation_rmsd"] > OVERFIT * each["rmsd"] > 0
    ]


def best_of(tiles: Sequence[Mapping]) -> list[str]:
    """A clause on the best model of each headline metric, with the values of the references."""
    clauses = []
    for tile in tiles:
        if tile["equal"]:
            continue
        unit = f" {tile['unit']}" if tile["unit"] else ""
        others = ", ".join(f"{name} {value}" for name, value in tile["others"].items() if name not in tile["best"])
        beside = f" ({others})" if others else ""
        clauses.append(f"{tile['title']}: {', '.join(tile['best'])} with {tile['cell'].shown}{unit}{beside}")
    return clauses


def failures(verdicts: Mapping | None) -> str:
    """What the verdicts say of the models, in one sentence; of references nothing."""
    if not verdicts:
        return "No verdicts were given."
    cells = [cell for line in verdicts["lines"] if not line["reference"] for cell in line["cells"].values()]
    flagged: dict[str, list[str]] = {}
    for cell in cells:
        if cell["state"] == "flagged":
            flagged.setdefault(cell["verdict"], []).append(cell["variant"])
    unknown = sum(cell["state"] == "unknown" for cell in cells)
    left = f"; {unknown} of {len(cells)} are unknown" if unknown else ""
    if not flagged:
        return f"No verdict is flagged{left}."
    said = "; ".join(f"{name} of {', '.join(dict.fromkeys(models))}" for name, models in flagged.items())
    return f"Flagged: {said}{left}."


def summary(results: Results, head: Mapping, tiles: Sequence[Mapping], verdicts: Mapping | None) -> dict[str, object]:
    """Sentences of the paragraph, and why the run is a demonstration."""
    models = [name for name in results.variants if name not in REFERENCES]
    counts = head["splits"]
    ran = f"{len(models)} model{'s' if len(models) != 1 else ''} ({', '.join(models)})"
    sentences = []
    if head["domains"]:
        steps = sorted({each["steps"] for each in trainings(results).values()} - {0})  # a closed-form fit has none
        over = f" over {' to '.join(dict.fromkeys(f'{steps[k]:,.0f}' for k in (0, -1)))} steps" if steps else ""
        sentences.append(
            f"{ran} learnt from {counts['train']} domains{over}, judged on {counts['test']} domains {head['novelty']}; "
            f"{head['samples']} samples were drawn."
        )
    if clauses := best_of(tiles):
        sentences.append(f"Best: {'; '.join(clauses)}.")
    sentences.append(failures(verdicts))
    if clauses := overfitted(results):
        sentences.append(f"In training, whatever the verdict OVERFIT says of held-out domains: {'; '.join(clauses)}.")
    return {"sentences": sentences, "demonstration": demonstration(results, counts["train"])}
