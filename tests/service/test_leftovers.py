"""Whatever an attempt was doing when its job was erased, or its file went away: nothing stays, and it is said."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from service_under_test import job_row, make_clip, make_settings, wait_for

from faceproof.errors import OutputError
from faceproof.service import artifacts, fetch, housekeeping, jobs
from faceproof.service.running import run_job
from faceproof.service.site import Site
from faceproof.service.tables import Job, Medium
from faceproof.service.worker import Crew


def enqueue(site: Site, clip: bytes | None, **given: Any) -> Job:
    """A queued job, its file in place."""
    medium = Medium(sha256="0" * 64, size=1, mime="video/mp4", created_at=0.0)
    with site.store.write() as session:
        if clip is not None:
            session.add(medium)
            session.flush()
            (site.settings.data / "media" / medium.id).write_bytes(clip)
        job: Job = job_row(media_id=medium.id, options={"frames": "4"}, **given)
        jobs.enqueue(session, job)
    return job


def files_of(site: Site) -> list[Path]:
    return [
        p for name in ("incoming", "media", "evidence") for p in (site.settings.data / name).rglob("*") if p.is_file()
    ]


def test_evidence_of_a_job_erased_while_it_is_made_does_not_stay(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job = enqueue(site, make_clip(1))
    put = artifacts._put
    written: list[str] = []

    def erased_before(files: Any, name: str, data: bytes) -> None:
        if not written:
            housekeeping.erase(site, [job.id], actor="local")
        put(files, name, data)
        written.append(name)

    monkeypatch.setattr(artifacts, "_put", erased_before)
    assert run_job(site, "worker") == job.id
    assert written
    assert files_of(site) == []


def test_evidence_of_a_job_that_was_taken_over_stays_with_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job = enqueue(site, make_clip(1))
    whole = artifacts.make_evidence

    def taken_over(files: Any, job_id: str, *rest: Any) -> None:
        whole(files, job_id, *rest)
        with site.store.write() as session:
            session.execute(sa.update(Job).values(attempt=7))

    monkeypatch.setattr(artifacts, "make_evidence", taken_over)
    run_job(site, "worker")
    assert site.files.size(f"evidence/{job.id}/report.html")


def test_what_was_fetched_for_an_erased_job_does_not_stay(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job = enqueue(site, None, source_url="http://example.org/a.mp4")
    with site.store.write() as session:
        session.execute(sa.update(Job).values(media_id=None))

    @contextmanager
    def answer(*_: Any, **__: Any) -> Iterator[Any]:
        housekeeping.erase(site, [job.id], actor="local")
        yield SimpleNamespace(status=200, read=io.BytesIO(make_clip(2)).read)

    monkeypatch.setattr(fetch, "request", answer)
    assert run_job(site, "worker") == job.id
    assert files_of(site) == []
    with site.store.read() as session:
        assert session.scalars(sa.select(Medium)).all() == []


def test_a_file_that_is_not_where_it_was_kept_is_said_and_not_tried_again(site: Site) -> None:
    job = enqueue(site, make_clip(1))
    site.files.delete(f"media/{job.media_id}")
    run_job(site, "worker")
    with site.store.read() as session:
        failed = session.get_one(Job, job.id)
    assert (failed.state, failed.attempt, failed.error_code) == ("failed", 1, "file_gone")
    assert "Send the file again" in str(failed.error_remedy)


def test_a_disk_that_was_full_when_a_worker_died_leaves_the_crew_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site.open(make_settings(tmp_path, workers=1))
    crew = Crew(site, 1)
    crew.start()
    try:
        (first,) = wait_for(lambda: crew.pids)
        refused = []

        def full(*_: Any, **__: Any) -> list[str]:
            refused.append(1)
            raise OutputError("the database's disk is full")

        monkeypatch.setattr(jobs, "release_dead", full)
        next(iter(crew._running.values())).kill()
        wait_for(lambda: refused)
        monkeypatch.undo()
        assert wait_for(lambda: [pid for pid in crew.pids if pid != first], seconds=20)
    finally:
        crew.stop()
        site.close()
