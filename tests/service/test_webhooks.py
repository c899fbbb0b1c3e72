from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from service_under_test import ended, make_clip, make_settings, submit, wait_for

from faceproof.service import webhooks
from faceproof.service.app import make_app
from faceproof.service.site import Site
from faceproof.service.tables import Delivery


class Receiver:
    """Someone who is called. ``refusals``: how many calls it answers with 503 first."""

    def __init__(self, refusals: int) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.calls.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(503 if len(outer.calls) <= refusals else 204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(refusals=2)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_end_of_a_job_is_called_out_signed_until_it_is_heard(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES", (0.2, 0.2, 0.2))
    app = make_app(make_settings(tmp_path, workers=1, private_addresses=True))
    with TestClient(app) as client:
        job = ended(client, submit(client, make_clip(1), webhook=receiver.url)["id"])
        wait_for(lambda: len(receiver.calls) == 3, what="the third call")
        site: Site = app.state.site
        wait_for(lambda: _state(site) == ["done"])
        secret = webhooks.webhook_secret(site.secret, "local")
    headers, body = receiver.calls[-1]
    told = json.loads(body)
    assert told["event"] == "job.done"
    assert told["job"]["id"] == job["id"]
    assert told["job"]["verdict"] == job["verdict"]
    at, _, mark = headers["faceproof-signature"].partition(",v1=")
    moment = int(at.removeprefix("t="))
    assert abs(moment - time.time()) < 60
    assert hmac.compare_digest(
        mark, hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    )
    assert len({call[0]["faceproof-delivery"] for call in receiver.calls}) == 1


def _state(site: Site) -> list[str]:
    with site.store.read() as session:
        return list(session.scalars(sa.select(Delivery.state)))


def test_calls_that_are_never_heard_are_given_up(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "PAUSES", (0.01,))
    receiver.server.shutdown()
    receiver.server.server_close()
    app = make_app(make_settings(tmp_path, workers=0, private_addresses=True))
    with TestClient(app) as client:
        job = submit(client, make_clip(1), webhook=receiver.url)
        client.post(f"/v1/jobs/{job['id']}/cancel")
        wait_for(lambda: _state(app.state.site) == ["dead"])


def test_webhooks_into_private_networks_are_refused(idle: TestClient) -> None:
    files = {"file": ("a.mp4", make_clip(1))}
    answer = idle.post("/v1/jobs", files=files, data={"webhook": "http://169.254.169.254/latest/meta-data"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "address"
