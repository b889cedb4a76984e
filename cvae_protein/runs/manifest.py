"""The manifest of a run: an RO-Crate 1.1 of what it made, from which settings, with which code, on which machines."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.errors import UserError
from ..core.files import atomic_path, sha256
from ..job_record import machine, utc

NAME = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
RUN_TERMS = "https://w3id.org/ro/terms/workflow-run#"
OWN_TERMS = "https://w3id.org/ro/terms/cvae-protein#"
TERMS = {
    "sha256": f"{RUN_TERMS}sha256",
    "resourceUsage": f"{RUN_TERMS}resourceUsage",
    "sha256WithoutTimes": f"{OWN_TERMS}sha256WithoutTimes",
}
TIMES = {"seconds", "date"}  # columns of tables that differ from run to run
NO_RESULTS = {"logs", "checkpoints", "jobs", "tune", "run.json", NAME}
FORMATS = {
    ".tsv": "text/tab-separated-values", ".json": "application/json", ".html": "text/html", ".h5": "application/x-hdf5",
    ".pdb": "chemical/x-pdb", ".cif": "chemical/x-cif", ".safetensors": "application/octet-stream",
}  # fmt: skip
PACKAGE = Path(__file__).parents[1]
Entity = dict[str, Any]


def write_manifest(results: Path, settings: dict[str, Any], output: Path) -> int:
    """Write the manifest of a results folder and return the number of files that it lists.

    settings : the resolved configuration of the run, every key of it
    """
    files = [_file(results, path) for path in result_files(results)]
    if not files:
        raise UserError(f"{results}: expected the results folder of a run, found no file there")
    actions = [entity for record in _job_records(results) for entity in _action(record, results, files)]
    code = list(_code())
    used = [_input(Path(settings["labels"]["table"]))]
    configuration = _property("#configuration", "configuration", json.dumps(settings, sort_keys=True))
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": settings["report"]["title"],
        "description": "Models, samples and scores of conditional VAEs of protein backbones, made by one run of "
        "cvae_protein. `cvae-protein reproduce` runs it again and compares the hashes.",
        "datePublished": utc(time.time()),
        "license": "The licence of the structures that were read; models and scores follow it.",
        "hasPart": [{"@id": entity["@id"]} for entity in files],
        "mentions": [{"@id": entity["@id"]} for entity in actions if entity["@type"] == "CreateAction"],
        "variableMeasured": [{"@id": "#configuration"}],
        "isBasedOn": [{"@id": entity["@id"]} for entity in used],
    }
    descriptor = {
        "@id": NAME,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    graph = [descriptor, root, configuration, *used, *code, *files, *actions]
    with atomic_path(output) as temporary:
        temporary.write_text(json.dumps({"@context": [CONTEXT, TERMS], "@graph": graph}, indent=1) + "\n", "utf-8")
    return len(files)


def result_files(results: Path) -> Iterator[Path]:
    """What a run made, in order; not its logs, checkpoints and records."""
    for path in sorted(results.rglob("*")):
        parts = path.relative_to(results).parts
        if path.is_file() and parts[0] not in NO_RESULTS and not any(part.startswith(".") for part in parts):
            yield path


def hashes(path: Path) -> Entity:
    """SHA-256 of a file; of a table that holds times, also that of its other columns."""
    found = {"sha256": sha256(path)}
    if path.suffix == ".tsv":
        with open(path, encoding="utf-8", newline="") as handle:
            rows = list(csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
        if rows and TIMES & set(rows[0]):
            kept = [place for place, name in enumerate(rows[0]) if name not in TIMES]
            lines = ("\t".join(row[place] for place in kept) for row in rows)
            found["sha256WithoutTimes"] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return found


def _file(results: Path, path: Path) -> Entity:
    name = path.relative_to(results).as_posix()
    return {
        "@id": name,
        "@type": "File",
        "name": name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": FORMATS.get(path.suffix, "application/octet-stream"),
        **hashes(path),
    }


def _input(path: Path) -> Entity:
    """The domain table, which lies outside the crate; the structures' hashes are in sources.lock.tsv."""
    facts = {"sha256": sha256(path)} if path.is_file() else {}
    return {"@id": f"#input/{path.name}", "@type": "CreativeWork", "name": str(path), **facts}


def _property(identifier: str, name: str, value: object, unit: str = "") -> Entity:
    facts: Entity = {"@id": identifier, "@type": "PropertyValue", "name": name, "value": value}
    return facts | ({"unitText": unit} if unit else {})


def _code() -> Iterator[Entity]:
    """The package with its commit, its files with their hashes, and the packages that it needs, with their versions."""
    sources = [
        {"@id": f"#source/{name}", "@type": "SoftwareSourceCode", "name": name, "sha256": sha256(path)}
        for name, path in _source_files()
    ]
    packages = [
        {"@id": f"#package/{name}", "@type": "SoftwareApplication", "name": name, "softwareVersion": version}
        for name, version in package_versions().items()
    ]
    yield {
        "@id": "#cvae_protein",
        "@type": "SoftwareApplication",
        "name": "cvae_protein",
        "softwareVersion": __version__,
        "identifier": commit(),
        "softwareRequirements": [{"@id": entity["@id"]} for entity in packages],
        "hasPart": [{"@id": entity["@id"]} for entity in sources],
    }
    yield {"@id": "#machine", "@type": "PropertyValue", "name": "machine", "value": json.dumps(machine())}
    yield from packages
    yield from sources


def _source_files() -> Iterator[tuple[str, Path]]:
    for folder, patterns in ((PACKAGE, ("*.py", "*.html", "*.js")), (Path("workflow"), ("Snakefile", "*.smk"))):
        for path in sorted(path for pattern in patterns for path in folder.rglob(pattern)):
            yield f"{folder.name}/{path.relative_to(folder).as_posix()}", path


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that this one asks for."""
    found = {"python": platform.python_version()}
    asked: list[str] = []
    with contextlib.suppress(metadata.PackageNotFoundError):
        asked = [name for name in metadata.requires("cvae_protein") or [] if "extra ==" not in name]
    for requirement in sorted(asked):
        name = requirement.split(";")[0].strip().split(">")[0].split("=")[0].strip()
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def commit() -> str:
    """Commit of the checkout that the package lies in, with `, changed` where files differ; empty outside of one."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            ", changed" if git("status", "--porcelain", "--", ".", "../workflow") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return ""


def _job_records(results: Path) -> Iterator[Entity]:
    """The records of all jobs that came to a good end."""
    for path in sorted((results / "jobs").glob("*.json")):
        with contextlib.suppress(ValueError):
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["exit_code"] == 0:
                yield record | {"name": path.stem}


def _action(record: Entity, results: Path, files: list[Entity]) -> Iterator[Entity]:
    """A job, with what it took and where it ran."""
    name = f"#job/{record['name']}"
    made = Path(record["output"])
    place = made.relative_to(results).as_posix() if made.is_relative_to(results) else made.as_posix()
    took = [
        _property(f"{name}/seconds", "time", record["seconds"], "s"),
        _property(f"{name}/cpu", "processor time", record["cpu_seconds"], "s"),
        _property(f"{name}/memory", "peak memory of the largest process", record["peak_mb"], "MB"),
        _property(f"{name}/machine", "machine", _machine_line(record)),
    ]
    yield {
        "@id": name,
        "@type": "CreateAction",
        "name": f"cvae-protein {record['command']}",
        "startTime": record["started"],
        "endTime": record["ended"],
        "instrument": {"@id": "#cvae_protein"},
        "result": [{"@id": f["@id"]} for f in files if f["@id"] == place or f["@id"].startswith(f"{place}/")],
        "resourceUsage": [{"@id": entity["@id"]} for entity in took],
    }
    yield from took


def _machine_line(record: Entity) -> str:
    gpus = ", ".join(record["gpus"]) or "no GPU used"
    return f"{record['host']}: {record['cores']} × {record['cpu']}, {record['memory_mb']} MB, {gpus}"
