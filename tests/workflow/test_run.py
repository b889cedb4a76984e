"""The real graph on a few dozen domains, in a copy of the project, with one file among them that is damaged."""

import gzip
import os
import re
import signal
import time

import pytest
from small_run import ROOT, SETTINGS, finish, finish_each, make_project, start

from cvae_protein.core.files import read_table
from cvae_protein.store.read import Store

pytestmark = pytest.mark.workflow

OUTPUTS = [
    "domains.tsv", "entries.tsv", "rejected.tsv", "domains.h5", "splits.tsv", "scores.tsv",
    "verdicts.tsv", "report.html",
    "models/refiner/seed0/spec.json", "models/refiner/seed0/weights.safetensors", "scores/real/structures.tsv",
    *(f"models/{variant}/seed0/{name}" for variant in ("concat", "branched", "pca")
      for name in ("spec.json", "weights.safetensors", "history.tsv")),
    *(f"samples/{variant}/seed0/{name}" for variant in ("concat", "branched", "pca")
      for name in ("samples.h5", "raw.h5", "reconstructions.h5", "swapped.h5", "latents.h5", "samples.tsv")),
    *(f"models/classifier/{name}" for name in ("spec.json", "weights.safetensors", "classifier.tsv", "confusion.tsv")),
    *(f"scores/{variant}/seed0/{name}" for variant in ("concat", "branched", "pca")
      for name in ("scores.tsv", "structures.tsv")),
]  # fmt: skip
JUDGED = ("embed", "score", "collect", "judge", "report")  # rules that follow sampling


def make_damaged(folder):
    """A copy of the project in `folder`, its table with one damaged entry more."""
    labels = SETTINGS["labels"] | {"table": "domains.tsv"}
    make_project(folder, variants=["concat", "branched"], labels=labels, fetch={"sources": ["mirror", "embedded"]})
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


def jobs_of(said):
    """Jobs that a dry run names, as rule -> variants (empty text where the rule has none)."""
    jobs = {}
    for block in re.split(r"\n(?=(?:local)?rule )", said)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)[1]
        variant = re.search(r"wildcards: .*?variant=(\w+)", block)
        jobs.setdefault(rule, set()).add(variant[1] if variant else "")
    return jobs


CORES = ("--cores", "2")
DRY = ("--dry-run", "--quiet", "host")


def planned(folder):
    """Jobs of a dry run with the settings as they are."""
    code, said = finish(folder, *DRY)
    assert code == 0, said
    return jobs_of(said)


def planned_each(folder, calls):
    """Jobs of a dry run for each of several lists of words."""
    done = finish_each(folder, [[*CORES, *DRY, *words] for words in calls])
    assert all(code == 0 for code, _ in done), done
    return [jobs_of(said) for _, said in done]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project after a whole run."""
    folder = make_damaged(tmp_path_factory.mktemp("project"))
    code, said = finish(folder)
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
    return make_damaged(tmp_path_factory.mktemp("interrupted"))


# A change of the settings, and the rules that it runs again beside the one that writes the manifest.
CHANGED = {
    "report={title: x}": {"report"},
    "verdict={leak: 0.2}": {"judge", "report"},
    "verdict={fail_run: true}": {"check_verdicts"},
    "score={bootstrap: 21}": {"score", "score_real", "collect", "judge", "report"},
    "sample={temperature: 0.8}": {"sample", *JUDGED},
    "train={steps: 41}": {"train", "sample", *JUDGED},
    "refine={steps: 21}": {"train_second_level", "sample", *JUDGED},
    "classifier={steps: 41}": {"train_classifier", "embed_real", "score_real", *JUDGED},
}


@pytest.fixture(scope="module")
def changed(project):
    """Rules that each change of the settings runs again."""
    return dict(zip(CHANGED, planned_each(project, [["--config", change] for change in CHANGED]), strict=True))


# What is refused before any job begins, and the line that says so.
REFUSED = {
    ("--config", "trian={}"): "trian: unknown key; did you mean train?",
    ("--config", "train={stepz: 3}"): "train.stepz: unknown key; did you mean steps?",
    ("--config", "train={steps: 0}"): "train.steps: expected a whole number ≥ 1",
    ("--config", "variants=concatt"): "did you mean concat?",
    ("--config", "labels={table: none.tsv}"): "none.tsv: expected a tab-separated table",
    ("--config", "sweep={model.latnet: [4]}"): "model.latnet: unknown key; did you mean latent?",
    ("--configfile", "twice.yaml"): "twice.yaml, line 2, column 1: train stands there twice, in line 1 as well",
}


@pytest.fixture(scope="module")
def refused(folder):
    """Exit code and messages of each of them."""
    (folder / "twice.yaml").write_text("train: {steps: 3}\ntrain: {crop: 0.5}\n")
    found = dict(zip(REFUSED, finish_each(folder, [[*CORES, *words] for words in REFUSED]), strict=True))
    assert not (folder / "results").exists()
    return found


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
        code, said = finish(project)
        assert code == 0
        assert "Nothing to be done" in said

    @pytest.mark.parametrize("change", CHANGED)
    def test_editing_a_section_reruns_its_stage_and_what_follows(self, changed, change):
        assert "write_manifest" in changed[change]  # which tells what came out
        assert changed[change].keys() - {"all", "write_manifest"} == CHANGED[change]

    def test_more_seeds_and_views_add_their_own_trainings_alone(self, project):
        more, shared, alone = planned_each(
            project,
            [
                ["--config", "seeds=0,1"],
                ["--config", "variants=[concat,branched,flow_prior]"],
                ["--config", "variants=[flow_prior]", "results=elsewhere"],
            ],
        )
        assert not {"select", "fetch", "featurize", "merge", "split"} & set(more)
        assert more["train"] == {"concat", "branched", "pca"}
        assert shared["train"] == shared["sample"] == {"flow_prior"}  # a view takes the training of `concat`
        assert alone["train"] == {"flow_prior", "concat", "pca"}
        assert alone["sample"] == {"flow_prior", "pca"}

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
    @pytest.mark.parametrize("given", REFUSED, ids=lambda words: words[1])
    def test_wrong_setting_stops_before_any_job(self, refused, given):
        code, output = refused[given]
        assert code != 0
        assert len([line for line in output.splitlines() if REFUSED[given] in line]) == 1
        assert "Traceback" not in output
        assert "common.smk" not in output  # no stack of Snakemake's either

    def test_sweep_and_tune_are_targets_of_their_own(self, folder):
        sweep, of_training, tune = planned_each(
            folder,
            [
                ["--config", "sweep={model.latent: [4, 8], train.kl.weight: [1]}", "--", "sweep"],
                ["--config", "sweep={train.kl.weight: [0.1, 1]}", "--", "sweep"],
                ["--config", "tune={space: {train.kl.weight: [0.1, 10]}}", "--", "tune"],
            ],
        )
        assert sweep["train_point"] == sweep["score_point"] == {"concat", "branched", "pca"}
        assert of_training["train_point"] == of_training["score_point"] == {"concat", "branched"}
        assert not {"train", "report", "tune"} & set(sweep)
        assert "tune" in tune
        assert not {"train", "train_second_level", "audit"} & set(tune)

    def test_failed_job_shows_its_last_lines_and_how_to_go_on(self, folder):
        code, output = finish(folder, "--config", "results=failed", "labels={classes: [4]}")
        assert code != 0
        assert "The last lines of failed/logs/select.log" in output
        assert "no domain of" in output.rsplit("The last lines of", 1)[1]
        assert "cvae-protein resume failed" in output

    def test_killed_training_goes_on_where_it_stopped(self, folder):
        settings = ("--config", "results=killed", "train={steps: 800, checkpoint_seconds: 0.05}")
        target = "killed/models/concat/seed0/weights.safetensors"
        checkpoint = folder / "killed/checkpoints/concat/seed0.safetensors"
        started = start(folder, target, *settings)
        deadline = time.monotonic() + 300
        while not checkpoint.exists() and started.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGKILL)
        started.wait(30)
        assert checkpoint.exists(), "the training ended before its first checkpoint"
        assert not list((folder / "killed/models").rglob("*.safetensors"))
        assert not list((folder / "killed/models").rglob("spec.json"))

        code, said = finish(folder, target, *settings)
        assert code == 0, said[-4000:]
        log = (folder / "killed/logs/train/concat/seed0.log").read_text()
        assert re.search(r"resumed at step [1-9]\d* of 800", log)
        assert (folder / target).stat().st_size
        assert not checkpoint.exists()
        steps = [int(row["step"]) for row in read_table(folder / "killed/models/concat/seed0/history.tsv")]
        assert steps == sorted(set(steps))
        assert steps[-1] == 800
