"""One set of promises, kept on both databases."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fastapi.testclient import TestClient
from service_under_test import job_row, make_clip, make_settings, submit
from sqlalchemy.exc import DatabaseError

from faceproof.service import audit, jobs
from faceproof.service.app import make_app
from faceproof.service.store import MIGRATIONS, Store
from faceproof.service.tables import Job, Result, State, Table


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    return str(request.getfixturevalue("postgresql").database()).replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    opened = Store(address)
    opened.upgrade()
    yield opened
    opened.close()


def add(store: Store, count: int = 1, **given: Any) -> list[str]:
    ids = []
    for _ in range(count):
        with store.write() as session:
            jobs.enqueue(session, job := job_row(**given))
            ids.append(job.id)
    return ids


def test_the_migrations_make_the_tables_the_code_expects(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_migrating_again_changes_nothing_and_going_back_leaves_nothing(store: Store) -> None:
    from alembic import command
    from alembic.config import Config

    store.upgrade()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with store.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    left = sa.inspect(store.engine).get_table_names()
    assert set(left) <= {"alembic_version"}
    store.upgrade()
    add(store)


def test_servers_that_start_at_once_migrate_once(address: str) -> None:
    stores = [Store(address) for _ in range(4)]
    failures: list[BaseException] = []

    def start(one: Store) -> None:
        try:
            one.upgrade()
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=start, args=(one,)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for one in stores:
        one.close()


def test_many_workers_share_out_every_job_once(store: Store) -> None:
    ids = add(store, 40)
    taken: list[str] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        while True:
            claimed = jobs.claim(store, name, lease=30)
            if claimed is None:
                with store.read() as session:
                    if not jobs.queued(session):
                        return
                continue
            with lock:
                taken.append(claimed.job_id)
            assert jobs.finish(store, claimed, report="{}", verdict="REAL", score=0.1, sums={"frames": 1})

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == sorted(ids)
    with store.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Result)) == 40
        assert session.scalar(sa.text("SELECT value FROM counters WHERE name = 'jobs_done'")) == 40


def test_owners_take_turns_however_many_jobs_one_has(store: Store) -> None:
    flood = add(store, 10, owner="flood")
    first, second = (add(store, 1, owner=name)[0] for name in ("first", "second"))
    order = []
    while claimed := jobs.claim(store, "w", lease=30):
        order.append(claimed.job_id)
    assert max(order.index(first), order.index(second)) <= 3
    assert [one for one in order if one in flood] == flood


def test_a_pause_is_kept_between_attempts(store: Store) -> None:
    add(store)
    claimed = jobs.claim(store, "w", lease=30)
    assert claimed
    jobs.retry(store, claimed, jobs.Fault("output", "no room"), attempts=3)
    assert jobs.claim(store, "w", lease=30) is None
    with store.read() as session:
        job = session.get_one(Job, claimed.job_id)
    assert job.state == State.QUEUED
    assert 1 < job.run_after - time.time() < 5


def test_the_last_attempt_fails_the_job(store: Store) -> None:
    add(store)
    claimed = jobs.claim(store, "w", lease=30)
    assert claimed
    jobs.retry(store, claimed, jobs.Fault("output", "no room", "Make room."), attempts=1)
    with store.read() as session:
        job = session.get_one(Job, claimed.job_id)
    assert (job.state, job.error_code, job.error_remedy) == (State.FAILED, "output", "Make room.")


def test_the_audit_log_only_grows(store: Store) -> None:
    def write(name: str) -> None:
        for number in range(5):
            with store.write() as session:
                audit.record(session, name, "job.submit", str(number))

    threads = [threading.Thread(target=write, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = audit.verify(store)
    assert found.whole
    assert found.entries == 20
    for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
        with pytest.raises(DatabaseError, match="append-only"), store.write() as session:
            session.execute(sa.text(statement))


def test_the_same_request_twice_at_once_is_one_job(address: str, tmp_path: Path) -> None:
    database = "" if address.startswith("sqlite") else address
    with TestClient(make_app(make_settings(tmp_path, workers=0, database=database))) as client:
        clip, found = make_clip(1), []

        def post() -> None:
            headers = {"Idempotency-Key": "once"}
            answer = client.post("/v1/jobs", files={"file": ("a.mp4", clip)}, data={"fresh": "true"}, headers=headers)
            found.append((answer.status_code, answer.json().get("id")))

        threads = [threading.Thread(target=post) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {status for status, _ in found} == {202}
        assert len({job for _, job in found}) == 1
        assert len(client.get("/v1/jobs").json()["items"]) == 1
        assert len(list((tmp_path / "media").iterdir())) == 1
        # What PostgreSQL cannot hold must not become an error of the server.
        assert client.get("/v1/jobs", params={"q": "a\0b"}).status_code == 200
        odd = submit(client, make_clip(2), "a\0b\ud7ff.mp4")
        assert client.get(f"/v1/jobs/{odd['id']}").status_code == 200
