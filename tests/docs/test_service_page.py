"""The requests of the service's page, sent as they are written."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from faceproof.service.app import make_app
from faceproof.service.settings import Settings

from .test_documents import ROOT, blocks

PAGE = ROOT / "docs" / "service.md"
LINES = [line for code in blocks(PAGE, "sh") for line in code.splitlines() if line.startswith("curl ")]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, astronaut_png: Path, clip_mp4: Path) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("page")
    Image.open(astronaut_png).convert("RGB").save(folder / "face.jpg")
    (folder / "clip.mp4").write_bytes(clip_mp4.read_bytes())
    settings = Settings.read({}, data=folder / "data", hosts="127.0.0.1", threads=1, wait=120)
    with (
        pytest.MonkeyPatch.context() as patch,
        TestClient(make_app(settings), base_url="http://127.0.0.1:8000") as client,
    ):
        patch.chdir(folder)
        yield client


def send(client: TestClient, line: str, job: str) -> httpx.Response:
    """One line as curl would send it: -F, -X, -N, -H and -d."""
    words = iter(shlex.split(line.replace("8f14…", job), comments=True)[1:])
    method, address, given = "", "", {}  # type: ignore[var-annotated]
    request: dict[str, Any] = {"headers": given}
    for word in words:
        if word == "-F":
            name, _, path = next(words).partition("=@")
            request["files"], method = {name: (path, Path(path).read_bytes())}, method or "POST"
        elif word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            given[name] = value
        elif word == "-d":
            request["content"] = next(words)
        elif word != "-N":
            address = word
    return client.request(method or "GET", address, **request)


def test_the_page_has_requests() -> None:
    assert len(LINES) >= 6


@pytest.mark.skipif(sys.platform != "linux", reason="workers are confined by Linux's limits")
def test_every_request_of_the_page_is_answered(service: TestClient) -> None:
    job = ""
    for line in LINES:
        answer = send(service, line, job)
        if "/events" in line:
            assert '"state": "done"' in answer.text, line  # it ends with the job
        elif "report.json" in line and answer.status_code == 409:
            send(service, f"curl {re.search(r'http://[^ ]+/jobs/8f14…', line)[0]}/events", job)  # type: ignore[index]
            answer = send(service, line, job)
        assert answer.status_code in (200, 202, 204), f"{line}: {answer.text}"
        job = job or answer.json()["id"]
