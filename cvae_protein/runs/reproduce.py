"""Repeat a run from its manifest, and compare the results with the record: equal, or within the stated tolerance."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import UserError
from .deviation import IncomparableError, deviation
from .manifest import commit, hashes, machine, package_versions

COLUMNS = ("file", "verdict", "deviation", "tolerance", "recorded", "found")
EQUAL, EQUAL_BUT_TIMES, WITHIN = "equal", "equal but for times", "within tolerance"
DIFFERS, ABSENT = "differs", "absent"


class Manifest:
    """A manifest written by `manifest.write_manifest`, read and checked; `UserError` if the file is not one."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent  # which has the recorded files, unless the manifest was copied elsewhere
        try:
            graph = json.loads(path.read_text(encoding="utf-8"))["@graph"]
            self.entities: dict[str, dict[str, Any]] = {entity["@id"]: entity for entity in graph}
            self.settings: dict[str, Any] = json.loads(self.entities["#configuration"]["value"])
            self.files = [self.entities[part["@id"]] for part in self.entities["./"]["hasPart"]]
            self.machine = json.loads(self.entities["#machine"]["value"])
            self.code = self.entities["#cvae_protein"]
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: expected a manifest that a run wrote, ro-crate-metadata.json ({error})"
            ) from error

    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages in the recorded run."""
        return {
            self.entities[needed["@id"]]["name"]: self.entities[needed["@id"]]["softwareVersion"]
            for needed in self.code["softwareRequirements"]
        }


def reproduce(manifest: Path, output: Path, cores: int) -> list[dict[str, str]]:
    """Run the workflow again with the settings of a manifest, into `output`; one row of `COLUMNS` per file.

    The working folder must be the project's folder, to which paths in the settings are relative.
    """
    recorded = Manifest(manifest)
    if not Path("workflow/Snakefile").is_file():
        raise UserError("reproduce: expected to be called in the project's folder, found no workflow/Snakefile")
    output.mkdir(parents=True, exist_ok=True)
    configuration = output / ".reproduce.yaml"  # hidden: no result of the run
    configuration.write_text(yaml.safe_dump(recorded.settings | {"results": str(output)}, sort_keys=False), "utf-8")
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", str(configuration)]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"reproduce: the run failed; go on with {' '.join(command)}, then compare with --compare-only")
    return compare(recorded, output)


def compare(recorded: Manifest, results: Path) -> list[dict[str, str]]:
    """A row of `COLUMNS` for every file of the manifest: whether it is in `results`, and as recorded.

    A file with other bytes is within tolerance if the manifest states one, the recorded file is beside the manifest,
    and their measured deviation is at most the tolerance.
    """
    rows = []
    for entity in recorded.files:
        path = results / entity["@id"]
        found = hashes(path) if path.is_file() else {}
        without, apart, limit = "sha256WithoutTimes", "", ""
        verdict = ABSENT if not found else EQUAL if found["sha256"] == entity["sha256"] else DIFFERS
        if verdict == DIFFERS and without in entity and entity[without] == found.get(without):
            verdict = EQUAL_BUT_TIMES
        if verdict == DIFFERS and "tolerance" in entity:
            verdict, apart, limit = _measured(recorded, entity, path)
        row = (entity["@id"], verdict, apart, limit, entity["sha256"][:12], found.get("sha256", "")[:12])
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows


def _measured(recorded: Manifest, entity: dict[str, Any], path: Path) -> tuple[str, str, str]:
    """Verdict, deviation and tolerance of a file whose bytes differ."""
    stated = recorded.entities[entity["tolerance"]["@id"]]
    measure, limit, unit = stated["measurementTechnique"], float(stated["value"]), stated.get("unitText", "")
    said = f"{measure} ≤ {limit:g} {unit}".rstrip() if limit else measure
    original = recorded.folder / entity["@id"]
    if not original.is_file() or hashes(original)["sha256"] != entity["sha256"]:
        return DIFFERS, "the recorded file is not beside the manifest", said
    try:
        apart = deviation(measure, original, path)
    except (IncomparableError, OSError) as error:
        return DIFFERS, str(error), said
    return WITHIN if apart <= limit else DIFFERS, f"{apart:.2g}", said


def reasons(recorded: Manifest) -> list[str]:
    """What has changed since the manifest was written, one sentence each: why bytes may differ."""
    said = []
    now = package_versions()
    for name, version in recorded.versions().items():
        if now.get(name) != version:
            said.append(f"{name}: {version} then, {now.get(name, 'not installed')} now")
    here = machine()
    for key in ("cpu", "cores"):
        if here[key] != recorded.machine[key]:
            said.append(f"{key}: {recorded.machine[key]} then, {here[key]} now")
    if (today := commit()[0]) != recorded.code["identifier"]:
        said.append(f"commit: {recorded.code['identifier'] or 'none'} then, {today or 'none'} now")
    return said


def summary(rows: list[dict[str, str]], why: list[str]) -> list[str]:
    """The outcome as lines: counts, every file that is not equal, and possible causes."""
    counts = Counter(row["verdict"] for row in rows)
    order = (EQUAL, EQUAL_BUT_TIMES, WITHIN, DIFFERS, ABSENT)
    lines = [", ".join(f"{counts[name]} {name}" for name in order if counts[name])]
    lines += _largest([row for row in rows if row["verdict"] == WITHIN and row["deviation"] != "0"])
    odd = [row for row in rows if row["verdict"] in (DIFFERS, ABSENT)]
    if odd:
        shown = ("file", "verdict", "recorded", "found", "deviation", "tolerance")
        table = [shown, *(tuple(row[name] for name in shown) for row in odd)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += ["  ".join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True)).rstrip() for cells in table]
    if odd or why:
        lines.append("what is other than then:" if why else "versions, machine and commit are those of then")
        lines += [f"  {sentence}" for sentence in why]
    return lines


def _largest(rows: list[dict[str, str]]) -> list[str]:
    """One line per tolerance: of the files within it, the one that is farthest from the recorded one."""
    worst: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["tolerance"] not in worst or float(row["deviation"]) > float(worst[row["tolerance"]]["deviation"]):
            worst[row["tolerance"]] = row
    return [f"{stated}: at most {row['deviation']}, {row['file']}" for stated, row in worst.items()]
