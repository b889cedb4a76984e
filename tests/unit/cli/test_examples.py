"""The examples of the help texts: each is a call that its command takes, and runs."""

import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import typer
from report_results import write_results

import cvae_protein as cvae
from cvae_protein.cli import main
from cvae_protein.cli.options import app
from cvae_protein.core.files import read_table, write_table

COMMANDS = typer.main.get_command(app).commands


def examples():
    """Words of every example, behind `cvae-protein`."""
    found = []
    for command in COMMANDS.values():
        text = (command.help or "").partition("Example:")[2].split("\n\n")[0].replace("\\\n", " ")
        found += [shlex.split(call) for call in re.split(r"(?m)^\s*cvae-protein ", text)[1:]]
    return found


EXAMPLES = examples()
# Commands in an order in which each finds what it reads.
ORDER = (
    *("select", "fold-names", "fetch", "featurize", "merge", "cluster", "split", "leak-audit", "export"),
    *(
        "train",
        "train-classifier",
        "sample",
        "ensemble",
        "rmsf",
        "embed",
        "score",
        "sweep",
        "collect",
        "verdicts",
        "tune",
    ),
    *("designability", "report", "manifest", "reproduce", "info", "verify", "schema", "init", "check", "run"),
)
ELSEWHERE = {  # examples that take minutes or processes of their own -> the test that runs such a call
    "launch": "tests/unit/training/test_gpu_slots.py",
    "resume": "tests/workflow/test_resume_run.py",
    "reproduce --output reproduced": "tests/faults/test_reproducible.py",
}
MODEL = {"latent": 20, "coefficients": 24, "width": 24, "depth": 1, "decoder_width": 16, "decoder_depth": 1}
MODEL |= {"inference_steps": 2}
REFINE = {"width": 16, "depth": 1, "heads": 2, "crop": 24, "steps": 4, "batch_size": 4}
TRAIN = {"steps": 4, "flow_steps": 2, "batch_size": 8, "report_every": 2}
SCORE = {"bootstrap": 10, "neighbours": 1}
SMALL = {  # what is laid over the settings of the examples of a command, so that it takes a second
    "select": {"min_members": 1, "classes": []},
    "fetch": {"sources": ["embedded"]},  # no other source can be reached here
    "split": {"min_test": 1, "max_breaks": 9},
    "train": TRAIN,
    "train-classifier": {"features": 8, "width": 16, "augmentations": 1, "steps": 4},
    "sample": {"per_class": 2, "refine_steps": 3, "relax_steps": 100},
    "score": SCORE,
    "ensemble": SCORE,
    "tune": {"trials": 1},
}
MORE = {  # further words; the last of an option counts
    "train": ["--model-settings", json.dumps(MODEL)],
    "tune": ["--model-settings", json.dumps(MODEL), "--train-settings", json.dumps(TRAIN)],
    "score": ["--per-class", "2"],
    "run": ["--dry-run"],
}
DESIGNER = """
import sys
import numpy
with numpy.load(sys.argv[1]) as file, open(sys.argv[2], "w") as out:
    out.write("id\\tdesign\\tsequence\\tnll\\trecovery\\n")
    for name in file.files:
        if not name.startswith("native/"):
            out.write(f"{name}\\t1\\t{'A' * len(file[name])}\\t1.5\\t0.5\\n")
"""


@pytest.mark.parametrize("words", EXAMPLES, ids=lambda words: " ".join(words)[:60])
def test_every_example_is_a_call_that_its_command_takes(words, tmp_path, monkeypatch, root):
    monkeypatch.chdir(root)  # `run --config` looks whether the file is there
    name, *rest = words
    context = COMMANDS[name].make_context(name, list(rest), resilient_parsing=False)
    assert context.params


def test_there_is_one_for_every_command():
    assert {words[0] for words in EXAMPLES} == set(COMMANDS)


def a_few(rows):
    """Of each of three classes three short domains of its largest superfamily, and one of each of five others."""
    rows = [row for row in rows if row["role"] == "unique" and int(row["n_residues"]) < 130]
    families = {}
    for row in rows:
        families.setdefault(row["cath"], []).append(row)
    chosen = []
    for number in "123":
        own = [rows for name, rows in families.items() if re.match(rf"{number}\.\d+\.\d+\.\d+$", name)]
        first, *others = sorted(own, key=len, reverse=True)
        chosen += [*first[:3], *(rows[0] for rows in others[:5])]
    return chosen


def write_cath(place, rows):
    """The domains of one piece of a table as CATH writes them: a list, and a file of their ranges."""
    whole = [row for row in rows if re.fullmatch(r"\d+-\d+", row["residue_range"]) and row["cath"].count(".") == 3]
    listed = ["# FILE FORMAT:  Cath List File (CLF) Format 2.0\n"]
    ranges = ["# FILE FORMAT:  Cath Domall File (CDF) Format 2.0\n"]
    for number, row in enumerate({row["pdb_id"]: row for row in whole}.values()):
        name, chain = row["pdb_id"] + row["chain"], row["chain"]
        first, last = row["residue_range"].split("-")
        listed.append(f"{name}00 {' '.join(row['cath'].split('.'))} {number} 1 1 1 1 {row['n_residues']} 2.000\n")
        ranges.append(f"{name}  D01 F00  1  {chain}  {first} - {chain}  {last} -\n")
    (place / "cath-domain-list.txt").write_text("".join(listed))
    (place / "cath-domain-boundaries.txt").write_text("".join(ranges))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, root_folder):
    """A folder with what the examples read and none of them makes: structures, tables, another run's results."""
    place = tmp_path_factory.mktemp("examples")
    for folder in ("my-structures", "structures", "data", "draws", "workflow", "config"):
        (place / folder).mkdir()
    for folder in ("my-structures", "structures"):
        shutil.copy(root_folder / "tests/data/1ubi.cif.gz", place / folder)
    (place / "data/embedded").symlink_to(root_folder / "data/embedded")
    few = a_few(read_table(root_folder / "data/domains.tsv"))
    write_table(place / "data/domains.tsv", list(few[0]), few)
    write_cath(place, few)
    (place / "cath-names.txt").write_text("1    1oaiA00    :Mainly Alpha\n2    1amgA00    :Mainly Beta\n")
    domains = cvae.featurize(root_folder / "data/embedded", place / "data/domains.tsv")
    ubiquitin = cvae.featurize(root_folder / "tests/data/1ubi.cif.gz")[0]
    moved = ubiquitin.coords + np.random.default_rng(0).normal(0, 0.3, (21, 1, 1, 3))
    states = replace(ubiquitin, id="1ubqA00", label="3.10.20.90", coords=moved)
    long = next(each for each in domains if each.label.startswith("2") and len(each.sequence) >= 110)
    cut = {"sequence": long.sequence[:110], "coords": long.coords[:, :110], "residue_ids": long.residue_ids[:110]}
    every = cvae.Structures([*domains, states, replace(long, id="cut", **cut)])
    every.to(place / "whole.h5")
    (place / "samples/concat/seed0").mkdir(parents=True)
    every.to(place / "samples/concat/seed0/samples.h5")
    cvae.Structures([states]).to(place / "run.xtc")
    for number in (0, 1):
        domains[number : number + 1].to(place / f"draws/seed{number}.h5")
    for folder in ("designs", "ours", "theirs"):
        domains[:2].to(place / folder)
    domains.to(place / "many")
    (place / "targets.tsv").write_text("id\tlabel\n" + "".join(f"{name}\t1\n" for name in domains.ids[:2]))
    write_results(place / "results", seeds=("0", "1"))
    point = place / "results/sweep/model.latent=4/scores/concat/seed0"
    point.mkdir(parents=True)
    (point / "scores.tsv").write_text(
        "variant\tseed\tsplit\tfold\tmetric\tvalue\tlow\thigh\tn\tunit\tbetter\tnote\n"
        "concat\t0\ttest\tall\tnearest_tm\t0.4\t0.3\t0.5\t9\tscore\thigh\t\n"
    )
    (place / "designer.py").write_text(DESIGNER)
    (place / "workflow/schemas").mkdir()
    shutil.copy(root_folder / "config/config.yaml", place / "config")
    return place


@pytest.fixture(scope="module")
def root_folder(request):
    return request.config.rootpath


def small(words):
    """The words of an example with patterns of files spelled out, and set to take a second."""
    name, *rest = [each for word in words for each in (sorted(glob.glob(word)) or [word] if "*" in word else [word])]
    given = dict(SMALL.get(name, {}))
    if name == "designability":
        given = {"designer": f"{sys.executable} designer.py {{}} {{}}", "predictor": "", "number": 1}
    if "--settings" in rest:
        place = rest.index("--settings")
        given = json.loads(rest[place + 1]) | given
        rest[place : place + 2] = []
    words = [name, *rest, *MORE.get(name, [])]
    words += ["--settings", json.dumps(given)] if given else []
    if name == "sample" and "-n" in words:
        batches = 20 if "--batch" in words else 1
        words[words.index("-n") + 1] = str(2 * batches)
    return words


def call(words, capsys):
    """Exit code of an example, and what it says on standard error."""
    name = words[0]
    if name in ("run", "check"):  # in the folder that the example of `init` has laid out
        done = subprocess.run(
            [sys.executable, "-m", "cvae_protein.cli.main", *words], cwd="my-project", capture_output=True, text=True
        )
        return done.returncode, done.stderr
    force = ["--force"] if "-o" in words or "--output" in words else []
    code = main.run([*words, *force])
    return code, capsys.readouterr().err


def train_refiner():
    """The refiner, which every sampling needs, in place of the stored samples that `export` was given."""
    shutil.rmtree("samples/concat")
    train = ["train", "--variant", "refiner", "--store", "domains.h5", "--splits", "splits.tsv"]
    assert main.run([*train, "--refine-settings", json.dumps(REFINE), "-o", "models/refiner/seed0"]) == 0


def embed_all():
    """What `score` reads: features of all that was drawn."""
    drawn = [f"samples/concat/seed0/{name}.h5" for name in ("samples", "reconstructions", "swapped")]
    assert main.run(["embed", *drawn, "--classifier", "models/classifier", "-o", "features/concat/seed0"]) == 0


def take_all_batches():
    """All domains, as if every batch had been featurized."""
    shutil.copy("whole.h5", "shards/0.h5")


BEFORE = {
    "merge": take_all_batches,
    "train": train_refiner,
    "score": embed_all,
    "check": lambda: shutil.copytree("many", "my-project/my-structures"),
}


@pytest.mark.filterwarnings("ignore:.*rejected")
def test_every_example_runs(workplace, monkeypatch, capsys):
    """With small settings and numbers; what an example writes is what later ones read."""
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("PYTHONPATH", f"{main.__file__.rpartition('/cvae_protein/')[0]}")
    left = [words for words in EXAMPLES if words[0] not in ELSEWHERE and words[-2:] != ["--output", "reproduced"]]
    assert {words[0] for words in left} == set(ORDER)
    for name in ORDER:
        BEFORE.get(name, lambda: None)()
        for words in left:
            if words[0] != name:
                continue
            code, said = call(small(words), capsys)
            assert code in ((0, 3) if "--fail-on-verdict" in words else (0,)), (words, said[-1500:])


def test_examples_that_run_elsewhere_do(root):
    for name, path in ELSEWHERE.items():
        assert re.search(rf"\b{name.split()[0]}\b", (root / path).read_text()), name


def test_completion_is_offered():
    # The shell that typer would find is the one that runs the tests, which may be one without completion.
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    words = [sys.executable, "-m", "cvae_protein.cli.main", "--show-completion", "bash"]
    shell = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert "_CVAE_PROTEIN_COMPLETE" in shell.stdout
