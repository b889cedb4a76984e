"""Files are whole or absent."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from cvae_protein.core.errors import UserError
from cvae_protein.core.files import (
    RENAMED,
    atomic_path,
    columns_of,
    holder,
    owned,
    read_table,
    safe_id,
    sha256,
    unsafe,
    write_table,
)

HOLDER = """
import sys, time
from cvae_protein.core.files import owned
with owned(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
SLOW_WRITER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background inherits that it is ignored
from cvae_protein.core.files import atomic_path
with atomic_path(sys.argv[1]) as path:
    with open(path, "w") as handle:
        handle.write("half")
        handle.flush()
        print("writing", flush=True)
        time.sleep(60)
"""


def test_block_that_ends_well_leaves_the_file_alone(tmp_path):
    with atomic_path(tmp_path / "new" / "x.txt") as path:
        assert path.suffix == ".txt"
        path.write_text("whole")
        assert not (tmp_path / "new" / "x.txt").exists()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.txt"]
    assert (tmp_path / "new" / "x.txt").read_text() == "whole"


def test_block_that_fails_keeps_the_former_file(tmp_path):
    (tmp_path / "x").write_text("old")

    def fail():
        with atomic_path(tmp_path / "x") as path:
            path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_has_the_mode_of_the_umask_though_a_library_wrote_it_for_its_owner_alone(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "folder") as folder:
            folder.mkdir()
            with atomic_path(folder / "x") as path:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert (tmp_path / "folder/x").stat().st_mode & 0o777 == mode


def test_what_cannot_be_written_names_the_output(tmp_path):
    def fill(error):
        with atomic_path(tmp_path / "x"):
            raise error

    for number in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(OSError, match=f"'{tmp_path}/x'"):
            fill(OSError(number, os.strerror(number)))
    with pytest.raises(FileNotFoundError, match="'input'"):
        fill(FileNotFoundError(errno.ENOENT, "No such file or directory", "input"))
    with pytest.raises(FileNotFoundError, match=f"'{tmp_path}/x'"), atomic_path(tmp_path / "x") as path:
        open(path / "y", encoding="utf-8")  # noqa: SIM115 - fails
    assert list(tmp_path.iterdir()) == []


def test_folder_replaces_the_former_folder_as_a_whole(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "stale").touch()
    with atomic_path(tmp_path / "x") as path:
        path.mkdir()
        (path / "fresh").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["fresh"]


def test_a_folder_may_hold_what_is_written_the_same_way(tmp_path):
    with atomic_path(tmp_path / "x") as outer:
        with atomic_path(outer) as inner:
            inner.mkdir()
            write_table(inner / "t.tsv", ["a"], [{"a": 1}])
        write_table(outer / "u.tsv", ["a"], [{"a": 1}])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["t.tsv", "u.tsv", "x"]


def test_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_writer_leaves_nothing_under_the_final_name(tmp_path, how):
    command = [sys.executable, "-c", SLOW_WRITER, str(tmp_path / "x")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        os.kill(process.pid, how)
        process.wait(10)
    assert not (tmp_path / "x").exists()


def test_scratch_of_a_killed_writer_goes_and_that_of_a_living_one_stays(tmp_path):
    command = [sys.executable, "-c", SLOW_WRITER, str(tmp_path / "x")]
    (tmp_path / ".x.neighbour").mkdir()
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in "ab"]
    assert [writer.stdout.readline() for writer in writers] == ["writing\n"] * 2
    assert len(list(tmp_path.iterdir())) == 3
    writers[0].kill()
    writers[0].wait(10)
    with atomic_path(tmp_path / "x") as path:
        path.write_text("whole")
    left = sorted(tmp_path.iterdir())
    writers[1].kill()
    writers[1].wait(10)
    assert len(left) == 3
    assert (tmp_path / "x").read_text() == "whole"
    with atomic_path(tmp_path / "x") as path:
        path.write_text("again")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".x.neighbour", "x"]


def test_table_reads_back(tmp_path):
    rows = [
        {"a": "x y", "b": 1, "more": 2},
        {"a": 'q"uote', "b": None, "more": 3},
        {"a": "tab\there\n", "b": "", "more": 4},
    ]
    write_table(tmp_path / "t.tsv", ["a", "b"], rows)
    assert read_table(tmp_path / "t.tsv", ["a", "b"]) == [
        {"a": "x y", "b": "1"},
        {"a": 'q"uote', "b": ""},
        {"a": "tab here", "b": ""},
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "found no file"),
        ("", "the file is empty"),
        ("a\tc\n1\t2\n", "expected the columns a, b; b not found"),
        ("a\tb\n1\t2\n3\n", "line 3: expected 2 columns, found 1"),
    ],
)
def test_unusable_table_is_a_users_mistake(tmp_path, content, said):
    if content is not None:
        (tmp_path / "t.tsv").write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        read_table(tmp_path / "t.tsv", ["a", "b"])
    assert str(tmp_path / "t.tsv") in str(caught.value)


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path):
    program = (
        "import sys\nfrom cvae_protein.core.files import write_table\n"
        "for _ in range(50): write_table(sys.argv[1], ['a'], [{'a': 'v'}] * 500)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "t.tsv")]) for _ in range(2)]
    deadline = time.monotonic() + 60
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        if (tmp_path / "t.tsv").exists():
            assert len(read_table(tmp_path / "t.tsv")) == 500
    assert [writer.wait(10) for writer in writers] == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["t.tsv"]


def test_an_output_has_one_owner_and_loses_it_with_the_process(tmp_path):
    output = tmp_path / "seed0"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "held"
    lock = tmp_path / ".seed0.lock"
    owner = f"process {process.pid} on {socket.gethostname()}"
    with pytest.raises(UserError, match=rf"another process is making it \({owner}\)"), owned(output):
        pass
    assert holder(lock) == owner
    process.kill()
    process.wait()
    assert holder(lock) is None
    with owned(output):
        assert not output.exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_it_goes_on_and_says_once_what_is_not_noticed(tmp_path, monkeypatch, capsys, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    monkeypatch.setattr("cvae_protein.core.files._lockless", set())
    with owned(tmp_path / "a"), owned(tmp_path / "a"):
        assert holder(tmp_path / ".a.lock") is None
        write_table(tmp_path / "a", ["x"], [])
    (line,) = capsys.readouterr().err.splitlines()
    said = f"{tmp_path}: this file system has no locks ({os.strerror(number)}); two runs or commands that make the same"
    assert line.startswith(said)


def test_a_lock_that_fails_otherwise_names_the_file(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match=rf"Input/output error: '{tmp_path}/.a.lock'"), owned(tmp_path / "a"):
        pass


@pytest.mark.parametrize("kind", sorted(RENAMED))
def test_a_name_of_before_is_answered_with_todays(tmp_path, kind):
    old, new = next(iter(RENAMED[kind].items()))
    column, cell = (old, "x") if kind == "column" else (kind, old)
    write_table(tmp_path / "t.tsv", ["id", column], [{"id": "a", column: cell}])
    with pytest.raises(UserError, match=f"t.tsv: {kind} `{old}` is now `{new}`: make the file again"):
        read_table(tmp_path / "t.tsv", ["id", new] if kind == "column" else ["id"])


@pytest.mark.parametrize("names", [["a", "b", "a"], ["b", "a", "x", "x"]])
def test_a_column_that_stands_there_twice_is_named(tmp_path, names):
    path = tmp_path / "t.tsv"
    path.write_text("\t".join(names) + "\n" + "\t".join(map(str, range(len(names)))) + "\n")
    doubled = max(names, key=names.count)
    for read in (read_table, lambda given, columns: list(columns_of(given, columns))):
        with pytest.raises(UserError, match=rf"t\.tsv: expected each column once, found {doubled} more"):
            read(path, ["a", "b"])


@pytest.mark.parametrize(("first", "second"), [("cath", "cath "), ("cath", "CATH"), (" Label", "label")])
def test_a_column_that_stands_there_twice_in_two_spellings(tmp_path, first, second):
    (tmp_path / "t.tsv").write_text(f"id\t{first}\t{second}\na\t1.10.8.10\t3.20.20.10\n")
    with pytest.raises(UserError, match=f"expected each column once, found {first} and {second} more than once"):
        read_table(tmp_path / "t.tsv", ["id"])


def test_columns_without_a_name_may_be_several(tmp_path):
    (tmp_path / "t.tsv").write_text("a\t\t\n1\t\t\n")
    assert read_table(tmp_path / "t.tsv", ["a"])[0]["a"] == "1"


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('"1-30,41-76"', "1-30,41-76"),
        ('"a ""b"" c"', 'a "b" c'),
        ('5"', '5"'),
        ('"x"y', '"x"y'),
        ('"', '"'),
        ('""', ""),
    ],
)
def test_quotes_around_a_whole_cell_are_a_spreadsheets(tmp_path, cell, value):
    path = tmp_path / "t.tsv"
    path.write_text(f'"id"\trange\nx\t{cell}\n')
    assert read_table(path, ["id", "range"]) == [{"id": "x", "range": value}]
    assert list(columns_of(path, ["range"])) == [(2, [value])]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("x" * 81, "80 letters at most, found 81"), ("_x", "letter or digit at the beginning"), ("a b", "found ' '")],
)
def test_why_an_id_is_not_safe(text, reason):
    assert reason in unsafe(text)


def test_any_text_gets_an_id_of_its_own():
    texts = ["1ubi", "a b", "a_b", "a  b", "../../etc/passwd", "-rf", "é", "", "x" * 200, "x" * 201, "\udcff.pdb"]
    ids = [safe_id(text) for text in texts]
    assert ids[0] == "1ubi"
    assert len(set(ids)) == len(ids)
    assert not any(unsafe(each) for each in ids)
