"""The examples of the help texts: each is a call that its command takes, and those that need no training are run."""

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import typer

import cvae_protein as cvae
from cvae_protein.cli import main
from cvae_protein.cli.options import app

COMMANDS = typer.main.get_command(app).commands


def examples():
    """Words of every example, behind `cvae-protein`."""
    found = []
    for command in COMMANDS.values():
        text = (command.help or "").partition("Example:")[2].split("\n\n")[0].replace("\\\n", " ")
        found += [shlex.split(call) for call in re.split(r"(?m)^\s*cvae-protein ", text)[1:]]
    return found


EXAMPLES = examples()
RUN = (  # beginnings of those that a few domains suffice for
    "featurize --input",
    "merge draws",
    "cluster",
    "split --store domains.h5 --settings",
    "leak-audit",
    "export",
    "info",
    "verify",
    "schema",
    "collect",
    "verdicts --scores scores.tsv -o",
    "init",
)
SCORES = "variant\tseed\tsplit\tfold\tmetric\tvalue\tlow\thigh\tn\tunit\tbetter\tnote\n"


@pytest.mark.parametrize("words", EXAMPLES, ids=lambda words: " ".join(words)[:60])
def test_every_example_is_a_call_that_its_command_takes(words, tmp_path, monkeypatch, root):
    monkeypatch.chdir(root)  # `run --config` looks whether the file is there
    name, *rest = words
    context = COMMANDS[name].make_context(name, list(rest), resilient_parsing=False)
    assert context.params


def test_there_is_one_for_every_command():
    assert {words[0] for words in EXAMPLES} == set(COMMANDS)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, root_folder):
    """A folder with what those examples name."""
    place = tmp_path_factory.mktemp("examples")
    (place / "my-structures").mkdir()
    shutil.copy(root_folder / "tests/data/1ubi.cif.gz", place / "my-structures")
    lines = (root_folder / "data/domains.tsv").read_text().splitlines()
    (place / "some.tsv").write_text("\n".join([lines[0], *lines[1:60:2]]) + "\n")
    for folder in (
        "results/samples/concat/seed0",
        "samples/concat/seed0",
        "draws",
        "scores/concat/seed0",
        "scores/real",
    ):
        (place / folder).mkdir(parents=True)
    domains = cvae.featurize(root_folder / "data/embedded", place / "some.tsv")
    for name in ("domains", "results/domains", "results/samples/concat/seed0/samples"):
        domains.to(place / f"{name}.h5")
    long = next(each for each in domains if each.label.startswith("2") and len(each.sequence) >= 110)
    cut = {"sequence": long.sequence[:110], "coords": long.coords[:, :110], "residue_ids": long.residue_ids[:110]}
    cvae.Structures([*domains, replace(long, id="cut", **cut)]).to(place / "samples/concat/seed0/samples.h5")
    cvae.featurize(root_folder / "tests/data/1ubi.cif.gz").to(place / "run.xtc")
    for number in (0, 1):
        domains[number : number + 1].to(place / f"draws/seed{number}.h5")
    for name in ("scores/concat/seed0/scores.tsv", "scores/real/scores.tsv", "scores.tsv"):
        variant = "real" if "real" in name else "concat"
        row = f"{variant}\t0\ttest\tall\tnearest_tm\t0.4\t0.3\t0.5\t9\t\thigh\t\n"
        (place / name).write_text(SCORES + row)
    for folder in ("workflow/schemas", "config"):
        (place / folder).mkdir(parents=True)
    return place


@pytest.fixture(scope="module")
def root_folder(request):
    return request.config.rootpath


@pytest.mark.filterwarnings("ignore:.*rejected")
def test_examples_that_need_no_training_run(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    chosen = [words for words in EXAMPLES if " ".join(words).startswith(RUN)]
    assert len(chosen) >= len(RUN)
    for words in chosen:
        files = [sorted(glob.glob(word)) if "*" in word else [word] for word in words]
        force = ["--force"] if "--force" in str(COMMANDS[words[0]].params) or "-o" in words else []
        assert main.run([each for names in files for each in names] + force) == 0, (
            words,
            capsys.readouterr().err[-800:],
        )


def test_completion_is_offered():
    # The shell that typer would find is the one that runs the tests, which may be one without completion.
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    words = [sys.executable, "-m", "cvae_protein.cli.main", "--show-completion", "bash"]
    shell = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert "_CVAE_PROTEIN_COMPLETE" in shell.stdout
