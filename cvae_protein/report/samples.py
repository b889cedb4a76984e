"""Sections about samples: target and predicted classes, nearest domains, results by length, map, designability."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ..core.variants import NEW_MEMBER, REAL
from ..score.designability import DESIGNABLE
from ..score.metrics.classifier import read_features
from . import figures
from .figures import MUTED, Column, Plot, plot
from .results import Results
from .sections import long_table, numbers

Rows = Sequence[dict[str, str]]
MOST_LABELS = 12  # up to which a confusion is shown as a matrix
TM_TITLES = {"nearest_tm": "TM to nearest held-out", "training_tm": "TM to nearest training"}
BIN_WIDTH = 20  # residues
FEWEST = 3  # structures of a length for which a mean is shown


def _shown(results: Results) -> dict[str, Rows]:
    """Rows of the samples of each variant that has any."""
    found = {variant: results.structures(variant, ("sample",)) for variant in results.variants}
    return {variant: rows for variant, rows in found.items() if rows}


def confusion(results: Results) -> list[dict]:
    """For each variant, shares of the predicted classes among the samples of each target class; none without labels.

    Predicted labels are cut to the level of the targets, so that a row adds up to 1. No matrix for too many classes.
    """
    found = []
    for variant, rows in _shown(results).items():
        pairs = [(row["label"], row["predicted_label"]) for row in rows if row["label"] and row.get("predicted_label")]
        targets, predicted = (sorted({pair[k] for pair in pairs}) for k in (0, 1))
        if not pairs or max(len(targets), len(predicted)) > MOST_LABELS:
            continue
        counts, totals = Counter(pairs), Counter(target for target, _ in pairs)
        lines = [
            (results.class_name(target), totals[target], [counts[target, name] / totals[target] for name in predicted])
            for target in targets
        ]
        kept = sum(counts[target, target] for target in targets) / len(pairs)
        found.append({"variant": variant, "predicted": predicted, "lines": lines, "kept": kept, "n": len(pairs)})
    return found


def confusion_table(results: Results) -> list[dict[str, str]]:
    """Number of samples by variant, target class and predicted class, for all classes."""
    counts = Counter(
        (variant, row["label"], row["predicted_label"])
        for variant, rows in _shown(results).items()
        for row in rows
        if row["label"] and row.get("predicted_label")
    )
    return [{"variant": v, "target": t, "predicted": p, "samples": str(n)} for (v, t, p), n in counts.items()]


def nearest(results: Results, colours: Mapping[str, str]) -> list[tuple[str, list[Plot]]]:
    """For each variant, histograms of TM-scores to the nearest domains beside those of real ones."""
    real = {kind: results.structures("real", (kind,)) for kind in (REAL, NEW_MEMBER)}
    rows = []
    for variant, own in _shown(results).items():
        panels = []
        for metric, title in TM_TITLES.items():
            groups = {variant: numbers(own, metric)} | {kind: numbers(table, metric) for kind, table in real.items()}
            groups = {name: values for name, values in groups.items() if np.isfinite(values).any()}
            if variant in groups:
                shown = [(name, colours[name], values) for name, values in groups.items()]
                drawn = figures.histogram(shown, variant, title)
                panels.append(plot(drawn, f"{metric}_{variant}", long_table(groups, "set", metric)))
        if panels:
            rows.append((variant, panels))
    return rows


def by_length(results: Results, colours: Mapping[str, str]) -> list[Plot]:
    """Physically valid share and nearest TM-score by length, one line per variant, and for real domains."""
    groups = {**_shown(results), REAL: results.structures("real", (REAL,))}
    panels = []
    for metric, title in (
        ("physically_valid", "yield: physically valid, share"),
        ("nearest_tm", "TM to nearest held-out"),
    ):
        binned = {name: _binned(rows, metric) for name, rows in groups.items()}
        series = [(name, colours[name], points) for name, points in binned.items() if points]
        if any(name != REAL for name, *_ in series):
            points = [(name, *point) for name, _, all_of in series for point in all_of]
            table = dict(zip(("set", "length", metric, "n"), zip(*points, strict=True), strict=True))
            panels.append(plot(figures.by_length(series, title), f"{metric}_by_length", table))
    return panels


def _binned(rows: Rows, metric: str) -> list[tuple[float, float, int]]:
    """Mean length, mean of a metric, and count, in bins of 20 residues that hold three or more."""
    lengths, values = numbers(rows, "length"), numbers(rows, metric)
    known = np.isfinite(lengths) & np.isfinite(values)
    lengths, values = lengths[known], values[known]
    places = (lengths // BIN_WIDTH).astype(int)
    parts = [places == place for place in sorted(set(places.tolist()))]
    return [
        (float(lengths[part].mean()), float(values[part].mean()), int(part.sum()))
        for part in parts
        if part.sum() >= FEWEST
    ]


def structure_space(results: Results) -> list[tuple[str, Plot]]:
    """For each variant, its samples among the real domains in one plane: two components of the classifier's features.

    The components are those of the real domains alone, so that all panels show the same plane. Samples have the colour
    of their target class.
    """
    real_file = results.root / "features/real/domains.h5"
    if not real_file.is_file():
        return []
    real = read_features(real_file)
    known = np.isfinite(real.values).all(axis=1)
    if known.sum() < 3:
        return []
    features = real.values[known]
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
    _, _, axes = np.linalg.svd((features - centre) / scale, full_matrices=False)

    def place(values: np.ndarray) -> np.ndarray:
        return (values - centre) / scale @ axes[:2].T

    palette, at = figures.fold_palette(results.folds), place(features)
    drawn: dict[str, tuple[np.ndarray, list[str], list[str]]] = {}
    for variant, _, parts in results.runs("features", "samples.h5"):
        own = read_features(results.root.joinpath(*parts))
        seen = np.isfinite(own.values).all(axis=1)
        if own.values.shape[1] != features.shape[1] or not seen.any() or variant in drawn:
            continue
        rows = np.flatnonzero(seen).tolist()
        drawn[variant] = (place(own.values[rows]), [own.labels[k] for k in rows], [own.ids[k] for k in rows])
    if not drawn:
        return []
    everything = np.concatenate([at, *(points for points, *_ in drawn.values())])
    low, high = np.percentile(everything, [0.5, 99.5], axis=0)
    limits = np.stack([low - 0.06 * (high - low), high + 0.06 * (high - low)])
    found = []
    names = [name for name, ok in zip(real.ids, known.tolist(), strict=True) if ok]
    kinds = [label for label, ok in zip(real.labels, known.tolist(), strict=True) if ok]
    for variant, (points, labels, ids) in drawn.items():
        colours = [palette.get(results.fold_of(label), MUTED) for label in labels]
        table: dict[str, Column] = {
            "id": [*ids, *names],
            "set": [variant] * len(ids) + [REAL] * len(names),
            "label": [*labels, *kinds],
            "component_1": np.concatenate([points[:, 0], at[:, 0]]),
            "component_2": np.concatenate([points[:, 1], at[:, 1]]),
        }
        figure = figures.structure_map(at, points, colours, variant, limits)
        found.append((variant, plot(figure, f"structure_space_{variant}", table)))
    return found


def designability(results: Results, colours: Mapping[str, str]) -> dict | None:
    """Results of the stage `designability`, real domains last: means and figures; None if it was not run."""
    tables = {variant: results.table("designs", variant, f"seed{results.seeds[0]}", "designs.tsv") for variant in
              results.variants} | {REAL: results.table("designs", REAL, "designs.tsv")}  # fmt: skip
    tables = {name: rows for name, rows in tables.items() if rows}
    if not tables:
        return None
    lines = []
    for name, rows in tables.items():
        values = {
            key: numbers(rows, key) for key in ("sc_rmsd", "sc_tm", "designable", "design_nll", "design_recovery")
        }
        lines.append({"name": name, "n": len(rows)} | {key: _mean(column) for key, column in values.items()})
    predicted = {name: numbers(rows, "sc_rmsd") for name, rows in tables.items()}
    predicted = {name: values for name, values in predicted.items() if np.isfinite(values).any()}
    panels = []
    if predicted:
        series = [(colours[name], values) for name, values in predicted.items()]
        drawn = figures.cumulative(series, "scRMSD, Å", "share of structures")
        panels.append(plot(drawn, "sc_rmsd", long_table(predicted, "set", "sc_rmsd")))
        lengths = {name: _binned(rows, "designable") for name, rows in tables.items()}
        shown = [(name, colours[name], points) for name, points in lengths.items() if points]
        if shown:
            points = [(name, *point) for name, _, all_of in shown for point in all_of]
            table = dict(zip(("set", "length", "designable", "n"), zip(*points, strict=True), strict=True))
            figure = figures.by_length(shown, f"designable: scRMSD ≤ {DESIGNABLE:g} Å, share")
            panels.append(plot(figure, "designable_by_length", table))
    rows = [{"set": name, **{key: row.get(key, "") for key in DESIGNED}} for name, t in tables.items() for row in t]
    return {"lines": lines, "panels": panels, "rows": rows, "limit": DESIGNABLE, "predicted": bool(predicted)}


DESIGNED = ("id", "label", "length", "design_nll", "design_recovery", "sc_rmsd", "sc_tm", "designable")


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan
