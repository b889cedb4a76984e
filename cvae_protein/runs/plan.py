"""What a run would do, shown before it starts: domains, classes, jobs, trainings, samples and approximate time."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.load import check_files
from ..config.settings import Settings
from ..core.errors import UserError
from ..core.labels import first_level, label_order, truncate
from ..core.progress import clock
from ..core.variants import BASELINE, PRETRAINED, find
from ..dataset.fetch.sources import sources_of
from ..dataset.select import Rows, sift

JOB = re.compile(r"^(\w+) +(\d+)$", re.MULTILINE)
SECONDS = {
    "job": 0.4,
    "learning": 2.0,
    "report": 7.5,
    "featurize": 3e-3,
    "cluster": 8e-3,
    "step": 1 / 204,
    "classified": 6.5e-5,
    "code": 2.3e-3,
    "structure": 0.05,
    "searched": 0.4,
    "screened": 2.6e-3,
}
"""CPU time on one core: the start of a job, that of one that loads torch, the page, a domain, a clustered domain, a
structure in a training step and in one of the classifier, a code in a step of latent refinement, a structure that is
decoded and relaxed, a search for the nearest structure, and a domain that such a search looks at. From the records of
the default run (`config/config.yaml`, 960 s in all)."""
LEARNING = ("train", "train_second_level", "train_classifier", "sample", "embed", "embed_real")  # rules that load torch
REAL_SETS = 3  # of real domains that are searched for: validation domains, new members, training
FLOW_STEP, REFINER_STEP, DECODER_STEP = 2e-3, 0.06, 1.5  # seconds per step of the flow of codes and of second levels


@dataclass(frozen=True)
class Plan:
    """What is known about a run before it begins.

    `domains` are those that the settings select, `reasons` counts the others by reason, and `examples` has a sentence
    on one domain for each reason; `jobs` are counted by rule, without those whose results are there.
    """

    settings: Settings
    domains: Rows
    reasons: Mapping[str, int]
    examples: Mapping[str, str]
    jobs: Mapping[str, int]

    @property
    def classes(self) -> Mapping[str, int]:
        """Number of domains of each first-level class."""
        counts = Counter(first_level(row.label) for row in self.domains if row.role != "alternative")
        return {name: counts[name] for name in sorted(counts, key=label_order) if name}

    @property
    def folds(self) -> int:
        """Number of classes for which samples are drawn, at most."""
        depth = self.settings.labels.depth
        return len({truncate(row.label, depth) for row in self.domains if row.label})

    @property
    def models(self) -> int:
        """Number of models from which samples are drawn."""
        return len({*self.settings.variants, BASELINE}) * len(self.settings.seeds)

    @property
    def samples(self) -> int:
        """Number of samples of all models, 0 if their classes are yet to be found."""
        return self.models * self.folds * self.settings.sample.of_each(self.folds) if self.folds else 0

    @property
    def seconds(self) -> float:
        """Approximate CPU time of the jobs in seconds, on one core without a GPU."""
        own, count = self.settings, len(self.domains)
        held = own.split.test + own.split.validation
        training = own.train.steps * own.train.batch_size * SECONDS["step"] + own.train.flow_steps * FLOW_STEP
        names = [*own.variants, BASELINE]
        networks = [name for name in names if find(name).trained and not find(name).view and name != PRETRAINED]
        refiner = own.second_level == "refiner"
        second = own.refine.steps * REFINER_STEP if refiner else own.decoder.steps * DECODER_STEP
        codes = 2 * count * own.model.inference_steps * SECONDS["code"]
        drawn = self.samples / self.models
        search = SECONDS["searched"] + (1 - held) * count * SECONDS["screened"]
        each = {
            "featurize": count * SECONDS["featurize"] / max(1, self.jobs.get("featurize", 1)),
            "cluster": count * SECONDS["cluster"],
            "audit_leaks": held * count * search,
            "train": training * len(networks) / len(names),
            "train_second_level": second,
            "train_classifier": own.judge.steps * own.judge.batch_size * SECONDS["classified"] * (not own.judge.start),
            "sample": codes + (drawn + 2 * count * own.split.test) * SECONDS["structure"],
            "score": drawn * search + own.score.bootstrap * SECONDS["step"],
            "score_real": REAL_SETS * min(drawn, count * own.split.test) * search,
            "report": SECONDS["report"],
        }
        starts = {name: SECONDS["learning" if name in LEARNING else "job"] for name in self.jobs}
        return sum(number * (starts[name] + each.get(name, 0.0)) for name, number in self.jobs.items())

    @property
    def second_level(self) -> str:
        """The second level in words: new or from which weights, and for how many steps it is trained."""
        refiner = self.settings.second_level == "refiner"
        own = self.settings.refine if refiner else self.settings.decoder
        if not own.start:
            return f"a new one, {own.steps} steps"
        if not own.steps:
            return f"that of {own.start}, as it is"
        key = f"{'refine' if refiner else 'decoder'}.start"
        return f"that of {own.start}, trained on for {own.steps} steps; {key}: '' trains a new one"

    @property
    def classifier(self) -> str:
        """The fold classifier in words: new or from which weights."""
        own = self.settings.judge
        if own.start:
            return f"that of {own.start}, as it is; classifier.start: '' trains a new one"
        return f"a new one, {own.steps} steps"

    def lines(self) -> Iterator[tuple[str, str]]:
        """The lines of the plan: a keyword and a sentence each."""
        out = sum(self.reasons.values())
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.reasons.items())
        yield "domains", f"{len(self.domains)} of {len(self.domains) + out} rows" + (f"; {reasons}" if out else "")
        for reason, example in self.examples.items():
            yield "", f"{reason}, such as {example}"
        found = ", ".join(f"{name} ({count})" for name, count in self.classes.items())
        if self.settings.labels.scheme == "cluster":
            found = f"are found by structure, those of {self.settings.labels.min_members} or more domains"
        if self.settings.labels.scheme == "none":
            found = "one, of all structures"
        yield "classes", found
        yield (
            "jobs",
            f"{sum(self.jobs.values())}"
            + (
                f": {', '.join(f'{number} {name}' for name, number in self.jobs.items())}"
                if self.jobs
                else ", all is there"
            ),
        )
        trainings = {name: number for name, number in self.jobs.items() if name.startswith("train")}
        yield "trainings", f"{sum(trainings.values())}, of {self.settings.train.steps} steps a variant and seed"
        yield self.settings.second_level, self.second_level
        yield "classifier", self.classifier
        own = self.settings.sample
        each = own.of_each(max(1, self.folds))
        drawn = f"{self.folds} classes × {each} = {self.samples}"
        if not self.folds:
            drawn = f"{own.per_class} a class, {own.max_samples} a model at most"
        yield "samples", f"{self.models} models × {drawn}"
        yield "time", f"about {clock(self.seconds)} on one core without a GPU, within a factor of three"


def plan(settings: Settings, files: Sequence[Path], workflow: Path) -> Plan:
    """What `snakemake --configfile FILES` would do; `UserError` if something stops it before its first job."""
    check_files(settings)
    sources_of(settings.fetch, Path("data/embedded"))
    kept, reasons, examples = Rows(), Counter[str](), dict[str, str]()
    for problem in sift(settings.labels, kept, reasons):
        examples.setdefault(problem.code, f"{problem.domain_id}: {problem.detail}")
    return Plan(settings, kept, dict(reasons.most_common()), examples, _jobs(files, workflow))


def _jobs(files: Sequence[Path], workflow: Path) -> dict[str, int]:
    """Number of jobs of each rule in a dry run of Snakemake."""
    snakefile = workflow / "Snakefile"
    if not snakefile.is_file():
        raise UserError(f"{snakefile}: expected the workflow, found no file there; call in the project's folder")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--dry-run", "--quiet", "rules"]
    run = subprocess.run(
        [*command, "--cores", "1", *(["--configfile", *map(str, files)] if files else [])],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in (run.stderr + run.stdout).splitlines() if line.strip()]
    if run.returncode:
        errors = [line for line in said if line.startswith("error: ")]
        raise UserError(errors[-1].removeprefix("error: ") if errors else f"snakemake --dry-run: {' '.join(said[-3:])}")
    found = {name: int(number) for name, number in JOB.findall(run.stdout + run.stderr)}
    return {name: number for name, number in found.items() if name not in ("total", "all")}
