"""A file that is here already: what a later request asked for holds for the job that answers it."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from service_under_test import job_row, make_clip, make_settings, submit

from faceproof.service import jobs, labels, submission, wishes
from faceproof.service.app import make_app
from faceproof.service.callers import LOCAL, Caller
from faceproof.service.problems import Problem
from faceproof.service.site import Site
from faceproof.service.tables import Delivery, Job, State
from faceproof.service.uploads import Upload

ME = Caller(LOCAL, frozenset({"scan", "read", "label"}))
HERE, THERE = "https://93.184.216.34/here", "https://93.184.216.34/there"


def send(site: Site, **fields: str) -> submission.Submitted:
    path = site.files.incoming()
    path.write_bytes(b"the same")
    wish = wishes.read_wish(site, ME, fields)
    return submission.submit(
        site, submission.make_submission(site, ME, wish, Upload("a.mp4", path, 8, "5" * 64, "video/mp4"))
    )


def row(site: Site, job_id: str) -> Job:
    with site.store.read() as session:
        return session.get_one(Job, job_id)


def end(site: Site, job_id: str) -> None:
    claimed = jobs.claim(site.store, "worker", lease=30, job_id=job_id)
    assert claimed is not None
    assert jobs.finish(site.store, claimed, report="{}", verdict="REAL", score=0.1, sums={})


def calls(site: Site) -> list[tuple[str, str]]:
    with site.store.read() as session:
        return [(one.job_id, one.url) for one in session.scalars(sa.select(Delivery))]


def test_a_result_does_not_vanish_while_a_later_request_still_wants_it(site: Site) -> None:
    first = send(site, keep="60s").job
    end(site, first.id)
    again = send(site, keep="5d")
    assert (again.reused, again.job.id) == (True, first.id)
    assert again.job.expires_at - time.time() > 4 * 86400
    assert row(site, first.id).expires_at == again.job.expires_at
    assert send(site, keep="60s").job.expires_at == again.job.expires_at


def test_a_webhook_is_called_although_the_result_was_here(site: Site) -> None:
    first = send(site).job
    end(site, first.id)
    assert calls(site) == []
    assert send(site, webhook=HERE).reused
    assert calls(site) == [(first.id, HERE)]


def test_a_webhook_is_called_by_the_job_that_was_waiting(site: Site) -> None:
    first = send(site).job
    assert send(site, webhook=HERE).reused
    assert send(site, webhook=HERE).reused
    other = send(site, webhook=THERE)
    assert not other.reused
    for one in (first.id, other.job.id):
        end(site, one)
    assert sorted(calls(site)) == sorted([(first.id, HERE), (other.job.id, THERE)])


def test_two_webhooks_in_one_go_are_both_called(site: Site) -> None:
    made = []
    for webhook in (HERE, THERE, HERE):
        path = site.files.incoming()
        path.write_bytes(b"the same")
        wish = wishes.read_wish(site, ME, {"webhook": webhook})
        made.append(submission.make_submission(site, ME, wish, Upload("a.mp4", path, 8, "5" * 64, "video/mp4")))
    found = [one.job for one in submission.settle(site, made) if isinstance(one, submission.Submitted)]
    assert [one.webhook for one in found] == [HERE, THERE, HERE]


def test_judging_again_keeps_no_longer_than_was_asked(tmp_path: Any) -> None:
    with TestClient(make_app(make_settings(tmp_path, workers=0))) as client:
        first = submit(client, make_clip(1), keep="1h")
        again = client.post(f"/v1/jobs/{first['id']}/again", json={"detector": "fake-other"}).json()
        site: Site = client.app.state.site  # type: ignore[attr-defined]
        assert row(site, again["id"]).expires_at - time.time() <= 3600


@pytest.mark.parametrize(("state", "code", "anew"), [
    (State.QUEUED, None, False), (State.FAILED, "output", True), (State.FAILED, "corrupt", None), (State.DONE, None, True),
])  # fmt: skip
def test_an_overlay_that_is_not_there_is_drawn_anew_where_that_may_help(
    site: Site, state: State, code: str | None, anew: bool | None
) -> None:
    parent, drawing = job_row(state=State.DONE), job_row(kind="overlay")
    with site.store.write() as session:
        jobs.enqueue(session, parent)
        drawing.parent_id, drawing.state, drawing.error_code = parent.id, state, code
        jobs.enqueue(session, drawing)
    if anew is None:
        with pytest.raises(Problem):
            submission.request_overlay(site, parent)
        return
    submission.request_overlay(site, parent)
    with site.store.read() as session:
        (now,) = session.scalars(sa.select(Job).where(Job.kind == "overlay"))
    assert now.state == State.QUEUED
    assert (now.id != drawing.id) == anew


def test_a_file_that_is_erased_a_moment_before_is_not_found(site: Site) -> None:
    gone = job_row(id="0" * 32, state=State.DONE, media_id="1" * 32)
    with pytest.raises(Problem, match="nothing by that name"):
        labels.give(site, ME, gone, "fake", "")
    with pytest.raises(Problem, match="nothing by that name"):
        submission.submit_again(site, ME, gone, wishes.read_wish(site, ME, {}), correlation=None)
