"""What the oracle is worth on held-out domains, and where it and the nearest held-out domain disagree on samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .results import Results, Row, number

MOST_LABELS = 12  # of a confusion that is shown as a matrix
MOST_MISTAKES = 10  # that are listed


def oracle(results: Results) -> dict | None:
    """Held-out accuracy and calibration, confusions, and `disagreements`; None where no oracle is in the results."""
    checks, confusion = (results.table("models", "oracle", name) for name in ("oracle.tsv", "confusion.tsv"))
    checks = [row for row in checks if row["split"] == "test"]
    confusion = [row for row in confusion if row["split"] == "test"]
    if not checks:
        return None
    mistakes = [row for row in confusion if row["label"] != row["told"]]
    return {
        "checks": checks,
        "matrix": _matrix([row for row in confusion if row["level"] == "1"]),
        "mistakes": sorted(mistakes, key=lambda row: -number(row["n"]))[:MOST_MISTAKES],
        "confusion": confusion,
    }


def _matrix(rows: Sequence[Row]) -> dict | None:
    """Shares of the first level, label by label; None where there are too many labels to show."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    told = sorted(dict.fromkeys(row["told"] for row in rows))
    if not labels or max(len(labels), len(told)) > MOST_LABELS:
        return None
    shares = {(row["label"], row["told"]): number(row["share"]) for row in rows}
    return {"told": told, "lines": [(label, [shares.get((label, name), 0.0) for name in told]) for label in labels]}


def disagreements(results: Results) -> list[Row]:
    """A row a variant and class: `n` samples, those that the oracle and the nearest held-out domain put in the class
    asked for, and those on whose label the two differ, at the level that was asked; none without the oracle's labels.
    """
    found: dict[tuple[str, str], Counter[str]] = {}
    for variant in results.variants:
        for row in results.structures(variant, ("sample",)):
            asked, said, near = row.get("label", ""), row.get("oracle_label", ""), row.get("nearest_label", "")
            if not (asked and said and near):
                continue
            beside = ".".join(near.split(".")[: said.count(".") + 1])
            counts = found.setdefault((variant, asked), Counter(n=0, oracle=0, nearest=0, differ=0))
            counts.update({"n": 1, "oracle": said == asked, "nearest": beside == asked, "differ": said != beside})
    rows = ({"variant": v, "fold": fold, **{k: str(n) for k, n in c.items()}} for (v, fold), c in found.items())
    return list(rows)


def said(rows: Sequence[Row]) -> list[dict]:
    """The sentence on each variant: how often the two disagree, over all classes."""
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        total, oracle, nearest, differ = (sum(int(row[k]) for row in own) for k in ("n", "oracle", "nearest", "differ"))
        lines.append({"variant": variant, "n": total} | _shares(total, oracle=oracle, nearest=nearest, differ=differ))
    return lines


def _shares(total: int, **counts: int) -> dict[str, str]:
    return {name: f"{100 * count / total:.0f}\u00a0%" for name, count in counts.items()}


def by_class(rows: Sequence[Row]) -> dict[str, str]:
    """What the card of a class says of it, for the variants on whose samples the two disagree."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if int(row["differ"]):
            found.setdefault(row["fold"], []).append(f"{row['differ']} of {row['n']} of {row['variant']}")
    return {fold: f"Oracle and nearest domain disagree on {', '.join(parts)}." for fold, parts in found.items()}
