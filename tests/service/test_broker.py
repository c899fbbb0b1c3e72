"""Several machines: PostgreSQL, Redis and Celery, all of them real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service_under_test import ended, make_clip, make_settings, outcomes, submit, wait_for

from faceproof.service import broker
from faceproof.service.app import make_app
from faceproof.service.settings import Settings
from servers import PostgreSQL, Redis

pytestmark = pytest.mark.xdist_group("broker")


class Worker:
    """`faceproof worker` as an operator starts it."""

    def __init__(self, settings: Settings) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from faceproof.cli import main; main()", "worker"],
            env={**os.environ, **settings.environment()},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def children(self) -> list[int]:
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def settings(tmp_path: Path, redis: Redis, postgresql: PostgreSQL) -> Settings:
    return make_settings(tmp_path, workers=1, broker=redis.url, database=postgresql.database(), lease=3.0)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(make_app(settings)) as opened:
        yield opened


@pytest.fixture
def worker(settings: Settings, client: TestClient) -> Iterator[Worker]:
    made = Worker(settings)
    yield made
    made.stop()


def test_messages_are_json_and_count_as_done_when_they_are_done() -> None:
    conf = broker.make_app(Settings.read({}, broker="redis://127.0.0.1:1/0")).conf
    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.broker_transport_options["visibility_timeout"] == broker.VISIBILITY


def test_a_worker_elsewhere_does_the_same(client: TestClient, worker: Worker) -> None:
    job = ended(client, submit(client, make_clip(1))["id"])
    assert job["state"] == "done"
    assert client.get(f"/v1/jobs/{job['id']}/report.json").json()["verdict"] == job["verdict"]
    assert client.get(f"/v1/jobs/{job['id']}/report.html").status_code == 200
    # Rates are counted where every server sees them.
    assert client.app.state.door._limiter.storage.__class__.__name__ == "RedisStorage"  # type: ignore[attr-defined]


def test_killed_workers_and_a_redis_that_forgets_lose_nothing(
    client: TestClient, worker: Worker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faceproof.service import housekeeping

    monkeypatch.setattr(housekeeping, "RING_AGAIN", 2.0)
    slow = submit(client, make_clip(1, frames=30), detector="fake-slow", frames="all")
    wait_for(lambda: (client.get(f"/v1/jobs/{slow['id']}").json()["progress"] or {}).get("frames"))
    waiting = [submit(client, make_clip(i))["id"] for i in (2, 3)]
    (victim,) = worker.children()
    os.kill(victim, signal.SIGKILL)
    redis.stop()
    # The server takes uploads although nobody can be told of them.
    waiting.append(submit(client, make_clip(4))["id"])
    redis.start()
    for job_id in (slow["id"], *waiting):
        assert ended(client, job_id)["state"] == "done"
        assert outcomes(client.app.state.site.store, job_id)[:2] == (1, 1)  # type: ignore[attr-defined]
    assert client.get(f"/v1/jobs/{slow['id']}").json()["attempt"] == 2
