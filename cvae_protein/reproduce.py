"""A run done again from its manifest, and what of it is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from .core.errors import UserError
from .job_record import machine
from .runs.manifest import commit, hashes, package_versions

Row = dict[str, str]
COLUMNS = ("file", "verdict", "recorded", "found")
EQUAL, EQUAL_BUT_TIMES, DIFFERS, ABSENT = "equal", "equal but for times", "differs", "absent"


class Manifest:
    """A manifest that `manifest.write_manifest` wrote, read and checked; `UserError` where it is none."""

    def __init__(self, path: Path) -> None:
        try:
            graph = json.loads(path.read_text(encoding="utf-8"))["@graph"]
            self.entities: dict[str, dict[str, Any]] = {entity["@id"]: entity for entity in graph}
            self.settings: dict[str, Any] = json.loads(self.entities["#configuration"]["value"])
            self.files = [self.entities[part["@id"]] for part in self.entities["./"]["hasPart"]]
            self.machine = json.loads(self.entities["#machine"]["value"])
            self.code = self.entities["#cvae_protein"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: expected a manifest that a run wrote, ro-crate-metadata.json ({error})"
            ) from error

    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages at the time."""
        return {
            self.entities[needed["@id"]]["name"]: self.entities[needed["@id"]]["softwareVersion"]
            for needed in self.code["softwareRequirements"]
        }


def reproduce(manifest: Path, output: Path, cores: int) -> list[Row]:
    """Run the workflow again with the settings of a manifest, into `output`; a row of `COLUMNS` a file.

    Expects the project's folder as the working folder: paths of the settings are seen from there.
    """
    recorded = Manifest(manifest)
    if not Path("workflow/Snakefile").is_file():
        raise UserError("reproduce: expected to be called in the project's folder, found no workflow/Snakefile")
    output.mkdir(parents=True, exist_ok=True)
    configuration = output / ".reproduce.yaml"  # hidden: no result of the run
    configuration.write_text(yaml.safe_dump(recorded.settings | {"results": str(output)}, sort_keys=False), "utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", str(configuration)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode:
        raise UserError(f"reproduce: the run failed; go on with {' '.join(command)}, then compare with --compare-only")
    return compare(recorded, output)


def compare(recorded: Manifest, results: Path) -> list[Row]:
    """A row of `COLUMNS` for every file of the manifest: is it in `results`, and with the same content."""
    rows = []
    for entity in recorded.files:
        path = results / entity["@id"]
        found = hashes(path) if path.is_file() else {}
        without = "sha256WithoutTimes"
        verdict = ABSENT if not found else EQUAL if found["sha256"] == entity["sha256"] else DIFFERS
        if verdict == DIFFERS and without in entity and entity[without] == found.get(without):
            verdict = EQUAL_BUT_TIMES
        row = (entity["@id"], verdict, entity["sha256"][:12], found.get("sha256", "")[:12])
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows


def reasons(recorded: Manifest) -> list[str]:
    """What is other today than when the manifest was written, each a sentence: why bytes may differ."""
    said = []
    now = package_versions()
    for name, version in recorded.versions().items():
        if now.get(name) != version:
            said.append(f"{name}: {version} then, {now.get(name, 'not installed')} now")
    here = machine()
    for key in ("cpu", "cores"):
        if here[key] != recorded.machine[key]:
            said.append(f"{key}: {recorded.machine[key]} then, {here[key]} now")
    if (today := commit()) != recorded.code["identifier"]:
        said.append(f"commit: {recorded.code['identifier'] or 'none'} then, {today or 'none'} now")
    return said


def summary(rows: list[Row], why: list[str]) -> list[str]:
    """The outcome as lines: counts, every file that is not equal, and what may be the cause."""
    counts = Counter(row["verdict"] for row in rows)
    lines = [", ".join(f"{counts[name]} {name}" for name in (EQUAL, EQUAL_BUT_TIMES, DIFFERS, ABSENT) if counts[name])]
    odd = [row for row in rows if row["verdict"] in (DIFFERS, ABSENT)]
    if odd:
        width = max(len(row["file"]) for row in odd)
        lines.append(f"{'file':<{width}}  {'verdict':<8} {'recorded':<13} found")
        lines += [f"{r['file']:<{width}}  {r['verdict']:<8} {r['recorded']:<13} {r['found']}" for r in odd]
    if odd or why:
        lines.append("what is other than then:" if why else "versions, machine and commit are those of then")
        lines += [f"  {sentence}" for sentence in why]
    return lines
