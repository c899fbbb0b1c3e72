"""Alerts reach a web address, signed, and a dead address stops nothing."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from faceproof.errors import OptionError
from faceproof.ops.alerts import Webhook, tell

Seen = list[tuple[dict[str, str], bytes]]


@pytest.fixture
def listener() -> Iterator[tuple[str, Seen]]:
    seen: Seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(503 if len(seen) == 1 else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/alerts", seen
        server.shutdown()
        thread.join()


def test_an_alert_is_posted_signed_and_tried_again(listener: tuple[str, Seen]) -> None:
    url, seen = listener
    tell({"type": "drift", "signal": "score"}, Webhook(url, secret="s3"))
    assert len(seen) == 2  # the first was answered 503
    headers, body = seen[1]
    assert json.loads(body) == {"type": "drift", "signal": "score"}
    assert headers["X-Faceproof-Signature"] == hmac.new(b"s3", body, hashlib.sha256).hexdigest()


def test_a_dead_address_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert Webhook("http://127.0.0.1:9/", timeout=0.5, attempts=1).send({"type": "x"}) is False
    assert "not delivered" in caplog.text


def test_only_web_addresses_are_taken() -> None:
    with pytest.raises(OptionError):
        Webhook("file:///etc/passwd")
