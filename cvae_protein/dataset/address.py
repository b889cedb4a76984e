"""Which web addresses a download may go to.

HTTPS everywhere; plain HTTP only on this machine's loopback. A redirect may lead to another host (archives hand out
addresses of their stores), but not away from HTTPS, and not from the public network to a private or loopback address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from ..core.errors import StructureError, UserError


def check_address(url: str, key: str) -> None:
    """Raise `UserError` where a user's URL (of the setting `key`) is not HTTPS, nor HTTP on the loopback."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{key}: expected an address such as https://host/path, got {url}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise UserError(f"{key}: expected https (plain http only for a server on this machine), got {url}")
    if parts.username or parts.password:
        raise UserError(f"{key}: expected an address without a user name; it would stand in the tables of the run")


async def check_redirect(origin: str, target: str) -> None:
    """Raise `StructureError("bad_redirect")` where a redirect from the URL `origin` to `target` is not followed."""
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
    """Parts of a URL; None where it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises on a port that is no number
    except ValueError:
        return None
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


async def _is_inside(host: str) -> bool:
    """Whether a host has an address that is not public; a name that this machine cannot resolve counts as public.

    Behind a proxy only the proxy resolves names, and what it reaches is its own affair.
    """
    if _is_loopback(host):
        return True
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return not all(ipaddress.ip_address(str(address[4][0]).split("%")[0]).is_global for address in found)
