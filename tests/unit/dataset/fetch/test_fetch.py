"""From domains to entry files: folders, archives, addresses of one's own, successors, the lock file."""

import gzip
import hashlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from misbehaving_server import after, half, running, status, trickle

from cvae_protein.cli import main
from cvae_protein.config.settings import FetchSettings
from cvae_protein.core import files
from cvae_protein.core.errors import UserError
from cvae_protein.core.files import read_table, write_table
from cvae_protein.dataset.fetch import sources as sources_module
from cvae_protein.dataset.fetch.fetch import fetch_entries
from cvae_protein.dataset.fetch.lockfile import COLUMNS, LOCK_COLUMNS, key_of, read_entries
from cvae_protein.dataset.fetch.sources import ARCHIVES, SOURCES, sources_of
from cvae_protein.dataset.select import COLUMNS as DOMAIN_COLUMNS
from cvae_protein.io.read import read_confidence

EMBEDDED = Path(__file__).parents[4] / "data/embedded"
DOMAIN = "1a28A00"
NAMES = [
    "1abc.cif.gz", "1abc.cif", "1abc.bcif.gz", "1abc.bcif", "1abc.pdb", "1abc.pdb.gz", "pdb1abc.ent.gz", "pdb1abc.ent",
    "1ABC.cif.gz",
]  # fmt: skip
OBSOLETE = """ LIST OF OBSOLETE COORDINATE ENTRIES AND SUCCESSORS
OBSLTE    31-JUL-94 1OLD     1A28
OBSLTE    18-JUL-84 1OLE     9ZZZ 1OLD
OBSLTE    21-NOV-03 1GON     
OBSLTE    21-NOV-03 1LOS     9ZZY
OBSLTE    21-NOV-03 1LOP     1LOQ
OBSLTE    21-NOV-03 1LOQ     1LOP
"""  # noqa: W291 (the wwPDB's lines end with blanks)


def domains_of(tmp_path, pdb_ids):
    rows = [
        {"domain_id": f"{pdb_id}{index}", "pdb_id": pdb_id, "chain": "A", "residue_range": ""}
        for index, pdb_id in enumerate(pdb_ids)
    ]
    write_table(tmp_path / "domains.tsv", list(rows[0]), rows)
    return tmp_path / "domains.tsv"


def fetch(tmp_path, pdb_ids, sources, **values):
    output, rejected, lock = (tmp_path / name for name in ("entries.tsv", "rejected.tsv", "sources.lock.tsv"))
    quick = {"timeout": 0.4, "retries": 1, "backoff": 0.01, "cache": str(tmp_path / "cache"), "obsolete": ""}
    settings = FetchSettings(sources=tuple(map(str, sources)), **(quick | values))
    count = fetch_entries(domains_of(tmp_path, pdb_ids), settings, tmp_path / "embedded", output, rejected, lock)
    entries = read_table(output, COLUMNS)
    assert count == len(entries)
    return entries, read_table(rejected)


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def server():
    """The embedded structures in the layout of an archive, and a list of obsolete entries."""
    with running() as found:
        for path in EMBEDDED.glob("*/*.cif.gz"):
            found.files[f"/download/{path.name.split('.')[0].upper()}.cif.gz"] = path.read_bytes()
        found.files["/obsolete.dat"] = OBSOLETE.encode()
        yield found


def template(server):
    return f"{server.base}/download/{{PDB_ID}}.cif.gz"


# Folders


@pytest.mark.parametrize("folder", ["", "ab/"])
@pytest.mark.parametrize("name", NAMES)
def test_mirror_layouts(tmp_path, folder, name):
    path = put(tmp_path / "mirror" / f"{folder}{name}", b"content")
    before = sorted((tmp_path / "mirror").rglob("*"))
    (entry,), dropped = fetch(tmp_path, ["1abc", "1abc"], [tmp_path / "mirror"])
    assert entry == {
        "pdb_id": "1abc",
        "source": str(tmp_path / "mirror"),
        "path": str(path),
        "sha256": hashlib.sha256(b"content").hexdigest(),
        "bytes": "7",
        "url": "",
        "superseded_by": "",
        "domain_id": "",
    }
    assert dropped == []
    assert sorted((tmp_path / "mirror").rglob("*")) == before


def test_files_may_lie_in_folders_of_any_names(tmp_path):
    mine = put(tmp_path / "mine/all helical/AF-x1-F1.PDB")
    for place in ("one", "two"):
        put(tmp_path / f"mine/{place}/twin.pdb")
    (entry,), dropped = fetch(tmp_path, ["AF-x1-F1", "twin"], [tmp_path / "mine"])
    assert entry["path"] == str(mine)
    (row,) = dropped
    assert row["reason"] == "not_found"
    assert "expected one file of that name" in row["detail"]


def test_format_chooses_among_the_files_of_a_mirror(tmp_path):
    put(tmp_path / "mirror/ab/1abc.cif.gz")
    put(tmp_path / "mirror/ab/1abc.bcif")
    put(tmp_path / "mirror/pdb2xyz.ent.gz")
    found = {f: fetch(tmp_path, ["1abc", "2xyz"], [tmp_path / "mirror"], format=f)[0] for f in ("cif", "bcif")}
    assert [Path(entry["path"]).name for entry in found["cif"]] == ["1abc.cif.gz", "pdb2xyz.ent.gz"]
    assert [Path(entry["path"]).name for entry in found["bcif"]] == ["1abc.bcif", "pdb2xyz.ent.gz"]


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


@pytest.mark.parametrize("name", ["../secret", "a..b", "1/2", ".1abc", "1abc\\x"])
def test_hostile_id_never_leaves_the_folder(tmp_path, server, name):
    put(tmp_path / "secret.cif")
    put(tmp_path / "a..b.cif")
    put(tmp_path / "mirror/x")
    entries, dropped = fetch(tmp_path, [name], [tmp_path / "mirror", template(server)])
    assert entries == []
    assert dropped[0]["reason"] in ("bad_id", "not_found")
    outside = {path for path in tmp_path.rglob("*") if path.is_file()} - set((tmp_path / "cache").rglob("*"))
    assert {path.name for path in outside} == {
        "secret.cif", "a..b.cif", "x", "domains.tsv", "entries.tsv", "rejected.tsv", "sources.lock.tsv"
    }  # fmt: skip


# Sources and their names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "absent",
            r"expected embedded, rcsb, pdbe, afdb, a folder or a URL with \{pdb_id\}, found no folder at absent",
        ),
        ("https://host/file.cif", "got https://host/file.cif; in braces may stand pdb_id"),
        ("https://host/{pdb}.cif", "'pdb'.* in braces may stand"),
        ("https://host/{pdb_id.cif", "fetch.sources: https://host"),
        ("http://example.org/{pdb_id}.cif", "expected https"),
        ("ftp://example.org/{pdb_id}.cif", "expected an address such as"),
        ("https://me:secret@host/{pdb_id}.cif", "without a user name"),
        ("https://{pdb_id}/x", "expected an address such as https://host/"),
    ],
)
def test_source_that_cannot_be(tmp_path, name, said):
    with pytest.raises(UserError, match=said):
        sources_of(FetchSettings(sources=(name,)), tmp_path)


def test_every_source_with_a_name_is_made_and_archives_use_https(tmp_path):
    for form in ("cif", "bcif"):
        found = sources_of(FetchSettings(sources=tuple(SOURCES), format=form), tmp_path)
        assert [source.name for source in found] == list(SOURCES)
    assert all(url.startswith("https://") for urls in ARCHIVES.values() for url in urls.values())
    assert ARCHIVES["rcsb"]["cif"].format(PDB_ID="1ABC") == "https://files.rcsb.org/download/1ABC.cif.gz"
    assert ARCHIVES["rcsb"]["bcif"].format(pdb_id="1abc") == "https://models.rcsb.org/1abc.bcif.gz"


def test_an_archive_is_asked_for_codes_of_the_pdb_alone(tmp_path, server, monkeypatch):
    monkeypatch.setitem(sources_module.ARCHIVES, "rcsb", {"cif": template(server)})
    server.files["/download/1ABC.cif.gz"] = b"ATOM      1\n"  # tells no entry
    entries, dropped = fetch(tmp_path, ["1a28", "my-model", "1abc"], ["rcsb"])
    assert [(entry["pdb_id"], entry["source"]) for entry in entries] == [("1a28", "rcsb")]
    assert entries[0]["path"] == str(tmp_path / "cache/rcsb/a2/1a28.cif.gz")
    assert [row["reason"] for row in dropped] == ["bad_download", "not_found"]
    assert "/download/MY-MODEL.cif.gz" not in server.paths()


# Downloads


def test_downloads_with_address_hash_and_summary(tmp_path, server, capsys):
    entries, dropped = fetch(tmp_path, ["1a28", "2xhe", "9zzz"], [template(server)])
    assert [entry["url"] for entry in entries] == [f"{server.base}/download/{code}.cif.gz" for code in ("1A28", "2XHE")]
    for entry in entries:
        content = server.files[entry["url"].removeprefix(server.base)]
        assert (Path(entry["path"]).read_bytes(), entry["bytes"]) == (content, str(len(content)))
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert [(row["domain_id"], row["reason"]) for row in dropped] == [("9zzz2", "not_found")]
    total = sum(int(entry["bytes"]) for entry in entries) / 1e6
    said = capsys.readouterr().err
    assert f"2 files, {total:.2f} MB, of which 2 downloaded now ({total:.2f} MB)" in said
    assert "MB/s" in said
    locked = read_table(tmp_path / "sources.lock.tsv", LOCK_COLUMNS)
    assert [{**row, "date": row["date"][:2]} for row in locked] == [
        {name: entry[name] for name in LOCK_COLUMNS if name != "date"} | {"date": "20"} for entry in entries
    ]
    fetch(tmp_path, ["1a28", "2xhe"], [template(server)])
    assert len(server.requests) == 3
    assert "of which 0 downloaded now" in capsys.readouterr().err


def test_next_source_takes_over_and_all_are_named_where_none_has_it(tmp_path, server):
    for code in ("1A28", "2XHE"):
        server.scripts[f"/download/{code}.cif.gz"] = [status(500)]
    mirror = tmp_path / "mirror"
    put(mirror / "1a28.cif.gz")
    (entry,), (dropped,) = fetch(tmp_path, ["1a28", "2xhe"], [template(server), mirror])
    assert (entry["source"], dropped["reason"]) == (str(mirror), "http_error")
    assert "status 500" in dropped["detail"]
    assert f"2xhe is not in {mirror}" in dropped["detail"]


def test_nothing_found_for_a_reason_that_may_pass_stops_the_run(tmp_path, server):
    server.scripts["/download/1A28.cif.gz"] = [status(503)]
    with pytest.raises(UserError, match=r"1 failures may pass, the first is http_error: .*status 503"):
        fetch(tmp_path, ["1a28"], [template(server)])
    assert not (tmp_path / "entries.tsv").exists()


def test_few_connections_are_kept_busy_and_used_again(tmp_path, server):
    codes = sorted(path.name[:4] for path in EMBEDDED.glob("*/*.cif.gz"))[:24]
    for code in codes:
        server.scripts[f"/download/{code.upper()}.cif.gz"] = [after(0.03)]
    entries, _ = fetch(tmp_path, codes, [template(server)], connections=3, timeout=10.0)
    assert [entry["pdb_id"] for entry in entries] == codes
    assert server.peak == 3
    assert server.connections == 3


def test_offline(tmp_path, server):
    fetch(tmp_path, ["1a28"], [template(server)])
    server.requests.clear()
    entries, dropped = fetch(tmp_path, ["1a28", "2xhe"], [template(server)], offline=True)
    assert [entry["pdb_id"] for entry in entries] == ["1a28"]
    assert [(row["domain_id"], row["reason"]) for row in dropped] == [("2xhe1", "offline")]
    assert server.requests == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_came_before_an_interrupt_is_not_downloaded_again(tmp_path, server, end):
    codes = ["1a28", "2a2l", "2xhe", "6zu5"]
    server.scripts["/download/6ZU5.cif.gz"] = [trickle]
    settings = {"sources": [template(server)], "cache": str(tmp_path / "cache"), "connections": 1, "obsolete": ""}
    outputs = ["-o", str(tmp_path / "e.tsv"), "--rejected", str(tmp_path / "r.tsv")]
    call = ["fetch", "--domains", str(domains_of(tmp_path, codes)), "--settings", json.dumps(settings), *outputs]
    heeded = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    process = subprocess.Popen(
        [sys.executable, "-m", "cvae_protein.cli.main", *call], stderr=subprocess.PIPE, preexec_fn=heeded
    )
    deadline = time.monotonic() + 60
    while "/download/6ZU5.cif.gz" not in server.paths() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(end)
    said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[end]
    assert "Traceback" not in said
    assert not (tmp_path / "e.tsv").exists()
    server.requests.clear()
    server.scripts.clear()
    assert main.run(call) == 0
    assert server.paths() == ["/download/6ZU5.cif.gz"]
    assert len(read_table(tmp_path / "e.tsv")) == 4


# The lock file


def test_lock_holds_a_later_run_to_the_same_bytes(tmp_path, server, capsys):
    codes = ["1a28", "2xhe"]
    fetch(tmp_path, codes, [template(server)])
    kept = (tmp_path / "sources.lock.tsv").rename(tmp_path / "kept.tsv")
    entries, _ = fetch(tmp_path, codes, [EMBEDDED], locked=str(kept))  # the same bytes from elsewhere
    assert len(entries) == 2
    (tmp_path / "entries.tsv").unlink()
    newer = gzip.compress(gzip.decompress(server.files["/download/2XHE.cif.gz"]))
    server.files["/download/2XHE.cif.gz"], server.etag = newer, '"2"'
    call = ["fetch", "--domains", str(domains_of(tmp_path, [*codes, "2a2l"])), "--locked", str(kept)]
    settings = {"sources": [template(server)], "cache": str(tmp_path / "cache"), "revalidate": True}
    call += ["-o", str(tmp_path / "entries.tsv"), "--rejected", str(tmp_path / "r.tsv")]
    capsys.readouterr()
    assert main.run([*call, "--settings", json.dumps(settings)]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "1 differ (2xhe); 1 are not in the lock file (2a2l)" in said
    assert not (tmp_path / "entries.tsv").exists()
    with pytest.raises(UserError, match=r"1 are in the lock file and were not found \(2xhe\)"):
        fetch(tmp_path, ["1a28"], [EMBEDDED], locked=str(kept))


def test_lock_that_is_none(tmp_path):
    put(tmp_path / "mirror/1abc.cif")
    with pytest.raises(UserError, match="found no file there"):
        fetch(tmp_path, ["1abc"], [tmp_path / "mirror"], locked=str(tmp_path / "none.tsv"))


# Superseded entries


def test_obsolete_entries_follow_their_successor(tmp_path, server, capsys):
    url = f"{server.base}/obsolete.dat"
    ids = ["1old", "1ole", "1gon", "1los", "1lop", "9aaa", "1a28"]
    entries, dropped = fetch(tmp_path, ids, [template(server)], obsolete=url)
    assert [(e["pdb_id"], e["superseded_by"]) for e in entries] == [("1a28", ""), ("1old", "1a28"), ("1ole", "1a28")]
    assert len({entry["path"] for entry in entries}) == 1
    assert "1old is obsolete, 1a28 superseded it" in capsys.readouterr().err
    reasons = {row["domain_id"][:4]: (row["reason"], row["detail"]) for row in dropped}
    assert {name: code for name, (code, _) in reasons.items()} == {
        "1gon": "obsolete", "1los": "obsolete", "1lop": "obsolete", "9aaa": "not_found"
    }  # fmt: skip
    assert "1gon was withdrawn" in reasons["1gon"][1]
    assert "1los was superseded by 9zzy" in reasons["1los"][1]
    assert server.paths().count("/obsolete.dat") == 1

    server.requests.clear()
    entries, dropped = fetch(tmp_path, ["1old", "1los"], [template(server)], obsolete=url, offline=True)
    assert [(e["pdb_id"], e["superseded_by"]) for e in entries] == [("1old", "1a28")]
    assert [row["reason"] for row in dropped] == ["offline"]
    assert server.requests == []


def test_list_of_obsolete_entries_may_be_a_file_and_folders_ask_no_server(tmp_path, server):
    put(tmp_path / "obsolete.dat", OBSOLETE.encode())
    (entry,), _ = fetch(tmp_path, ["1old"], [EMBEDDED], obsolete=str(tmp_path / "obsolete.dat"))
    assert (entry["superseded_by"], entry["path"]) == ("1a28", str(EMBEDDED / "a2/1a28.cif.gz"))
    _, (dropped,) = fetch(tmp_path, ["1old"], [EMBEDDED], obsolete=f"{server.base}/obsolete.dat")
    assert dropped["reason"] == "not_found"
    assert server.requests == []
    with pytest.raises(UserError, match=r"fetch\.obsolete: expected a URL or a file"):
        fetch(tmp_path, ["1old"], [EMBEDDED], obsolete="none.dat")


def test_a_list_that_cannot_be_had_is_said(tmp_path, server, capsys):
    server.scripts["/obsolete.dat"] = [status(500)]
    _, (dropped,) = fetch(tmp_path, ["1old", "1a28"], [template(server)], obsolete=f"{server.base}/obsolete.dat")
    assert dropped["reason"] == "not_found"
    assert "the list of obsolete entries cannot be had" in capsys.readouterr().err
    server.scripts.clear()
    fetch(tmp_path, ["1old"], [template(server)], obsolete=f"{server.base}/obsolete.dat")
    server.scripts["/obsolete.dat"] = [status(500)]
    (entry,), _ = fetch(tmp_path, ["1old"], [template(server)], obsolete=f"{server.base}/obsolete.dat")
    assert entry["superseded_by"] == "1a28"
    assert "an earlier copy is used" in capsys.readouterr().err


def test_a_successor_that_fails_for_a_reason_that_may_pass_says_so(tmp_path, server):
    server.scripts["/download/1A28.cif.gz"] = [half]
    settings = {"obsolete": f"{server.base}/obsolete.dat", "retries": 0}
    _, (dropped,) = fetch(tmp_path, ["1old", "2xhe"], [template(server)], **settings)
    assert dropped["reason"] == "connection"
    assert "1old was superseded by 1a28" in dropped["detail"]


# Files of single domains


def test_files_of_single_domains(tmp_path, server):
    text = "HEADER    SCOPe/ASTRAL domain {} [1]                       02-MAR-17   0000\nATOM      1\n"
    for name in ("1a280", "1a281"):
        server.files[f"/astral/a2/{name}.ent"] = text.format(name).encode()
    domain_files = f"{server.base}/astral/{{middle}}/{{domain_id}}.ent"
    entries, dropped = fetch(tmp_path, ["1a28", "1a28", "1a28", "2xhe"], [domain_files, template(server)])
    assert [(entry["pdb_id"], entry["domain_id"]) for entry in entries] == [
        ("1a28", "1a280"), ("1a28", "1a281"), ("1a28", ""), ("2xhe", "")
    ]  # fmt: skip
    assert dropped == []
    files = read_entries(tmp_path / "entries.tsv")
    found = [key_of({"pdb_id": "1a28", "domain_id": f"1a28{number}"}, files) for number in range(3)]
    assert found == ["1a28/1a280", "1a28/1a281", "1a28"]
    assert key_of({"pdb_id": "9zzz", "domain_id": "1a280"}, files) is None
    _, dropped = fetch(tmp_path, ["1a28", "1a28", "2xhe"], [domain_files])
    assert [(row["domain_id"], row["reason"]) for row in dropped] == [("2xhe2", "not_found")]


def test_names_that_differ_in_capitals_alone_lie_apart(tmp_path, server):
    (site,) = sources_of(FetchSettings(sources=(f"{server.base}/{{domain_id}}.pdb?v=2",)), tmp_path)
    names = [site._file_name(name) for name in ("1abcA00", "1abca00", "1ABCA00")]
    assert names[1] == "1abca00.pdb"
    assert len({name.lower() for name in names}) == 3
    assert replace(site, template="https://host/?id={domain_id}")._file_name("x") == "x"


def test_domains_are_read_from_the_successor_and_from_files_of_their_own(tmp_path, server):
    from cvae_protein.config.settings import FeaturizeSettings, LabelSettings
    from cvae_protein.dataset.featurize import featurize
    from cvae_protein.store.read import Store

    (row,) = [row for row in read_table(EMBEDDED.parent / "domains.tsv") if row["domain_id"] == DOMAIN]
    rows = [{**row, "domain_id": name, "pdb_id": code} for name, code in (("old", "1old"), ("own", "1a28"))]
    write_table(
        tmp_path / "domains.tsv",
        [*DOMAIN_COLUMNS],
        [{**row, "label": row["cath"], "numbering": "", "superfamily": ""} for row in rows],
    )
    server.files["/domains/own.cif.gz"] = server.files["/download/1A28.cif.gz"]
    settings = FetchSettings(
        sources=(f"{server.base}/domains/{{domain_id}}.cif.gz", template(server)),
        cache=str(tmp_path / "cache"),
        obsolete=f"{server.base}/obsolete.dat",
    )
    tables = [tmp_path / name for name in ("domains.tsv", "entries.tsv")]
    assert fetch_entries(tables[0], settings, EMBEDDED, tables[1], tmp_path / "r.tsv") == 2
    labels = LabelSettings(min_length=20, max_length=4096)
    featurize(*tables, FeaturizeSettings(), labels, (0, 1), tmp_path / "s.h5", tmp_path / "r2.tsv")
    assert read_table(tmp_path / "r2.tsv") == []
    with Store(tmp_path / "s.h5") as store:
        assert store.ids == ["old", "own"]


def test_a_file_that_cannot_be_read_is_rejected_and_the_rest_found(tmp_path, monkeypatch):
    for pdb_id in ("1abc", "2abc"):
        (tmp_path / f"{pdb_id}.cif").write_text("data_")
    exact = files.sha256

    def refused(path):
        if path.name.startswith("1abc"):
            raise PermissionError(13, "Permission denied")
        return exact(path)

    monkeypatch.setattr(sources_module, "sha256", refused)
    entries, rejected = fetch(tmp_path, ["1abc", "2abc"], [tmp_path])
    assert [row["pdb_id"] for row in entries] == ["2abc"]
    assert [(row["reason"], "Permission denied" in row["detail"]) for row in rejected] == [("unreadable", True)]


@pytest.mark.parametrize("name", ["ok.PDB", "OK.Ent", "ok.Cif.GZ", "Ok.mmCIF", "oK.bcif"])
def test_names_in_capitals_are_found(tmp_path, name):
    path = put(tmp_path / "mirror" / name)
    (entry,), dropped = fetch(tmp_path, ["ok"], [tmp_path / "mirror"])
    assert (entry["path"], dropped) == (str(path), [])


def test_names_that_differ_in_capitals_alone(tmp_path):
    for name in ("designA", "designa", "DESIGNA"):
        put(tmp_path / "mirror" / f"{name}.pdb", name.encode())
    found, dropped = fetch(tmp_path, ["designA", "designa"], [tmp_path / "mirror"])
    assert [Path(entry["path"]).stem for entry in found] == ["designA", "designa"]
    assert dropped == []
    put(tmp_path / "other/ok.PDB")
    put(tmp_path / "other/Ok.PDB")
    _, (row,) = fetch(tmp_path, ["oK"], [tmp_path / "other"])
    assert "differ in capitals alone" in row["detail"]


@pytest.mark.parametrize(
    "file",
    [
        "1ubi.cif", "ub/1ubi.cif.gz", "pdb_00001ubi.cif", "ub/pdb_00001ubi.cif.gz", "PDB_00001UBI.cif",
        "entries/ub/pdb_00001ubi/structures/pdb_00001ubi.cif.gz", "ub/pdb_00001ubi/pdb_00001ubi_xyz.cif.gz",
        "data/entries/ub/pdb_00001ubi/pdb_00001ubi_xyz_v1-2.cif.gz",
    ],
)  # fmt: skip
@pytest.mark.parametrize("pdb_id", ["1ubi", "pdb_00001ubi"])
def test_both_forms_of_a_code_are_one_entry(tmp_path, file, pdb_id):
    path = put(tmp_path / "mirror" / file)
    (entry,), dropped = fetch(tmp_path, [pdb_id], [tmp_path / "mirror"])
    assert (entry["pdb_id"], entry["path"], dropped) == (pdb_id, str(path), [])


def test_the_latest_version_of_an_entry_is_taken(tmp_path):
    for version in ("v1-9", "v1-10", "v2-0", "v1-2"):
        put(tmp_path / f"mirror/ub/pdb_00001ubi/pdb_00001ubi_xyz_{version}.cif.gz")
    (entry,), _ = fetch(tmp_path, ["1ubi"], [tmp_path / "mirror"])
    assert entry["path"].endswith("v2-0.cif.gz")


def test_an_archive_is_asked_for_the_short_form(tmp_path, server, monkeypatch):
    monkeypatch.setitem(ARCHIVES["rcsb"], "cif", template(server))
    (entry,), dropped = fetch(tmp_path, ["pdb_00001a28"], ["rcsb"])
    assert (entry["pdb_id"], dropped) == ("pdb_00001a28", [])
    assert entry["url"].endswith("/1A28.cif.gz")


MODEL = """data_AF-P69905-F1
_entry.id AF-P69905-F1
loop_
_ma_qa_metric.id
_ma_qa_metric.mode
_ma_qa_metric.name
_ma_qa_metric.type
1 global pLDDT pLDDT
2 local pLDDT pLDDT
loop_
_ma_qa_metric_local.label_asym_id
_ma_qa_metric_local.label_comp_id
_ma_qa_metric_local.label_seq_id
_ma_qa_metric_local.metric_id
_ma_qa_metric_local.metric_value
_ma_qa_metric_local.model_id
_ma_qa_metric_local.ordinal_id
A MET 1 2 31.5 1 1
A VAL 2 2 90.5 1 2
"""


@pytest.mark.parametrize("name", ["P69905", "AF-P69905-F1", "AF-P69905-F1-model_v4", "p69905"])
def test_models_of_the_alphafold_database(tmp_path, server, monkeypatch, name):
    monkeypatch.setattr(sources_module, "ALPHAFOLD", server.base + "/files/{{pdb_id}}-model_v{version}.{format}")
    server.files["/files/AF-P69905-F1-model_v6.cif"] = MODEL.encode()
    (entry,), dropped = fetch(tmp_path, [name, "1abc"], ["afdb"])
    assert (entry["pdb_id"], entry["source"]) == (name, "afdb")
    (locked,) = read_table(tmp_path / "sources.lock.tsv", LOCK_COLUMNS)
    assert locked["url"].endswith("/AF-P69905-F1-model_v6.cif")
    assert [row["detail"] for row in dropped] == ["1abc is no accession of UniProt, afdb was not asked"]
    assert read_confidence(Path(entry["path"])) == {"1": 31.5, "2": 90.5}


def test_another_model_than_was_asked_for_is_refused(tmp_path, server, monkeypatch):
    monkeypatch.setattr(sources_module, "ALPHAFOLD", server.base + "/files/{{pdb_id}}-model_v{version}.{format}")
    server.files["/files/AF-P69906-F1-model_v6.cif"] = MODEL.encode()
    entries, (dropped,) = fetch(tmp_path, ["P69906"], ["afdb"])
    assert entries == []
    assert dropped["reason"] == "bad_download"


def test_the_latest_model_of_a_folder_is_taken(tmp_path):
    for version in (4, 6, 10):
        put(tmp_path / f"mirror/AF-P69905-F1-model_v{version}.cif.gz")
    (entry,), _ = fetch(tmp_path, ["AF-P69905-F1"], [tmp_path / "mirror"])
    assert entry["path"].endswith("model_v10.cif.gz")
