"""What the page says of structures of any origin: what was given, what of it was read, and what was not."""

from __future__ import annotations

from collections import Counter

from .results import Results

OF_MODELS = frozenset({"verdicts", "run", "classifier", "reconstruction", "maps", "symptoms", "latent", "training"})
"""Sections of the page that speak of models, which such a set has none of."""


def given(results: Results) -> dict | None:
    """Counts of a set that `score --reference` read; None for the results of a run."""
    if not (results.root / "samples.tsv").is_file():
        return None
    read, rejected = results.table("samples.tsv"), results.table("rejected.tsv")
    lengths = sorted(int(row["length"]) for row in read)
    return {
        "name": results.variants[0],
        "read": len(read),
        "files": len({row["file"] for row in read}),
        "atoms": Counter(row["atoms"] for row in read).most_common(),
        "lengths": (lengths[0], lengths[-1]) if lengths else None,
        "labelled": sum(bool(row["label"]) for row in read),
        "repeated": sum(bool(row["duplicate_of"]) for row in read),
        "rejected": Counter(row.get("reason", "") for row in rejected).most_common(),
        "lost": len(rejected),
    }
