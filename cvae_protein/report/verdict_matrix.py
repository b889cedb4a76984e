"""The verdicts as a matrix: a line a model and seed, a column a verdict, with evidence and remedy to unfold."""

from __future__ import annotations

from .leaderboard import REFERENCES
from .results import Results

MEANINGS = {
    "COLLAPSE": "the code says nothing of the structure",
    "LEAK": "the code tells the class, which the label should",
    "CONDITION-IGNORED": "another label too seldom gives its class",
    "MODE-COLLAPSE": "few shapes, whatever the code",
    "MEMORISATION": "samples are copies of training domains",
}
WORDS = {"yes": "fired", "no": "quiet", "unknown": "unknown", "not_applicable": "–"}


def matrix(results: Results) -> dict | None:
    """Columns and lines of `verdicts.tsv` for what the page shows; None where the table is absent or holds none.

    A cell has the words of its row, `word` and `anchor`, the id of the paragraph with its evidence. The references of
    every run stand below the models.
    """
    shown = [*[name for name in results.variants if name != "pca"], "pca", *REFERENCES]
    rows = [
        row | {"word": WORDS.get(row["fired"], row["fired"]), "anchor": f"verdict-{index}"}
        for index, row in enumerate(results.table("verdicts.tsv"))
        if row["variant"] in shown and (row["seed"] in results.seeds or row["variant"] in REFERENCES)
    ]
    lines: dict[tuple[str, str], dict] = {}
    for row in sorted(rows, key=lambda row: shown.index(row["variant"])):
        line = lines.setdefault((row["variant"], row["seed"]), {"variant": row["variant"], "seed": row["seed"]})
        line.setdefault("cells", {})[row["verdict"]] = row
        line["reference"] = row["variant"] in ("pca", *REFERENCES)
    cells = [cell for line in lines.values() for cell in line["cells"].values()]
    return (
        {
            "names": {name: MEANINGS.get(name, "") for name in dict.fromkeys(row["verdict"] for row in rows)},
            "lines": list(lines.values()),
            "fired": [cell for cell in cells if cell["fired"] == "yes"],
            "others": [cell for cell in cells if cell["fired"] != "yes"],
        }
        if rows
        else None
    )
