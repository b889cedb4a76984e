"""A card a fold class: what was asked, what came from each model, and what real members are like."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ..core.geometry import radius_of_gyration
from ..core.labels import belongs
from ..score.composition import HELIX, STRAND
from .leaderboard import REFERENCES, Cell, cell_of
from .results import Results, Row, number

RARE_TRAINING, RARE_HELD_OUT = 20, 5  # fewer domains of a class make what is said of it uncertain
MOST_MEMBERS = 60  # real members of a class that are measured
FACTS: dict[str, tuple[str, str, str]] = {
    "fidelity": ("Fidelity", "ratio", "the oracle finds the class asked for, over how often it does in real domains"),
    "nearest_same_class": ("Class kept", "share", "the nearest held-out domain has the class asked for"),
    "physical_yield": ("Yield", "share", "closed chain, no clash, after relaxation"),
    "physical_yield_raw": ("Yield, raw", "share", "the same before relaxation"),
    "nearest_tm": ("Nearest TM", "score", "TM-score to the nearest held-out domain"),
    "helix": ("Helix", "share", "residues in helices"),
    "strand": ("Strand", "share", "residues in strands"),
    "rg": ("Rg, Å", "Å", "radius of gyration"),
    "length": ("Length", "residues", "mean length, residues"),
    "training_tm": ("Training TM", "score", "TM-score to the nearest training domain: near 1 is a copy"),
}
MEASURED = ("helix", "strand", "rg", "length")  # of real members, from the store
Scores = Mapping[tuple[str, str, str], Sequence[Row]]


def cards(results: Results) -> list[dict]:
    """One card a class that was asked for: counts, whether it is rare, and a line a model and reference."""
    scores: dict[tuple[str, str, str], list[Row]] = {}
    for row in results.table("scores.tsv"):
        if row["seed"] in results.seeds or row["variant"] in REFERENCES:
            scores.setdefault((row["variant"], row["fold"], row["metric"]), []).append(row)
    drawn = {variant: results.structures(variant, ("sample",)) for variant in results.variants}
    if not any(drawn.values()):
        return []
    return [_card(results, fold, scores, drawn) for fold in results.folds]


def _card(results: Results, fold: str, scores: Scores, drawn: Mapping[str, Sequence[Row]]) -> dict:
    members = {name: row for name, row in results.splits.items() if belongs(row.get("label", ""), fold)}
    counts = Counter(row.get("split", "") for row in members.values())
    lines = []
    for variant in results.variants:
        samples = [row for row in drawn[variant] if row.get("label") == fold]
        cells = {name: cell_of(scores.get((variant, fold, name), ())) for name in FACTS}
        cells["length"] = _measured([number(row.get("length", "")) for row in samples], "residues")
        if samples:
            lines.append({"name": variant, "n": len(samples), "of": "", "cells": cells})
    lengths = [number(row.get("length", "")) for rows in drawn.values() for row in rows if row.get("label") == fold]
    return {
        "fold": fold,
        "title": results.class_name(fold),
        "training": counts["train"],
        "held_out": counts["test"],
        "rare": counts["train"] < RARE_TRAINING or counts["test"] < RARE_HELD_OUT,
        "asked": f"{min(lengths):.0f} to {max(lengths):.0f}" if lengths else "",
        "lines": [*lines, *_references(results, fold, scores, members)],
    }


def _references(results: Results, fold: str, scores: Scores, members: Mapping[str, Row]) -> list[dict]:
    """The lines of real domains: judged as samples of the class, or of the level above it that was judged."""
    lines = []
    for name in REFERENCES:
        parts = fold.split(".")
        levels = [".".join(parts[:level]) for level in range(len(parts), 0, -1)]
        judged = next((level for level in levels if any((name, level, fact) in scores for fact in FACTS)), "")
        cells = {fact: cell_of(scores.get((name, judged, fact), ())) for fact in FACTS}
        if name == "real":
            cells |= _of_members(results, members)
        if any(math.isfinite(cell.value) for cell in cells.values()):
            of = judged if judged and judged != fold else ""
            lines.append({"name": name, "n": cells["nearest_tm"].n, "of": of, "cells": cells})
    return lines


def _of_members(results: Results, members: Mapping[str, Row]) -> dict[str, Cell]:
    """Secondary structure, size and length of up to 60 real members, held-out and training, as the store has them."""
    names = [name for name, row in members.items() if row.get("split") in ("train", "test")]
    found = results.entries("domains.h5", ids=names, limit=MOST_MEMBERS)
    letters = [[letter for letter in entry.ss[0] if letter != "?"] for entry in found]
    traces = [entry.backbone.ca[0].astype(float) for entry in found]
    values = {
        "helix": [_share(one, HELIX) for one in letters],
        "strand": [_share(one, STRAND) for one in letters],
        "rg": [float(radius_of_gyration(ca[np.isfinite(ca).all(axis=1)])) for ca in traces],
        "length": [float(len(ca)) for ca in traces],
    }
    return {name: _measured(values[name], FACTS[name][1]) for name in MEASURED}


def _share(letters: Sequence[str], wanted: str) -> float:
    return sum(letter in wanted for letter in letters) / len(letters) if letters else math.nan


def _measured(values: Sequence[float], unit: str) -> Cell:
    """Mean of values with the middle 90 % of them in place of an interval."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return cell_of(())
    low, high = np.percentile(finite, [5, 95])
    return Cell(float(np.mean(finite)), float(low), float(high), [], str(len(finite)), unit, span="5 to 95 %:")


def table(found: Sequence[dict]) -> list[Row]:
    """All cards as rows."""
    return [
        {"fold": card["fold"], "training": str(card["training"]), "held_out": str(card["held_out"])}
        | {"variant": line["name"], "judged_as": line["of"] or card["fold"], "fact": fact, "value": f"{cell.value:.6g}"}
        | {"low": f"{cell.low:.6g}", "high": f"{cell.high:.6g}", "n": cell.n}
        for card in found
        for line in card["lines"]
        for fact, cell in line["cells"].items()
        if math.isfinite(cell.value)
    ]
