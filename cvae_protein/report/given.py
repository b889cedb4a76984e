"""The page on structures of any origin: what was given, what could be read and what not, and how sets differ."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from .leaderboard import HEADLINE, show
from .results import Results, number

OF_MODELS = frozenset({"verdicts", "run", "classifier", "reconstruction", "maps", "symptoms", "latent", "training"})
"""Sections of the page about models, which such a set does not have."""
TITLES = {name: title for metrics in HEADLINE.values() for name, (title, _) in metrics.items()}


def given(results: Results) -> list[dict] | None:
    """Counts of each set that `score --reference` read; None for the results of a run."""
    sets = []
    for variant in results.variants:
        for seed in results.seeds:
            place = results.place("scores", variant, seed)
            if results.root.joinpath(*place, "samples.tsv").is_file():
                read, lost = (results.table(*place, name) for name in ("samples.tsv", "rejected.tsv"))
                sets.append(_counts(variant, read, lost))
    return sets or None


def _counts(name: str, read: list[dict[str, str]], lost: list[dict[str, str]]) -> dict:
    lengths = sorted(int(row["length"]) for row in read)
    return {
        "name": name,
        "read": len(read),
        "files": len({row["file"] for row in read}),
        "atoms": Counter(row["atoms"] for row in read).most_common(),
        "lengths": (lengths[0], lengths[-1]) if lengths else None,
        "labelled": sum(bool(row["label"]) for row in read),
        "repeated": sum(bool(row["duplicate_of"]) for row in read),
        "rejected": Counter(row.get("reason", "") for row in lost).most_common(),
        "lost": len(lost),
    }


def differences(results: Results) -> list[dict]:
    """Rows of `differences.tsv` in words, those whose interval excludes 0 first, with the name of the better set."""
    rows = []
    for row in results.table("differences.tsv"):
        low, high = number(row["low"]), number(row["high"])
        sure = math.isfinite(low + high) and (low > 0 or high < 0)
        rows.append({
            "title": TITLES.get(row["metric"], row["metric"].replace("_", " ")),
            "metric": row["metric"], "first": row["first"], "second": row["second"], "sure": sure,
            "shown": [_signed(number(row[name]), row["unit"]) for name in ("difference", "low", "high")],
            "better": _better(row) if sure else "",
            "n": f"{row['n_first']}, {row['n_second']}",
        })  # fmt: skip
    return sorted(rows, key=lambda row: not row["sure"])


def _signed(value: float, unit: str) -> str:
    return f"{'+' if value > 0 else ''}{show(value, unit)}"


def _better(row: Mapping[str, str]) -> str:
    """Which of the two sets is better by a metric with a direction; empty if it has none."""
    sign = {"high": 1, "low": -1}.get(row["better"], 0) * number(row["difference"])
    return row["first"] if sign > 0 else row["second"] if sign < 0 else ""
