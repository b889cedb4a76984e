"""Headline metrics side by side, tiles, and the matrix of verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..core.variants import BASELINE, NEW_MEMBER, REAL, REAL_ROWS, REFERENCES
from .results import Results, number

HEADLINE: dict[str, dict[str, tuple[str, str]]] = {
    "Reconstruction of held-out domains": {
        "trace_rmsd": ("Trace RMSD", "CA of the decoded trace, before refinement"),
        "ca_rmsd": ("CA RMSD", "after refinement"),
        "backbone_rmsd": ("Backbone RMSD", "N, CA, C, O after refinement"),
        "tm_score": ("TM-score", "decoded structure on the domain"),
        "lddt": ("lDDT-CA", "local distances kept"),
        "ss_q3": ("Secondary structure", "residues with helix, strand or coil as in the domain"),
        "right_handed": ("Right-handed", "nearer to the domain than to its mirror image"),
        "mirror_rmsd": ("Mirror RMSD", "against the mirror image: larger means chirality is kept"),
        "generalisation_ratio": (
            "Held-out over training error",
            "trace RMSD of held-out domains over that of training domains: far above 1 = overfitted",
        ),
        "rate": ("Rate", "divergence of a domain's posterior from the prior"),
        "permuted_code_ratio": (
            "Permuted code",
            "error with another domain's code over that with the own: 1 = code ignored",
        ),
        "swapped_label_ratio": (
            "Swapped label",
            "error with another class's label over that with the own: 1 = label ignored",
        ),
    },
    "Physical validity of samples": {
        "physically_valid": ("Physically valid", "closed chain, no clash"),
        "physically_valid_raw": ("Physically valid, raw", "the same before relaxation"),
        "clashes": ("Clashes", "CA pairs below 3 Å a sample"),
        "clashes_raw": ("Clashes, raw", "the same before relaxation"),
        "bond_rmsz": ("Bond RMSZ", "bond lengths against ideal ones"),
        "angle_rmsz": ("Angle RMSZ", "bond angles against ideal ones"),
        "ramachandran_favoured": ("Ramachandran favoured", "residues in favoured regions"),
        "left_handed_helix": ("Left-handed helix", "helical residues of the wrong hand"),
    },
    "Folds of samples": {
        "nearest_tm": ("Nearest held-out TM", "TM-score to the nearest held-out domain"),
        "fidelity": (
            "Class fidelity",
            "share predicted to be of the target class, over that of real domains",
        ),
        "nearest_same_class": ("Class kept", "the nearest held-out domain is of the target class"),
        "classifier_nearest_disagreement": (
            "Disagreement",
            "samples whose class the fold classifier and the nearest domain see differently",
        ),
        "helix": ("Helix share", "by DSSP"),
        "strand": ("Strand share", "by DSSP"),
        "relative_rg": ("Relative Rg", "radius of gyration over the one expected of the length"),
        "wasserstein_helix": (
            "Helix distance",
            "Wasserstein distance of helix shares to the held-out domains, by class",
        ),
        "wasserstein_strand": ("Strand distance", "the same of strand shares"),
    },
    "Diversity and novelty": {
        "mean_pairwise_tm": ("Pairwise TM", "between samples of a class: high means few shapes"),
        "cluster_share": ("Cluster share", "clusters at TM 0.5 per sample of a class: 1 = no two share a fold"),
        "training_tm": ("Nearest training TM", "near 1 means copied"),
        "memorisation_ratio": ("Memorisation", "nearest training TM over nearest held-out TM"),
    },
    "Sets of samples against held-out domains": {
        "fpsd": ("FPSD", "Fréchet distance of the classifier's features"),
        "kid": ("KID", "the same by an unbiased kernel distance"),
        "feature_mmd": ("Feature MMD", "the same by a Gaussian kernel"),
        "precision": ("Precision", "samples that lie among the held-out domains"),
        "recall": ("Recall", "held-out domains that lie among the samples"),
        "density": ("Density", "how deep among the held-out domains samples lie"),
        "coverage": ("Coverage", "held-out domains with a sample beside them"),
        "tm_coverage": ("Covered, by TM", "held-out domains with a sample nearer than their own k-th neighbour"),
        "fold_score": ("Fold score", "how sure and how varied the predicted classes are"),
        "fjsd": ("Fold JSD", "divergence of the predicted classes of samples and of held-out domains"),
        "vendi_score": ("Vendi score", "effective number of different samples"),
    },
    "Latent space": {
        "active_units": ("Active units", "dimensions whose posterior mean varies"),
        "mutual_information": ("Mutual information", "of code and structure; a lower bound"),
        "swap_followed": (
            "Swap followed",
            "share decoded under another class's label whose predicted class is that one",
        ),
        "swap_followed_chance": ("Swap by chance", "what a guess would give"),
        "prior_mmd": ("Prior MMD", "discrepancy of codes and prior, class by class"),
        "prior_gain": (
            "Prior beside a Gaussian",
            "log likelihood of held-out codes under the prior less that under one Gaussian: below 0 = overfitted",
        ),
        "prior_nats": ("Held-out codes, prior", "log likelihood under the prior that samples come from"),
        "gaussian_nats": ("Held-out codes, Gaussian", "the same under one Gaussian of the training codes"),
        "noise_norm": ("Norm of the noise", "squared, of held-out codes, over the latent size: 1 where the flow fits"),
        "class_leakage": ("Class leakage", "how well probes predict the class from the code: 0 = chance"),
        "class_leakage_held_out": (
            "Class leakage, held out",
            "the same of held-out codes alone: read it beside the norm of the noise and the prior's likelihood",
        ),
        "class_leakage_level2": ("Class leakage, architecture", "the same of the label's second level"),
        "class_leakage_level3": ("Class leakage, topology", "the same of its third level"),
    },
}
SPLIT_ORDER = ("test", "samples", "sample", "", "validation", "train")
UNITS = ("Å", "nat")  # those shown with a title; the others add nothing to it
DIRECTIONS = {
    "low": "lower is better",
    "high": "higher is better",
    "real": "closer to real is better",
    "zero": "nearer to 0 is better",
}


@dataclass
class Cell:
    """A metric of one variant: mean over seeds, the envelope of the seeds' intervals, and the number of structures."""

    value: float
    low: float
    high: float
    seeds: list[tuple[str, float]]
    n: str
    unit: str = ""
    ranked: bool = True
    mark: str = ""
    bar: dict[str, float] = field(default_factory=dict)
    span: str = "interval"

    @property
    def shown(self) -> str:
        """The value as the page prints it."""
        return show(self.value, self.unit)

    @property
    def hover(self) -> str:
        """Interval, count and seeds as text."""
        low, high = show(self.low, self.unit), show(self.high, self.unit)
        interval = f"{self.span} {low} to {high}, " if math.isfinite(self.low) else ""
        seeds = "; ".join(f"seed {seed}: {show(value, self.unit)}" for seed, value in self.seeds if seed)
        return f"{interval}n = {self.n}" + (f" ({seeds})" if len(self.seeds) > 1 else "")


def show(value: float, unit: str = "") -> str:
    """A number with three digits that matter, a share in percent, a dash for none."""
    if not math.isfinite(value):
        return "–"
    if not value:
        return "0\u00a0%" if unit == "share" else "0"
    if unit == "share":
        return f"{100 * value:.{1 if abs(value) < 0.0995 else 0}f}\u00a0%"
    size = abs(value)
    if size < 0.00005:
        return f"{value:.1e}"
    if size < 0.001:
        return f"{value:.4f}"
    return f"{value:.{3 - sum(size >= limit for limit in (1, 10, 100))}f}"


def cell_of(rows: Sequence[dict[str, str]]) -> Cell:
    """One cell from the rows of all seeds of a variant, each seed once, in the split that headlines use."""
    if not rows:
        return Cell(math.nan, math.nan, math.nan, [], "0")
    split = min((row["split"] for row in rows), key=lambda s: SPLIT_ORDER.index(s) if s in SPLIT_ORDER else 3)
    chosen = [row for row in rows if row["split"] == split and math.isfinite(number(row["value"]))]
    if not chosen:
        return Cell(math.nan, math.nan, math.nan, [], "0")
    values = [number(row["value"]) for row in chosen]
    lows = [low for row in chosen if math.isfinite(low := number(row["low"]))]
    highs = [high for row in chosen if math.isfinite(high := number(row["high"]))]
    counts = sorted({row["n"] for row in chosen})
    return Cell(
        sum(values) / len(values),
        min(lows, default=math.nan),
        max(highs, default=math.nan),
        [(row["seed"], value) for row, value in zip(chosen, values, strict=True)],
        " / ".join(counts),
        chosen[0]["unit"],
    )


def _ranked(cells: dict[str, Cell]) -> dict[str, Cell]:
    """The cells that have a value, of models that may be called the best."""
    return {
        name: cell
        for name, cell in cells.items()
        if name not in REAL_ROWS and cell.ranked and math.isfinite(cell.value)
    }


def _mark_best(cells: dict[str, Cell], better: str) -> None:
    """Mark the best of the ranked models and those whose interval includes its value, unless all are equal.

    The value of `real` is that of new members of trained superfamilies, which an ideal sampler draws, or else that of
    validation domains.
    """
    known = [cells[name].value for name in (NEW_MEMBER, REAL) if name in cells and math.isfinite(cells[name].value)]
    target = {"zero": 0.0, "real": next(iter(known), math.nan)}.get(better, 0.0)
    if better not in DIRECTIONS or not math.isfinite(target):
        return
    sign = {"low": 1, "high": -1}

    def cost(value: float) -> float:
        return sign[better] * value if better in sign else abs(value - target)

    models = _ranked(cells)
    if len(models) < 2:
        return
    best = min(models.values(), key=lambda cell: cost(cell.value))
    if all(cell.shown == best.shown for cell in models.values()):
        return
    for cell in models.values():
        overlaps = cell.low <= best.value <= cell.high
        cell.mark = "best" if cell.shown == best.shown else "tied" if overlaps else ""


def _place_bars(cells: dict[str, Cell]) -> None:
    """Positions 0-100 of value and interval on one axis shared by the row."""
    edges = [e for c in cells.values() for e in (c.value, c.low, c.high) if math.isfinite(e)]
    if not edges:
        return
    low, high = min(edges), max(edges)
    width = (high - low) or 1.0

    def at(value: float) -> float:
        return round(4 + 92 * (value - low) / width, 1)

    for cell in cells.values():
        if math.isfinite(cell.value):
            ends = (cell.low, cell.high) if math.isfinite(cell.low) and math.isfinite(cell.high) else (cell.value,) * 2
            cell.bar = {"at": at(cell.value), "low": at(ends[0]), "high": at(ends[1])}


def leaderboard(results: Results) -> list[dict]:
    """Groups of headline rows, each `title note unit direction cells`; only metrics that are in the scores."""
    by_metric: dict[str, dict[str, list[dict[str, str]]]] = {}
    better: dict[str, tuple[str, str]] = {}
    for row in results.table("scores.tsv"):
        shown = row["variant"] in results.variants and row["seed"] in results.seeds
        if row["fold"] == "all" and (shown or row["variant"] in REAL_ROWS):
            by_metric.setdefault(row["metric"], {}).setdefault(row["variant"], []).append(row)
            better.setdefault(row["metric"], (row["better"], row["unit"]))
    groups = []
    for heading, metrics in HEADLINE.items():
        lines = []
        for metric, (title, note) in metrics.items():
            if metric not in by_metric:
                continue
            found = by_metric[metric]
            cells = {name: cell_of(found[name]) for name in (*results.variants, *REAL_ROWS) if name in found}
            for name, cell in cells.items():
                cell.ranked = name not in results.unranked
            direction, unit = better[metric]
            _mark_best(cells, direction)
            _place_bars(cells)
            said = {
                "better": direction,
                "unit": unit if unit in UNITS else "",
                "direction": DIRECTIONS.get(direction, "no better direction"),
            }
            lines.append({"metric": metric, "title": title, "note": note, **said, "cells": cells})
        if lines:
            groups.append({"heading": heading, "lines": lines})
    return groups


def tiles(groups: Sequence[dict], wanted: Sequence[str]) -> list[dict]:
    """The best ranked model of a few headline metrics, beside `pca`, `real` and `new_member`."""
    lines = {line["metric"]: line for group in groups for line in group["lines"]}
    found = []
    for line in (lines[metric] for metric in wanted if metric in lines):
        cells = line["cells"]
        models = _ranked(cells)
        best = [name for name, cell in models.items() if cell.mark == "best"]
        if models:
            others = {name: cells[name].shown for name in (BASELINE, REAL, NEW_MEMBER) if name in cells}
            cell = models[best[0]] if best else next(iter(models.values()))
            equal = not best and len(models) > 1
            found.append({**line, "best": best or list(models), "equal": equal, "cell": cell, "others": others})
    return found


def board_table(groups: Sequence[dict]) -> list[dict[str, str]]:
    """The leaderboard's numbers as rows."""
    return [
        {"metric": line["metric"], "variant": name, "value": f"{cell.value:.6g}"}
        | {"low": f"{cell.low:.6g}", "high": f"{cell.high:.6g}", "n": cell.n}
        for group in groups
        for line in group["lines"]
        for name, cell in line["cells"].items()
    ]


MEANINGS = {
    "COLLAPSE": "the code carries little information on the structure",
    "LEAK": "class information leaks into the latent",
    "CONDITION-IGNORED": "swapped label rarely changes the predicted class",
    "MODE-COLLAPSE": "samples cover few folds",
    "MEMORISATION": "samples are copies of training domains",
    "PRIOR-OVERFIT": "held-out codes are likelier under one Gaussian than under the prior",
    "OVERFIT": "held-out domains are rebuilt far worse than training domains",
}


def matrix(results: Results) -> dict | None:
    """Columns and lines of `verdicts.tsv` for what the page shows; None if the table is absent or has none of it.

    A cell has the fields of its row and `anchor`, the id of the paragraph with its evidence. The references of
    every run are below the models.
    """
    shown = [*[name for name in results.variants if name not in REFERENCES], *REFERENCES]
    rows = [
        row | {"anchor": f"verdict-{index}"}
        for index, row in enumerate(results.table("verdicts.tsv"))
        if row["variant"] in shown and (row["seed"] in results.seeds or row["variant"] in REAL_ROWS)
    ]
    lines: dict[tuple[str, str], dict] = {}
    for row in sorted(rows, key=lambda row: shown.index(row["variant"])):
        line = lines.setdefault((row["variant"], row["seed"]), {"variant": row["variant"], "seed": row["seed"]})
        line.setdefault("cells", {})[row["verdict"]] = row
        line["reference"] = row["variant"] in REFERENCES
    if not rows:
        return None
    cells = [cell for line in lines.values() for cell in line["cells"].values()]
    return {
        "names": {name: MEANINGS.get(name, "") for name in dict.fromkeys(row["verdict"] for row in rows)},
        "lines": list(lines.values()),
        "flagged": [cell for cell in cells if cell["state"] == "flagged"],
        "others": [cell for cell in cells if cell["state"] != "flagged"],
    }
