import hashlib

import pytest

from cvae_protein.dataset.fetch import COLUMNS, SOURCES, fetch_entries
from cvae_protein.errors import UserError
from cvae_protein.files import read_table, write_table
from cvae_protein.settings import FetchSettings

NAMES = ["1abc.cif.gz", "1abc.cif", "1abc.pdb", "1abc.pdb.gz", "pdb1abc.ent.gz", "pdb1abc.ent", "1ABC.cif.gz"]


def fetch(tmp_path, pdb_ids, sources):
    rows = [
        {"domain_id": f"{pdb_id}{index}", "pdb_id": pdb_id, "chain": "A", "residue_range": ""}
        for index, pdb_id in enumerate(pdb_ids)
    ]
    write_table(tmp_path / "domains.tsv", list(rows[0]), rows)
    output, rejected = tmp_path / "entries.tsv", tmp_path / "rejected.tsv"
    settings = FetchSettings(sources=tuple(map(str, sources)))
    count = fetch_entries(tmp_path / "domains.tsv", settings, tmp_path / "embedded", output, rejected)
    entries = read_table(output, COLUMNS)
    assert count == len(entries)
    return entries, read_table(rejected)


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("folder", ["", "ab/"])
@pytest.mark.parametrize("name", NAMES)
def test_mirror_layouts(tmp_path, folder, name):
    path = put(tmp_path / "mirror" / f"{folder}{name}", b"content")
    (entry,), dropped = fetch(tmp_path, ["1abc", "1abc"], [tmp_path / "mirror"])
    assert entry == {
        "pdb_id": "1abc",
        "source": str(tmp_path / "mirror"),
        "path": str(path),
        "sha256": hashlib.sha256(b"content").hexdigest(),
        "bytes": "7",
    }
    assert dropped == []


def test_sources_are_tried_in_order(tmp_path):
    embedded = put(tmp_path / "embedded/ab/1abc.cif.gz")
    mirrored = put(tmp_path / "mirror/ab/1abc.cif.gz")
    put(tmp_path / "mirror/xy/2xyz.cif.gz")
    entries, _ = fetch(tmp_path, ["2xyz", "1abc"], ["embedded", tmp_path / "mirror"])
    assert [(e["pdb_id"], e["source"]) for e in entries] == [("1abc", "embedded"), ("2xyz", str(tmp_path / "mirror"))]
    assert entries[0]["path"] == str(embedded)
    entries, _ = fetch(tmp_path, ["1abc"], [tmp_path / "mirror", "embedded"])
    assert entries[0]["path"] == str(mirrored)


def test_every_domain_of_a_missing_entry_is_rejected(tmp_path):
    put(tmp_path / "mirror/1abc.cif")
    entries, dropped = fetch(tmp_path, ["1abc", "9zzz", "9zzz"], ["embedded", tmp_path / "mirror"])
    assert len(entries) == 1
    assert [(r["domain_id"], r["reason"]) for r in dropped] == [("9zzz1", "not_found"), ("9zzz2", "not_found")]
    assert "embedded (no such folder)" in dropped[0]["detail"]


def test_empty_file(tmp_path):
    put(tmp_path / "mirror/1abc.cif", b"")
    assert fetch(tmp_path, ["1abc"], [tmp_path / "mirror"])[1][0]["reason"] == "empty_file"
    put(tmp_path / "other/1abc.pdb")
    entries, dropped = fetch(tmp_path, ["1abc"], [tmp_path / "mirror", tmp_path / "other"])
    assert (len(entries), dropped) == (1, [])


def test_hostile_id_never_leaves_the_folder(tmp_path):
    put(tmp_path / "secret.cif")
    (tmp_path / "mirror/..").mkdir(parents=True, exist_ok=True)
    entries, dropped = fetch(tmp_path, ["../secret"], [tmp_path / "mirror"])
    assert entries == []
    assert dropped[0]["reason"] == "bad_id"


def test_mirror_that_is_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"found no folder at .*absent"):
        fetch(tmp_path, ["1abc"], [tmp_path / "absent"])


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_proposes_files_inside_its_folder(tmp_path, kind):
    candidates = list(SOURCES[kind](tmp_path, "1abc"))
    assert tmp_path / "ab" / "1abc.cif.gz" == candidates[0]
    assert all(tmp_path in path.parents for path in candidates)
