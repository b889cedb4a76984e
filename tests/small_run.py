"""The small run in a folder of its own: how tests start it, stop it, and compare what came of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from cvae_protein.core.files import read_table, sha256

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LONGEST = 1800  # seconds that a run may take
SETTINGS = yaml.safe_load((ROOT / ".test/config/config.yaml").read_text())


def make_project(folder, **changes):
    """A copy of the project in `folder`, set to the small run of one variant; `changes` are laid over its settings."""
    for name in ("cvae_protein", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".test/domains.tsv", "data"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    settings = SETTINGS | {"results": "results", "variants": ["concat"], **changes}
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def environment(folder):
    """Variables under which the copy is what runs; the environment of `BIN` is not activated."""
    paths = [path for path in os.environ["PATH"].split(os.pathsep) if Path(path) != BIN]
    return os.environ | {
        "PYTHONPATH": str(folder),
        "PATH": os.pathsep.join(paths),
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    }


def start(folder, *arguments, log="run.log"):
    """A run in a process group of its own, as a terminal starts it; what it says is added to the file `log`."""
    with open(folder / log, "a", encoding="utf-8") as said:
        return subprocess.Popen(
            [str(BIN / "snakemake"), "--cores", "2", *arguments],
            cwd=folder,
            env=environment(folder),
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def finish(folder, *arguments):
    """A run to its end: exit code and what it says."""
    done = subprocess.run(
        [str(BIN / "snakemake"), "--cores", "2", *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    return done.returncode, done.stdout + done.stderr


FORKED = """
import json, os, sys
import snakemake.cli, snakemake.report.html_reporter, yte
import cvae_protein.config.load, cvae_protein.dataset.formats, cvae_protein.runs.manifest, cvae_protein.runs.sweep
program, folder, calls = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
codes = []
for number, words in enumerate(calls):
    child = os.fork()
    if not child:
        said = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1), os.dup2(said, 2)
        sys.argv = [program, *words]
        snakemake.cli.main()
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


def finish_each(folder, calls):
    """Several calls of Snakemake, each a list of words, one after the other: exit code and what it says, of each.

    Snakemake and what the workflow imports are loaded once, and each call is a process that is forked from there.
    """
    program = str(BIN / "snakemake")
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-c", FORKED, program, place, json.dumps([list(call) for call in calls])],
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        codes = json.loads(done.stdout)
        return [(code, Path(place, str(number)).read_text()) for number, code in enumerate(codes)]


def stage(folder, *arguments, **options):
    """One command of the package in `folder`: exit code and what it says on standard error."""
    done = subprocess.run(
        [str(BIN / "cvae-protein"), *map(str, arguments)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=LONGEST,
        **options,
    )
    return done.returncode, done.stderr


def wait_for_group(process):
    """Wait until no process of a run's group is left."""
    process.wait(LONGEST)
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise TimeoutError("processes of a run do not end")


def facts(results):
    """What every file of a results folder holds, by its path: a hash, or the rows without their seconds.

    Logs, checkpoints, locks and records of what jobs took are no results.
    """
    found = {}
    for path in sorted(Path(results).rglob("*")):
        name = path.relative_to(results)
        hidden = any(part.startswith(".") for part in name.parts)
        if not path.is_file() or hidden or name.parts[0] in ("logs", "checkpoints", "jobs"):
            continue
        if path.name == "history.tsv":
            rows = read_table(path)
            found[name.as_posix()] = [{key: row[key] for key in row if key != "seconds"} for row in rows]
        elif path.name not in ("run.json", "ro-crate-metadata.json"):  # they tell when and how long
            found[name.as_posix()] = sha256(path)
    return found


def differences(results, clean):
    """Names of the files that are absent, new or other than in the clean run."""
    mine, wanted = facts(results), facts(clean)
    return sorted(name for name in mine.keys() | wanted.keys() if mine.get(name) != wanted.get(name))


def left_behind(results):
    """Files that a dead process left below temporary names."""
    scratch = [path for path in Path(results).rglob(".*") if path.is_dir()]
    return [path for folder in scratch for path in folder.rglob("*") if path.is_file()]
