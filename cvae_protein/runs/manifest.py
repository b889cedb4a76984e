"""The manifest of a run, an RO-Crate: settings, versions, hashes, tolerances, and time and memory of the jobs."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Container, Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.errors import UserError
from ..core.files import atomic_path, sha256
from ..core.programs import ask, is_first
from ..core.threads import usable_cores
from .layout import PACKAGE
from .tolerance import KINDS, TIMES, kind_of

BYTES = 1 if sys.platform == "darwin" else 1024  # in the unit in which the system counts memory


def write_record(folder: Path, arguments: Sequence[str], started: float, code: int) -> None:
    """Write `folder`/COMMAND-OUTPUT.json for a command that began at `started` (seconds of the epoch) and ends now.

    Keys: command, output (relative to the results folder, which contains `folder`), started and ended (UTC), seconds,
    cpu_seconds (with the processes that it started), peak_mb (of the largest of these and itself), host, cpu, cores,
    memory_mb, gpus, exit_code. A command without an output leaves no record, nor does any process of a training but the
    first; a record that cannot be written does not fail the job.
    """
    given = _output(arguments)
    if not given or not is_first():
        return
    output = os.path.relpath(given, folder.parent)  # still right if the results folder is renamed
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    now = time.time()
    facts = {
        "command": arguments[0],
        "output": output,
        "started": utc(started),
        "ended": utc(now),
        "seconds": round(now - started, 2),
        "cpu_seconds": round(own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime, 2),
        "peak_mb": round(max(own.ru_maxrss, others.ru_maxrss) * BYTES / 1e6, 1),
        **machine(),
        "exit_code": code,
    }
    name = re.sub(r"[^A-Za-z0-9._=,-]+", "-", output)
    with contextlib.suppress(OSError), atomic_path(folder / f"{arguments[0]}-{name}.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def utc(moment: float) -> str:
    """Seconds of the epoch as an ISO 8601 date."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _output(arguments: Sequence[str]) -> str:
    """The value of `--output`, empty if there is none."""
    for name, value in pairwise(arguments):
        if name in ("--output", "-o"):
            return value
    return ""


def machine() -> dict[str, object]:
    """Name, processor, cores, memory (MB) and GPUs of this machine; GPUs only if the process has loaded torch."""
    torch = sys.modules.get("torch")
    gpus = [] if torch is None else [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "host": platform.node(),
        "cpu": _processor(),
        "cores": usable_cores(),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "gpus": gpus,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


NAME = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
RUN_TERMS = "https://w3id.org/ro/terms/workflow-run#"
OWN_TERMS = "https://w3id.org/ro/terms/cvae-protein#"
TERMS = {
    "sha256": f"{RUN_TERMS}sha256",
    "resourceUsage": f"{RUN_TERMS}resourceUsage",
    "sha256WithoutTimes": f"{OWN_TERMS}sha256WithoutTimes",
    "tolerance": f"{OWN_TERMS}tolerance",
}
NO_RESULTS = {"logs", "checkpoints", "jobs", "tune", "run.json", NAME}
FORMATS = {
    ".tsv": "text/tab-separated-values", ".json": "application/json", ".html": "text/html", ".h5": "application/x-hdf5",
    ".pdb": "chemical/x-pdb", ".cif": "chemical/x-cif", ".safetensors": "application/octet-stream",
}  # fmt: skip
GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # set within a hook, for another repository
Entity = dict[str, Any]


def write_manifest(results: Path, settings: dict[str, Any], output: Path, workflow: Path = Path("workflow")) -> int:
    """Write the manifest of a results folder and return the number of files that it lists.

    settings : the resolved configuration of the run, with all keys
    workflow : folder of the Snakefile that ran
    """
    files = [_file(results, path) for path in result_files(results)]
    if not files:
        raise UserError(f"{results}: expected the results folder of a run, found no file there")
    actions = [entity for record in _job_records(results) for entity in _action(record, files)]
    code = list(_code(workflow))
    used = [_input(Path(settings["labels"]["table"]))]
    configuration = _property("#configuration", "configuration", json.dumps(settings, sort_keys=True))
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": settings["report"]["title"],
        "description": "Models, samples and scores of conditional VAEs of protein backbones, made by one run of "
        "cvae_protein. `cvae-protein reproduce` runs it again and compares, within the tolerance that a file names.",
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
    graph = [descriptor, root, configuration, *used, *code, *files, *_tolerances(files), *actions]
    with atomic_path(output) as temporary:
        temporary.write_text(json.dumps({"@context": [CONTEXT, TERMS], "@graph": graph}, indent=1) + "\n", "utf-8")
    return len(files)


def result_files(results: Path, without: Container[str] = NO_RESULTS) -> Iterator[Path]:
    """The files that a run made, in order, without its logs, checkpoints and records."""
    for path in sorted(results.rglob("*")):
        parts = path.relative_to(results).parts
        if path.is_file() and parts[0] not in without and not any(part.startswith(".") for part in parts):
            yield path


def hashes(path: Path) -> Entity:
    """SHA-256 of a file; for a table with times, also that of its other columns."""
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
        **({"tolerance": {"@id": f"#tolerance/{kind.name}"}} if (kind := kind_of(name)) else {}),
    }


def _tolerances(files: list[Entity]) -> Iterator[Entity]:
    """How far the files of each kind present may be from those of a run elsewhere; all others must be equal."""
    named = {entity["tolerance"]["@id"] for entity in files if "tolerance" in entity}
    for kind in KINDS:
        if (identifier := f"#tolerance/{kind.name}") in named:
            facts = _property(identifier, f"tolerance of {kind.name}", kind.limit, kind.unit)
            yield facts | {"measurementTechnique": kind.measure, "description": kind.why}


def _input(path: Path) -> Entity:
    """The domain table, which is outside the crate; the structures' hashes are in sources.lock.tsv."""
    facts = {"sha256": sha256(path)} if path.is_file() else {}
    return {"@id": f"#input/{path.name}", "@type": "CreativeWork", "name": str(path), **facts}


def _property(identifier: str, name: str, value: object, unit: str = "") -> Entity:
    facts: Entity = {"@id": identifier, "@type": "PropertyValue", "name": name, "value": value}
    return facts | ({"unitText": unit} if unit else {})


def _code(workflow: Path) -> Iterator[Entity]:
    """The package with its commit, its files with their hashes, and the packages that it needs, with their versions."""
    sources = [
        {"@id": f"#source/{name}", "@type": "SoftwareSourceCode", "name": name, "sha256": sha256(path)}
        for name, path in _source_files(workflow)
    ]
    packages = [
        {"@id": f"#package/{name}", "@type": "SoftwareApplication", "name": name, "softwareVersion": version}
        for name, version in package_versions().items()
    ]
    identifier, why = commit()
    yield {
        "@id": "#cvae_protein",
        "@type": "SoftwareApplication",
        "name": "cvae_protein",
        "softwareVersion": __version__,
        "identifier": identifier,
        **({"description": f"no commit is known: {why}"} if why else {}),
        "softwareRequirements": [{"@id": entity["@id"]} for entity in packages],
        "hasPart": [{"@id": entity["@id"]} for entity in sources],
    }
    yield {"@id": "#machine", "@type": "PropertyValue", "name": "machine", "value": json.dumps(machine())}
    yield from packages
    yield from sources


def _source_files(workflow: Path) -> Iterator[tuple[str, Path]]:
    for name, folder, patterns in (
        (PACKAGE.name, PACKAGE, ("*.py", "*.html", "*.js")),
        ("workflow", workflow, ("Snakefile", "*.smk")),
    ):
        for path in sorted(path for pattern in patterns for path in folder.rglob(pattern)):
            yield f"{name}/{path.relative_to(folder).as_posix()}", path


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that this one requires."""
    found = {"python": platform.python_version()}
    required: list[str] = []
    with contextlib.suppress(metadata.PackageNotFoundError):
        required = [name for name in metadata.requires("cvae_protein") or [] if "extra ==" not in name]
    for requirement in sorted(required):
        name = requirement.split(";")[0].strip().split(">")[0].split("=")[0].strip()
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def commit() -> tuple[str, str]:
    """Commit of the checkout that the package is in, with `, changed` if files differ; and the reason if there is none.

    A repository that merely contains the package, such as a project with an environment in it, does not count.
    """

    def git(*arguments: str) -> str:
        done = ask("git", "-C", str(PACKAGE), *arguments, without=GIT)
        if done.returncode:
            raise UserError((done.stderr.strip() or f"git {arguments[0]} failed").splitlines()[0])
        return done.stdout.strip()

    try:
        top = Path(git("rev-parse", "--show-toplevel"))
        if not top.samefile(PACKAGE.parent) or not git("ls-files", "__init__.py"):
            return "", f"the package lies in a repository that is not its own, {top}"
        changed = git("status", "--porcelain", "--", ".", "../workflow")
        return git("rev-parse", "HEAD") + (", changed" if changed else ""), ""
    except (UserError, OSError) as error:
        return "", str(error)


def _job_records(results: Path) -> Iterator[Entity]:
    """The records of all jobs that succeeded."""
    for path in sorted((results / "jobs").glob("*.json")):
        with contextlib.suppress(ValueError):
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["exit_code"] == 0:
                yield record | {"name": path.stem}


def _action(record: Entity, files: list[Entity]) -> Iterator[Entity]:
    """A job, with its time and memory, and where it ran."""
    name, place = f"#job/{record['name']}", record["output"]
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
