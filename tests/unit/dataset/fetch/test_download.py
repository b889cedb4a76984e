"""Downloads against a server on this machine that misbehaves: whole and checked files, or a reason."""

import asyncio
import gzip
import io
from functools import partial
from pathlib import Path

import pytest
from misbehaving_server import (
    after,
    announcing,
    half,
    http_date,
    instead,
    of_unknown_length,
    redirect,
    reset,
    running,
    serve,
    silent,
    status,
    trickle,
    whole,
    without_validators,
)  # fmt: skip

from cvae_protein.config.settings import FetchSettings
from cvae_protein.core.errors import StructureError, UserError
from cvae_protein.dataset.fetch.download import (
    FAILURES_OF_A_LOST_HOST,
    Downloader,
    check_address,
    check_redirect,
)
from cvae_protein.io.read import check_structure

EMBEDDED = Path(__file__).parents[4] / "data/embedded"
ENTRY = (EMBEDDED / "a2/1a28.cif.gz").read_bytes()
OTHER = (EMBEDDED / "xh/2xhe.cif.gz").read_bytes()
PLACE = "/download/1A28.cif.gz"
CHECK = partial(check_structure, name="1a28", most_bytes=10**7, certain=True)


@pytest.fixture
def server():
    with running() as found:
        found.files[PLACE] = ENTRY
        yield found


def settings_for(tmp_path, **values):
    quick = {"timeout": 0.4, "retries": 2, "backoff": 0.01, "cache": str(tmp_path / "cache")}
    return FetchSettings(**(quick | values))


def download(server, tmp_path, place=PLACE, check=CHECK, revalidate=False, **values):
    """Path and receipt of one download in a run of its own."""
    path = tmp_path / "cache/rcsb/a2/1a28.cif.gz"

    async def go():
        async with Downloader(settings_for(tmp_path, **values)) as downloader:
            return await downloader.file(f"{server.base}{place}", path, check, revalidate)

    receipt, fresh = asyncio.run(go())
    return path, receipt, fresh


def reason(server, tmp_path, **values):
    with pytest.raises(StructureError) as caught:
        download(server, tmp_path, **values)
    return caught.value


def left_in(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_file_comes_whole_with_its_receipt_and_once(server, tmp_path):
    path, receipt, fresh = download(server, tmp_path)
    assert path.read_bytes() == ENTRY
    assert (receipt.url, receipt.etag, receipt.bytes, fresh) == (f"{server.base}{PLACE}", '"1"', len(ENTRY), True)
    again, same, fresh = download(server, tmp_path)
    assert (again, same, fresh) == (path, receipt, False)
    assert server.paths() == [PLACE]
    assert left_in(tmp_path) == [".1a28.cif.gz.json", "1a28.cif.gz"]
    assert "cvae_protein" in server.requests[0][1]["User-Agent"]


@pytest.mark.parametrize(
    ("steps", "requests"),
    [
        ([status(500), status(503), serve], 3),
        ([status(429, Retry_After="0"), serve], 2),
        ([reset, serve], 2),
        ([half, whole], 2),  # a server without ranges sends all of it again
        ([of_unknown_length], 1),
        ([without_validators], 1),
        ([redirect("/elsewhere.cif.gz", 301)], 2),
        ([announcing(7), serve], 3),  # the part is as long as the file: 416, then from the beginning
    ],
)
def test_failures_that_pass(server, tmp_path, steps, requests):
    server.files["/elsewhere.cif.gz"] = ENTRY
    server.scripts[PLACE] = list(steps)
    path, receipt, _ = download(server, tmp_path)
    assert path.read_bytes() == ENTRY
    assert len(server.requests) == requests
    assert receipt.url == server.base + server.paths()[-1]  # that which answered, after a redirect


BOMB = gzip.compress(b"data_1A28\n_entry.id 1A28\n" + b"#" * 20_000_000)
DAMAGED = ENTRY[:-8] + b"\0\0\0\0" + ENTRY[-4:]


@pytest.mark.parametrize(
    ("step", "code", "said", "requests"),
    [
        (status(404), "not_found", "status 404", 1),
        (status(403), "http_error", "status 403", 1),
        (status(500), "http_error", "(3 tries)", 3),
        (status(429, Retry_After="3600"), "http_error", "asks to wait 3600 s, more than 120 s", 1),
        (status(503, Retry_After=http_date(4000)), "http_error", "asks to wait", 1),
        (silent, "timeout", "no answer within", 2),
        (trickle, "timeout", "bytes in", 2),
        (half, "connection", "tries", 3),
        (announcing(7), "connection", "tries", 3),
        (announcing(-7), "bad_download", "the gzip data end early", 1),
        (instead(ENTRY[:-9]), "bad_download", "the gzip data end early", 1),
        (instead(DAMAGED), "bad_download", "damaged gzip", 1),
        (instead(b"<!DOCTYPE html><p>Down for maintenance"), "bad_download", "an HTML or XML page", 1),
        (instead(b"Service is busy"), "bad_download", "neither PDB nor mmCIF", 1),
        (instead(b""), "bad_download", "no content", 1),
        (instead(OTHER), "bad_download", "of the entry 2XHE, not 1a28", 1),
        (instead(BOMB), "too_large", "once unpacked", 1),
        (redirect("file:///etc/passwd"), "bad_redirect", "not on the web", 1),
        (redirect("http://example.org/1a28.cif.gz"), "bad_redirect", "not https", 1),
        (redirect("ftp://example.org/1a28.cif.gz"), "bad_redirect", "not on the web", 1),
        (redirect("https://"), "bad_redirect", "not on the web", 1),
        (redirect(PLACE), "bad_redirect", "more than 5 redirects", 6),
    ],
)
def test_failures_that_stay(server, tmp_path, step, code, said, requests):
    server.scripts[PLACE] = [step]
    error = reason(server, tmp_path, retries=1 if code == "timeout" else 2)
    assert error.code == code
    assert said in error.detail
    assert len(server.requests) == requests
    assert not (tmp_path / "cache/rcsb/a2/1a28.cif.gz").exists()
    if code in ("bad_download", "too_large", "not_found"):
        assert left_in(tmp_path) == []


def test_what_broke_off_is_continued_in_this_run_and_the_next(server, tmp_path):
    server.scripts[PLACE] = [half]
    assert reason(server, tmp_path, retries=0).code == "connection"
    assert ".1a28.cif.gz.part" in left_in(tmp_path)
    assert "1a28.cif.gz" not in left_in(tmp_path)
    server.scripts[PLACE] = [serve]
    path, receipt, _ = download(server, tmp_path)
    assert path.read_bytes() == ENTRY
    asked = server.requests[-1][1]
    assert asked["Range"] == f"bytes={len(ENTRY) // 2}-"
    assert asked["If-Range"] == '"1"'
    assert receipt.etag == '"1"'
    assert left_in(tmp_path) == [".1a28.cif.gz.json", "1a28.cif.gz"]


def test_a_file_that_changed_meanwhile_is_not_joined_to_its_old_part(server, tmp_path):
    server.files[PLACE] = gzip.compress(gzip.decompress(ENTRY) + b"# older\n")
    server.scripts[PLACE] = [half]
    reason(server, tmp_path, retries=0)
    server.files[PLACE], server.etag, server.scripts[PLACE] = ENTRY, '"2"', [serve]
    path, receipt, _ = download(server, tmp_path)
    assert (path.read_bytes(), receipt.etag) == (ENTRY, '"2"')


def test_a_bad_joint_is_mended_from_the_beginning(server, tmp_path):
    server.files[PLACE] = OTHER  # the same ETag for other bytes
    server.scripts[PLACE] = [half]
    reason(server, tmp_path, retries=0)
    server.files[PLACE], server.scripts[PLACE] = ENTRY, [serve]
    path, _, _ = download(server, tmp_path)
    assert path.read_bytes() == ENTRY
    assert [("Range" in headers) for _, headers, _ in server.requests] == [False, True, False]


def test_a_server_that_asks_for_time_gets_it(server, tmp_path):
    server.scripts[PLACE] = [status(429, Retry_After="1"), serve]
    download(server, tmp_path)
    assert server.requests[1][2] - server.requests[0][2] >= 0.95


def test_revalidation_asks_and_takes_what_is_new(server, tmp_path):
    download(server, tmp_path)
    path, _, fresh = download(server, tmp_path, revalidate=True)
    assert (path.read_bytes(), fresh) == (ENTRY, False)
    assert server.requests[1][1]["If-None-Match"] == '"1"'
    newer = gzip.compress(gzip.decompress(ENTRY) + b"# remediated\n")
    server.files[PLACE], server.etag = newer, '"2"'
    path, receipt, fresh = download(server, tmp_path, revalidate=True)
    assert (path.read_bytes(), receipt.etag, fresh) == (newer, '"2"', True)
    server.scripts[PLACE] = [status(500)]
    assert reason(server, tmp_path, revalidate=True).code == "http_error"
    assert path.read_bytes() == newer


def test_a_damaged_copy_is_downloaded_again(server, tmp_path):
    path, _, _ = download(server, tmp_path)
    path.write_bytes(ENTRY[:-1] + b"x")
    assert download(server, tmp_path)[0].read_bytes() == ENTRY
    path.with_name(".1a28.cif.gz.json").write_text("{}")
    assert download(server, tmp_path)[2]
    assert len(server.requests) == 3


def test_offline_takes_the_cache_and_never_connects(server, tmp_path):
    error = reason(server, tmp_path, offline=True)
    assert error.code == "offline"
    assert server.base in error.detail
    assert server.connections == 0
    download(server, tmp_path)
    assert download(server, tmp_path, offline=True, revalidate=True)[0].read_bytes() == ENTRY
    assert server.connections == 1


@pytest.mark.parametrize("step", [whole, of_unknown_length])
def test_no_more_than_the_maximum_is_taken(server, tmp_path, step):
    server.scripts[PLACE] = [step]
    server.files[PLACE] = b"data_1A28\n" + b"#" * 3_000_000
    error = reason(server, tmp_path, max_megabytes=0.5)
    assert error.code == "too_large"
    assert left_in(tmp_path) == []


def test_several_tasks_download_one_file_once(server, tmp_path):
    server.scripts[PLACE] = [after(0.2)]
    path = tmp_path / "cache/1a28.cif.gz"

    async def go():
        settings = settings_for(tmp_path)
        async with Downloader(settings) as one, Downloader(settings) as two:
            return await asyncio.gather(*(d.file(f"{server.base}{PLACE}", path, CHECK) for d in (one, two, one)))

    assert sorted(fresh for _, fresh in asyncio.run(go())) == [False, False, True]
    assert server.paths() == [PLACE]


def test_a_host_that_does_not_answer_is_given_up(tmp_path):
    with running() as gone:
        base = gone.base
    count = FAILURES_OF_A_LOST_HOST + 3

    async def go():
        async with Downloader(settings_for(tmp_path, retries=0)) as downloader:
            for number in range(count):
                with pytest.raises(StructureError) as caught:
                    await downloader.file(f"{base}/{number}", tmp_path / str(number), CHECK)
                yield caught.value

    async def collect():
        return [error async for error in go()]

    errors = asyncio.run(collect())
    assert {error.code for error in errors} == {"connection"}
    assert ["not asked" in error.detail for error in errors] == [False] * FAILURES_OF_A_LOST_HOST + [True] * 3


@pytest.mark.parametrize(
    ("origin", "target", "said"),
    [
        ("https://files.rcsb.org/a", "https://files.rcsb.org/b", None),
        ("https://1.1.1.1/a", "https://8.8.8.8/b", None),
        ("http://127.0.0.1:81/a", "http://localhost:82/b", None),
        ("http://127.0.0.1/a", "https://8.8.8.8/b", None),
        ("https://10.0.0.1/a", "https://10.0.0.2/b", None),  # the user's own network
        ("https://1.1.1.1/a", "http://1.1.1.1/a", "not https"),
        ("https://1.1.1.1/a", "http://127.0.0.1/a", "not https"),
        ("https://1.1.1.1/a", "https://127.0.0.1/a", "private"),
        ("https://1.1.1.1/a", "https://[::1]/a", "private"),
        ("https://1.1.1.1/a", "https://localhost/a", "private"),
        ("https://1.1.1.1/a", "https://10.1.2.3/a", "private"),
        ("https://1.1.1.1/a", "https://169.254.169.254/latest", "private"),
        ("https://1.1.1.1/a", "https://2130706433/a", "private"),  # 127.0.0.1 as one number
        ("https://1.1.1.1/a", "file:///etc/passwd", "not on the web"),
        ("https://1.1.1.1/a", "data:text/plain,x", "not on the web"),
        ("https://1.1.1.1/a", "https://host:port/a", "not on the web"),
    ],
)
def test_where_a_redirect_may_lead(origin, target, said):
    if said is None:
        asyncio.run(check_redirect(origin, target))
        return
    with pytest.raises(StructureError, match=said) as caught:
        asyncio.run(check_redirect(origin, target))
    assert caught.value.code == "bad_redirect"


@pytest.mark.parametrize(
    "url",
    ["http://example.org/x", "http://10.0.0.1/x", "ftp://host/x", "file:///x", "https:///x", "https://me:pw@host/x"],
)
def test_addresses_that_are_not_asked(url):
    with pytest.raises(UserError, match=r"fetch\.sources: expected"):
        check_address(url, "fetch.sources")


def binary(name):
    from biotite.structure.io.pdbx import BinaryCIFBlock, BinaryCIFCategory, BinaryCIFFile

    stream = io.BytesIO()
    BinaryCIFFile({name: BinaryCIFBlock({"entry": BinaryCIFCategory({"id": [name]})})}).write(stream)
    return stream.getvalue()


def header(code):
    return f"HEADER    PROGESTERONE RECEPTOR                   20-JAN-98   {code}\nATOM\n".encode()


ASTRAL = b"HEADER    SCOPe/ASTRAL domain d1a28a_ [19287]       02-MAR-17   0000\nATOM      1\n"


@pytest.mark.parametrize(
    ("content", "name", "certain", "said"),
    [
        (ENTRY, "1a28", True, None),
        (gzip.decompress(ENTRY), "1A28", True, None),
        (b"data_PDB_00001A28\n_entry.id   'pdb_00001a28'\n", "1a28", True, None),
        (b"\xef\xbb\xbfdata_1A28\r_entry.id   1A28\r", "1a28", True, None),
        (b"data_1A28\n_entry.id 2XHE\n", "1a28", True, "of the entry 2XHE"),
        (binary("1A28"), "1a28", True, None),
        (gzip.compress(binary("1A28")), "1a28", True, None),
        (binary("2XHE"), "1a28", False, "of the entry 2XHE"),
        (binary("1A28")[:-9], "1a28", True, "not readable as BinaryCIF"),
        (header("1A28"), "1a28", True, None),
        (header("2XHE"), "1a28", False, "of the entry 2XHE"),
        (header("    "), "1a28", False, None),
        (header("    "), "1a28", True, "does not say"),
        (ASTRAL, "1a28", False, None),
        (b"ATOM      1  N   MET A   1\n", "1a28", False, None),
        (b"# told at length\n" * 30_000 + b"data_1A28\n_entry.id 1A28\n", "1a28", True, None),
        (b"made by a program\n" * 30_000 + header("2XHE"), "1a28", False, "of the entry 2XHE"),
        (b"data_model\n", "AF-P12345-F1", False, None),
        (b"data_model\n", "1a28", True, "of the entry model"),
        (b"\x83junk", "1a28", True, "not readable as BinaryCIF"),
    ],
)
def test_content_is_that_of_the_entry(tmp_path, content, name, certain, said):
    (tmp_path / "x").write_bytes(content)
    if said is None:
        check_structure(tmp_path / "x", name, 10**7, certain)
        return
    with pytest.raises(StructureError, match=said) as caught:
        check_structure(tmp_path / "x", name, 10**7, certain)
    assert caught.value.code == "bad_download"


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALL_PROXY", "socks://u:secret@proxy:1080"), ("https_proxy", "ftp://proxy"), ("SSL_CERT_FILE", "/none.pem")],
)
def test_a_useless_proxy_or_certificate_is_named_where_a_server_is_asked(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    async def go():
        async with Downloader(settings_for(tmp_path)) as downloader:  # files that are there need no connection
            with pytest.raises(UserError, match=f"no connection can be made .*; correct or unset .*{name}") as caught:
                await downloader.file("https://host.invalid/1a28.cif.gz", tmp_path / "cache/x", CHECK)
            assert "secret" not in str(caught.value)

    asyncio.run(go())
