"""HTTP to addresses that users name: closed against requests to this machine and its network (SSRF).

The name is resolved once, every address it has must be public, and the connection goes to that very address, so a
name that resolves differently a moment later (DNS rebinding) gains nothing. Redirects are walked by hand, each
step checked again. No proxy, no credentials, no ports but 80 and 443.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

from faceproof.errors import FaceproofError

MOST_REDIRECTS = 3


class AddressError(FaceproofError):
    """A URL that this service does not open, or that did not answer as it should."""

    code = "address"
    default_remedy = "Give the public http(s) address of the file itself, or upload it."


def resolve(url: str, *, private: bool) -> tuple[str, str, int, str]:
    """Scheme, host, port and the address to connect to. Raises :class:`AddressError`.

    ``private`` lets addresses of this machine and its network pass: for tests, and for operators who say so.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise AddressError("that is not a web address") from None
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        raise AddressError("only http and https addresses are opened")
    if parts.username is not None or parts.password is not None:
        raise AddressError("addresses with a user name or password are not opened")
    if not private and port not in (80, 443):
        raise AddressError(f"port {port} is not opened")
    try:
        found = {str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise AddressError("the host of that address is not known") from None
    for address in found:
        if not private and not is_public(address):
            raise AddressError("that address leads into a private network and is not opened")
    return parts.scheme, host, port, sorted(found)[0]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet, also when it is wrapped in an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


class _Pinned(http.client.HTTPConnection):
    """A connection to one checked address; the name only goes into the Host header and the certificate check."""

    def __init__(self, host: str, port: int, address: str, *, timeout: float, tls: bool) -> None:
        super().__init__(host, port, timeout=timeout)
        self._address = address
        self._tls = ssl.create_default_context() if tls else None

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain


@contextmanager
def request(
    method: str,
    url: str,
    *,
    timeout: float,
    private: bool = False,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    redirects: int = MOST_REDIRECTS,
) -> Iterator[http.client.HTTPResponse]:
    """One request and its answer, which must be read inside the block. Raises :class:`AddressError`."""
    ends = time.monotonic() + timeout
    for _ in range(redirects + 1):
        scheme, host, port, address = resolve(url, private=private)
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        left = max(0.1, min(15.0, ends - time.monotonic()))
        connection = _Pinned(host, port, address, timeout=left, tls=scheme == "https")
        try:
            sent: dict[str, Any] = {"User-Agent": "faceproof", "Accept": "*/*", **(headers or {})}
            connection.request(method, target, body=body, headers=sent)
            answer = connection.getresponse()
            if answer.status in (301, 302, 303, 307, 308) and answer.headers.get("Location") and redirects:
                url = urljoin(url, answer.headers["Location"])
                continue
            yield answer
            return
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
            raise AddressError(f"the address did not answer: {type(error).__name__}") from error
        finally:
            connection.close()
    raise AddressError("the address redirects too often")
