"""HTTP downloads: allowed addresses, retries, a cache with receipts, content checks."""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import json
import os
import random
import re
import socket
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Self
from urllib.parse import SplitResult, urlsplit

import httpx

from ... import __version__
from ...config.settings import FetchSettings
from ...core.errors import StructureError, UserError
from ...core.files import atomic_path, sha256, take_lock


def check_address(url: str, key: str) -> None:
    """Raise `UserError` if a URL (of the setting `key`) is neither HTTPS nor HTTP on the loopback, or has a user."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{key}: expected an address such as https://host/path, got {url}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise UserError(f"{key}: expected https (plain http only for a server on this machine), got {url}")
    if parts.username or parts.password:
        raise UserError(f"{key}: expected an address without a user name; it would stand in the tables of the run")


async def check_redirect(origin: str, target: str) -> None:
    """Raise `StructureError("bad_redirect")` if a redirect from the URL `origin` to `target` is not allowed."""
    start, end = _split(origin), _split(target)
    if start is None or end is None or end.scheme not in ("http", "https") or not end.hostname or not start.hostname:
        raise StructureError("bad_redirect", f"{origin} redirects to {target}, which is not on the web")
    both_local = _is_loopback(start.hostname) and _is_loopback(end.hostname)
    if end.scheme == "http" and not (start.scheme == "http" and both_local):
        raise StructureError("bad_redirect", f"{origin} redirects to {target}, which is not https")
    if end.hostname == start.hostname or both_local:
        return
    if await _is_inside(end.hostname) and not await _is_inside(start.hostname):
        raise StructureError("bad_redirect", f"{origin} redirects to {target}, an address of a private network")


def _split(url: str) -> SplitResult | None:
    """Parts of a URL; None if it is invalid."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for an invalid port
    except ValueError:
        return None
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


async def _is_inside(host: str) -> bool:
    """Whether a host has a non-public address; a name that this machine cannot resolve counts as public.

    Behind a proxy, only the proxy resolves names and decides what may be reached.
    """
    if _is_loopback(host):
        return True
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return not all(ipaddress.ip_address(str(address[4][0]).split("%")[0]).is_global for address in found)


SECONDS_BETWEEN_LOOKS = 0.1  # attempts to get a lock held by another process


@dataclass(frozen=True)
class Receipt:
    """Where the bytes of a file came from: `asked` is the URL requested, `url` the one that answered.

    `etag` and `modified` are the server's identifiers of this version; `date` is the time of the download in UTC.
    """

    asked: str
    url: str
    etag: str = ""
    modified: str = ""
    date: str = ""
    sha256: str = ""
    bytes: int = 0

    @property
    def validator(self) -> str:
        """Value for `If-Range`; empty if the server gave nothing that reliably distinguishes versions."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


def _receipt_path(path: Path) -> Path:
    return path.with_name(f".{path.name.lstrip('.')}.json")


def part_path(path: Path) -> Path:
    """Path of a file until it is complete and checked."""
    return path.with_name(f".{path.name}.part")


def read_receipt(path: Path, asked: str) -> Receipt | None:
    """The receipt of a file or part downloaded from `asked`; None if there is none that can be trusted."""
    try:
        receipt = Receipt(**json.loads(_receipt_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return receipt if receipt.asked == asked else None


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write the receipt of a file or part."""
    with atomic_path(_receipt_path(path)) as temporary:
        temporary.write_text(json.dumps(asdict(receipt)), encoding="utf-8")


def kept_file(path: Path, asked: str) -> Receipt | None:
    """The receipt of a complete file if its bytes are still those downloaded from `asked`; else None."""
    receipt = read_receipt(path, asked)
    if receipt is None or not path.is_file() or path.stat().st_size != receipt.bytes:
        return None
    return receipt if sha256(path) == receipt.sha256 else None


def keep(path: Path, receipt: Receipt) -> None:
    """Rename a checked part to its final name. If the process dies in between, the file is downloaded again."""
    part = part_path(path)
    with open(part, "rb") as handle:
        os.fsync(handle.fileno())
    write_receipt(path, receipt)
    os.replace(part, path)
    _receipt_path(part).unlink(missing_ok=True)


@asynccontextmanager
async def locked_part(path: Path) -> AsyncIterator[IO[bytes]]:
    """The part of a file, open for appending and locked; waits while another process or task writes it."""
    part = part_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(part, "ab") as handle:
            if not take_lock(handle):
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
                continue
            if not _is_still(part, handle):  # the previous owner renamed or removed it
                continue
            try:
                yield handle
            finally:
                handle.flush()
                if _is_still(part, handle) and not part.stat().st_size:
                    part.unlink()
                    _receipt_path(part).unlink(missing_ok=True)
            return


def _is_still(part: Path, handle: IO[bytes]) -> bool:
    """Whether the open file still has that path."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(part))
    except FileNotFoundError:
        return False


PASSING = (408, 425, 429, 500, 502, 503, 504)  # statuses that may be temporary
ABSENT = (404, 410)


class PassingError(Exception):
    """A failure that may be temporary: `reason` applies if it is not; `wait` is the server's request in seconds."""

    def __init__(self, code: str, detail: str, wait: float | None = None) -> None:
        self.reason, self.wait = StructureError(code, detail), wait


def request_headers(kept: Receipt | None, begun: Receipt | None, size: int) -> dict[str, str]:
    """Headers to request the rest of a part of `size` bytes, or a file only if it has changed."""
    if size and begun:
        return {"Range": f"bytes={size}-", "If-Range": begun.validator}
    known = {"If-None-Match": kept.etag, "If-Modified-Since": kept.modified} if kept else {}
    return {name: value for name, value in known.items() if value}


def begin(url: str, response: httpx.Response, part: IO[bytes], size: int) -> int:
    """How many bytes of the part are kept: all if the server continues it, none if it sends the whole file."""
    answered = _content_range(response)
    if response.status_code == 206 and answered and answered[0] == size:
        return size
    part.truncate(0)
    if response.status_code != 200:
        raise PassingError("http_error", f"{url}: no use for status {response.status_code}", 0.0)
    return 0


def _content_range(response: httpx.Response) -> tuple[int, int | None] | None:
    """First byte and total size (None if not given) of a partial response."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", "").strip())
    return (int(found[1]), None if found[2] == "*" else int(found[2])) if found else None


def whole_size(response: httpx.Response, size: int) -> int | None:
    """Size of the whole file in bytes as announced by the server; None if it is not."""
    answered = _content_range(response) if response.status_code == 206 else None
    if answered and answered[1] is not None:
        return answered[1]
    length = response.headers.get("content-length", "")
    return size + int(length) if length.isdecimal() else None


def begun_receipt(url: str, response: httpx.Response) -> Receipt:
    """The receipt of a file whose download begins: URL and version."""
    headers = response.headers
    return Receipt(url, str(response.url), headers.get("etag", ""), headers.get("last-modified", ""))


def refusal(url: str, response: httpx.Response) -> Exception:
    """The exception for a status that brings no file."""
    status = f"{url}: status {response.status_code} {response.reason_phrase}".rstrip()
    if response.status_code in ABSENT:
        return StructureError("not_found", status)
    if response.status_code in PASSING:
        return PassingError("http_error", status, _retry_after(response))
    return StructureError("http_error", status)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait, given as a number or a date; None if not given or unreadable."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


MOST_REDIRECTS = 5
OF_CONNECTIONS = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables of the environment that say how connections are made."""
SMALL = 1 << 16  # bytes read of an error page, so that its connection can be reused
TRICKLE = 1000  # bytes per second; a slower server counts as not answering
FAILURES_OF_A_LOST_HOST = 5  # consecutive files, after all retries
Check = Callable[[Path], None]
"""Raises `StructureError` where a downloaded file is not what was asked for."""


class Downloader:
    """Downloads for one run: an asynchronous context manager that keeps connections open between files.

    `received` counts the bytes of response bodies so far.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self.settings = settings
        self.received = 0
        self._most_bytes = int(settings.max_megabytes * 1e6)
        self._paused_until: dict[str, float] = defaultdict(float)  # pauses requested by servers, by host
        self._failures: Counter[str] = Counter()  # consecutive files, by host

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        """Created on first use: a run from local files needs no client, whatever the proxy variables are."""
        most = self.settings.connections
        try:
            return httpx.AsyncClient(
                timeout=self.settings.timeout,
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
                headers={"User-Agent": f"cvae_protein/{__version__}", "Accept-Encoding": "identity"},
                mounts={"http://": None},  # the loopback, never through a proxy
            )
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
            given = " or ".join(name for name in os.environ if name.upper() in OF_CONNECTIONS)  # values may be secret
            raise UserError(f"fetch: no connection can be made ({error}); correct or unset {given}") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if "_client" in vars(self):
            await self._client.aclose()

    async def file(self, url: str, path: Path, check: Check, revalidate: bool = False) -> tuple[Receipt, bool]:
        """Download `url` to `path` unless it is there from that URL; returns its receipt and whether it was downloaded.

        An existing file is used as it is; with `revalidate` the server is asked whether it has changed (except
        offline). Raises `StructureError` with the code not_found, offline, connection, timeout, http_error,
        bad_redirect, too_large or bad_download; what was received is kept if the download can be continued.
        """
        kept = await asyncio.to_thread(kept_file, path, url)
        if kept and (self.settings.offline or not revalidate):
            return kept, False
        if self.settings.offline:
            raise StructureError("offline", f"{url} is not in the cache {self.settings.cache}")
        async with locked_part(path) as part:
            kept = await asyncio.to_thread(kept_file, path, url)  # another run may have downloaded it meanwhile
            if kept and not revalidate:
                return kept, False
            receipt = await self._persist(url, path, part, check, kept)
            return receipt, receipt is not kept

    async def _persist(self, url: str, path: Path, part: IO[bytes], check: Check, kept: Receipt | None) -> Receipt:
        """Try, and retry failures that may be temporary, with increasing waits."""
        host = httpx.URL(url).netloc.decode()
        tries = self.settings.retries + 1
        for number in range(tries):
            if self._failures[host] >= FAILURES_OF_A_LOST_HOST:
                raise StructureError("connection", f"{url}: not asked, since {host} failed several times in a row")
            try:
                await self._wait_for(host)
                receipt = await self._try(url, path, part, check, kept)
            except PassingError as error:
                reason, wait = error.reason, error.wait
            except httpx.TimeoutException as error:
                reason, wait = StructureError("timeout", f"{url}: {type(error).__name__}"), None
            except (httpx.TransportError, httpx.InvalidURL) as error:
                reason, wait = StructureError("connection", f"{url}: {str(error) or type(error).__name__}"), None
            except StructureError:
                self._failures[host] = 0  # the server works; only this file fails
                raise
            else:
                self._failures[host] = 0
                return receipt
            if wait is not None and wait > self.settings.longest_wait:
                detail = f"{reason.detail}; it asks to wait {wait:.0f} s, more than {self.settings.longest_wait:.0f} s"
                raise StructureError(reason.code, detail)
            if number + 1 < tries:
                await self._pause(host, number, wait)
        self._failures[host] += 1
        raise StructureError(reason.code, f"{reason.detail} ({tries} tries)")

    async def _pause(self, host: str, number: int, wait: float | None) -> None:
        """Wait before the next try: a random part of a time that doubles each time, or as long as the server asks.

        A pause that the server asks for applies to all files from it.
        """
        if wait is None:
            longest = min(self.settings.longest_wait, self.settings.backoff * 2**number)
            await asyncio.sleep(random.uniform(longest / 2, longest))
        else:
            self._paused_until[host] = max(self._paused_until[host], time.monotonic() + wait)

    async def _wait_for(self, host: str) -> None:
        while (pause := self._paused_until[host] - time.monotonic()) > 0:
            await asyncio.sleep(pause)

    async def _try(self, url: str, path: Path, part: IO[bytes], check: Check, kept: Receipt | None) -> Receipt:
        """One request; returns the receipt of the new file, checked and renamed, or of one that is still current."""
        begun = await asyncio.to_thread(read_receipt, part_path(path), url)
        size = part.seek(0, 2) if begun and begun.validator else 0
        async with self._answer(url, request_headers(kept, begun, size)) as response:
            if kept and response.status_code == 304:
                return kept
            size = begin(url, response, part, size)
            if size == 0:
                begun = begun_receipt(url, response)
                write_receipt(part_path(path), begun)
            assert begun is not None  # a size above 0 implies a receipt
            await self._receive(url, response, part, size)
        part.flush()
        try:
            await asyncio.to_thread(check, part_path(path))
        except StructureError as error:
            part.truncate(0)
            if size:  # joining the parts may be the cause: restart from the beginning
                raise PassingError(error.code, f"{url}: {error.detail}") from error
            raise StructureError(error.code, f"{url}: {error.detail}") from error
        digest = await asyncio.to_thread(sha256, part_path(path))
        today = datetime.now(UTC).isoformat(timespec="seconds")
        whole = Receipt(url, begun.url, begun.etag, begun.modified, today, digest, part.seek(0, 2))
        await asyncio.to_thread(keep, path, whole)
        return whole

    @asynccontextmanager
    async def _answer(self, url: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """The response to a request, after redirects: 200, 206, 304 or 416; other statuses are raised."""
        current = httpx.URL(url)
        for _ in range(MOST_REDIRECTS + 1):
            request = self._client.build_request("GET", current, headers=headers)
            try:
                async with asyncio.timeout(self.settings.timeout):
                    response = await self._client.send(request, stream=True)
            except TimeoutError as error:
                raise PassingError("timeout", f"{url}: no answer within {self.settings.timeout:g} s") from error
            try:
                if not response.has_redirect_location:
                    if response.status_code not in (200, 206, 304, 416):
                        await _pass_over(response)
                        raise refusal(url, response)
                    yield response
                    return
                target = current.join(response.headers["location"])
                await check_redirect(str(current), str(target))
                current = target
                await _pass_over(response)
            finally:
                await response.aclose()
        raise StructureError("bad_redirect", f"{url}: more than {MOST_REDIRECTS} redirects")

    async def _receive(self, url: str, response: httpx.Response, part: IO[bytes], size: int) -> None:
        """Append the response body to the part, which has `size` bytes."""
        whole = whole_size(response, size)
        if whole is not None and whole > self._most_bytes:
            part.truncate(0)
            raise StructureError("too_large", f"{url}: {whole} bytes, the maximum is {self._most_bytes}")
        start, before = time.monotonic(), size
        async for chunk in response.aiter_raw():
            part.write(chunk)
            size += len(chunk)
            self.received += len(chunk)
            if size > self._most_bytes:
                part.truncate(0)
                raise StructureError("too_large", f"{url}: more than {self._most_bytes} bytes")
            elapsed = time.monotonic() - start
            if elapsed > self.settings.timeout and size - before < elapsed * TRICKLE:
                raise PassingError("timeout", f"{url}: {size - before} bytes in {elapsed:.0f} s")
        if whole is not None and size != whole:
            raise PassingError("connection", f"{url}: {size} bytes came, {whole} were announced")


async def _pass_over(response: httpx.Response) -> None:
    """Read the rest of a response that is not needed, up to a limit."""
    came = 0
    async for chunk in response.aiter_raw():
        came += len(chunk)
        if came > SMALL:
            return
