"""Requests to addresses that users name must not reach this machine or its network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_under_test import ended, make_clip, make_settings

from faceproof.service import outward
from faceproof.service.app import make_app
from faceproof.service.outward import AddressError, is_public, request, resolve


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "::",
    ],
)
def test_private_addresses_are_private_in_every_dress(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://user:pw@example.com/",
        "file:///etc/passwd",
        "gopher://x/",
        "http://",
        "http://[::1",
        "http://example.com:22/",
        "http://nowhere.invalid/",
        "http://" + "a" * 300 + "/",
    ],
)
def test_such_addresses_are_never_opened(url: str) -> None:
    with pytest.raises(AddressError):
        resolve(url, private=False)


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(AddressError):
        resolve("http://rebinding.example/", private=False)


class _Handler(BaseHTTPRequestHandler):
    clip = b""

    def do_GET(self) -> None:
        if self.path.startswith("/to-private"):
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1/secret")
            self.end_headers()
        elif self.path.startswith("/loop"):
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif self.path.startswith("/moved"):
            self.send_response(301)
            self.send_header("Location", "/clip.mp4")
            self.end_headers()
        elif self.path.startswith("/page"):
            self._send(b"<html>not a video</html>")
        elif self.path.startswith("/clip"):
            self._send(self.clip)
        else:
            self.send_error(404)

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    _Handler.clip = make_clip(77)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_connection_goes_to_the_address_that_was_checked(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to something else a moment later gains nothing."""
    port = int(elsewhere.rpartition(":")[2])
    asked = []

    def first_public(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", first_public)
    monkeypatch.setattr(outward, "is_public", lambda _: True)
    real = socket.create_connection
    connected = []

    def connect(address: tuple[str, int], *rest: Any) -> socket.socket:
        connected.append(address)
        return real(("127.0.0.1", port))

    monkeypatch.setattr(socket, "create_connection", connect)
    with request("GET", "http://rebinding.example/clip.mp4", timeout=5) as answer:
        assert answer.status == 200
    assert asked.count("rebinding.example") == 1
    assert connected[0] == ("127.0.0.1", 80)


def test_every_step_of_a_redirect_is_checked(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = outward.resolve

    def watched(url: str, *, private: bool) -> Any:
        seen.append(url)
        return real(url, private=len(seen) == 1)

    monkeypatch.setattr(outward, "resolve", watched)
    with pytest.raises(AddressError, match="private network"), request("GET", f"{elsewhere}/to-private", timeout=5):
        pass
    assert seen[1] == "http://127.0.0.1/secret"


def test_redirects_come_to_an_end(elsewhere: str) -> None:
    with pytest.raises(AddressError, match="too often"), request("GET", f"{elsewhere}/loop", timeout=5, private=True):
        pass


def test_fetching_is_off_unless_the_operator_turns_it_on(idle: TestClient) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="url"\r\n\r\nhttps://example.com/a.mp4\r\n--x--\r\n'
    answer = idle.post("/v1/jobs", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 403
    assert answer.json()["code"] == "fetch_off"


def test_videos_are_fetched_by_address_when_allowed(tmp_path: Any, elsewhere: str) -> None:
    settings = make_settings(tmp_path, workers=1, fetch_urls=True, private_addresses=True)

    def body(path: str) -> bytes:
        return f'--x\r\nContent-Disposition: form-data; name="url"\r\n\r\n{elsewhere}{path}\r\n--x--\r\n'.encode()

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    with TestClient(make_app(settings)) as client:
        job = client.post("/v1/jobs", content=body("/moved"), headers=headers).json()
        assert ended(client, job["id"])["state"] == "done"
        assert client.get(f"/v1/jobs/{job['id']}/media").content == _Handler.clip
        for path, code in (("/page", "unsupported"), ("/missing", "address")):
            job = client.post("/v1/jobs", content=body(path), headers=headers).json()
            assert ended(client, job["id"])["error"]["code"] == code
    assert not list((tmp_path / "incoming").iterdir())
