"""The figures of the structures themselves, gathered from a results folder; an empty list where files are absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..core.geometry import torsions
from ..core.labels import belongs
from ..store.layout import Entry
from . import figures
from .downloads import Plot, plot
from .results import Results, Row, number
from .sections import long_table, numbers

OPEN_CLASSES = 6  # beyond them the panels wait in a fold-out
MOST_CLASSES = 24  # with panels of their own
SPREADS = (("helix", "helix share"), ("strand", "strand share"), ("relative_rg", "relative radius of gyration"))


def _torsions(entries: Sequence[Entry]) -> np.ndarray:
    """phi, psi (R, 2) of all entries; computed where the store holds none."""
    parts = []
    for entry in entries:
        angles = np.asarray(entry.torsion[0])
        if not np.isfinite(angles).any():
            angles = torsions(entry.backbone.coords[0].astype(float), entry.backbone.breaks)
        parts.append(angles[:, :2])
    return np.concatenate(parts) if parts else np.zeros((0, 2))


def ramachandran(results: Results, colours: dict[str, str]) -> list[tuple[str, list[Plot]]]:
    """A row for each variant: real, reconstructed, sampled before and after relaxation."""
    real = _torsions(results.entries("domains.h5", ids=results.held_out))

    def drawn(angles: np.ndarray, name: str, title: str) -> Plot:
        figure = figures.ramachandran(angles, real, colours[name], title)
        return plot(figure, f"ramachandran_{name}_{title}", figures.ramachandran_counts(angles))

    first = [drawn(real, "real", "real, held out")] if len(real) else []
    rows = []
    for variant in results.variants:
        kinds = (("reconstructions", "reconstructed"), ("raw", "sampled, not relaxed"), ("samples", "sampled"))
        found = [(title, _torsions(results.samples(variant, kind))) for kind, title in kinds]
        found = [(title, angles) for title, angles in found if np.isfinite(angles).all(axis=1).sum() >= 20]
        if found:
            rows.append((variant, first + [drawn(angles, variant, title) for title, angles in found]))
    return rows


def distance_maps(results: Results) -> list[tuple[str, list[Plot]]]:
    """For each variant, the first sample of each class beside its nearest held-out domain."""
    rows = []
    for variant, seed, parts in results.runs("samples", "samples.h5"):
        if seed != results.seeds[0]:
            continue
        table = results.table(*results.place("scores", variant, seed), "structures.tsv")
        judged = [row for row in table if row.get("kind") == "sample" and row.get("nearest_id")]
        panels = []
        for fold in results.folds[:OPEN_CLASSES]:
            row = next((row for row in judged if row["label"] == fold), None)
            found = results.entries(*parts, ids=[row["id"]]) if row else []
            near = results.entries("domains.h5", ids=[row["nearest_id"]]) if row else []
            if row and found and near:
                titles = (f"sample, class {fold}", f"{row['nearest_id']}, TM {number(row['nearest_tm']):.2f}")
                traces = {row["id"]: found[0].backbone.ca[0], row["nearest_id"]: near[0].backbone.ca[0]}
                panels.append(
                    plot(
                        figures.distance_maps(traces[row["id"]], traces[row["nearest_id"]], titles),
                        f"ca_traces_{variant}_{fold}",
                        _trace_table(traces),
                    )
                )
        if panels:
            rows.append((variant, panels))
    return rows


def _trace_table(traces: Mapping[str, np.ndarray]) -> dict[str, list]:
    """CA positions (L, 3) in Å as columns: all that distance maps show."""
    points = [(name, k + 1, *xyz) for name, trace in traces.items() for k, xyz in enumerate(trace)]
    names = ("structure", "residue", "x", "y", "z")
    return {name: [point[k] for point in points] for k, name in enumerate(names)}


def spreads(results: Results, colours: dict[str, str]) -> list[tuple[str, list[Plot]]]:
    """For each class, the spread of helix share, strand share and relative Rg: real and each variant."""
    real = results.structures("real", ("real",))
    samples = {variant: results.structures(variant, ("sample",)) for variant in results.variants}
    samples = {variant: rows for variant, rows in samples.items() if rows}
    everything = [row for rows in (real, *samples.values()) for row in rows]
    limits = {metric: _limits(numbers(everything, metric)) for metric, _ in SPREADS}
    rows = []
    for fold in results.folds[:MOST_CLASSES] if samples else []:
        parts = {"real": [row for row in real if belongs(_full_label(results, row), fold)]}
        parts |= {v: [r for r in table if r.get("label") == fold] for v, table in samples.items()}
        panels = []
        for metric, title in SPREADS:
            groups = [(name, colours[name], numbers(table, metric)) for name, table in parts.items()]
            if any(np.isfinite(values).any() for _, _, values in groups):
                drawn = figures.quantiles(results.class_name(fold), title, groups, limits[metric])
                values = {name: found for name, _, found in groups}
                panels.append(plot(drawn, f"{metric}_{fold}", long_table(values, "variant", metric)))
        if panels:
            rows.append((results.class_name(fold), panels))
    return rows


def _limits(values: np.ndarray) -> tuple[float, float]:
    """One axis for all classes: from the 1st to the 99th percentile with a margin."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if len(finite) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _full_label(results: Results, row: Row) -> str:
    """A real domain's whole label, as the split has it."""
    return results.splits.get(row["id"], row).get("label", "")
