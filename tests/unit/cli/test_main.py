"""The command line: exit codes, one line a mistake, help that helps, and a quick start."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import typing
from pathlib import Path

import pytest
import typer

import cvae_protein
from cvae_protein.cli import main
from cvae_protein.cli.options import app
from cvae_protein.core import progress
from cvae_protein.core.errors import StructureError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import Store
from cvae_protein.store.write import write_store

COMMANDS = [command.callback.__name__.replace("_", "-") for command in app.registered_commands]
STAGES = [
    "select",
    "fetch",
    "featurize",
    "merge",
    "split",
    "leak-audit",
    "train",
    "sample",
    "score",
    "collect",
    "report",
    "export",
]
ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests/data"
COLUMNS = ("domain_id", "source", "reason", "detail")


def program(*arguments, **options):
    command = [sys.executable, "-m", "cvae_protein.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_every_stage_has_its_command():
    assert set(STAGES) <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(command, capsys):
    assert main.run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example:" in text
    assert f"cvae-protein {command} " in text


def test_every_command_is_in_a_group_and_can_be_quiet(capsys):
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    for title in ("Use a model or data:", "Runs:", "Stages of a run, in the order of the pipeline:"):
        assert title in text
    assert text.index("Use a model") < text.index("  sample ") < text.index("Runs:") < text.index("  resume ")
    assert text.index("Stages of a run") < text.index("  select ") < text.index("  verdicts ")
    assert main.run(["split", "--help"]) == 0
    assert "-q, --quiet" in capsys.readouterr().out


def test_version(capsys):
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"cvae-protein {cvae_protein.__version__}\n"


def test_quiet_leaves_errors_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "_verbosity", "all")  # so that afterwards it is as before
    words = ["featurize", "--input", str(DATA / "1ubi.cif.gz"), "-o", "x.h5", "--rejected", "r.tsv"]
    assert main.run(words) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "featurize: wrote x.h5, r.tsv"
    assert main.run([*words, "--force", "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert main.run(["split", "--store", "none.h5", "-o", "x", "-q"]) == 1
    assert "error: " in capsys.readouterr().err


def test_info_of_model_store_and_run(capsys, make_backbone, tmp_path):
    assert main.run(["info"]) == 0
    text = capsys.readouterr().out
    assert "variant: concat" in text
    assert re.search(r"2\.60\.40 +1273 +50 +107 +247", text)
    (tmp_path / "run/models").mkdir(parents=True)
    (tmp_path / "run/scores.tsv").write_text(
        "variant\tseed\tsplit\tfold\tmetric\tvalue\nconcat\t0\ttest\tall\tnearest_tm\t0.43\n"
    )
    entry = Entry(make_backbone("a"), {"label": "2.60"})
    write_store(tmp_path / "run/domains.h5", [entry])
    for place, kind in (("run/domains.h5", "store"), ("run", "run")):
        assert main.run(["info", str(tmp_path / place), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["kind"] == kind
        assert found["folds"] == [{"fold": "2", "domains": 1, "shortest": 6, "median": 6, "longest": 6}]
    assert found["figures"] == [{"variant": "concat", "seed": "0", "nearest_tm": 0.43}]


def test_run_becomes_snakemake(tmp_path, monkeypatch):
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/Snakefile").touch()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").touch()
    called = []
    monkeypatch.setattr("os.execv", lambda program, words: called.append(words[1:]))
    assert main.run(["run", "--config", "c.yaml", "--cores", "2", "results/domains.h5", "-n"]) == 0
    # The target behind another option, else it would be a second file of settings.
    assert called == [["--configfile", "c.yaml", "--cores", "2", "results/domains.h5", "-n"]]


def test_help_names_the_stages_and_loads_nothing_heavy():
    asked = "import sys; from cvae_protein.cli import main as cli; cli.run(['--help']); print(sorted(sys.modules))"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert found.returncode == 0
    assert all(stage in found.stdout for stage in STAGES)
    assert not any(f"'{name}'" in found.stdout for name in ("numpy", "torch", "h5py", "scipy", "pydantic", "sklearn"))


MISTAKES = [
    ("trian", "No such command 'trian'"),
    ("select", "Missing option '--output'"),
    ('split --store none.h5 -o x --settings {"tset":0.1}', "split.tset: unknown key; did you mean test?"),
    ("split --store none.h5 -o x --settings none.yaml", "none.yaml: expected a YAML"),
    ("split --store none.h5 -o x", "none.h5: expected an HDF5 store, found no file there"),
    ('select -o x --rejected y --settings {"table":"none.tsv"}', "none.tsv: expected a tab-separated"),
    ("train --variant concat --store a --splits b -o c --seed -1", "--seed"),
    ("sample --model m --fold 2 -o x.h5 --seed 18446744073709551616", "--seed"),
    ("featurize -o x --rejected y", "expected --domains and --entries, or --input"),
    ("featurize --domains d --entries e --batch 4/4 -o x --rejected y", "0 ≤ I < N"),
    ("sample --model m -o x", "expected --fold, --around, or --store and --splits"),
    ("sample --model m -o x.h5 --temperature 99", "sample.temperature: expected a number ≥ 0 and ≤ 10"),
    ("score --store a --splits b -o c", "expected --samples, once, and --variant, or --real"),
    ("report --results r --variants pca --seeds x -o c", "--seeds: expected whole numbers"),
    ("merge a.txt -o x --rejected y", "expected .h5 stores and .tsv tables, got a.txt"),
    ("export --store none.h5 -o x.pdb", "none.h5: expected an HDF5 store"),
    ("report --results none --variants pca -o c", "none: expected the folder of a run, found none"),
    ("report --results . --variants pca,nosuch -o c", ".: nothing of pca, nosuch there; its variants are none"),
    ("info none", "none: expected the folder of a model or of a run, or a store"),
    ("run", "run: expected workflow/Snakefile here, found none"),
    ("sample --model pretrained --fold 2 --length 2000 -o x.pdb", "length: expected 5 to 512 residues"),
    (
        "sample --model pretrained --fold 2.99 --length 60 -o x.pdb",
        "fold: 2.99 is unknown to the model; the nearest that it",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("labels -o x", "labels is now select"),
        ("inspect m", "inspect is now info"),
        ("names -o x", "names is now fold-names"),
        ("embed d.h5 --oracle o -o x", "--oracle is now --classifier"),
        ("score --labels=t.tsv -o x", "--labels is now --targets"),
        ("train --model {} -o x", "--model is now --model-settings"),
        ("sample --model m --out x", "--out is now --output"),
        ("export -i s.h5 -o x", "-i is now --store"),
        ("export --input=s.h5 -o x", "--input is now --store"),
        ("score --samples s --variant v --seed 0 -o x", "--seed is now --model-seed"),
        ("designability --samples s.h5 -n 4 -o x", "-n is now --limit"),
    ],
)
def test_former_names_are_answered_with_the_new_ones(arguments, said, capsys):
    assert main.run(arguments.split()) == 2
    assert said in capsys.readouterr().err


def test_an_option_is_of_one_kind_whatever_its_command():
    """`length` is a number to look for, or numbers and ranges to draw from; `config` is a file, or what is in one."""
    kinds: dict[str, set[type]] = {}
    short: dict[str, set[str]] = {}
    commands = typer.main.get_command(app).commands
    for registered in app.registered_commands:
        hints = typing.get_type_hints(registered.callback)
        for option in commands[registered.callback.__name__.replace("_", "-")].params:
            given = hints.get(option.name)
            while inner := [each for each in typing.get_args(given) if each is not type(None)]:
                (given,) = inner  # of a list, or of what may be left out
            if given is not None and option.param_type_name == "option":
                kinds.setdefault(option.name, set()).add(given)
            for name in option.opts:
                if re.fullmatch("-[a-z]", name):
                    short.setdefault(name, set()).add(option.name)
    assert {name for name, found in kinds.items() if len(found) > 1} == {"length", "config"}
    assert {name: len(found) for name, found in short.items()} == dict.fromkeys(("-c", "-n", "-o"), 1)


@pytest.mark.parametrize(("arguments", "said"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_1_or_2_for_a_wrong_call(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong_call = any(mark in said for mark in ("No such", "Missing", "--seed", "expected --", "0 ≤ I", "expected .h5"))
    assert main.run(arguments.split()) == (2 if wrong_call else 1)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[-1].startswith("error: ")
    assert said in lines[-1]
    assert len(lines) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (StructureError("no_protein", "only water"), 1, "error: no_protein: only water"),
        (FileNotFoundError(2, "No such file or directory", "x.h5"), 1, "error: x.h5: No such file or directory"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (
            PermissionError(13, "Permission denied", "x"),
            1,
            "error: x: Permission denied; ask its owner, or give a path",
        ),
        (OSError(28, "No space left on device", "x"), 1, "x: No space left on device; free some there"),
        (
            ModuleNotFoundError("no", name="scipy.spatial"),
            1,
            "needs scipy, which is not installed: pip install 'cvae_pro",
        ),
        (ModuleNotFoundError("no", name="cvae_protein.x"), 70, "this is a defect"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "error: memory does not suffice (Unable to allocate 9 TiB)"),
        (OSError("strange"), 70, "this is a defect"),
        (KeyError("x"), 70, "this is a defect"),
        (ValueError("x"), 70, "this is a defect"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_code_of_what_a_stage_raises(raised, code, said, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)  # where a defect leaves its report

    def fail(*_, **__):
        raise raised

    monkeypatch.setattr("cvae_protein.dataset.split.split_domains", fail)
    assert main.run(["split", "--store", "s", "-o", "x"]) == code
    text = capsys.readouterr().err
    assert said in text
    assert ("Traceback" in text) == (code == 70)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_interrupted_process_leaves_with_its_code_and_no_scratch(how, code, tmp_path):
    sleeper = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where the tests run in the background
        "import cvae_protein.dataset.split as stage\nfrom cvae_protein.cli import main as cli\n"
        "from cvae_protein.core.files import atomic_path\n"
        "def slow(store, settings, output, *others):\n"
        "    with atomic_path(output) as path:\n"
        "        path.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
        "stage.split_domains = slow\ncli.main()\n"
    )
    command = [sys.executable, "-c", sleeper, "split", "--store", "s", "-o", str(tmp_path / "x")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, how)
        _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in said
    assert how == signal.SIGINT or f"ended by {how.name}" in said
    assert list(tmp_path.iterdir()) == []


THREADS_OF = """
import os, sys
from cvae_protein.cli import main as cli
cli.usable_cores = lambda: 7
cli.run = lambda arguments: print(os.environ.get("OMP_NUM_THREADS", "none")) or 0
cli.main()
"""


@pytest.mark.parametrize(
    ("command", "given", "threads"),
    [("featurize", "", "1"), ("report", "", "1"), ("train", "", "7"), ("sample", "3", "3"), ("launch", "", "none")],
)
def test_a_command_takes_the_threads_that_it_is_given(command, given, threads):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": given} if given else {}
    asked = [sys.executable, "-c", THREADS_OF, command]
    assert subprocess.run(asked, env=environment, capture_output=True, text=True).stdout.strip() == threads


def test_an_interrupt_that_a_library_sent_for_want_of_threads_is_told_as_that(monkeypatch, capsys):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cvae_protein.dataset.split.split_domains", fail)
    monkeypatch.setattr(main, "may_start_thread", lambda: False)
    assert main.run(["split", "--store", "s", "-o", "x"]) == 1
    assert "error: no thread can be started: the user's limit (`ulimit -u`)" in capsys.readouterr().err


def test_launch_needs_no_name_of_the_machine(monkeypatch):
    called = []
    monkeypatch.setenv("PET_SIGNALS_TO_HANDLE", "")
    monkeypatch.delenv("PET_SIGNALS_TO_HANDLE")
    monkeypatch.setattr("os.execv", lambda program, words: called.append(words))
    monkeypatch.setattr("cvae_protein.training.gpu_slots.take", lambda *_, **__: None)
    assert main.run(["launch", "--processes", "2", "true"]) == 0
    assert "SIGUSR1" in os.environ["PET_SIGNALS_TO_HANDLE"]  # torchrun's own way to hand it on
    assert called[0][1:] == ["--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2", "--no-python", "true"]


def test_merge_joins_stores_and_rejections_in_order(make_backbone, tmp_path, capsys):
    for name in "ab":
        backbone = make_backbone(name)
        entry = Entry(backbone, {"label": "1.10.8.10"})
        write_store(tmp_path / f"{name}.h5", [entry])
        rejected = {"domain_id": f"no{name}", "source": "s", "reason": "too_short", "detail": "3 residues"}
        note = {"domain_id": name, "source": "s", "reason": "other_models", "detail": "1 of 2 models"}
        write_table(tmp_path / f"{name}.tsv", COLUMNS, [rejected, note])
    parts = [str(tmp_path / name) for name in ("a.h5", "b.h5", "a.tsv", "b.tsv")]
    assert main.run(["merge", *parts, "-o", str(tmp_path / "all.h5"), "--rejected", str(tmp_path / "no.tsv")]) == 0
    assert Store(tmp_path / "all.h5").ids == ["a", "b"]
    assert [row["domain_id"] for row in read_table(tmp_path / "no.tsv")] == ["noa", "a", "nob", "b"]
    assert "2 conformations kept, 2 domains rejected, 2 notes on what was kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "said"), [((0, 2, 3), "1 of 4 samples concat-0-2-7-… are in no part, the first 0001"), ((0, 1), "")]
)
def test_merge_tells_of_a_missing_part(make_backbone, tmp_path, capsys, there, said):
    for number in there:
        entry = Entry(make_backbone(f"concat-0-2-7-{number:04d}"), {"label": "2"})
        write_store(tmp_path / f"part{number}.h5", [entry], kind="samples")
    parts = [str(path) for path in sorted(tmp_path.glob("part*.h5"))]
    assert main.run(["merge", *parts, "-o", str(tmp_path / "all.h5"), "--rejected", str(tmp_path / "n.tsv")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "in no part" in line]
    assert [said in line for line in lines] == [True] * bool(said)


def test_merge_of_nothing_still_writes_why(tmp_path):
    write_store(tmp_path / "a.h5", [])
    rejected = {"domain_id": "d", "source": "s", "reason": "too_short", "detail": "3 residues"}
    write_table(tmp_path / "a.tsv", COLUMNS, [rejected])
    parts = [str(tmp_path / "a.h5"), str(tmp_path / "a.tsv")]
    assert main.run(["merge", *parts, "-o", str(tmp_path / "all.h5"), "--rejected", str(tmp_path / "no.tsv")]) == 1
    assert len(read_table(tmp_path / "no.tsv")) == 1


def test_export_by_hand(make_backbone, tmp_path):
    backbone = make_backbone("a")
    write_store(tmp_path / "a.h5", [Entry(backbone, {"label": "2"})])
    for suffix in ("pdb", "cif", "xtc"):
        assert (
            main.run(["export", "--store", str(tmp_path / "a.h5"), "--fold", "2", "-o", str(tmp_path / f"x.{suffix}")])
            == 0
        )
        assert (tmp_path / f"x.{suffix}").stat().st_size
    assert main.run(["export", "--store", str(tmp_path / "a.h5"), "--fold", "3", "-o", str(tmp_path / "y.pdb")]) == 1


def test_schema_to_the_terminal(capsys, root: Path):
    assert main.run(["schema"]) == 0
    assert capsys.readouterr().out == (root / "workflow/schemas/config.schema.yaml").read_text()


def test_featurize_takes_a_folder_of_structure_files(tmp_path):
    folder = tmp_path / "files"
    shutil.copytree(Path(__file__).parents[2] / "data", folder, ignore=shutil.ignore_patterns("*.md"))
    (folder / "empty.pdb").touch()
    store, rejected = tmp_path / "x.h5", tmp_path / "x.tsv"
    assert main.run(["featurize", "--input", str(folder), "--output", str(store), "--rejected", str(rejected)]) == 0
    with Store(store) as found:
        assert [len(found.backbone(name)) for name in found.ids] == [46, 76]
    assert [(row["domain_id"], row["reason"]) for row in read_table(rejected)] == [("empty", "empty_file")]


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-"])
def test_a_closed_stream_stops_nothing(tmp_path, closed):
    call = f"{sys.executable} -m cvae_protein.cli.main schema -o x.yaml {closed}"
    found = subprocess.run(["sh", "-c", call], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert found.returncode == 0
    assert (tmp_path / "x.yaml").read_text() == (ROOT / "workflow/schemas/config.schema.yaml").read_text()


def test_no_stream_is_taken_for_a_file_that_is_written(tmp_path):
    shutil.copy(DATA / "1ubi.cif.gz", tmp_path / "x.cif.gz")
    words = "featurize --input x.cif.gz -o o.h5 --rejected r.tsv"
    call = f"{sys.executable} -m cvae_protein.cli.main {words} 0<&- 1>&- 2>&-"
    found = subprocess.run(["sh", "-c", call], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert found.returncode == 0
    with Store(tmp_path / "o.h5") as store:
        assert store.ids == ["x_A"]
    assert read_table(tmp_path / "r.tsv", COLUMNS) == []


def test_text_that_a_terminal_cannot_show_is_escaped():
    found = program("schema", env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)})
    assert (found.returncode, found.stderr) == (0, "")
    assert "\\u" in found.stdout or "\\x" in found.stdout


def test_a_reader_that_has_enough(tmp_path):
    call = f"{sys.executable} -m cvae_protein.cli.main schema | head -c 10"
    found = subprocess.run(["sh", "-c", call], capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (found.returncode, found.stderr) == (0, b"")


def test_a_reader_that_wants_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    call = [sys.executable, "-m", "cvae_protein.cli.main", "schema"]
    found = subprocess.run(call, stdout=writer, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})
    os.close(writer)
    assert (found.returncode, found.stderr) == (main.PIPE_CLOSED, b"")


def test_what_is_read_from_a_pipe(tmp_path, capsys):
    """Settings, once; a structure file is read twice, for its hash and for its atoms."""
    os.mkfifo(tmp_path / "pipe")
    writing = threading.Thread(target=(tmp_path / "pipe").write_text, args=("labels: {min_length: 77}\n",))
    writing.start()
    shutil.copy(DATA / "1ubi.cif.gz", tmp_path / "x.cif.gz")
    outputs = ["-o", str(tmp_path / "o.h5"), "--rejected", str(tmp_path / "r.tsv")]
    settings = ["--label-settings", str(tmp_path / "pipe")]
    assert main.run(["featurize", "--input", str(tmp_path / "x.cif.gz"), *outputs, *settings]) == 0
    writing.join()
    assert [row["reason"] for row in read_table(tmp_path / "r.tsv")] == ["too_short"]
    rejected = str(tmp_path / "n.tsv")
    assert main.run(["featurize", "--input", str(tmp_path / "pipe"), "-o", "none.h5", "--rejected", rejected]) == 1
    assert "found a pipe or device, which cannot be read twice" in capsys.readouterr().err


def test_a_defect_comes_with_a_file_to_send(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("sample: {per_class: 3}")
    monkeypatch.setattr(main, "app", lambda *_, **__: {}["no such key"])
    assert main.run(["sample", "--settings", "mine.yaml"]) == 70
    (written,) = tmp_path.glob("cvae-protein-defect-*.txt")
    assert f"this is a defect of cvae_protein; please send {written}" in capsys.readouterr().err
    text = written.read_text()
    for part in (
        "cvae_protein 0.",
        "commit ",
        "Python 3.",
        "torch 2",
        "'--settings' 'mine.yaml'",
        "KeyError: 'no such",
    ):
        assert part in text
    assert text.endswith("--- mine.yaml\nsample: {per_class: 3}\n")
