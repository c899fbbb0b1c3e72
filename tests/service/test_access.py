"""Keys, sessions, rates and quotas."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from service_under_test import free_port, job_row, make_clip, make_settings, submit, wait_for
from typer.testing import CliRunner

from faceproof.cli import app
from faceproof.errors import OptionError
from faceproof.service import keys
from faceproof.service.app import make_app
from faceproof.service.site import Site
from faceproof.service.tables import Key


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(make_app(make_settings(tmp_path, workers=0, auth="keys"))) as client:
        yield client


def new_key(client: TestClient, *scopes: str, **quota: int) -> str:
    site: Site = client.app.state.site  # type: ignore[attr-defined]
    return keys.create(site.store, "someone", scopes=scopes or keys.DEFAULT_SCOPES, **quota)[1]


def test_nothing_is_answered_without_a_key(guarded: TestClient) -> None:
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/detectors"), ("GET", "/metrics")):
        answer = guarded.request(method, path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
    assert guarded.get("/v1/jobs", headers={"X-API-Key": "fp_nobody_secret"}).status_code == 401
    assert guarded.get("/healthz").status_code == 200
    assert guarded.get("/", follow_redirects=False).headers["location"] == "/sign-in"


def test_a_key_opens_what_its_scopes_allow(guarded: TestClient) -> None:
    reader = {"X-API-Key": new_key(guarded, "read")}
    worker = {"Authorization": f"Bearer {new_key(guarded)}"}
    files = {"file": ("a.mp4", make_clip(1))}
    assert guarded.post("/v1/jobs", headers=reader, files=files).json()["code"] == "scope"
    job = guarded.post("/v1/jobs", headers=worker, files=files).json()
    assert guarded.get(f"/v1/jobs/{job['id']}", headers=worker).status_code == 200
    assert guarded.get("/metrics", headers=worker).status_code == 403
    assert guarded.put(f"/v1/jobs/{job['id']}/label", headers=reader, json={"truth": "fake"}).json()["code"] == "scope"
    assert guarded.post("/v1/jobs", headers=worker, files=files, data={"priority": "5"}).status_code == 403


def test_jobs_of_others_do_not_exist(guarded: TestClient) -> None:
    mine, other = ({"X-API-Key": new_key(guarded)} for _ in range(2))
    admin = {"X-API-Key": new_key(guarded, "admin")}
    clip = make_clip(1)
    job = guarded.post("/v1/jobs", headers=mine, files={"file": ("a.mp4", clip)}).json()
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("GET", "/media"),
        ("GET", "/events"),
        ("PUT", "/label"),
    ):
        asked = guarded.request(method, f"/v1/jobs/{job['id']}{path}", headers=other, json={"truth": "fake"})
        assert asked.status_code == 404
    assert guarded.get("/v1/jobs", headers=other).json()["items"] == []
    assert guarded.get(f"/v1/jobs/{job['id']}", headers=admin).status_code == 200
    # The same file from someone else is a new job: whether it was here before is nobody's business.
    assert guarded.post("/v1/jobs", headers=other, files={"file": ("a.mp4", clip)}).status_code == 202


def test_only_hashes_of_keys_are_kept(guarded: TestClient) -> None:
    key = new_key(guarded)
    site: Site = guarded.app.state.site  # type: ignore[attr-defined]
    with site.store.read() as session:
        row = session.scalars(sa.select(Key)).one()
    assert key.split("_", 2)[2] not in str(vars(row))


def test_rotation_leaves_time_to_change_over_and_revoking_does_not(guarded: TestClient) -> None:
    site: Site = guarded.app.state.site  # type: ignore[attr-defined]
    key_id, old = keys.create(site.store, "someone")
    new = keys.rotate(site.store, key_id, grace=1.0)
    assert keys.identify(site.store, old)
    assert keys.identify(site.store, new)
    time.sleep(1.1)
    assert keys.identify(site.store, old) is None
    assert keys.identify(site.store, new)
    keys.revoke(site.store, key_id)
    assert keys.identify(site.store, new) is None
    with pytest.raises(OptionError):
        keys.rotate(site.store, key_id)
    with pytest.raises(OptionError):
        keys.create(site.store, "x", scopes=["everything"])


def sign_in(client: TestClient, key: str) -> str:
    """Signs in and returns the token that pages send back."""
    answer = client.post("/sign-in", data={"key": key}, follow_redirects=False)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    match = re.search(r'name="csrf" content="([^"]+)"', client.get("/").text)
    assert match
    return match[1]


def test_signing_in_with_a_key_and_out_again(guarded: TestClient) -> None:
    assert guarded.post("/sign-in", data={"key": "wrong"}).status_code == 401
    token = sign_in(guarded, new_key(guarded))
    files = {"file": ("a.mp4", make_clip(1))}
    assert guarded.post("/v1/jobs", files=files).json()["code"] == "csrf"
    assert guarded.post("/v1/jobs", files=files, headers={"X-CSRF-Token": "guess"}).json()["code"] == "csrf"
    job = guarded.post("/v1/jobs", files=files, headers={"X-CSRF-Token": token})
    assert job.status_code == 202
    assert guarded.get(f"/jobs/{job.json()['id']}").status_code == 200
    foreign = {"X-CSRF-Token": token, "Origin": "https://evil.example"}
    assert guarded.post("/v1/jobs", files=files, headers=foreign).json()["code"] == "cross_site"
    assert guarded.post("/sign-out", data={"csrf": "guess"}).status_code == 403
    guarded.post("/sign-out", data={"csrf": token})
    assert guarded.get("/v1/jobs").status_code == 401


def test_the_first_key_is_made_beside_a_server_that_runs(tmp_path: Path) -> None:
    """As in a container: `exec` needs it to run before there is a key."""
    port = free_port()
    settings = make_settings(tmp_path, workers=0, host="0.0.0.0", port=port)
    command = [sys.executable, "-c", "from faceproof.cli import main; main()", "serve"]
    with subprocess.Popen(command, env={**os.environ, **settings.environment()}, stderr=subprocess.PIPE) as server:
        assert server.stderr
        assert b"There is no API key yet" in server.stderr.readline()
        try:
            address = f"http://127.0.0.1:{port}/v1/jobs"
            wait_for(lambda: _status(address) == 401, what="the server")
            made = CliRunner().invoke(app, ["keys", "create", "me", "--data", str(tmp_path)])
            (key,) = re.findall(r"fp_\w+_[\w-]+", made.output)
            assert httpx.get(address, headers={"X-API-Key": key}).status_code == 200
        finally:
            server.terminate()
            server.communicate(timeout=30)


def _status(address: str) -> int:
    try:
        return httpx.get(address).status_code
    except httpx.TransportError:
        return 0


def test_a_revoked_key_ends_its_sessions(guarded: TestClient) -> None:
    site: Site = guarded.app.state.site  # type: ignore[attr-defined]
    key_id, key = keys.create(site.store, "someone")
    sign_in(guarded, key)
    assert guarded.get("/v1/jobs").status_code == 200
    keys.revoke(site.store, key_id)
    assert guarded.get("/v1/jobs").status_code == 401


def test_a_forged_cookie_is_nobody(guarded: TestClient) -> None:
    guarded.cookies.set("faceproof_session", "eyJrZXkiOiAiYWRtaW4ifQ.aaaa.bbbb")
    assert guarded.get("/v1/jobs").status_code == 401


def test_other_sites_cannot_use_a_browser_on_this_machine(idle: TestClient) -> None:
    files = {"file": ("a.mp4", make_clip(1))}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = idle.post("/v1/jobs", files=files, headers=headers)
        assert answer.json()["code"] == "cross_site"
    assert idle.post("/v1/jobs", files=files, headers={"Origin": "http://testserver"}).status_code == 202


def test_rates_are_limited(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, workers=0, rate="5/minute", sign_in_rate="2/minute", auth="keys")
    with TestClient(make_app(settings)) as client:
        key = {"X-API-Key": new_key(client)}
        answers = [client.get("/v1/jobs", headers=key) for _ in range(6)]
        assert [a.status_code for a in answers] == [200] * 5 + [429]
        assert 0 < int(answers[-1].headers["retry-after"]) <= 61
        assert [client.post("/sign-in", data={"key": "x"}).status_code for _ in range(3)] == [401, 401, 429]


def test_quotas_bound_a_day(guarded: TestClient) -> None:
    few = {"X-API-Key": new_key(guarded, jobs_per_day=1)}
    small = {"X-API-Key": new_key(guarded, bytes_per_day=100)}
    post = [guarded.post("/v1/jobs", headers=few, files={"file": ("a.mp4", make_clip(i))}) for i in (1, 2)]
    assert [p.status_code for p in post] == [202, 429]
    assert post[1].json()["code"] == "quota"
    assert guarded.post("/v1/jobs", headers=small, files={"file": ("a.mp4", make_clip(1))}).status_code == 429


def test_owners_take_turns(idle: TestClient) -> None:
    from faceproof.service import jobs

    site: Site = idle.app.state.site  # type: ignore[attr-defined]
    flood = [submit(idle, make_clip(i))["id"] for i in range(4)]
    with site.store.write() as session:
        jobs.enqueue(session, late := job_row(owner="other"))
        jobs.enqueue(session, urgent := job_row(owner="third", priority=3))
    order = []
    while claimed := jobs.claim(site.store, "w", lease=60):
        order.append(claimed.job_id)
    assert order[0] == urgent.id
    assert order.index(late.id) <= 2
    assert [i for i in order if i in flood] == flood


def test_people_get_problems_as_pages_and_programs_as_documents(idle: TestClient) -> None:
    browser = {"accept": "text/html,application/xhtml+xml"}
    for path in (f"/jobs/{'0' * 32}", "/nowhere"):
        page = idle.get(path, headers=browser)
        assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "What helps:" in page.text
        assert 'href="/"' in page.text
        assert "openapi" not in page.text
        assert idle.get(path).headers["content-type"] == "application/problem+json"
    assert idle.get("/nowhere").json()["remedy"] == "See /openapi.json."
    wrong = idle.post("/detectors", headers=browser)
    assert (wrong.status_code, "openapi" in wrong.text) == (405, False)
    assert idle.get(f"/v1/jobs/{'0' * 32}", headers=browser).headers["content-type"] == "application/problem+json"
