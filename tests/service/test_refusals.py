"""Whoever is refused is told why, and what would help, in the same form everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_under_test import make_picture, make_settings
from sqlalchemy.exc import TimeoutError as NoConnectionError

from faceproof.errors import OptionError
from faceproof.service import routes_jobs
from faceproof.service.app import make_app
from servers import PostgreSQL

PICTURE = make_picture(1)


def part(disposition: str, content: bytes = PICTURE) -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


def refused(client: TestClient, *parts: bytes, path: str = "/v1/jobs") -> dict[str, Any]:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post(path, content=b"".join(parts) + b"--x--\r\n", headers=kind)
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    "disposition",
    ['name="file"', "name=\"file\"; filename*=UTF-8''a.png"],
    ids=["no @", "a name that forms do not have"],
)
def test_a_file_that_arrives_as_text_is_no_unknown_option(idle: TestClient, disposition: str) -> None:
    for content in (b"clip.mp4", PICTURE * 3):
        problem = refused(idle, part(disposition, content))
        assert (problem["status"], problem["code"]) == (422, "file")
        assert "-F file=@" in problem["remedy"]


def test_two_files_for_one_job_are_shown_the_batch(idle: TestClient) -> None:
    problem = refused(idle, *[part('name="file"; filename="a.png"')] * 2)
    assert (problem["code"], problem["detail"]) == ("limit", "More than one file")
    assert "/v1/batch" in problem["remedy"]


@pytest.mark.parametrize("keep", ["0", "0s", "soon"])
def test_a_time_that_is_none_is_not_called_too_long(idle: TestClient, keep: str) -> None:
    problem = refused(idle, part('name="file"; filename="a.png"'), part('name="keep"', keep.encode()))
    assert problem["detail"] == f"Keep cannot be '{keep}'"


def test_a_webhook_that_is_not_opened_is_not_taken_for_a_file(idle: TestClient) -> None:
    problem = refused(idle, part('name="file"; filename="a.png"'), part('name="webhook"', b"http://127.0.0.1/"))
    assert problem["detail"].startswith("Webhook: that address")
    assert "POST" in problem["remedy"]
    assert "upload" not in problem["remedy"]


def test_a_wrong_key_is_not_called_a_missing_one(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=0, auth="keys"))) as client:
        assert client.get("/v1/jobs").json()["detail"] == "An API key is needed"
        for headers in ({"X-API-Key": "fp_a_b"}, {"Authorization": "Bearer fp_a_b"}):
            problem = client.get("/v1/jobs", headers=headers)
            assert problem.status_code == 401
            assert "not known here" in problem.json()["detail"]


def test_an_unknown_host_is_told_of_the_setting(idle: TestClient) -> None:
    for path in ("/v1/jobs", "/", "/static/api.js", "/nowhere"):
        answer = idle.get(path, headers={"Host": "evil.example"})
        assert (answer.status_code, answer.json()["code"]) == (400, "host")
        assert "FACEPROOF_HOSTS" in answer.json()["remedy"]
        assert answer.headers["x-request-id"]
    assert idle.get("/v1/stats", headers={"Host": "localhost:8000"}).status_code == 200


def test_probes_that_know_only_an_address_are_answered(tmp_path: Path) -> None:
    """The image's own health check asks 127.0.0.1, Kubernetes the pod's address, whatever name the operator gave."""
    with TestClient(make_app(make_settings(tmp_path, workers=0, hosts="faces.example.org"))) as client:
        for host in ("127.0.0.1:8000", "10.1.2.3:8000", "faces.example.org"):
            for path in ("/healthz", "/readyz"):
                assert client.get(path, headers={"Host": host}).json()["status"] in ("ok", "not_ready")
        assert client.get("/v1/stats", headers={"Host": "10.1.2.3:8000"}).status_code == 400


@pytest.mark.parametrize("hosts", ["faces.example.org:8000", "https://faces.example.org", "face*.example.org", "a b"])
def test_names_that_no_host_has_are_refused_at_the_start(tmp_path: Path, hosts: str) -> None:
    with pytest.raises(OptionError, match="hosts"):
        make_settings(tmp_path, hosts=hosts)


def test_lists_of_hosts_may_end_in_a_comma(tmp_path: Path) -> None:
    assert make_settings(tmp_path, hosts="a.example, *.b.example,").allowed_hosts == ["a.example", "*.b.example"]


def test_a_mistake_of_the_service_is_a_problem_too(idle: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(routes_jobs, "search", breaks)
    answer = idle.get("/v1/jobs")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert (answer.json()["code"], answer.json()["request_id"]) == ("internal", answer.headers["x-request-id"])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in answer.text
    counted = idle.get("/metrics").text
    assert 'faceproof_http_requests_total{method="GET",route="/v1/jobs",status="500"} 1.0' in counted


def test_a_database_without_a_free_connection_is_busy_not_broken(
    idle: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any, **__: Any) -> Any:
        raise NoConnectionError("QueuePool limit")

    monkeypatch.setattr(routes_jobs, "search", breaks)
    answer = idle.get("/v1/jobs")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "database", "5")


def test_characters_that_postgresql_refuses_are_no_mistake_of_the_service(
    tmp_path: Path, postgresql: PostgreSQL
) -> None:
    settings = make_settings(tmp_path, workers=0, auth="keys", database=postgresql.database())
    with TestClient(make_app(settings)) as client:
        assert client.post("/sign-in", data={"key": "fp_\0_x"}).status_code == 401
    with TestClient(make_app(settings.model_copy(update={"auth": "auto"}))) as client:
        assert client.get("/history", params={"after": "\0"}).status_code == 422
        assert client.get("/history", params={"q": "\0"}).status_code == 200
