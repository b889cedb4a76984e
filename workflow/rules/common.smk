"""Shared by all rules: checked settings, paths in the results folder, and the package files that a job runs."""

import ast
import getpass
import json
import os
import re
import shlex
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

try:
    import cvae_protein
    from cvae_protein.config import load as configuration
    from cvae_protein.core import pretrained, variants
    from cvae_protein.runs import sweep, resume
    from cvae_protein.core.errors import UserError
    from cvae_protein.dataset.formats import count_rows
except ImportError as error:
    raise WorkflowError(
        f"{error}: install the package first, with `pip install -e .`, or use `make run`"
    )

STARTED = time.time()
MOST_BATCHES = 400
TRAINED = ("spec.json", "weights.safetensors", "history.tsv")
SLURM_ERROR = re.compile(r"(slurmstepd|srun|sbatch)[^:]*: error: ")
PACKAGE = Path(cvae_protein.__file__).parent
CHECKOUT = not {"site-packages", "dist-packages"} & set(PACKAGE.parts)
VERSION = [str(PACKAGE / "__init__.py")]
# Folder of our Snakefile, even if another workflow uses it as a module.
HERE = (
    Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).absolute().parent
)
# Used by every stage without affecting its values, which come from params: editing them reruns nothing.
PLUMBING = [
    Path(name)
    for name in (
        "__init__.py",
        "core/errors.py",
        "core/programs.py",
        "core/progress.py",
        "core/variants.py",
        "config",
        "cli",
        "model/device.py",
        "training/gpu_slots.py",
    )
]


def name_user():
    """Use the user id as name if it has none, as in containers, because Snakemake asks for a name."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ.update(USER=str(os.getuid()))


def checked_by(check, given):
    """The result of `check`; mistakes in the settings stop the run before any job, with one line each."""
    try:
        return check(given)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = error.filename or result()
        sys.exit(
            f"error: {where}: {error.strerror or error}; give `results` another folder, or mend that"
        )


def count_batches():
    """Number of featurize jobs: rows of the classification / batch size, limited so that planning is fast."""
    try:
        rows = count_rows(settings.labels)
    except UserError as error:
        sys.exit(f"error: labels: {error}")
    return min(MOST_BATCHES, max(1, -(-rows // settings.featurize.batch_size)))


def result(*parts):
    """A path in the results folder."""
    return str(Path(settings.results, *parts))


def point_result(*parts):
    """A path in the folder of a sweep's point."""
    return result("sweep", "{point}", *parts)


def of_point(name):
    """A section of a point's settings as the command line takes it, for params."""
    return lambda wildcards: as_json(getattr(POINTS[wildcards.point], name))


def as_json(section):
    """A section of the settings as the command line takes it."""
    return configuration.as_json(section)


def nameless(labels):
    """The section `labels` without what affects no domain, so that new fold names rerun only the report."""
    return replace(labels, names="")


@cache
def imported(path):
    """Package files that a package file imports, found in its text; cached."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(
                *(node.module or "").split(".") if node.module else ()
            )
            found += [base.with_suffix(".py"), base / "__init__.py"]
            found += [base / f"{alias.name}.py" for alias in node.names]
            found += [base / alias.name / "__init__.py" for alias in node.names]
    return found


def is_plumbing(path):
    """Whether a package file is shared by all stages."""
    return any(path == name or name in path.parents for name in PLUMBING)


def sources(*names):
    """Package files that a job runs: `names` and everything that they import, directly or not.

    For an installed package, only the file with its version, since nothing else in it changes on its own.
    """
    if not CHECKOUT:
        return VERSION
    found, waiting = set(), [PACKAGE / name for name in names]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        if is_plumbing(path.relative_to(PACKAGE)):
            continue
        found.add(path)
        waiting.extend(imported(path))
    return sorted(map(nearest, found))


def variant_sources(name, *stages):
    """Package files that stages run for one variant; the variant's record is passed through params."""
    return sources(*stages, f"model/{variants.find(name).file}")


def shared_training(place):
    """Spec, weights and history of the training that a view shares with another variant; empty for other variants."""

    def found(wildcards):
        record = variants.find(wildcards.variant)
        names = TRAINED if record.view else ()
        folder = place("models", record.shares, f"seed{wildcards.seed}")
        return [f"{folder}/{name}".format(**wildcards) for name in names]

    return found


def shared_option(wildcards, input):
    """The option of `train` that gives the folder of `shared_training`."""
    return ["--trained", str(Path(input.shared[0]).parent)] if input.shared else []


def told_to_second_level():
    """Only the options of `train` that affect the second level: a change of these retrains it."""
    model = {"coefficients": settings.model.coefficients}
    if settings.second_level == "refiner":
        return [
            "--model-settings",
            json.dumps(model),
            "--refine-settings",
            as_json(settings.refine),
        ]
    model["latent"] = settings.model.latent
    told = [
        "--model-settings",
        json.dumps(model),
        "--decoder-settings",
        as_json(settings.decoder),
    ]
    return [*told, "--depth", str(settings.labels.depth)]


def record_of(wildcards):
    """A variant's record as text for params: a change of it reruns what depends on it."""
    return repr(variants.find(wildcards.variant))


def package_data(folder):
    """Non-Python files of a package folder, such as page templates; if the package is installed, as in `sources`."""
    if not CHECKOUT:
        return VERSION
    files = (PACKAGE / folder).rglob("*")
    return sorted(
        nearest(path) for path in files if path.suffix in (".html", ".js", ".css")
    )


def start_files(start):
    """Files of the weights from which a training starts; for those of an installed package, as in `sources`."""
    if not start:
        return []
    if not pretrained.is_named(start):
        return [f"{start}/{name}" for name in ("spec.json", "weights.safetensors")]
    if not CHECKOUT:
        return VERSION
    files = pretrained.FOLDER.rglob("*")
    return sorted(
        nearest(path) for path in files if path.suffix != ".md" and path.is_file()
    )


def start_of_variant(name, train):
    """The weights from which a variant's training starts, by the settings `train`; empty if none."""
    if name == variants.PRETRAINED:
        return name
    return train.start if variants.find(name).started else ""


def told_to_variant(name, train):
    """Settings of a variant's training, without those that do not affect the result."""
    return as_json(replace(train, processes=1, start=start_of_variant(name, train)))


def nearest(path):
    """`path` relative to the working folder if it is inside it, else unchanged."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def counted(resource):
    """Whether the run, by `--resources` or its profile, sets a nonzero limit for a resource."""
    given = workflow.global_resources.get(resource)
    return given is not None and bool(given.value)


def outer_inputs():
    """Files that jobs read but no job makes: those of the configuration and of the package."""
    own = settings.labels
    given = [own.table, own.boundaries, own.include, own.names, own.superfamilies]
    given.append(settings.fetch.locked)
    package = (path for path in PACKAGE.rglob("*") if path.is_file())
    return [
        *filter(None, given),
        *(
            nearest(path)
            for path in package
            if not is_plumbing(path.relative_to(PACKAGE))
        ),
    ]


def record_start(logs):
    """Record the run in its results folder; a user error if another run is active there."""
    resume.check_dates(outer_inputs())
    resume.begin(settings.results, list(map(str, workflow.configfiles)), logs)
    if ahead := resume.settle_dates(settings.results):
        print(
            f"{settings.results}: {ahead} files were dated after now, as where a clock was set back; dated to now",
            file=sys.stderr,
        )


def say_done():
    """Record the end of the run and print a summary."""
    resume.end(settings.results, "done")
    print(f"\nDone. {resume.said_of(settings.results, STARTED)}", file=sys.stderr)


def last_lines(path, number=6):
    """The last non-empty lines of a log."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip()][-number:]


def logs_of_run(folder):
    """Logs that this run has written in a folder, newest last."""
    logs = (path for path in Path(folder).rglob("*.log") if path.is_file())
    logs = [path for path in logs if path.stat().st_mtime >= STARTED]
    return sorted(logs, key=lambda path: path.stat().st_mtime)


def say_failed():
    """Print the last lines of failed logs (or else of the newest log), Slurm errors, and how to continue."""
    resume.end(settings.results, "failed")
    tails = {path: last_lines(path) for path in logs_of_run(result("logs"))}
    tails = {path: lines for path, lines in tails.items() if lines}
    failed = [path for path, lines in tails.items() if lines[-1].startswith("error:")]
    for path in failed or list(tails)[-1:]:
        print(
            "\n".join(["", f"The last lines of {path}:", *tails[path]]), file=sys.stderr
        )
    for path in logs_of_run(".snakemake/slurm_logs"):
        said = [line for line in last_lines(path, 500) if SLURM_ERROR.match(line)]
        if said:
            print("\n".join(["", f"Slurm, in {path}:", *said[-3:]]), file=sys.stderr)
    print(
        "\nStopped. What is done is kept. Go on with the same command, or with:"
        f"\n    cvae-protein resume {shlex.quote(settings.results)}",
        file=sys.stderr,
    )


if workflow.storage_settings.default_storage_provider:
    sys.exit(
        "error: results lie in a folder that all jobs see, not behind a storage provider; "
        "run without --default-storage-provider, and copy the folder when it is done"
    )
name_user()
# Jobs call this environment's `cvae-protein`, even if it is not activated; a job's own environment takes precedence.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)
for (
    path
) in workflow.configfiles:  # Snakemake's own parsing of them hides what YAML misreads
    checked_by(configuration.read_yaml, Path(path))
settings = checked_by(configuration.load, config)
# Folder in which each command records its time, memory and machine for the manifest, also on cluster nodes. The words
# before it are Snakemake's own, which a prefix replaces; without them a failure would be lost in the pipe to the log.
# In an environment or image of their own, jobs do not see packages in the user's home.
DEPLOYED = (
    "PYTHONNOUSERSITE=1" if workflow.deployment_settings.deployment_method else ""
)
shell.prefix(
    f"set -euo pipefail; export {DEPLOYED} CVAE_PROTEIN_JOBS={shlex.quote(result('jobs'))}; "
)
checked_by(configuration.check_files, settings)
if workflow.is_main_process:
    resume.say_taken_elsewhere(settings.results)
BATCHES = range(count_batches())
POINTS = checked_by(sweep.points, settings)
checked_by(sweep.space, settings)
MODELS = [*settings.variants, variants.BASELINE]
SECOND_LEVEL = settings.second_level  # refiner, or decoder of whole chains
OF_SECOND_LEVEL = settings.refine if SECOND_LEVEL == "refiner" else settings.decoder
