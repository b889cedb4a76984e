"""Data of the 3D gallery: samples and their nearest held-out domains in one frame, in a compact form."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from tmtools import tm_align

from ..core.structure import Backbone
from ..store.layout import Entry
from .results import Results, number

MOST_PAIRS = 120  # in the page; about 8 kB each
STEP = 0.02  # Å per step of the embedded int16 coordinates
FACTS = {"helix": "helix share", "strand": "strand share", "relative_rg": "relative Rg", "clashes": "clashes"}


def superpose(moving: Backbone, fixed: Backbone) -> tuple[np.ndarray, float]:
    """First model of `moving` (L, 5, 3) superposed on `fixed` by TM-align, and the TM-score normalised by `moving`."""
    target, source = fixed.ca[0].astype(float), moving.ca[0].astype(float)
    found = tm_align(source, target, "A" * len(source), "A" * len(target))
    return moving.coords[0] @ found.u.T.astype(np.float32) + found.t.astype(np.float32), float(found.tm_norm_chain1)


def pack(coords: np.ndarray) -> str:
    """N, CA, C, O of (L, 5, 3) in Å as base64 of little-endian int16 steps; a missing atom takes its CA's place."""
    atoms = np.where(np.isfinite(coords[:, :4]), coords[:, :4], coords[:, 1:2])
    steps = np.clip(np.nan_to_num(atoms) / STEP, -32767, 32767)
    return base64.b64encode(np.rint(steps).astype("<i2").tobytes()).decode()


def simple_ss(letters: str) -> str:
    """DSSP letters as H, E or -; empty if nothing was assigned, so that the viewer assigns them."""
    if set(letters) <= {"?"}:
        return ""
    return "".join("H" if c in "HGI" else "E" if c in "EB" else "-" for c in letters)


def outlines(*structures: np.ndarray) -> list[list[str]]:
    """CA traces (L, 5, 3) in one frame, seen along the thinnest axis of the first, in 64 x 64 boxes of one scale.

    Each is four SVG point lists from start to end.
    """
    traces = [coords[np.isfinite(coords[:, 1]).all(axis=1), 1] for coords in structures]
    _, _, axes = np.linalg.svd(traces[0] - traces[0].mean(axis=0), full_matrices=False)
    flat = [(trace - trace.mean(axis=0)) @ axes[:2].T for trace in traces]
    largest = max(1e-6, *(float(np.abs(points).max(initial=0)) for points in flat))
    return [_pieces(32 + 28 * points / largest) for points in flat]


def _pieces(points: np.ndarray) -> list[str]:
    bounds = np.linspace(0, len(points) - 1, 5).astype(int)
    return [" ".join(f"{x:.0f},{y:.0f}" for x, y in points[start : stop + 1]) for start, stop in pairwise(bounds)]


def _shape(entry: Entry, coords: np.ndarray, label: str) -> dict:
    return {
        "id": entry.backbone.id,
        "label": label,
        "length": len(entry.backbone),
        "ss": simple_ss(entry.ss[0]),
        "xyz": pack(coords),
    }


def pair(sample: Entry, nearest: Entry | None, row: Mapping[str, str], pdb_id: str = "") -> dict:
    """One item of the gallery: sample, nearest held-out domain in its frame, and what was measured.

    `pdb_id` is that of the nearest domain, if it has one.
    """
    centre = np.nanmean(sample.backbone.coords[0].reshape(-1, 3), axis=0)
    item = {
        "sample": _shape(sample, sample.backbone.coords[0] - centre, str(sample.facts["label"])),
        "tm": _or_none(row.get("nearest_tm")),
        "training_tm": _or_none(row.get("training_tm")),
        "facts": {said: _or_none(row[name]) for name, said in FACTS.items() if name in row},
        "outlines": outlines(sample.backbone.coords[0]),
        "nearest": None,
    }
    if nearest is not None:
        coords, _ = superpose(nearest.backbone, sample.backbone)
        item["nearest"] = _shape(nearest, coords - centre, row.get("nearest_label", "")) | {"pdb": pdb_id}
        item["outlines"] = outlines(sample.backbone.coords[0], coords)
    return item


def _or_none(text: object) -> float | None:
    value = number(text)
    return value if math.isfinite(value) else None


def nearest_entries(results: Results, rows: Sequence[dict[str, str]]) -> dict[str, Entry]:
    """The held-out domains that rows of `structures.tsv` name as nearest, by id."""
    names = dict.fromkeys(row.get("nearest_id", "") for row in rows)
    return {entry.backbone.id: entry for entry in results.entries("domains.h5", ids=names, limit=100_000)}


def _fold_items(results: Results, variant: str, parts: tuple[str, ...], folds: Sequence[str], each: int) -> dict:
    """The first `each` items of each class of one variant."""
    store = results.store(*parts)
    place = results.place("scores", variant, results.seeds[0])
    rows = {row["id"]: row for row in results.table(*place, "structures.tsv") if row.get("kind") == "sample"}
    labels = {name: str(store.fact(name, "label")) for name in store.ids} if store else {}
    found: dict[str, list[dict]] = {}
    for fold in folds:
        names = [name for name, label in labels.items() if label == fold][:each]
        near = nearest_entries(results, [rows.get(name, {}) for name in names])
        for entry in results.entries(*parts, ids=names):
            row = rows.get(entry.backbone.id, {})
            name = row.get("nearest_id", "")
            found.setdefault(fold, []).append(pair(entry, near.get(name), row, results.pdb_ids.get(name, "")))
    return found


def gallery(results: Results, per_class: int) -> dict:
    """Items by variant and class: the first `per_class` samples of the first seed in file order.

    Fewer samples per class, and then fewer classes, if the page would grow too large.
    """
    runs = [(name, parts) for name, seed, parts in results.runs("samples", "samples.h5") if seed == results.seeds[0]]
    share = max(1, MOST_PAIRS // max(1, len(runs)))
    folds = results.folds[:share]
    each = max(1, min(per_class, share // max(1, len(folds))))
    items = {variant: _fold_items(results, variant, parts, folds, each) for variant, parts in runs}
    return {
        "items": {variant: found for variant, found in items.items() if found},
        "each": each,
        "step": STEP,
        "names": {fold: results.class_name(fold) for fold in folds},
        "hidden": len(results.folds) - len(folds),
    }
