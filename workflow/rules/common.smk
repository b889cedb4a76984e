"""What all rules share: the checked settings, paths below the results folder, and the package files a job runs."""

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
# Folder of our Snakefile, whoever's workflow this is a module of.
HERE = (
    Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).absolute().parent
)
# Read by every stage and of no effect on its values, which come through params: editing them reruns nothing.
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
    """Name a user id that has no name, such as containers run under, by its number: Snakemake asks for a name."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ.update(USER=str(os.getuid()))


def checked_by(check, given):
    """What `check` makes of the settings; a mistake in them stops everything before any job, in one line each."""
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
    """Jobs that featurize: the classification's rows over the batch size, few enough to be planned quickly."""
    try:
        rows = count_rows(settings.labels)
    except UserError as error:
        sys.exit(f"error: labels: {error}")
    return min(MOST_BATCHES, max(1, -(-rows // settings.featurize.batch_size)))


def result(*parts):
    """A path below the results folder."""
    return str(Path(settings.results, *parts))


def point_result(*parts):
    """A path below the folder of a sweep's point."""
    return result("sweep", "{point}", *parts)


def of_point(name):
    """A section of a point's settings as the command line takes it, for params."""
    return lambda wildcards: as_json(getattr(POINTS[wildcards.point], name))


def as_json(section):
    """A section of the settings as the command line takes it."""
    return configuration.as_json(section)


def nameless(labels):
    """The section `labels` without what changes no domain, so that other names of folds rerun nothing but the report."""
    return replace(labels, names="")


@cache
def imported(path):
    """Package files that a package file imports, by reading its text, which is done once."""
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
    """Whether a package file is one that all stages share."""
    return any(path == name or name in path.parents for name in PLUMBING)


def sources(*names):
    """Package files that a job runs: `names` and, through their imports, all that these need.

    Of an installed package it is the file that has its version, which is all of it that changes.
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
    """Package files that stages run for one variant; what its record says of it goes through params."""
    return sources(*stages, f"model/{variants.find(name).file}")


def shared_training(place):
    """Spec, weights and history of the training that a view of another variant shares, below a folder; else none."""

    def found(wildcards):
        record = variants.find(wildcards.variant)
        names = TRAINED if record.view else ()
        folder = place("models", record.shares, f"seed{wildcards.seed}")
        return [f"{folder}/{name}".format(**wildcards) for name in names]

    return found


def shared_option(wildcards, input):
    """The option of `train` for the folder of `shared_training`."""
    return ["--trained", str(Path(input.shared[0]).parent)] if input.shared else []


def told_to_second_level():
    """Options of `train` that the second level depends on, and no others: a change of these trains it anew."""
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
    """What is particular to a variant, as text for params: a change of it reruns what depends on it."""
    return repr(variants.find(wildcards.variant))


def package_data(folder):
    """Files of a package folder that are no Python, such as the page's template; as `sources` where it is installed."""
    if not CHECKOUT:
        return VERSION
    files = (PACKAGE / folder).rglob("*")
    return sorted(
        nearest(path) for path in files if path.suffix in (".html", ".js", ".css")
    )


def start_files(start):
    """Files of the trained weights that a training begins with; of the package's as `sources` where it is installed."""
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
    """What the training of a variant begins with, by the settings `train`; empty where that is nothing."""
    if name == variants.PRETRAINED:
        return name
    return train.start if variants.find(name).started else ""


def told_to_variant(name, train):
    """Settings of a variant's training, without what its outcome does not depend on."""
    return as_json(replace(train, processes=1, start=start_of_variant(name, train)))


def nearest(path):
    """`path` seen from the working folder where it lies below it, else as it is."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def counted(resource):
    """Whether the run limits a resource, by `--resources` or by its profile, to more than none."""
    given = workflow.global_resources.get(resource)
    return given is not None and bool(given.value)


def outer_inputs():
    """What jobs read that no job makes: files of the configuration and of the package."""
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
    """Leave word of the run in its results folder; a mistake where another run is at work there."""
    resume.check_dates(outer_inputs())
    resume.begin(settings.results, list(map(str, workflow.configfiles)), logs)
    if ahead := resume.settle_dates(settings.results):
        print(
            f"{settings.results}: {ahead} files were dated after now, as where a clock was set back; dated to now",
            file=sys.stderr,
        )


def say_done():
    """What there is now."""
    resume.end(settings.results, "done")
    print(f"\nDone. {resume.said_of(settings.results, STARTED)}", file=sys.stderr)


def last_lines(path, number=6):
    """The last lines of a log, without empty ones."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip()][-number:]


def logs_of_run(folder):
    """Logs below a folder that this run has written, the newest last."""
    logs = (path for path in Path(folder).rglob("*.log") if path.is_file())
    logs = [path for path in logs if path.stat().st_mtime >= STARTED]
    return sorted(logs, key=lambda path: path.stat().st_mtime)


def say_failed():
    """The last lines of the logs that end with an error, else of the newest log; what Slurm said; how to go on."""
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
# Jobs call `cvae-protein`: that of this environment, activated or not. A job's own environment comes before it.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)
for (
    path
) in workflow.configfiles:  # Snakemake's own reading of them loses what YAML misreads
    checked_by(configuration.read_yaml, Path(path))
settings = checked_by(configuration.load, config)
# Where each command leaves a record of its time, memory and machine, for the manifest; on a cluster's nodes as well.
# The words before it are Snakemake's own, which a prefix replaces: without them a failure is lost in the pipe to the log.
# In an environment or image of their own, jobs see no packages of the user's home.
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
SECOND_LEVEL = settings.second_level  # refiner, or decoder over whole chains
OF_SECOND_LEVEL = settings.refine if SECOND_LEVEL == "refiner" else settings.decoder
