"""Sections of the page: data, training, reconstruction, latent space, Ramachandran plots, distance maps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.geometry import torsions
from ..core.labels import RUNGS, is_within
from ..core.variants import LITERAL
from ..dataset.leak_audit import BINS, summary
from ..similarity.tm_score import SAME_FOLD
from ..store.layout import Entry
from . import figures
from .figures import MUTED, Column, Plot, css, plot
from .results import Results, number

BIN_TITLES = ("at most 0.5", "0.5 to 0.8", "above 0.8")  # of the audit's bins
RUNG_WORDS = {
    "new_member": "new members of its superfamilies",
    "new_superfamily": "of new superfamilies",
    "new_topology": "of new topologies",
}
HISTORY_UNITS = {"rmsd": "Å", "kl": "nats", "reconstruction": "nats", "loss": "nats", "active_units": "dimensions"}
HISTORY_TITLES = {"rmsd": "CA RMSD", "kl": "KL divergence"}
HISTORY_FIRST = ("rmsd", "reconstruction", "kl", "active_units")
LONGEST_LIST = 12  # values of a setting that are listed
LONGEST_TEXT = 60  # letters of a setting that are shown


def novelty(results: Results) -> str:
    """What no training domain shares with any held-out one, in words: topology, superfamily or sequence cluster.

    Taken from the table of splits itself; if a domain lacks a name, nothing is claimed about names of that kind.
    """
    held_out, training = (
        [row for row in results.splits.values() if row.get("split") in splits]
        for splits in (("test",), ("train", "crops"))
    )
    if not held_out:
        return ""
    new = Counter(row.get("rung", "") for row in held_out)
    if len(new) > 1 and not new[""]:
        parts = ", ".join(f"{new[rung]} {words}" for rung, words in RUNG_WORDS.items() if new[rung])
        return f"that training lacks: {parts}"
    if all(row.get("topology_trained") == "no" for row in held_out):
        return "of topologies that training lacks"
    for column, words in (("superfamily", "superfamilies"), ("sequence_cluster", "sequence clusters")):
        own, trained = ({row.get(column, "") for row in rows} for rows in (held_out, training))
        if "" not in own | trained and not own & trained:
            return f"of {words} that training lacks"
    return "that training lacks"


def header(results: Results) -> dict:
    """Counts for the page's head: domains by split and class, and rejections by reason."""
    splits = Counter(row.get("split", "") for row in results.splits.values())
    classes: dict[str, Counter] = {}
    for row in results.splits.values():
        classes.setdefault(results.fold_of(row.get("label", "")) or "other", Counter())[row.get("split", "")] += 1
    order = [fold for fold in results.folds if fold in classes] + (["other"] if "other" in classes else [])
    return {
        "domains": sum(splits.values()),
        "novelty": novelty(results),
        "splits": splits,
        "classes": [(results.class_name(fold), classes[fold]) for fold in order],
        "rejected": Counter(row.get("reason", "") for row in results.table("rejected.tsv")).most_common(),
        "samples": sum(len(store) for _, _, p in results.runs("samples", "samples.h5") if (store := results.store(*p))),
        "excluded": Counter(
            r.get("reason", "") for r in results.splits.values() if r.get("split") == "excluded"
        ).most_common(),
    }


def leak_audit(results: Results) -> dict:
    """How close the held-out domains are to training, and the errors of reconstructions of close and distant ones."""
    rows = results.table("leak_audit.tsv")
    names = [name for _, name in BINS]
    held = Counter(row["bin"] for row in rows if row["split"] == "test")
    steps = Counter(row.get("rung", "") for row in rows if row["split"] == "test")
    rungs = [rung for rung in RUNGS if steps[rung]]
    return {
        "summary": summary(rows),
        "bins": [(title, held[name]) for title, name in zip(BIN_TITLES, names, strict=True)],
        "errors": _errors(results, names),
        "rungs": [(rung.replace("_", " "), steps[rung]) for rung in rungs],
        "rung_errors": _errors(results, rungs) if len(rungs) > 1 else {},
    }


def _errors(results: Results, names: Sequence[str]) -> dict[str, list[float]]:
    """Mean backbone RMSD of reconstructions in each named part of the held-out domains, for variants that have any."""
    scores = [r for r in results.table("scores.tsv") if r["metric"] == "backbone_rmsd" and r["fold"] in names]
    errors = {
        variant: [_mean(np.array([number(r["value"]) for r in scores if (r["variant"], r["fold"]) == (variant, name)]))
                  for name in names]
        for variant in results.variants
    }  # fmt: skip
    return {variant: values for variant, values in errors.items() if any(map(math.isfinite, values))}


def _flatten(value: object, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names; a long list is only counted."""
    if isinstance(value, dict):
        inner = ((f"{prefix}.{key}" if prefix else str(key), one) for key, one in value.items())
        return {name: text for key, one in inner for name, text in _flatten(one, key).items()}
    if isinstance(value, list):
        return {prefix: ", ".join(map(str, value)) if len(value) <= LONGEST_LIST else f"{len(value)} values"}
    text = str(value)
    return {prefix: text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"}


def specs(results: Results) -> list[tuple[str, list[str]]]:
    """Settings of the models of the first seed: name and one value per variant."""
    seed = results.seeds[0]
    found = {v: _flatten(results.json(*results.place("models", v, seed), "spec.json") or {}) for v in results.variants}
    names = dict.fromkeys(name for spec in found.values() for name in spec)
    return [(name, [found[variant].get(name, "") for variant in results.variants]) for name in names]


def training(results: Results, colours: dict[str, str]) -> list[Plot]:
    """One panel per column of `history.tsv`, the variants' curves together."""
    histories = [(v, seed, results.table(*parts)) for v, seed, parts in results.runs("models", "history.tsv")]
    histories = [(v, seed, rows) for v, seed, rows in histories if rows]
    names = dict.fromkeys(
        n for *_, rows in histories for n in rows[0] if not n.startswith(("validation_", "evaluated_"))
    )
    ordered = [n for n in HISTORY_FIRST if n in names] + [n for n in names if n not in HISTORY_FIRST]
    panels = []
    for name in ordered:
        curves = {
            (v, seed): _curve(colours[v], rows, name)
            for v, seed, rows in histories
            if {name, f"evaluated_{name}"} & rows[0].keys()
        }
        curves = {run: curve for run, curve in curves.items() if np.isfinite(curve[2]).any()}
        if name not in ("step", "seconds", "rollbacks", "best", "flow_step") and curves:
            title = HISTORY_TITLES.get(name, name.replace("_", " "))
            drawn = figures.training(title, HISTORY_UNITS.get(name, ""), list(curves.values()))
            panels.append(plot(drawn, f"training_{name}", _curve_table(curves)))
    return panels


def _curve_table(curves: Mapping[tuple[str, str], figures.Curve]) -> dict[str, Column]:
    """The points of training curves as columns."""
    points = [
        (*run, at, value, math.nan if held is None else held[row])
        for run, (_, step, train, held) in curves.items()
        for row, (at, value) in enumerate(zip(step, train, strict=True))
    ]
    return _columns(("variant", "seed", "step", "training", "validation"), points)


def _columns(names: Sequence[str], points: Sequence[tuple]) -> dict[str, Column]:
    """Rows of a table as columns."""
    return dict(zip(names, zip(*points, strict=True), strict=True))


def long_table(groups: Mapping[str, np.ndarray], kind: str, value: str) -> dict[str, Column]:
    """Values of named groups as two columns."""
    return {
        kind: [name for name, values in groups.items() for _ in values],
        value: [each for values in groups.values() for each in values],
    }


def _curve(colour: str, rows: Sequence[dict[str, str]], name: str) -> figures.Curve:
    """Training and validation over the steps; training evaluated like validation is preferred to the batch's value."""
    own, other = f"evaluated_{name}", f"validation_{name}"
    train = numbers(rows, own if own in rows[0] else name)
    return colour, numbers(rows, "step"), train, numbers(rows, other) if other in rows[0] else None


def numbers(rows: Sequence[dict[str, str]], name: str) -> np.ndarray:
    """A column of a table as numbers, NaN where there is none."""
    return np.array([number(row.get(name, "")) for row in rows])


def reconstruction(results: Results, colours: dict[str, str]) -> list[Plot]:
    """Rate against RMSD, and the held-out distributions of the decoded trace and of the refined structure."""
    rate: dict[str, np.ndarray] = {}
    trace: dict[str, np.ndarray] = {}
    for variant in results.variants:
        stores = [results.store(*p) for v, _, p in results.runs("samples", "reconstructions.h5") if v == variant]
        columns = [s.columns for s in stores if s and len(s) and "trace_rmsd" in s.columns]
        if columns:
            trace[variant] = np.concatenate([np.asarray(c["trace_rmsd"], float) for c in columns])
            rate[variant] = np.concatenate([np.asarray(c["rate"], float) for c in columns])
    panels = []
    if trace:
        clouds = [(colours[v], rate[v], trace[v]) for v in trace]
        means = [(v, colours[v], _mean(rate[v]), _mean(trace[v])) for v in trace]
        drawn = figures.rate_distortion(clouds, means, "rate, nats a domain")
        table = long_table(trace, "variant", "trace_rmsd") | {"rate": np.concatenate(list(rate.values()))}
        panels.append(plot(drawn, "rate_distortion", table))
        drawn = figures.cumulative([(colours[v], trace[v]) for v in trace], "CA RMSD of the trace, Å")
        panels.append(plot(drawn, "trace_rmsd", long_table(trace, "variant", "trace_rmsd")))
    refined = {v: numbers(results.structures(v, ("reconstruction",)), "backbone_rmsd") for v in results.variants}
    refined = {v: values for v, values in refined.items() if np.isfinite(values).any()}
    if refined:
        series = [(colours[v], values) for v, values in refined.items()]
        drawn = figures.cumulative(series, "backbone RMSD after refinement, Å")
        panels.append(plot(drawn, "backbone_rmsd", long_table(refined, "variant", "backbone_rmsd")))
    return panels


SYMPTOMS = {
    "active_share": "share of active units",
    "permuted_code_ratio": "error, another domain's code / own",
    "class_leakage": "leak of the class, skill",
    "swap_followed": "another label followed, share",
    "coverage": "coverage of held-out domains",
}


def _of_trainings(
    results: Results, table: Sequence[dict[str, str]]
) -> dict[str, dict[tuple[str, str], dict[str, str]]]:
    """Rows of a score table over all classes, by metric, and by variant and seed."""
    rows: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for row in table:
        if row["fold"] == "all" and row["variant"] in results.variants and row["seed"] in results.seeds:
            rows.setdefault(row["metric"], {})[row["variant"], row["seed"]] = row
    return rows


def symptoms(results: Results, colours: dict[str, str]) -> list[Plot]:
    """Symptoms of failure against the rate of each training, one dot per seed."""
    rows = _of_trainings(results, results.table("scores.tsv"))
    rates = {key: number(row["value"]) for key, row in rows.get("kl", {}).items()}
    rates = {key: rate for key, rate in rates.items() if rate > 0}
    panels = []
    for metric, title in SYMPTOMS.items():
        known = {key: row for key, row in rows.get(metric, {}).items() if key in rates}
        values = {key: [number(row[name]) for name in ("value", "low", "high")] for key, row in known.items()}
        values = {key: found for key, found in values.items() if math.isfinite(found[0])}
        if not values:
            continue
        points = [(colours[key[0]], rates[key], value, low, high) for key, (value, low, high) in values.items()]
        table = [(*key, rates[key], *found) for key, found in values.items()]
        names = ("variant", "seed", "rate", metric, "low", "high")
        panels.append(plot(figures.against_rate(points, title), f"rate_{metric}", _columns(names, table)))
    return panels


OF_LITERAL = {
    "active_share": "share of active units",
    "class_leakage": "class leakage, skill",
    "swap_followed": "swapped label followed, share",
}
OF_RUN = "as the run has it"


def literal(results: Results, colours: dict[str, str]) -> dict | None:
    """Rate and symptoms of the literal variants, in the run and at the points of its sweep, if there is one.

    Means over seeds. None if there is no literal variant, or no rate of one.
    """
    tables: dict[str, list[dict[str, str]]] = {OF_RUN: results.table("scores.tsv")}
    for row in results.table("sweep.tsv"):
        point = ", ".join(f"{key} = {value}" for key, value in row.items() if "." in key)
        tables.setdefault(point, []).append(row)
    lines: list[dict[str, Any]] = []
    for point, table in tables.items():
        rows = _of_trainings(results, table)
        for variant in (name for name in results.variants if name.startswith(LITERAL)):
            found = {
                metric: numbers([row for (name, _), row in rows.get(metric, {}).items() if name == variant], "value")
                for metric in ("kl", *OF_LITERAL)
            }
            means = {metric: _mean(values) for metric, values in found.items()}
            if means["kl"] > 0:
                lines.append({"variant": variant, "point": point, "seeds": len(found["kl"])} | means)
    if not lines:
        return None
    panels = []
    for metric, title in OF_LITERAL.items():
        known = [line for line in lines if math.isfinite(line[metric])]
        series = [
            (colours[name], [(x["kl"], x[metric], x["point"]) for x in known if x["variant"] == name])
            for name in dict.fromkeys(line["variant"] for line in known)
        ]
        if known:
            columns = {name: [line[name] for line in known] for name in ("variant", "point", "seeds", "kl", metric)}
            panels.append(plot(figures.along_rate(series, title), f"literal_{metric}", columns))
    legend = [(css(colours[name]), name) for name in dict.fromkeys(line["variant"] for line in lines)]
    return {"lines": lines, "titles": OF_LITERAL, "panels": panels, "legend": legend, "swept": len(tables) > 1}


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def latent(results: Results, colours: dict[str, str]) -> list[dict]:
    """For each variant, the map of its codes and the KL of its dimensions (first seed)."""
    palette = figures.fold_palette(results.folds)
    found: list[dict] = []
    for variant in results.variants:
        codes = results.latents(variant, results.seeds[0])
        if codes is None or len(codes.mean) < 3:
            found.append({"variant": variant, "map": None, "bars": None})
            continue
        at, shares = figures.principal(codes.mean)
        held = np.array([split == "test" for split in codes.split])
        folds = [results.fold_of(label) for label in codes.label]
        kl = codes.kl[held] if held.any() else codes.kl
        mean_kl = np.nanmean(kl, axis=0) if np.isfinite(kl).any() else None
        drawn = figures.latent_map(at, folds, held, palette, shares.tolist())
        table: dict[str, Column] = {
            "label": codes.label,
            "split": codes.split,
            "component_1": at[:, 0],
            "component_2": at[:, 1],
        }
        shown: dict = {"variant": variant, "map": plot(drawn, f"codes_{variant}", table), "bars": None, "total": None}
        if mean_kl is not None:
            bars = figures.kl_bars(mean_kl, codes.blocks, colours[variant])
            shown["bars"] = plot(bars, f"kl_{variant}", {"dimension": range(len(mean_kl)), "kl": mean_kl})
            shown["total"] = float(mean_kl.sum())
        found.append(shown)
    return found


def fold_legend(results: Results) -> list[tuple[str, str]]:
    """Colour and name of the classes of the latent maps."""
    palette = figures.fold_palette(results.folds)
    legend = [(palette[fold], results.class_name(fold)) for fold in results.folds if fold in palette]
    return legend + ([(MUTED, "other classes")] if len(results.folds) > len(palette) else [])


def legend(results: Results, colours: dict[str, str], stage: str, name: str) -> list[tuple[str, str]]:
    """Colour and name of the variants that have the file `name` of a stage."""
    return [(css(colours[v]), v) for v in dict.fromkeys(variant for variant, _, _ in results.runs(stage, name))]


OPEN_CLASSES = 6  # the panels of further classes are in a closed fold-out
MOST_CLASSES = 24  # with panels of their own
SPREADS = (("helix", "helix share"), ("strand", "strand share"), ("relative_rg", "relative radius of gyration"))


def _torsions(entries: Sequence[Entry]) -> np.ndarray:
    """phi, psi (R, 2) of all entries."""
    parts = [torsions(entry.backbone.coords[0], entry.backbone.breaks)[:, :2] for entry in entries]
    return np.concatenate(parts) if parts else np.zeros((0, 2))


def ramachandran(results: Results, colours: dict[str, str]) -> list[tuple[str, list[Plot]]]:
    """A row of real held-out domains, and one for each variant: reconstructed, sampled before and after relaxation."""
    real = _torsions(results.entries("domains.h5", ids=results.held_out))

    def drawn(angles: np.ndarray, name: str, title: str) -> Plot:
        figure = figures.ramachandran(angles, real, colours[name], title)
        return plot(figure, f"ramachandran_{name}_{title}", figures.ramachandran_counts(angles))

    rows = [("real", [drawn(real, "real", "real, held out")])] if len(real) else []
    for variant in results.variants:
        kinds = (("reconstructions", "reconstructed"), ("raw", "sampled, not relaxed"), ("samples", "sampled"))
        found = [(title, _torsions(results.samples(variant, kind))) for kind, title in kinds]
        found = [(title, angles) for title, angles in found if np.isfinite(angles).all(axis=1).sum() >= 20]
        if found:
            rows.append((variant, [drawn(angles, variant, title) for title, angles in found]))
    return rows if [name for name, _ in rows] != ["real"] else []


def distance_maps(results: Results) -> list[tuple[str, list[Plot]]]:
    """For each variant, the first sample of each class with the fold of a held-out domain (TM > 0.5), beside that."""
    rows = []
    for variant, seed, parts in results.runs("samples", "samples.h5"):
        if seed != results.seeds[0]:
            continue
        table = results.table(*results.place("scores", variant, seed), "structures.tsv")
        matched = [row for row in table if row.get("kind") == "sample" and number(row.get("nearest_tm")) > SAME_FOLD]
        panels = []
        for fold in results.folds[:OPEN_CLASSES]:
            row = next((row for row in matched if row["label"] == fold), None)
            found = results.entries(*parts, ids=[row["id"]]) if row else []
            near = results.entries("domains.h5", ids=[row["nearest_id"]]) if row else []
            if row and found and near:
                titles = (f"sample, class {fold}", f"{row['nearest_id']}, TM {number(row['nearest_tm']):.2f}")
                traces = {row["id"]: found[0].backbone.ca[0], row["nearest_id"]: near[0].backbone.ca[0]}
                drawn = figures.distance_maps(traces[row["id"]], traces[row["nearest_id"]], titles)
                panels.append(plot(drawn, f"ca_traces_{variant}_{fold}", _trace_table(traces)))
        if panels:
            rows.append((variant, panels))
    return rows


def _trace_table(traces: Mapping[str, np.ndarray]) -> dict[str, Column]:
    """CA positions (L, 3) in Å as columns: all that distance maps show."""
    points = [(name, k + 1, *xyz) for name, trace in traces.items() for k, xyz in enumerate(trace)]
    return _columns(("structure", "residue", "x", "y", "z"), points)


def spreads(results: Results, colours: dict[str, str]) -> list[tuple[str, list[Plot]]]:
    """For each class, the spread of helix share, strand share and relative Rg: real and each variant."""
    real = results.structures("real", ("real",))
    samples = {variant: results.structures(variant, ("sample",)) for variant in results.variants}
    samples = {variant: rows for variant, rows in samples.items() if rows}
    everything = [row for rows in (real, *samples.values()) for row in rows]
    limits = {metric: _limits(numbers(everything, metric)) for metric, _ in SPREADS}
    rows = []
    for fold in results.folds[:MOST_CLASSES] if samples else []:
        parts = {"real": [row for row in real if is_within(_full_label(results, row), fold)]}
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


def _full_label(results: Results, row: dict[str, str]) -> str:
    """A real domain's whole label, as the split has it."""
    return results.splits.get(row["id"], row).get("label", "")
