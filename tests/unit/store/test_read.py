import json
import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from synthetic import helix

from cvae_protein.core.errors import UserError
from cvae_protein.core.secondary_structure import secondary_structure
from cvae_protein.core.structure import Backbone
from cvae_protein.store.layout import Entry
from cvae_protein.store.read import Store
from cvae_protein.store.write import merge_stores, write_store


def entry(name="1abcA00", length=12, models=1, shift=0.0, **facts):
    coords = np.stack([helix(length) + shift + model for model in range(models)])
    coords[:, 3, 4] = np.nan
    made = Backbone(name, ("ACDEFGHIKLMN" * length)[:length], coords, tuple(f"{i}A" for i in range(length)))
    return Entry(made, {"label": "1.10.8.10", "resolution": 1.8, "breaks": 0, **facts})


def many(count, length=12, models=1):
    """Entries of one shape, each moved and named its own way, made when they are asked for."""
    made = entry("d", length, models)
    for number in range(count):
        own = Backbone(f"d{number}", made.backbone.sequence, made.backbone.coords + number, made.backbone.residue_ids)
        yield Entry(own, made.facts)


def same(a, b):
    assert a.backbone.id == b.backbone.id
    assert a.backbone.sequence == b.backbone.sequence
    assert a.backbone.residue_ids == b.backbone.residue_ids
    np.testing.assert_allclose(a.backbone.coords, b.backbone.coords, atol=0.0051, equal_nan=True)
    assert b.ss == secondary_structure(b.backbone)
    assert a.ss in ((), b.ss)


@pytest.mark.parametrize("compression", ["blosc-lz4", "gzip"])
def test_what_was_written_is_read(tmp_path, compression):
    entries = [entry("a"), entry("b", 10, models=3, shift=900.0, label="2.60.40.10"), entry("c", 5)]
    write_store(tmp_path / "s.h5", entries, compression=compression)
    with Store(tmp_path / "s.h5") as store:
        assert (len(store), store.ids) == (5, ["a", "b", "c"])
        assert list(store.columns) == ["id", "model", "label", "resolution", "breaks"]
        assert store.lengths.tolist() == [12, 10, 10, 10, 5]
        assert store.columns["model"].tolist() == [0, 0, 1, 2, 0]
        assert store.rows("b") == [1, 2, 3]
        assert store.fact("b", "label") == "2.60.40.10"
        assert store.fact("b", "breaks") == 0
        for before, after in zip(entries, store.entries(), strict=True):
            same(before, after)


def test_reading_and_writing_again_gives_the_same_bytes(tmp_path):
    write_store(tmp_path / "1.h5", [entry("a", shift=0.0049), entry("b", models=2, shift=-777.7)])
    with Store(tmp_path / "1.h5") as store:
        write_store(tmp_path / "2.h5", store.entries())
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_merging_is_writing_all_at_once(tmp_path):
    entries = [entry("a"), entry("b", 10, models=2), entry("c", 5)]
    write_store(tmp_path / "all.h5", entries)
    write_store(tmp_path / "1.h5", entries[:1])
    write_store(tmp_path / "none.h5", [])
    write_store(tmp_path / "2.h5", entries[1:])
    count = merge_stores([tmp_path / f"{name}.h5" for name in ("1", "none", "2")], tmp_path / "merged.h5")
    assert count == 4
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "all.h5").read_bytes()


def test_empty_store(tmp_path):
    write_store(tmp_path / "none.h5", [])
    with Store(tmp_path / "none.h5") as store:
        assert (len(store), store.ids, list(store.entries())) == (0, [], [])
    with pytest.raises(UserError, match="every domain was rejected"):
        merge_stores([tmp_path / "none.h5"], tmp_path / "merged.h5")
    assert not (tmp_path / "merged.h5").exists()


def test_facts_have_to_be_the_same(tmp_path):
    with pytest.raises(ValueError, match="expected the facts"):
        write_store(tmp_path / "s.h5", [entry("a"), entry("b", more=1)])
    write_store(tmp_path / "1.h5", [entry("a")])
    write_store(tmp_path / "2.h5", [entry("b", more=1)])
    with pytest.raises(UserError, match="expected the table columns"):
        merge_stores([tmp_path / "1.h5", tmp_path / "2.h5"], tmp_path / "merged.h5")


def test_what_does_not_fit_is_refused(tmp_path):
    wide = entry("a")
    wide.backbone.coords[0, 0, 0] += 2000
    with pytest.raises(ValueError, match="from the centre"):
        write_store(tmp_path / "s.h5", [wide])
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_store(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    write_store(tmp_path / "cut.h5", [entry()])
    (tmp_path / "cut.h5").write_bytes((tmp_path / "cut.h5").read_bytes()[:3000])
    for name in ("text", "cut", "absent"):
        with pytest.raises(UserError, match=f"{name}.h5"):
            Store(tmp_path / f"{name}.h5")


def test_unknown_domain_and_compression(tmp_path):
    with pytest.raises(UserError, match="expected gzip or blosc-lz4"):
        write_store(tmp_path / "s.h5", [entry()], compression="zip")
    write_store(tmp_path / "s.h5", [entry()])
    with Store(tmp_path / "s.h5") as store, pytest.raises(UserError, match="no domain 'z'"):
        store.backbone("z")


def test_writing_and_merging_take_no_memory_by_the_residue(tmp_path):
    def peak(work, *arguments):
        tracemalloc.start()
        work(*arguments)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    residues = 2400 * 120
    assert peak(write_store, tmp_path / "s.h5", many(2400, 120)) < residues * 15  # the arrays alone take 40 bytes each
    assert peak(merge_stores, [tmp_path / "s.h5"], tmp_path / "m.h5") < residues * 15
    with Store(tmp_path / "m.h5") as store:
        assert (len(store), store.offset[-1]) == (2400, residues)


def test_how_the_entries_are_shared_out_changes_no_byte(tmp_path):
    write_store(tmp_path / "all.h5", many(2100, 12, 2))
    entries = list(many(2100, 12, 2))
    for name, part in (("1", entries[:1]), ("2", entries[1:1999]), ("3", entries[1999:])):
        write_store(tmp_path / f"{name}.h5", part)
    merge_stores([tmp_path / f"{name}.h5" for name in "123"], tmp_path / "merged.h5")
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "all.h5").read_bytes()


def test_rows_in_any_order(tmp_path):
    write_store(tmp_path / "s.h5", [entry("a"), entry("b", 10, models=3), entry("c", 5)])
    with Store(tmp_path / "s.h5") as store:
        expected = [store.coords(row) for row in range(5)]
        with pytest.raises(IndexError):
            store.coords(5)
    with Store(tmp_path / "s.h5") as store:
        for row in (4, 0, 0, 2):
            np.testing.assert_array_equal(store.coords(row), expected[row])
    assert np.isnan(expected[0][3, 4]).all()


def test_rows_read_ahead_are_the_same_as_those_read_alone(tmp_path):
    write_store(tmp_path / "s.h5", many(900, 100))
    with Store(tmp_path / "s.h5") as store:
        in_order = list(store.entries())
    for number in (0, 1, 655, 656, 899):
        with Store(tmp_path / "s.h5") as store:
            same(in_order[number], store.entry(f"d{number}"))


def test_merging_refuses_a_domain_twice_and_an_older_store(tmp_path):
    write_store(tmp_path / "1.h5", [entry("a"), entry("b")])
    write_store(tmp_path / "2.h5", [entry("b")])
    with pytest.raises(UserError, match=r"2\.h5: the domain b is in .*1\.h5 as well"):
        merge_stores([tmp_path / "1.h5", tmp_path / "2.h5"], tmp_path / "merged.h5")
    with h5py.File(tmp_path / "1.h5", "r+") as file:
        file.attrs["schema_version"] = 2
    with pytest.raises(UserError, match=r"1\.h5: an older program wrote it; featurize again"):
        merge_stores([tmp_path / "1.h5"], tmp_path / "merged.h5")


def test_an_older_store_is_read_and_one_of_another_schema_is_not(tmp_path):
    write_store(tmp_path / "s.h5", [entry("a"), entry("b", 7, models=2)])
    with Store(tmp_path / "s.h5") as store:
        expected = list(store.entries())
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file.attrs["schema_version"] = 2
        file["ss"][:] = b"?"  # as samples had, and domains letters that knew of prolines
    with Store(tmp_path / "s.h5") as store:
        for a, b in zip(store.entries(), expected, strict=True):
            same(a, b)
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file.attrs["schema_version"] = 9
    with pytest.raises(UserError, match="schema version 9, this program reads 3; featurize again"):
        Store(tmp_path / "s.h5")


PLAIN = """
import sys, h5py
with h5py.File(sys.argv[1]) as f:
    i = list(f["table/id"].asstr()).index("d7")
    start, stop = f["offset"][i : i + 2]
    print((f["coords"][start:stop] * 0.01 + f["center"][i])[:, 1].tolist())
assert "hdf5plugin" not in sys.modules
"""


def test_h5py_alone_reads_it_as_the_readme_says(tmp_path):
    write_store(tmp_path / "s.h5", many(30))
    run = subprocess.run([sys.executable, "-c", PLAIN, tmp_path / "s.h5"], capture_output=True, text=True, check=True)
    with Store(tmp_path / "s.h5") as store:
        np.testing.assert_allclose(json.loads(run.stdout), store.backbone("d7").ca[0], atol=1e-4)


READER = """
import sys
from cvae_protein.store.read import Store
with Store(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(len(entry.backbone) for entry in store.entries()))
"""


def test_four_processes_read_one_store_in_a_read_only_folder(tmp_path):
    folder = tmp_path / "locked"
    write_store(folder / "s.h5", many(50))
    (folder / "s.h5").chmod(0o444)
    folder.chmod(0o555)
    command = [sys.executable, "-c", READER, str(folder / "s.h5")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    readers = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(4)]
    try:
        assert [reader.stdout.readline() for reader in readers] == ["ready\n"] * 4  # all four hold it open
        assert [reader.communicate("go\n", timeout=60) for reader in readers] == [("600\n", "")] * 4
    finally:
        folder.chmod(0o755)
        for reader in readers:
            reader.kill()


def test_the_page_on_files_tells_a_stranger_how_to_read_a_store(tmp_path, monkeypatch, root):
    snippets = re.findall(r"```python\n(.*?)```", (root / "docs/reference/files.md").read_text(encoding="utf-8"), re.S)
    snippet = next(text for text in snippets if "h5py" in text)
    assert "cvae_protein" not in snippet
    assert len([line for line in snippet.splitlines() if line and not line.startswith("import")]) <= 5
    entries = [entry("first", 9), entry("1ubiA00", 12, shift=33.0), entry("last", 5)]
    write_store(tmp_path / "results/domains.h5", entries)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippet, names)
    np.testing.assert_allclose(names["ca"], entries[1].backbone.ca[0], atol=0.0051)
