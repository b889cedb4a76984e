"""The real graph on a few dozen domains, in a copy of the project, with one file among them that is damaged."""

import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cvae_protein.core.files import read_table
from cvae_protein.store.read import Store

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.workflow

OUTPUTS = [
    "domains.tsv", "entries.tsv", "rejected.tsv", "domains.h5", "splits.tsv", "scores.tsv",
    "verdicts.tsv", "report.html",
    "models/refiner/seed0/spec.json", "models/refiner/seed0/weights.safetensors", "scores/real/structures.tsv",
    *(f"models/{variant}/seed0/{name}" for variant in ("concat", "branched", "pca")
      for name in ("spec.json", "weights.safetensors", "history.tsv")),
    *(f"samples/{variant}/seed0/{name}" for variant in ("concat", "branched", "pca")
      for name in ("samples.h5", "raw.h5", "reconstructions.h5", "swapped.h5", "latents.h5", "1.pdb", "2.pdb",
                   "3.pdb")),
    *(f"models/classifier/{name}" for name in ("spec.json", "weights.safetensors", "classifier.tsv", "confusion.tsv")),
    *(f"scores/{variant}/seed0/{name}" for variant in ("concat", "branched", "pca")
      for name in ("scores.tsv", "structures.tsv")),
]  # fmt: skip
JUDGED = ("embed", "score", "collect", "judge", "report")  # rules that follow sampling


def make_project(folder):
    """A copy of the project in `folder`, its table with one damaged entry more."""
    for name in ("cvae_protein", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    settings = yaml.safe_load((ROOT / ".test/config/config.yaml").read_text())
    settings |= {"results": "results", "variants": ["concat", "branched"]}
    settings["labels"]["table"] = "domains.tsv"
    settings["fetch"] = {"sources": ["mirror", str(ROOT / "data/embedded")]}
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings))
    lines = (ROOT / ".test/domains.tsv").read_text().splitlines()
    header = lines[0].split("\t")
    bad = {"domain_id": "9badA00", "pdb_id": "9bad", "chain": "A", "residue_range": "1-80", "role": "unique"}
    bad |= {"cath": "1.10.8.10", "n_residues": "80", "group": "bad"}
    lines.append("\t".join(bad.get(name, "") for name in header))
    (folder / "domains.tsv").write_text("\n".join(lines) + "\n")
    (folder / "mirror/ba").mkdir(parents=True)
    whole = gzip.compress(b"data_9BAD\nloop_\n_atom_site.group_PDB\n" * 100)
    (folder / "mirror/ba/9bad.cif.gz").write_bytes(whole[: len(whole) // 2])
    return folder


def command(*arguments):
    return [str(BIN / "snakemake"), "--cores", "2", *arguments]


def environment(folder):
    """Variables under which the copy is what runs."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": str(folder), "PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1"}


def snakemake(folder, *arguments):
    run = subprocess.run(
        command(*arguments), cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600
    )
    return run.returncode, run.stdout + run.stderr


def planned(folder, *arguments):
    """Jobs that a dry run names, as rule -> variants (empty text where the rule has none)."""
    code, said = snakemake(folder, "--dry-run", "--quiet", "host", *arguments)
    assert code == 0, said
    jobs = {}
    for block in re.split(r"\n(?=(?:local)?rule )", said)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)[1]
        variant = re.search(r"wildcards: .*?variant=(\w+)", block)
        jobs.setdefault(rule, set()).add(variant[1] if variant else "")
    return jobs


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project after a whole run."""
    folder = make_project(tmp_path_factory.mktemp("project"))
    code, said = snakemake(folder)
    assert code == 0, said[-8000:]
    assert "Open results/report.html in a browser" in said
    finished = re.findall(r"^\[(\d+)/(\d+)\] (.*), \d+:\d\d$", said, re.M)  # one line a job
    assert [int(number) for number, _, _ in finished] == sorted(int(number) for number, _, _ in finished)
    assert {"select", "featurize 0", "train concat 0", "report"} <= {name for _, _, name in finished}
    assert "Select jobs to execute" not in said
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project in which nothing has run."""
    return make_project(tmp_path_factory.mktemp("interrupted"))


@pytest.mark.xdist_group("run")
class TestRun:
    def test_writes_what_the_contract_says(self, project):
        missing = [name for name in OUTPUTS if not (project / "results" / name).stat().st_size]
        assert not missing

    def test_damaged_file_is_rejected_with_a_reason_and_the_run_goes_on(self, project):
        rows = {row["domain_id"]: row for row in read_table(project / "results/rejected.tsv")}
        assert rows["9badA00"]["reason"] in ("truncated", "not_a_structure")
        assert rows["9badA00"]["detail"]
        store = Store(project / "results/domains.h5")
        assert "9badA00" not in store.ids
        assert len(store.ids) + len(rows) == len(read_table(project / "domains.tsv"))

    def test_every_job_has_a_log_and_progress_is_seen(self, project):
        logs = {
            path.relative_to(project / "results/logs").as_posix() for path in project.rglob("results/logs/**/*.log")
        }
        assert {"select.log", "featurize/0.log", "train/concat/seed0.log", "score/real.log", "report.log"} <= logs
        assert "steps, done in" in (project / "results/logs/train/concat/seed0.log").read_text()

    def test_nothing_temporary_is_left(self, project):
        hidden = {path.name for path in (project / "results").rglob(".*")}
        locks = {".seed0.lock", ".classifier.lock", ".leak_audit.tsv.lock", ".run.json.lock"}  # lock files stay
        assert hidden <= {".snakemake_timestamp"} | locks
        assert not list((project / "results/checkpoints").rglob("*.safetensors"))

    def test_second_run_has_nothing_to_do(self, project):
        code, said = snakemake(project)
        assert code == 0
        assert "Nothing to be done" in said

    @pytest.mark.parametrize(
        ("changed", "rules"),
        [
            ("report={title: x}", {"report"}),
            ("verdict={leak: 0.2}", {"judge", "report"}),
            ("verdict={fail_run: true}", {"check_verdicts"}),
            ("score={bootstrap: 21}", {"score", "score_real", "collect", "judge", "report"}),
            ("sample={temperature: 0.8}", {"sample", *JUDGED}),
            ("train={steps: 41}", {"train", "sample", *JUDGED}),
            ("refine={steps: 21}", {"train_second_level", "sample", *JUDGED}),
            ("classifier={steps: 41}", {"train_classifier", "embed_real", "score_real", *JUDGED}),
        ],
    )
    def test_editing_a_section_reruns_its_stage_and_what_follows(self, project, changed, rules):
        jobs = set(planned(project, "--config", changed))
        assert "write_manifest" in jobs  # which tells what came out
        assert jobs - {"all", "write_manifest"} == rules

    def test_another_seed_adds_its_own_trainings_alone(self, project):
        jobs = planned(project, "--config", "seeds=0,1")
        assert not {"select", "fetch", "featurize", "merge", "split"} & set(jobs)
        assert jobs["train"] == {"concat", "branched", "pca"}

    def test_editing_one_variant_reruns_that_variant_alone(self, project):
        path = project / "cvae_protein/model/variants/branched.py"
        before = path.read_text()
        path.write_text(before + "\n# edited\n")
        try:
            jobs = planned(project)
        finally:
            path.write_text(before)
        assert jobs["train"] == jobs["sample"] == jobs["score"] == {"branched"}
        assert "train_second_level" not in jobs
        assert "featurize" not in jobs

    def test_editing_a_record_reruns_the_variant_that_it_changes(self, project):
        path = project / "cvae_protein/core/variants.py"
        before = path.read_text()
        path.write_text(before.replace("view=True),", 'view=True),\n        Variant("branched", prior="gaussian"),'))
        try:
            jobs = planned(project)
        finally:
            path.write_text(before)
        assert jobs["train"] == jobs["sample"] == {"branched"}
        assert "featurize" not in jobs

    def test_a_view_takes_the_training_of_the_variant_that_it_shares(self, project):
        jobs = planned(project, "--config", "variants=[concat,branched,flow_prior]")
        assert jobs["train"] == jobs["sample"] == {"flow_prior"}
        jobs = planned(project, "--config", "variants=[flow_prior]", "results=elsewhere")
        assert jobs["train"] == {"flow_prior", "concat", "pca"}
        assert jobs["sample"] == {"flow_prior", "pca"}

    def test_editing_the_scores_does_not_retrain(self, project):
        path = project / "cvae_protein/score/score.py"
        before = path.read_text()
        path.write_text(before + "\n# edited\n")
        try:
            jobs = planned(project)
        finally:
            path.write_text(before)
        assert set(jobs) - {"all", "report", "write_manifest"} == {"score", "score_real", "collect", "judge"}


@pytest.mark.xdist_group("interrupted")
class TestInterrupted:
    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("trian={}", "trian: unknown key; did you mean train?"),
            ("train={stepz: 3}", "train.stepz: unknown key; did you mean steps?"),
            ("train={steps: 0}", "train.steps: expected a whole number ≥ 1"),
            ("variants=concatt", "did you mean concat?"),
            ("labels={table: none.tsv}", "none.tsv: expected a tab-separated table"),
        ],
    )
    def test_wrong_setting_stops_before_any_job(self, folder, given, said):
        code, output = snakemake(folder, "--config", given)
        assert code != 0
        assert len([line for line in output.splitlines() if said in line]) == 1
        assert "Traceback" not in output
        assert "common.smk" not in output  # no stack of Snakemake's either
        assert not (folder / "results").exists()

    def test_a_configuration_that_yaml_misreads_is_told(self, folder):
        (folder / "twice.yaml").write_text("train: {steps: 3}\ntrain: {crop: 0.5}\n")
        code, output = snakemake(folder, "--dry-run", "--configfile", "twice.yaml")
        assert code != 0
        assert "twice.yaml, line 2, column 1: train stands there twice, in line 1 as well" in output

    def test_sweep_and_tune_are_targets_of_their_own(self, folder):
        jobs = planned(folder, "--config", "sweep={model.latent: [4, 8], train.kl.weight: [1]}", "--", "sweep")
        assert jobs["train_point"] == jobs["score_point"] == {"concat", "branched", "pca"}
        assert not {"train", "report", "tune"} & set(jobs)
        jobs = planned(folder, "--config", "tune={space: {train.kl.weight: [0.1, 10]}}", "--", "tune")
        assert "tune" in jobs
        assert not {"train", "train_second_level", "audit"} & set(jobs)
        code, said = snakemake(folder, "--dry-run", "--config", "sweep={model.latnet: [4]}")
        assert code != 0
        assert "model.latnet: unknown key; did you mean latent?" in said

    def test_failed_job_shows_its_last_lines_and_how_to_go_on(self, folder):
        code, output = snakemake(folder, "--config", "results=failed", "labels={classes: [4]}")
        assert code != 0
        assert "The last lines of failed/logs/select.log" in output
        assert "no domain of" in output.rsplit("The last lines of", 1)[1]
        assert "cvae-protein resume failed" in output

    def test_killed_training_goes_on_where_it_stopped(self, folder):
        settings = ("--config", "results=killed", "train={steps: 3000, checkpoint_seconds: 0.2}")
        target = "killed/models/concat/seed0/weights.safetensors"
        checkpoint = folder / "killed/checkpoints/concat/seed0.safetensors"
        started = subprocess.Popen(
            command(target, *settings),
            cwd=folder,
            env=environment(folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while not checkpoint.exists() and started.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGKILL)
        started.wait(30)
        assert checkpoint.exists(), "the training ended before its first checkpoint"
        assert not list((folder / "killed/models").rglob("*.safetensors"))
        assert not list((folder / "killed/models").rglob("spec.json"))

        assert snakemake(folder, "--unlock", *settings)[0] == 0
        code, said = snakemake(folder, target, *settings)
        assert code == 0, said[-4000:]
        log = (folder / "killed/logs/train/concat/seed0.log").read_text()
        assert re.search(r"resumed at step [1-9]\d* of 3000", log)
        assert (folder / target).stat().st_size
        assert not checkpoint.exists()
        steps = [int(row["step"]) for row in read_table(folder / "killed/models/concat/seed0/history.tsv")]
        assert steps == sorted(set(steps))
        assert steps[-1] == 3000
