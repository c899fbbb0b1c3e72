"""Nobody without a key fills the server's memory by a request that never gets to its body."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from faceproof.service.heads import MOST_BYTES, BoundedHeads


async def _app(scope, receive, send) -> None:
    assert scope["type"] == "http"
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(_app, http=BoundedHeads, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield listening.getsockname()
        server.should_exit = True
        thread.join(timeout=10)


def answers(address: tuple[str, int], *requests: bytes) -> list[bytes]:
    """What the server says to each request on one connection, status line and body."""
    told = []
    with socket.create_connection(address, timeout=10) as connection:
        for request in requests:
            sender = threading.Thread(target=_send, args=(connection, request))
            sender.start()
            told.append(connection.recv(1 << 16))
            sender.join(timeout=10)
    return told


def _send(connection: socket.socket, content: bytes) -> None:
    with contextlib.suppress(OSError):  # where the server ends it, as it should
        connection.sendall(content)


def request(header: int = 0, body: int = 0) -> bytes:
    return (
        b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\nX-Long: " % body
        + b"x" * header
        + b"\r\n\r\n"
        + b"y" * body
    )


def test_long_heads_are_refused(address: tuple[str, int]) -> None:
    (told,) = answers(address, request(header=8 << 20))
    assert told.startswith(b"HTTP/1.1 431 ")


def test_an_endless_address_is_refused(address: tuple[str, int]) -> None:
    (told,) = answers(address, b"GET /" + b"x" * (8 << 20))
    assert told.startswith(b"HTTP/1.1 431 ")


def test_bodies_and_further_requests_are_no_heads(address: tuple[str, int]) -> None:
    large = request(header=MOST_BYTES // 2, body=4 << 20)
    told = answers(address, large, large, request(body=3), large)
    assert [one.split(b"\r\n\r\n")[-1] for one in told] == [b"4194304", b"4194304", b"3", b"4194304"]
