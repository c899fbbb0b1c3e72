"""Logs say what happened under one id from the request to the worker, and nothing about files or faces."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from service_under_test import ended, free_port, make_clip, make_settings, wait_for

from faceproof.service.logs import ALLOWED


def test_one_id_leads_from_the_request_to_the_worker_and_no_line_speaks_of_the_file(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "data", port=free_port(), workers=1)
    clip, name = make_clip(1), "very-private-name.mp4"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", "from faceproof.cli import main; main()", "serve"],
            env={**os.environ, **settings.environment()},
            stderr=log,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as client:
                wait_for(lambda: _answers(client), what="the server")
                form = {"files": {"file": (name, clip)}, "headers": {"X-Request-Id": "follow-me-42"}}
                job = ended(client, client.post("/v1/jobs", **form).json()["id"])  # type: ignore[arg-type]
                report = client.get(f"/v1/jobs/{job['id']}/report.json").json()
                client.get("/history", params={"q": name})
                client.post("/v1/jobs", files={"file": (name, b"no media")})
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    text = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    followed = [line for line in lines if line.get("request") == "follow-me-42"]
    assert {line["event"] for line in followed} >= {"request", "attempt ended"}
    assert {line["job"] for line in followed if "job" in line} == {job["id"]}
    assert all(set(line) <= ALLOWED for line in lines)
    for secret in (name, hashlib.sha256(clip).hexdigest(), str(report["score"]), "127.0.0.1:"):
        assert secret not in text.partition("\n")[2]


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False
