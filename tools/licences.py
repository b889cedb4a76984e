"""Table of the licences of all packages in requirements.txt, from their installed metadata.

    python tools/licences.py --output docs/licences.md

A package that is not installed here, for example because of the system, keeps its licence from the existing table.
"""

from __future__ import annotations

import argparse
import re
from importlib import metadata
from pathlib import Path

HEAD = """# Licences of the dependencies

Written by `make licences` from the metadata of the installed packages; versions are those of `requirements.txt`. The
package itself is MIT. It contains 3Dmol.js (BSD-3-Clause, `cvae_protein/report/vendor/3Dmol-LICENSE`). CUDA libraries,
which torch brings on Linux with a GPU, are under NVIDIA's own terms.

| package | version | licence |
|---|---|---|
"""
LONGEST = 60  # characters; some packages give the full text of their licence


def licence(name: str) -> str:
    """The licence that a package states: its expression, its classifiers, or the first line of its text."""
    facts = metadata.metadata(name)
    stated = facts.get("License-Expression", "")
    classified = [
        value.split(" :: ")[-1] for value in facts.get_all("Classifier") or [] if value.startswith("License ::")
    ]
    text = (facts.get("License") or "").strip().splitlines()
    if not text:
        files = [path for path in metadata.files(name) or [] if re.match(r"(LICEN[CS]E|COPYING)", path.name)]
        text = files[0].locate().read_text(encoding="utf-8").strip().splitlines()[:1] if files else []  # type: ignore
    found = stated or ", ".join(one for one in classified if one != "OSI Approved") or (text[0] if text else "")
    return re.sub(r"[|\s]+", " ", found)[:LONGEST].strip() or "not stated in its metadata"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/licences.md"))
    output = parser.parse_args().output
    old = (
        dict(re.findall(r"^\| ([\w.-]+) \| [^|]+ \| ([^|]+) \|$", output.read_text(), re.M)) if output.is_file() else {}
    )
    rows = []
    for line in Path("requirements.txt").read_text(encoding="utf-8").splitlines():
        if "==" not in line or line.startswith("#"):
            continue
        name, version = line.split("==")
        try:
            rows.append((name, version, licence(name)))
        except metadata.PackageNotFoundError:
            rows.append((name, version, old.get(name, "not installed where this table was written")))
    output.write_text(HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
