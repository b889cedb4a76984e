"""No command writes over anything but its own former outputs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cvae_protein.cli import main
from cvae_protein.cli.options import app
from cvae_protein.cli.outputs import WORKFLOW
from cvae_protein.core import files
from cvae_protein.core.files import write_table
from cvae_protein.store.layout import Entry
from cvae_protein.store.write import write_store

CALLS = {
    "select": "select -o {output} --rejected {rejected}",
    "fold-names": "fold-names --domains d.tsv -o {output}",
    "fetch": "fetch --domains d.tsv -o {output} --rejected {rejected} --lock {lock}",
    "featurize": "featurize --domains d.tsv --entries e.tsv -o {output} --rejected {rejected}",
    "merge": "merge a.h5 b.tsv -o {output} --rejected {rejected}",
    "split": "split --store s.h5 -o {output}",
    "leak-audit": "leak-audit --store s.h5 --splits p.tsv -o {output}",
    "train": "train --variant pca --store s.h5 --splits p.tsv -o {output} --checkpoint {checkpoint}",
    "sample": "sample --model m --store s.h5 --splits p.tsv -o {output}",
    "check": "",
    "info": "",
    "init": "",
    "run": "",
    "verify": "",
    "launch": "",
    "resume": "",
    "cluster": "cluster --store s.h5 -o {output}",
    "train-classifier": "train-classifier --store s.h5 --splits p.tsv -o {output} --checkpoint {checkpoint}",
    "embed": "embed s.h5 --classifier m -o {output}",
    "score": "score --samples x --reference s.h5 -o {output} --report {report}",
    "designability": "designability --samples s.h5 -o {output}",
    "collect": "collect t.tsv -o {output}",
    "report": "report --results r --variants pca -o {output}",
    "export": "export --store s.h5 --format pdb -o {output}",
    "schema": "schema -o {output}",
    "ensemble": "ensemble --samples x --reference s.h5 --domain d -o {output}",
    "rmsf": "rmsf --samples x -o {output}",
    "verdicts": "verdicts --scores t.tsv -o {output}",
    "sweep": "sweep t.tsv -o {output}",
    "tune": "tune --store s.h5 --splits p.tsv -o {output}",
    "manifest": "manifest --results r --config c.yaml -o {output}",
    "reproduce": "reproduce m.json -o {output}",
}
"""A call of each command with a place for each option that names an output; empty where a command has none."""
FOLDERS = {
    "train",
    "sample",
    "train-classifier",
    "embed",
    "score",
    "designability",
    "tune",
    "reproduce",
}  # whose --output is a folder
OPTIONS = [
    (command, option)
    for command, call in CALLS.items()
    for option in ("output", "rejected", "lock", "checkpoint", "report")
    if f"{{{option}}}" in call
]
PRECIOUS = "not to be lost"


def call(command, option, path):
    """The words of a call in which `option` is `path` and other outputs are at places that do not exist."""
    places = dict.fromkeys(("output", "rejected", "lock", "checkpoint", "report"), "") | {option: path}
    words = CALLS[command].split()
    return [word.format(**{name: value or f"new-{name}" for name, value in places.items()}) for word in words]


def everything(folder):
    """All files of a folder with what they hold."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(words, capsys):
    """The one line in which a call is refused."""
    assert main.run(words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder with a file that must not be lost."""
    folder = tmp_path / "home/work"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text(PRECIOUS)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.delenv(WORKFLOW, raising=False)
    return folder


def test_every_option_that_names_an_output_is_among_those_tried():
    commands = typer.main.get_command(app).commands
    assert set(CALLS) == set(commands)
    for name, command in commands.items():
        given = {option.name for option in command.params} & {"output", "rejected", "lock", "checkpoint", "report"}
        assert given == {option for tried, option in OPTIONS if tried == name}, name
        assert ("force" in {option.name for option in command.params}) == bool(given)


@pytest.mark.parametrize(("command", "option"), OPTIONS)
class TestEveryOutputIsGuarded:
    """Refused in one line, before anything is read, and whatever was there is there; `--force` changes nothing."""

    def test_foreign_folder_and_foreign_file(self, command, option, here, capsys):
        (here / "there").mkdir()
        (here / "there/notes.txt").write_text(PRECIOUS)
        before = everything(here)
        said = refused([*call(command, option, "there"), "--force"], capsys)
        assert "there: " in said
        if option == "output" and command in FOLDERS:
            assert "holds notes.txt" in said
        assert "mine.txt: " in refused([*call(command, option, "mine.txt"), "--force"], capsys)
        assert everything(here) == before

    def test_input_and_folder_that_holds_one(self, command, option, here, capsys):
        for name in ("d.tsv", "s.h5", "t.tsv", "a.h5", "r/x", "m.json", "c.yaml"):
            (here / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (here / "in" / name).write_text(PRECIOUS)
        known = ("d.tsv", "s.h5", "t.tsv", "a.h5", "r", "m.json", "c.yaml")
        words = [f"in/{word}" if word in known else word for word in call(command, option, "PLACE")]
        read = next((word for word in words if word.startswith("in/")), None)
        if read is None:  # the command reads what its settings name, or nothing
            return
        before = everything(here)
        for place, why in ((read, "is an input"), ("in", "holds an input")):
            said = refused([*(place if word == "PLACE" else word for word in words), "--force"], capsys)
            assert f"{place}: {why}" in said
        assert everything(here) == before


# What the guard says of a place is the same for all commands: a file, a folder, and a file that a command goes on with.
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["plain", "force"])
@pytest.mark.parametrize(("command", "option"), [("select", "output"), ("train", "output"), ("train", "checkpoint")])
class TestNoPlaceForAnOutput:
    @pytest.mark.parametrize("place", [".", "..", "/", "{home}", "{here}/../work"])
    def test_working_folder_home_and_what_holds_them(self, command, option, force, place, here, capsys):
        before = everything(here)
        place = place.format(home=here.parent, here=here)
        assert f"{Path(place)}: is or holds the" in refused([*call(command, option, place), *force], capsys)
        assert everything(here) == before

    def test_link(self, command, option, force, here, capsys):
        (here / "elsewhere").mkdir()
        (here / "link").symlink_to("elsewhere")
        (here / "dangling").symlink_to("nowhere")
        for name in ("link", "dangling"):
            assert f"{name}: is a link" in refused([*call(command, option, name), *force], capsys)
            assert (here / name).is_symlink()

    def test_foreign_device_and_place_below_a_file(self, command, option, force, here, capsys):
        os.mkfifo(here / "pipe")
        assert "pipe: " in refused([*call(command, option, "pipe"), *force], capsys)
        assert "mine.txt: " in refused([*call(command, option, "mine.txt"), *force], capsys)
        assert "mine.txt is a file" in refused([*call(command, option, "mine.txt/x"), *force], capsys)


def test_what_the_settings_name_is_an_input(here, capsys):
    (here / "domains.tsv").write_text("domain_id\tpdb_id\tchain\n")
    words = ["select", "--settings", '{"table": "domains.tsv"}', "--rejected", "no.tsv", "--force", "-o", "domains.tsv"]
    assert "is an input of this call" in refused(words, capsys)


@pytest.mark.parametrize("same", ["x.tsv", "./x.tsv", "y/../x.tsv"])
def test_two_outputs_of_one_name(same, capsys):
    assert "two outputs have this name" in refused(["select", "-o", "x.tsv", "--rejected", same], capsys)


def labels(least, *more, output="out.tsv"):
    """A call that chooses domains of the embedded table."""
    table = Path(__file__).parents[3] / ".test/domains.tsv"
    settings = f'{{"table": "{table}", "min_members": 1, "min_length": {least}}}'
    return ["select", "--settings", settings, "-o", output, "--rejected", "no.tsv", *more]


def test_former_output_is_replaced_by_the_same_call_and_by_force_alone_where_it_is_of_another(here, capsys):
    assert main.run(labels(40)) == 0
    first = (here / "out.tsv").read_bytes()
    assert main.run(labels(40)) == 0
    assert (here / "out.tsv").read_bytes() == first
    capsys.readouterr()
    assert "out.tsv: is there already, of other inputs or settings of `select`" in refused(labels(100), capsys)
    assert (here / "out.tsv").read_bytes() == first
    assert main.run(labels(100, "--force")) == 0
    assert (here / "out.tsv").read_bytes() != first
    assert main.run(labels(100)) == 0


def test_an_output_within_an_input_is_no_change_of_that_input(here):
    scores = here / "results/scores.tsv"
    write_table(scores, ["metric", "value"], [{"metric": "tm_score", "value": 0.5}])
    words = ["manifest", "--results", "results", "--config", "{}", "-o", "results/ro-crate-metadata.json"]
    assert main.run(words) == 0
    assert main.run(words) == 0
    write_table(scores, ["metric", "value"], [{"metric": "tm_score", "value": 0.25}])
    assert main.run(words) == 1
    assert main.run([*words, "--force"]) == 0


def test_an_output_within_an_output_is_not_foreign(here, capsys):
    (here / "out").mkdir()
    (here / "out/page.html").write_text('<meta name="generator" content="cvae_protein">')
    words = ["score", "--samples", "x", "--reference", "s.h5", "-o", "out", "--report"]
    assert "holds page.html" in refused([*words, "other.html", "--force"], capsys)
    assert "holds page.html" not in refused([*words, "out/page.html", "--force"], capsys)


def test_former_output_that_was_edited_is_kept_unless_forced(here, capsys):
    assert main.run(labels(40)) == 0
    with open("out.tsv", "a", encoding="utf-8") as table:
        table.write("edited\n")
    capsys.readouterr()
    assert "is there already" in refused(labels(40), capsys)
    assert (here / "out.tsv").read_text().endswith("edited\n")


def test_output_of_another_command_is_kept_even_where_forced(here, capsys):
    assert main.run(["schema", "-o", "out.tsv"]) == 0
    capsys.readouterr()
    assert "out.tsv: is an output of `schema`" in refused(labels(40, "--force"), capsys)


def test_what_a_call_wrote_before_it_failed_does_not_stop_the_next(here, make_backbone):
    write_store(here / "none.h5", [])
    entry = Entry(make_backbone("a"), {"label": "1"})
    write_store(here / "one.h5", [entry])
    assert main.run(["merge", "none.h5", "-o", "all.h5", "--rejected", "no.tsv"]) == 1
    assert (here / "no.tsv").exists()
    assert not (here / "all.h5").exists()
    assert main.run(["merge", "one.h5", "-o", "all.h5", "--rejected", "no.tsv"]) == 0


def test_job_of_a_workflow_replaces_its_former_output_and_leaves_no_record(here, monkeypatch, capsys):
    monkeypatch.setenv(WORKFLOW, str(here / "jobs"))
    assert main.run(labels(40)) == 0
    assert main.run(labels(100)) == 0
    assert not list(here.glob(".*"))
    capsys.readouterr()
    assert "mine.txt: is not known to be" in refused(labels(40, output="mine.txt"), capsys)


class TestFolders:
    """A folder as `train` writes it, made by hand so that nothing has to be trained."""

    WORDS = ("train", "--variant", "pca", "--store", "s.h5", "--splits", "p.tsv", "-o", "model")

    @pytest.fixture
    def model(self, here):
        folder = here / "model"
        folder.mkdir()
        (folder / "spec.json").write_text('{"variant": "pca"}')
        (folder / "history.tsv").write_text("step\tseconds\n")
        head = b'{"__metadata__":{"signed":"x"}}'
        (folder / "weights.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
        return folder

    def test_of_unknown_origin_needs_force(self, model, capsys):
        assert "model: is there already" in refused([*self.WORDS], capsys)
        said = refused([*self.WORDS, "--force"], capsys)
        assert "p.tsv: expected a tab-separated table" in said  # past the look at the output
        assert len(list(model.iterdir())) == 3

    def test_part_of_an_output_is_none(self, model, capsys):
        (model / "spec.json").unlink()
        assert "which has spec.json as well" in refused([*self.WORDS, "--force"], capsys)

    def test_file_of_the_right_name_and_another_content_is_foreign(self, model, capsys):
        (model / "history.tsv").write_text("my own history\n")
        assert "holds history.tsv" in refused([*self.WORDS, "--force"], capsys)

    def test_that_cannot_be_moved_is_told_before_anything_is_read(self, model, monkeypatch, capsys):
        def busy(folder):
            raise OSError(16, "Device or resource busy")

        monkeypatch.setattr("cvae_protein.cli.outputs.try_move", busy)
        assert "model: cannot be replaced (Device or resource busy)" in refused([*self.WORDS, "--force"], capsys)
        assert len(list(model.iterdir())) == 3

    @pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system")
    def test_that_is_a_mount(self, model, capsys):
        if subprocess.run(["mount", "-t", "tmpfs", "none", model], check=False, capture_output=True).returncode:
            pytest.skip("mounts are not allowed here")
        try:
            (model / "spec.json").write_text('{"variant": "pca"}')
            assert "is where a file system is mounted" in refused([*self.WORDS, "--force"], capsys)
        finally:
            subprocess.run(["umount", model], check=True)


KILLED = """
import os, sys
from cvae_protein.core import files
real, calls = os.replace, []
def replace(a, b):
    calls.append(a)
    if len(calls) == 2:  # the former folder is away, the new one not there yet
        os._exit(9)
    real(a, b)
files.os.replace = replace
with files.atomic_path(sys.argv[1]) as folder:
    folder.mkdir()
    (folder / "new").touch()
"""


def test_killed_between_the_two_renames_the_old_is_there_at_the_next_look(here):
    (here / "x").mkdir()
    (here / "x/old").write_text(PRECIOUS)
    assert subprocess.run([sys.executable, "-c", KILLED, "x"], check=False).returncode == 9
    assert not (here / "x").exists()
    files.recover(here / "x")
    assert (here / "x/old").read_text() == PRECIOUS
    assert not list(here.glob(".x.*"))


def test_what_cannot_take_its_place_leaves_the_old(here, monkeypatch):
    (here / "x").mkdir()
    (here / "x/old").write_text(PRECIOUS)
    real = os.replace

    def replace(source, target):
        if Path(target) == here / "x" and Path(source).name == "x":
            raise OSError(5, "Input/output error")
        real(source, target)

    def write():
        with files.atomic_path(here / "x") as folder:
            folder.mkdir()

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(OSError, match="Input/output"):
        write()
    assert (here / "x/old").read_text() == PRECIOUS


def test_folder_of_a_similar_name_stays(here):
    (here / ".x.abcdefgh").mkdir()
    (here / ".x.abcdefgh/theirs").write_text(PRECIOUS)
    with files.atomic_path(here / "x") as path:
        path.write_text("new")
    files.recover(here / "x")
    assert (here / ".x.abcdefgh/theirs").read_text() == PRECIOUS
    assert list((here / ".x.abcdefgh").iterdir()) == [here / ".x.abcdefgh/theirs"]
    shutil.rmtree(here / ".x.abcdefgh")


def test_a_user_without_a_name_or_a_home_folder_writes(tmp_path, monkeypatch):
    def getpwuid(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", getpwuid)
    monkeypatch.delenv("HOME")
    assert main.run(["schema", "-o", str(tmp_path / "schema.yaml")]) == 0
    assert (tmp_path / "schema.yaml").stat().st_size
