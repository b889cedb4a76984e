"""Downloads that end whole and checked, or with a reason: polite, bounded, and continued where they broke off.

HTTP as in RFC 9110: conditional requests (13.1), ranges (14), `Retry-After` (10.2.3).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Self

import httpx

from ... import __version__
from ...config.settings import FetchSettings
from ...core.errors import StructureError, UserError
from ...core.files import sha256
from ..address import check_address, check_redirect
from ..answer import PassingError, begin, begun_receipt, refusal, request_headers, whole_size
from ..cache import Receipt, keep, kept_file, locked_part, part_path, read_receipt, write_receipt

MOST_REDIRECTS = 5
SMALL = 1 << 16  # bytes of an error page that are read, so that its connection serves the next request
TRICKLE = 1000  # bytes a second; slower than that is as good as no answer
FAILURES_OF_A_LOST_HOST = 5  # files in a row, each with all its tries
Check = Callable[[Path], None]
"""Raises `StructureError` where a downloaded file is not what was asked for."""


class Downloader:
    """Downloads for one run: an asynchronous context manager that keeps connections open between files.

    `received` counts the bytes of bodies so far.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self.settings = settings
        self.received = 0
        self._most_bytes = int(settings.max_megabytes * 1e6)
        self._quiet_until: dict[str, float] = defaultdict(float)  # what servers asked for, by host
        self._failures: Counter[str] = Counter()  # files in a row, by host
        self._client = httpx.AsyncClient(
            timeout=settings.timeout,
            limits=httpx.Limits(max_connections=settings.connections, max_keepalive_connections=settings.connections),
            headers={"User-Agent": f"cvae_protein/{__version__}", "Accept-Encoding": "identity"},
            mounts={"http://": None},  # the loopback, which no proxy reaches
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def file(
        self, url: str, path: Path, check: Check | None = None, revalidate: bool = False
    ) -> tuple[Receipt, bool]:
        """Download `url` to `path`, unless it is there from that address; the receipt, and whether it was downloaded.

        A file that is there is taken as it is, or with `revalidate` asked after (and taken as it is when offline).
        Raises `StructureError` with the code not_found, offline, connection, timeout, http_error, bad_redirect,
        too_large or bad_download; what came so far is kept where it can be continued.
        """
        kept = await asyncio.to_thread(kept_file, path, url)
        if kept and (self.settings.offline or not revalidate):
            return kept, False
        if self.settings.offline:
            raise StructureError("offline", f"{url} is not in the cache {self.settings.cache}")
        async with locked_part(path) as part:
            kept = await asyncio.to_thread(kept_file, path, url)  # another run may have brought it meanwhile
            if kept and not revalidate:
                return kept, False
            receipt = await self._persist(url, path, part, check, kept)
            return receipt, receipt is not kept

    async def _persist(
        self, url: str, path: Path, part: IO[bytes], check: Check | None, kept: Receipt | None
    ) -> Receipt:
        """Try, and try again where the failure may pass, with longer and longer waits."""
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
                self._failures[host] = 0  # the server works; the file does not
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
        """Wait before the next try: a random share of a time that doubles with each, or what the server asks for.

        What a server asks for holds for all files that are wanted of it.
        """
        if wait is None:
            longest = min(self.settings.longest_wait, self.settings.backoff * 2**number)
            await asyncio.sleep(random.uniform(longest / 2, longest))
        else:
            self._quiet_until[host] = max(self._quiet_until[host], time.monotonic() + wait)

    async def _wait_for(self, host: str) -> None:
        while (pause := self._quiet_until[host] - time.monotonic()) > 0:
            await asyncio.sleep(pause)

    async def _try(self, url: str, path: Path, part: IO[bytes], check: Check | None, kept: Receipt | None) -> Receipt:
        """One request; the receipt of the whole, checked and renamed file, or of the one that is still the newest."""
        begun = await asyncio.to_thread(read_receipt, part_path(path), url)
        size = part.seek(0, 2) if begun and begun.validator else 0
        async with self._answer(url, request_headers(kept, begun, size)) as response:
            if kept and response.status_code == 304:
                return kept
            size = begin(url, response, part, size)
            if size == 0:
                begun = begun_receipt(url, response)
                write_receipt(part_path(path), begun)
            assert begun is not None  # a size above 0 was met with its receipt
            await self._receive(url, response, part, size)
        part.flush()
        try:
            if check is not None:
                await asyncio.to_thread(check, part_path(path))
        except StructureError as error:
            part.truncate(0)
            if size:  # the joint may be to blame: once more, from the beginning
                raise PassingError(error.code, f"{url}: {error.detail}") from error
            raise StructureError(error.code, f"{url}: {error.detail}") from error
        digest = await asyncio.to_thread(sha256, part_path(path))
        today = datetime.now(UTC).isoformat(timespec="seconds")
        whole = Receipt(url, begun.url, begun.etag, begun.modified, today, digest, part.seek(0, 2))
        await asyncio.to_thread(keep, path, whole)
        return whole

    @asynccontextmanager
    async def _answer(self, url: str, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        """The answer to a request, after redirects: 200, 206, 304 or 416; another status is raised."""
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
        """Append the body to the part, which has `size` bytes."""
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
    """Read what little an answer without use holds."""
    came = 0
    async for chunk in response.aiter_raw():
        came += len(chunk)
        if came > SMALL:
            return


def download_file(url: str, path: Path, settings: FetchSettings, key: str, revalidate: bool = False) -> Receipt:
    """Download a file other than a structure, such as a table that the setting `key` names by its URL.

    It is taken from `path` where it is there from that address, as in `Downloader.file`. Raises `UserError`.
    """

    async def download() -> Receipt:
        async with Downloader(settings) as downloader:
            return (await downloader.file(url, path, revalidate=revalidate))[0]

    check_address(url, key)
    try:
        return asyncio.run(download())
    except StructureError as error:
        raise UserError(f"{key}: {error}") from error
