"""Whatever dies, no job is lost and none is judged twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from service_under_test import ended, free_port, job_row, make_clip, make_settings, outcomes, submit, wait_for

from faceproof.errors import OutputError
from faceproof.service import audit, jobs
from faceproof.service.app import make_app
from faceproof.service.running import run_job
from faceproof.service.site import Site
from faceproof.service.store import Store


def test_a_worker_killed_in_mid_scan_loses_nothing_and_scores_nothing_twice(tmp_path: Path) -> None:
    app = make_app(make_settings(tmp_path, workers=1, lease=30))
    with TestClient(app) as client:
        job = submit(client, make_clip(1, frames=30), detector="fake-slow", frames="all")
        wait_for(lambda: (client.get(f"/v1/jobs/{job['id']}").json()["progress"] or {}).get("frames"))
        (victim,) = app.state.crew.pids
        os.kill(victim, signal.SIGKILL)
        done = ended(client, job["id"])
        assert done["state"] == "done"
        assert done["attempt"] == 2
        assert outcomes(app.state.site.store, job["id"]) == (1, 1, 1)
        assert app.state.crew.pids != [victim]


def test_a_file_that_kills_every_worker_fails_in_the_open(tmp_path: Path) -> None:
    app = make_app(make_settings(tmp_path, workers=1, attempts=2))
    with TestClient(app) as client:
        job = submit(client, make_clip(1, frames=60), detector="fake-slow", frames="all")
        for attempt in (1, 2):
            wait_for(
                lambda n=attempt: (j := client.get(f"/v1/jobs/{job['id']}").json())["attempt"] == n and j["progress"]
            )
            os.kill(app.state.crew.pids[0], signal.SIGKILL)
        failed = ended(client, job["id"])
        assert failed["error"]["code"] == "worker_died"
        assert ended(client, submit(client, make_clip(2))["id"])["state"] == "done"


def test_an_attempt_that_was_overtaken_writes_nothing(site: Site) -> None:
    with site.store.write() as session:
        jobs.enqueue(session, job_row())
    first = jobs.claim(site.store, "one", lease=0.05)
    assert first is not None
    time.sleep(0.1)
    assert jobs.release_dead(site.store, attempts=3) == [first.job_id]
    second = jobs.claim(site.store, "two", lease=30)
    assert second is not None
    assert second.attempt == 2
    report: dict[str, Any] = {"report": "{}", "verdict": "REAL", "score": 0.1, "sums": {}}
    assert not jobs.keep_alive(site.store, first, lease=30)
    assert not jobs.finish(site.store, first, **report)
    assert jobs.finish(site.store, second, **report)
    assert not jobs.finish(site.store, second, **report)
    assert outcomes(site.store, first.job_id) == (1, 1, 1)


class Server:
    """`faceproof serve` as a person starts it."""

    def __init__(self, data: Path, port: int, **environment: str) -> None:
        settings = make_settings(data, port=port, workers=1, lease=3.0)
        variables = {**os.environ, **settings.environment(), **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from faceproof.cli import main; main()", "serve"],
            env=variables,
            stderr=subprocess.DEVNULL,
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        wait_for(self._answers, what="the server")

    def _answers(self) -> bool:
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(30)
        self.client.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_server_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    port = free_port()
    server = Server(tmp_path, port)
    try:
        running = submit(server.client, make_clip(1, frames=40), detector="fake-slow", frames="all")
        waiting = submit(server.client, make_clip(2))
        wait_for(lambda: server.client.get(f"/v1/jobs/{running['id']}").json()["state"] == "running")
    finally:
        server.stop(how)
    server = Server(tmp_path, port)
    try:
        for job in (running, waiting):
            assert ended(server.client, job["id"])["state"] == "done"
    finally:
        server.stop()
    store = Store(f"sqlite:///{tmp_path / 'faceproof.db'}")
    assert outcomes(store, running["id"])[:2] == (1, 1)
    assert outcomes(store, waiting["id"])[:2] == (1, 1)
    store.close()


def test_someone_who_follows_a_job_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    server = Server(tmp_path, free_port())
    job = submit(server.client, make_clip(1, frames=400), detector="fake-slow", frames="all")
    wait_for(lambda: server.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "running")
    with server.client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
        lines = stream.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        for _ in lines:  # the stream ends as streams do, not broken off
            pass
        assert time.monotonic() - begun < 5
    server.process.wait(30)
    server.client.close()


def test_what_was_answered_is_there_after_a_server_was_killed_among_uploads(tmp_path: Path) -> None:
    port = free_port()
    server = Server(tmp_path, port)
    answered: list[str] = []

    def upload(first: int) -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=20) as client, suppress(httpx.TransportError):
            for number in range(first, first + 1000):
                clip = make_clip(1, frames=3) + b"\0\0\0\x10free" + number.to_bytes(8, "big")
                answered.append(submit(client, clip)["id"])

    threads = [threading.Thread(target=upload, args=(1000 * i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answered) > 40, what="some uploads")
    server.stop(signal.SIGKILL)
    for thread in threads:
        thread.join(30)
    server = Server(tmp_path, port)
    try:
        for job_id in answered:
            job = server.client.get(f"/v1/jobs/{job_id}").json()
            assert job["state"] in ("queued", "running", "done")
            assert server.client.get(f"/v1/jobs/{job_id}/media").status_code == 200
    finally:
        server.stop()
    store = Store(f"sqlite:///{tmp_path / 'faceproof.db'}")
    assert audit.verify(store).whole
    store.close()


def test_a_job_that_wants_too_much_memory_fails_and_the_worker_lives(tmp_path: Path) -> None:
    app = make_app(make_settings(tmp_path, workers=1))
    with TestClient(app) as client:
        ended(client, submit(client, make_clip(1))["id"])
        before = app.state.crew.pids
        job = ended(client, submit(client, make_clip(2), detector="fake-greedy")["id"])
        assert job["error"]["code"] == "memory"
        assert app.state.crew.pids == before


def test_a_job_that_wants_too_much_processor_time_is_ended(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=1, cpu_seconds=2))) as client:
        job = ended(client, submit(client, make_clip(2), detector="fake-stuck")["id"])
        assert job["error"]["code"] == "cpu_time"


def test_a_job_that_never_ends_is_ended(tmp_path: Path) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=1, job_time=3.0))) as client:
        job = ended(client, submit(client, make_clip(2, frames=200), detector="fake-slow", frames="all")["id"])
        assert job["error"]["code"] == "time"
        assert ended(client, submit(client, make_clip(1))["id"])["state"] == "done"


class FullPath(type(Path())):  # type: ignore[misc]
    """A new file on a disk without room: the kernel's own refusal, from its own full device."""

    def open(self, *mode: Any, **_: Any) -> Any:
        super().open(*mode).close()
        return open("/dev/full", "wb", buffering=0)


def test_no_room_for_files_refuses_uploads_and_loses_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=0))) as client:
        site: Site = client.app.state.site  # type: ignore[attr-defined]
        job = submit(client, make_clip(1, frames=10))
        free = type(site.files).incoming
        monkeypatch.setattr(type(site.files), "incoming", lambda self: FullPath(free(self)))
        answer = client.post("/v1/jobs", files={"file": ("a.mp4", make_clip(2))})
        assert (answer.status_code, answer.json()["code"]) == (507, "output")
        assert not list((tmp_path / "incoming").iterdir())
        assert run_job(site, "worker") == job["id"]  # scans, and finds no room for the pictures
        assert client.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"
        assert not list((tmp_path / "incoming").iterdir())
        monkeypatch.undo()
        wait_for(lambda: run_job(site, "worker"), what="the next attempt")
        assert ended(client, job["id"])["state"] == "done"
        assert outcomes(site.store, job["id"]) == (1, 1, 1)


def test_no_room_in_the_database_loses_no_job(tmp_path: Path) -> None:
    """SQLite's own refusal: its file may not grow by a single page."""
    with TestClient(make_app(make_settings(tmp_path, workers=0, lease=0.5))) as client:
        site: Site = client.app.state.site  # type: ignore[attr-defined]
        most = [2**30]

        @sa.event.listens_for(site.store.engine, "checkout")
        def _limited(connection: Any, *_: Any) -> None:
            connection.execute(f"PRAGMA max_page_count={most[0]}").fetchall()

        job = submit(client, make_clip(1, frames=60), frames="all", evidence="false")
        most[0] = 1
        with suppress(OutputError):  # the small note that it is to be tried again may find no room either
            assert run_job(site, "worker") == job["id"]
        assert outcomes(site.store, job["id"])[0] == 0
        refused = client.get(f"/v1/jobs/{job['id']}").json()
        assert (refused["state"] in ("running", "queued"), refused["attempt"]) == (True, 1)
        with pytest.raises(OutputError, match="disk is full"), site.store.write() as session:
            jobs.emit(session, job["id"], "state", {"state": "x" * 10**6})
        most[0] = 2**30
        wait_for(lambda: jobs.release_dead(site.store, attempts=9) or run_job(site, "worker"), what="the next attempt")
        wait_for(lambda: outcomes(site.store, job["id"])[0] or run_job(site, "worker"), what="its end")
        assert ended(client, job["id"])["state"] == "done"
        assert outcomes(site.store, job["id"])[:2] == (1, 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system; the two tests above need none")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_refuses_uploads_and_loses_no_job(small_disk: Path) -> None:
    app = make_app(make_settings(small_disk, workers=1))
    with TestClient(app) as client:
        filler = small_disk / "filler"
        job = submit(client, make_clip(1, frames=30), detector="fake-slow", frames="all", fresh="true")
        wait_for(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] == "running")
        _fill(filler)
        answer = client.post("/v1/jobs", files={"file": ("a.mp4", make_clip(2) + b"\0" * 2_000_000)})
        assert answer.status_code == 507
        assert answer.json()["code"] == "output"
        assert not list((small_disk / "incoming").iterdir())
        time.sleep(5)  # the scan ends meanwhile and finds no room for its result
        assert client.get(f"/v1/jobs/{job['id']}").json()["state"] in ("running", "queued")
        filler.unlink()
        assert ended(client, job["id"])["state"] == "done"
        assert outcomes(app.state.site.store, job["id"]) == (1, 1, 1)


def _fill(path: Path) -> None:
    """Write until there is no room for another byte."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
