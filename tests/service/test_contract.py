"""The API keeps the promises of its own description, and answers no request, however odd, with a server error."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from service_under_test import make_clip, make_picture, make_settings, submit, wait_for

from faceproof.service import outward, streams
from faceproof.service.app import make_app

pytestmark = pytest.mark.xdist_group("contract")


def _nobody(*_: Any, **__: Any) -> Any:
    """Addresses made up by the test are not worth asking a name server for."""
    raise OSError


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    chosen = make_settings(tmp_path_factory.mktemp("contract"), workers=0, wait=0.2, max_queued=100_000)
    # Nobody works here, so a stream of events would never end.
    with (
        pytest.MonkeyPatch.context() as patch,
        TestClient(make_app(chosen), raise_server_exceptions=False) as client,
    ):
        patch.setattr(streams, "LONGEST", 0.2)
        patch.setattr(outward.socket, "getaddrinfo", _nobody)
        submit(client, make_clip(1))
        yield client


@pytest.mark.timeout(900)
def test_no_request_is_answered_with_a_server_error(service: TestClient) -> None:
    """Every operation, with arguments that fit its description and arguments that do not."""
    described = schemathesis.openapi.from_asgi("/openapi.json", service.app)
    tried: set[str] = set()
    for operation in described.get_all_operations():
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _try(service, operation.ok(), mode, tried)
    assert len(tried) >= 20


def _try(service: TestClient, operation: Any, mode: GenerationMode, tried: set[str]) -> None:
    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans())
    def run(case: Any, real: bool) -> None:
        tried.add(operation.label)
        if real and "job_id" in (case.path_parameters or {}):
            ending = case.method == "DELETE" or case.path.endswith(("cancel", "again"))
            known = submit(service, make_clip(1), fresh="true" if ending else "false")
            case.path_parameters["job_id"] = known["id"]
        answer = case.call()
        allowed = (503,) if operation.path == "/readyz" else ()
        assert answer.status_code < 500 or answer.status_code in allowed, (operation.label, answer.text)
        if answer.status_code >= 400:
            assert b"remedy" in answer.content, (operation.label, answer.status_code, answer.content)
        else:
            case.validate_response(answer, checks=[response_schema_conformance, status_code_conformance])

    try:
        run()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # an operation that takes nothing cannot be asked wrongly


def mutated(seed: int) -> bytes:
    """A picture or clip with bytes flipped, cut out, doubled or made up."""
    drawn = random.Random(seed)
    kinds = [
        make_clip(seed % 3, frames=4),
        *(make_picture(seed % 3, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF")),
    ]
    content = bytearray(drawn.choice(kinds))
    for _ in range(drawn.choice([1, 1, 3, 20])):
        place = drawn.randrange(len(content)) if content else 0
        length = drawn.choice([1, 4, 64, 1000])
        action = drawn.randrange(5)
        if action == 0:
            content[place : place + length] = drawn.randbytes(length)
        elif action == 1:
            del content[place : place + length]
        elif action == 2:
            content[place:place] = content[place : place + length]
        elif action == 3:
            content[place : place + 4] = drawn.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        else:
            del content[max(8, place) :]
    return bytes(content)


def fuzz(folder: Path, count: int, *, workers: int) -> dict[str, int]:
    """Upload ``count`` mutated files and wait for all of them. Returns how they ended."""
    app = make_app(make_settings(folder, workers=workers, max_queued=100_000, attempts=2, cpu_seconds=60))
    ends: dict[str, int] = {}
    with TestClient(app) as client:
        known: set[str] = set()
        for seed in range(count):
            content = mutated(seed)
            answer = client.post("/v1/jobs", files={"file": ("f", content)}, data={"evidence": "false"})
            assert answer.status_code in (200, 202, 415, 422), answer.text
            if answer.status_code == 202:
                known.add(answer.json()["id"])
            else:
                ends[str(answer.status_code)] = ends.get(str(answer.status_code), 0) + 1

        def all_ended() -> bool:
            jobs = client.get("/v1/stats").json()["jobs"]
            return not jobs.get("queued") and not jobs.get("running")

        wait_for(all_ended, seconds=60 + count * 1.5, what="the end of all jobs")
        for job_id in known:
            job = client.get(f"/v1/jobs/{job_id}").json()
            end = job["error"]["code"] if job["error"] else job["state"]
            ends[end] = ends.get(end, 0) + 1
        assert client.get("/healthz").status_code == 200
    assert len(known) == sum(count for name, count in ends.items() if not name.isdigit())
    return ends


def test_mutated_uploads_kill_nothing(tmp_path: Path) -> None:
    ends = fuzz(tmp_path, 60, workers=1)
    assert not {"internal", "worker_died"} & set(ends), ends


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_mutated_uploads_kill_nothing(tmp_path: Path) -> None:
    ends = fuzz(tmp_path, 2000, workers=2)
    print(ends)
    assert "internal" not in ends, ends


def test_the_mutations_are_many() -> None:
    assert len({hashlib.sha256(mutated(seed)).digest() for seed in range(60)}) > 50
