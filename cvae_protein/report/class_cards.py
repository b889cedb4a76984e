"""One card per fold class, and the fold classifier's accuracy and confusion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ..core.geometry import radius_of_gyration
from ..core.labels import depth_of, is_within, lineage, truncate
from ..core.variants import REAL, REAL_ROWS
from ..score.metrics.physical_validity import HELIX, STRAND
from .leaderboard import Cell, cell_of
from .results import Results, number

RARE_TRAINING, RARE_HELD_OUT = 20, 5  # with fewer domains of a class, its figures are uncertain
MOST_MEMBERS = 60  # real members of a class that are measured
FACTS: dict[str, tuple[str, str, str]] = {
    "fidelity": (
        "Fidelity",
        "ratio",
        "share predicted to be of the target class, over that of real domains",
    ),
    "nearest_same_class": ("Class kept", "share", "the nearest held-out domain is of the target class"),
    "physically_valid": ("Valid", "share", "closed chain, no clash, after relaxation"),
    "physically_valid_raw": ("Valid, raw", "share", "the same before relaxation"),
    "nearest_tm": ("Nearest TM", "score", "TM-score to the nearest held-out domain"),
    "helix": ("Helix", "share", "residues in helices"),
    "strand": ("Strand", "share", "residues in strands"),
    "rg": ("Rg, Å", "Å", "radius of gyration"),
    "length": ("Length", "residues", "mean length, residues"),
    "training_tm": ("Training TM", "score", "TM-score to the nearest training domain: near 1 is a copy"),
}
MEASURED = ("helix", "strand", "rg", "length")  # of real members, from the store
Scores = Mapping[tuple[str, str, str], Sequence[dict[str, str]]]


def cards(results: Results) -> list[dict]:
    """One card per target class: counts, whether it is rare, and one line per model and reference."""
    scores: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in results.table("scores.tsv"):
        if row["seed"] in results.seeds or row["variant"] in REAL_ROWS:
            scores.setdefault((row["variant"], row["fold"], row["metric"]), []).append(row)
    drawn = {variant: results.structures(variant, ("sample",)) for variant in results.variants}
    if not any(drawn.values()):
        return []
    return [_card(results, fold, scores, drawn) for fold in results.folds]


def _card(results: Results, fold: str, scores: Scores, drawn: Mapping[str, Sequence[dict[str, str]]]) -> dict:
    members = {name: row for name, row in results.splits.items() if is_within(row.get("label", ""), fold)}
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
        "lengths": f"{min(lengths):.0f} to {max(lengths):.0f}" if lengths else "",
        "lines": [*lines, *_references(results, fold, scores, members)],
    }


def _references(results: Results, fold: str, scores: Scores, members: Mapping[str, dict[str, str]]) -> list[dict]:
    """The lines of real domains, evaluated as samples of the class, or of the next level above it that has scores."""
    lines = []
    for name in REAL_ROWS:
        levels = lineage(fold)[::-1]
        scored = next((level for level in levels if any((name, level, fact) in scores for fact in FACTS)), "")
        cells = {fact: cell_of(scores.get((name, scored, fact), ())) for fact in FACTS}
        if name == REAL:
            cells |= _of_members(results, members)
        if any(math.isfinite(cell.value) for cell in cells.values()):
            of = scored if scored and scored != fold else ""
            lines.append({"name": name, "n": cells["nearest_tm"].n, "of": of, "cells": cells})
    return lines


def _of_members(results: Results, members: Mapping[str, dict[str, str]]) -> dict[str, Cell]:
    """Secondary structure, size and length of up to 60 real members, held-out and training, from the store."""
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
    """Mean of values, with the range of their middle 90 % in place of an interval."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return cell_of(())
    low, high = np.percentile(finite, [5, 95])
    return Cell(float(np.mean(finite)), float(low), float(high), [], str(len(finite)), unit, span="5 to 95 %:")


def table(found: Sequence[dict]) -> list[dict[str, str]]:
    """All cards as rows."""
    return [
        {"fold": card["fold"], "training": str(card["training"]), "held_out": str(card["held_out"])}
        | {"variant": line["name"], "scored_as": line["of"] or card["fold"], "fact": fact, "value": f"{cell.value:.6g}"}
        | {"low": f"{cell.low:.6g}", "high": f"{cell.high:.6g}", "n": cell.n}
        for card in found
        for line in card["lines"]
        for fact, cell in line["cells"].items()
        if math.isfinite(cell.value)
    ]


MOST_LABELS = 12  # up to which a confusion is shown as a matrix
MOST_MISTAKES = 10  # that are listed


def fold_classifier(results: Results) -> dict | None:
    """Origin, held-out accuracy, calibration and confusions of the fold classifier; None if there is none."""
    checks, confusion = (results.table("models", "classifier", name) for name in ("classifier.tsv", "confusion.tsv"))
    checks = [row for row in checks if row["split"] == "test"]
    confusion = [row for row in confusion if row["split"] == "test"]
    if not checks:
        return None
    mistakes = [row for row in confusion if row["label"] != row["predicted"]]
    return {
        "start": results.classifier_start,
        "checks": checks,
        "matrix": _matrix([row for row in confusion if row["level"] == "1"]),
        "mistakes": sorted(mistakes, key=lambda row: -number(row["n"]))[:MOST_MISTAKES],
        "confusion": confusion,
    }


def _matrix(rows: Sequence[dict[str, str]]) -> dict | None:
    """Shares of the first level, label by label; None if there are too many labels to show."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    predicted = sorted(dict.fromkeys(row["predicted"] for row in rows))
    if not labels or max(len(labels), len(predicted)) > MOST_LABELS:
        return None
    shares = {(row["label"], row["predicted"]): number(row["share"]) for row in rows}
    return {
        "predicted": predicted,
        "lines": [(label, [shares.get((label, name), 0.0) for name in predicted]) for label in labels],
    }


def disagreements(results: Results) -> list[dict[str, str]]:
    """One row per variant and class with numbers of samples: all (`n`), those put in the target class by the classifier
    and by the nearest held-out domain, and those on which the two differ at its level; none without predicted labels.
    """
    found: dict[tuple[str, str], Counter[str]] = {}
    for variant in results.variants:
        for row in results.structures(variant, ("sample",)):
            target, predicted, near = row.get("label", ""), row.get("predicted_label", ""), row.get("nearest_label", "")
            if not (target and predicted and near):
                continue
            beside = truncate(near, depth_of(predicted))
            counts = found.setdefault((variant, target), Counter(n=0, classifier=0, nearest=0, differ=0))
            counts.update(
                {"n": 1, "classifier": predicted == target, "nearest": beside == target, "differ": predicted != beside}
            )
    rows = ({"variant": v, "fold": fold, **{k: str(n) for k, n in c.items()}} for (v, fold), c in found.items())
    return list(rows)


def said(rows: Sequence[dict[str, str]]) -> list[dict]:
    """For each variant, how often classifier and nearest domain disagree, over all classes."""
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        total, classifier, nearest, differ = (
            sum(int(row[k]) for row in own) for k in ("n", "classifier", "nearest", "differ")
        )
        lines.append(
            {"variant": variant, "n": total} | _shares(total, classifier=classifier, nearest=nearest, differ=differ)
        )
    return lines


def _shares(total: int, **counts: int) -> dict[str, str]:
    return {name: f"{100 * count / total:.0f}\u00a0%" for name, count in counts.items()}


def by_class(rows: Sequence[dict[str, str]]) -> dict[str, str]:
    """The sentence on the card of each class about disagreements, for the variants that have any."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if int(row["differ"]):
            found.setdefault(row["fold"], []).append(f"{row['differ']} of {row['n']} of {row['variant']}")
    return {fold: f"Classifier and nearest domain disagree on {', '.join(parts)}." for fold, parts in found.items()}
