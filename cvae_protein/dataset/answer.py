"""What the status and the headers of a server's answer say, and what a request asks for (RFC 9110)."""

from __future__ import annotations

import email.utils
import re
import time
from typing import IO

import httpx

from ..core.errors import StructureError
from .cache import Receipt

PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that may be others later
ABSENT = (404, 410)


class PassingError(Exception):
    """A failure that may pass: `reason` stands if it does not; `wait` is what the server asks for, in seconds."""

    def __init__(self, code: str, detail: str, wait: float | None = None) -> None:
        self.reason, self.wait = StructureError(code, detail), wait


def request_headers(kept: Receipt | None, begun: Receipt | None, size: int) -> dict[str, str]:
    """Headers that ask for the rest of a part of `size` bytes, or for a file only where it has changed."""
    if size and begun:
        return {"Range": f"bytes={size}-", "If-Range": begun.validator}
    known = {"If-None-Match": kept.etag, "If-Modified-Since": kept.modified} if kept else {}
    return {name: value for name, value in known.items() if value}


def begin(url: str, response: httpx.Response, part: IO[bytes], size: int) -> int:
    """How many bytes of the part stay: all where the server continues it, none where it sends the file anew."""
    answered = _content_range(response)
    if response.status_code == 206 and answered and answered[0] == size:
        return size
    part.truncate(0)
    if response.status_code != 200:
        raise PassingError("http_error", f"{url}: no use for status {response.status_code}", 0.0)
    return 0


def _content_range(response: httpx.Response) -> tuple[int, int | None] | None:
    """First byte and size of the whole (None where not told) of a partial answer."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", "").strip())
    return (int(found[1]), None if found[2] == "*" else int(found[2])) if found else None


def whole_size(response: httpx.Response, size: int) -> int | None:
    """Bytes of the whole file as the server announces them; None where it does not."""
    answered = _content_range(response) if response.status_code == 206 else None
    if answered and answered[1] is not None:
        return answered[1]
    length = response.headers.get("content-length", "")
    return size + int(length) if length.isdecimal() else None


def begun_receipt(url: str, response: httpx.Response) -> Receipt:
    """The receipt of a file whose bytes begin to come: address and version."""
    headers = response.headers
    return Receipt(url, str(response.url), headers.get("etag", ""), headers.get("last-modified", ""))


def refusal(url: str, response: httpx.Response) -> Exception:
    """What is raised for a status that brings no file."""
    status = f"{url}: status {response.status_code} {response.reason_phrase}".rstrip()
    if response.status_code in ABSENT:
        return StructureError("not_found", status)
    if response.status_code in PASSING:
        return PassingError("http_error", status, _retry_after(response))
    return StructureError("http_error", status)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait, as a number or a date; None where it asks nothing that can be read."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
