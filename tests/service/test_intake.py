"""Uploads that arrive together are taken in together, and each gets what it would have got alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from service_under_test import make_clip, make_settings, wait_for

from faceproof.errors import FaceproofError
from faceproof.service import audit, keys, submission, wishes
from faceproof.service.app import make_app
from faceproof.service.callers import LOCAL, Caller
from faceproof.service.intake import Intake
from faceproof.service.problems import Problem
from faceproof.service.site import Site
from faceproof.service.submission import Submission, Submitted, make_submission, settle
from faceproof.service.tables import Job, Medium, Usage
from faceproof.service.uploads import Upload
from faceproof.service.wishes import read_wish

ME = Caller(LOCAL, frozenset(keys.SCOPES))


def submission_of(
    site: Site, content: bytes, *, caller: Caller = ME, token: str | None = None, **fields: str
) -> Submission:
    path = site.files.incoming()
    path.write_bytes(content)
    upload = Upload("a.mp4", path, len(content), content.hex()[:64], "video/mp4")
    return make_submission(site, caller, read_wish(site, caller, fields), upload, token=token)


def rows(site: Site) -> int:
    with site.store.read() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Job)) or 0


def kept(site: Site) -> set[str]:
    return {name for name, _ in site.files.names("media")}


def test_files_that_arrive_together_are_jobs_in_their_order(site: Site) -> None:
    wanted = [submission_of(site, b"%d" % i) for i in range(5)]
    outcomes = settle(site, wanted)
    assert [o.job.id for o in outcomes if isinstance(o, Submitted)] == [one.job.id for one in wanted]
    assert [one.job.turn for one in wanted] == [1, 2, 3, 4, 5]
    assert kept(site) == {f"media/{one.medium.id}" for one in wanted if one.medium}
    found = audit.verify(site.store)
    assert (found.whole, found.entries) == (True, 5)
    with site.store.read() as session:
        used = session.scalars(sa.select(Usage)).one()
        assert (used.jobs, used.size) == (5, 5)
        assert session.scalar(sa.select(sa.func.count()).select_from(Medium)) == 5
    settle(site, [submission_of(site, b"later")])
    with site.store.read() as session:
        assert session.scalar(sa.select(sa.func.max(Job.turn))) == 6


def test_the_same_file_twice_in_one_go_is_one_job(site: Site) -> None:
    first, second, third = settle(
        site, [submission_of(site, b"a"), submission_of(site, b"b"), submission_of(site, b"a")]
    )
    assert isinstance(first, Submitted)
    assert isinstance(third, Submitted)
    assert isinstance(second, Submitted)
    assert (first.reused, second.reused, third.reused) == (False, False, True)
    assert third.job.id == first.job.id
    assert rows(site) == len(kept(site)) == 2


def test_the_same_request_twice_in_one_go_is_done_once(site: Site) -> None:
    wanted = [submission_of(site, content, token="t", fresh="true") for content in (b"a", b"a", b"b")]
    first, again, other = settle(site, wanted)
    assert isinstance(first, Submitted)
    assert isinstance(again, Submitted)
    assert (again.replayed, again.job.id) == (True, first.job.id)
    assert isinstance(other, Problem)
    assert other.problem_code == "idempotency"
    assert rows(site) == len(kept(site)) == 1


def test_limits_count_within_one_go(site: Site) -> None:
    poor = Caller("poor", frozenset(keys.SCOPES), jobs_per_day=2)
    outcomes = settle(site, [submission_of(site, b"%d" % i, caller=poor) for i in range(3)])
    assert [isinstance(o, Submitted) for o in outcomes] == [True, True, False]
    assert isinstance(outcomes[2], Problem)
    assert outcomes[2].problem_code == "quota"
    again = settle(site, [submission_of(site, b"9", caller=poor)])[0]
    assert isinstance(again, Problem)


def test_a_queue_that_fills_up_takes_as_many_as_fit(tmp_path: Path) -> None:
    site = Site.open(make_settings(tmp_path, workers=0, max_queued=2))
    outcomes = settle(site, [submission_of(site, b"%d" % i) for i in range(4)])
    assert [isinstance(o, Submitted) for o in outcomes] == [True, True, False, False]
    assert rows(site) == len(kept(site)) == 2
    site.close()


def test_a_file_that_cannot_be_kept_takes_no_other_along(site: Site) -> None:
    wanted = [submission_of(site, b"%d" % i) for i in range(4)]
    assert wanted[2].upload
    wanted[2].upload.path.unlink()
    outcomes = settle(site, wanted)
    assert [isinstance(o, Submitted) for o in outcomes] == [True, True, False, True]
    assert isinstance(outcomes[2], FileNotFoundError)
    assert rows(site) == len(kept(site)) == 3
    assert audit.verify(site.store).entries == 3


def test_a_database_that_refuses_leaves_no_files(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("not today")

    monkeypatch.setattr(audit, "record_all", broken)
    outcomes = settle(site, [submission_of(site, b"%d" % i) for i in range(2)])
    assert [type(o) for o in outcomes] == [RuntimeError, RuntimeError]
    assert (rows(site), kept(site)) == (0, set())


def posts(client: TestClient, seeds: Sequence[int], **fields: str) -> list[int]:
    """The statuses of uploads sent side by side."""

    def post(seed: int) -> int:
        return client.post("/v1/jobs", files={"file": ("a.mp4", make_clip(seed))}, data=fields).status_code

    with ThreadPoolExecutor(len(seeds)) as pool:
        return list(pool.map(post, seeds))


def test_uploads_that_wait_are_taken_in_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    entered, gate = threading.Event(), threading.Event()
    real: Callable[..., Any] = submission.settle

    def counted(site: Site, wanted: list[Submission]) -> Any:
        entered.set()
        gate.wait(30)
        together.append(len(wanted))
        return real(site, wanted)

    monkeypatch.setattr(submission, "settle", counted)
    with TestClient(make_app(make_settings(tmp_path, workers=0))) as client, ThreadPoolExecutor(2) as pool:
        intake: Intake = client.app.state.intake  # type: ignore[attr-defined]
        first = pool.submit(posts, client, [0])
        assert entered.wait(30)
        others = pool.submit(posts, client, range(1, 8))
        wait_for(lambda: intake._queue.qsize() == 7, what="seven uploads that wait")
        gate.set()
        assert first.result() + others.result() == [202] * 8
    assert together == [1, 7]


def test_a_name_server_that_takes_its_time_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def slow(*_: Any, **__: Any) -> None:
        assert answered.wait(30)

    monkeypatch.setattr(wishes, "resolve", slow)
    with TestClient(make_app(make_settings(tmp_path, workers=0))) as client, ThreadPoolExecutor(1) as pool:
        files = {"file": ("a.mp4", make_clip(99))}
        late = pool.submit(client.post, "/v1/jobs", files=files, data={"webhook": "https://slow.example/"})
        assert posts(client, [1, 2]) == [202, 202]
        assert not late.done()
        answered.set()
        assert late.result().status_code == 202


def test_what_goes_wrong_is_told_to_whoever_asked(idle: TestClient) -> None:
    def prepare() -> Submission:
        raise FaceproofError("no")

    async def ask() -> str:
        intake: Intake = idle.app.state.intake  # type: ignore[attr-defined]
        try:
            await intake.take(prepare)
        except FaceproofError as error:
            return str(error)
        return "nothing"

    assert idle.portal is not None
    assert idle.portal.call(ask) == "no"
    assert posts(idle, [1]) == [202]
