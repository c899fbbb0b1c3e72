"""From an upload or an address to a queued job: quotas, back-pressure, reuse, idempotency."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from faceproof import __version__
from faceproof.errors import DeviceError, FaceproofError, OutputError
from faceproof.service import audit, jobs
from faceproof.service.callers import Caller, Spent, check_quota
from faceproof.service.problems import Problem, not_found
from faceproof.service.running import insert_medium
from faceproof.service.site import Site
from faceproof.service.tables import FINAL, Counter, Delivery, Idempotency, Job, Medium, State, new_id
from faceproof.service.uploads import Upload, tidy_name
from faceproof.service.wishes import Wish

_KNOWN = (
    sa.select(Idempotency, Job)
    .join(Job, Job.id == Idempotency.job_id)
    .where(Idempotency.owner == sa.bindparam("owner"), Idempotency.token.in_(sa.bindparam("tokens", expanding=True)))
)
# Jobs that give, or will give, the same report; the newest last. Locked, so that none of them ends or is erased unseen.
_SAME = (
    sa.select(Job)
    .where(
        Job.owner == sa.bindparam("owner"),
        Job.fingerprint.in_(sa.bindparam("marks", expanding=True)),
        Job.state.in_([State.DONE.value, State.QUEUED.value, State.RUNNING.value]),
    )
    .order_by(Job.created_at)
    .with_for_update()
    .execution_options(populate_existing=True)
)

# Faults of the machine, which pass.
_PASSES = (OutputError.code, DeviceError.code)


@dataclass(frozen=True)
class Submitted:
    """The job a request led to. ``reused``: it was there already. ``replayed``: the very request was."""

    job: Job
    reused: bool = False
    replayed: bool = False

    @property
    def is_new(self) -> bool:
        return not self.reused and not self.replayed


def require_room(session: Session, site: Site, waiting: int) -> None:
    """Raises :class:`Problem` 429 when there is no room for another job beside those ``waiting``."""
    if waiting >= site.settings.max_queued:
        wait = str(max(5, min(600, round(waiting * _seconds_per_job(session) / max(1, site.settings.workers)))))
        raise Problem(429, "queue_full", "the queue is full", f"Try again in {wait} s.", headers={"Retry-After": wait})


def _seconds_per_job(session: Session) -> float:
    seconds, done = (session.get(Counter, name) for name in ("scan_seconds", "jobs_done"))
    return seconds.value / done.value if seconds and done and done.value else 1.0


@dataclass
class Submission:
    """A request to judge a file, checked as far as that goes without the database, and the rows it would become.

    ``kept``: the file lies where the medium's row says. ``token`` is the Idempotency-Key.
    """

    caller: Caller
    wish: Wish
    upload: Upload | None
    job: Job
    medium: Medium | None
    said: str
    token: str | None = None
    kept: bool = False


def make_submission(
    site: Site,
    caller: Caller,
    wish: Wish,
    upload: Upload | None,
    *,
    token: str | None = None,
    batch: str | None = None,
    correlation: str | None = None,
) -> Submission:
    """Raises what the upload's own fault says, and :class:`Problem` when there is nothing to judge."""
    if upload is None and wish.url is None:
        raise Problem(422, "file", "the form holds no file", "Send the file as the form field `file`.")
    if upload is not None and upload.fault is not None:
        raise upload.fault
    content = upload.sha256 if upload else str(wish.url)
    mark = fingerprint(site, content, wish) if upload else None
    medium = insert_medium(site, sha256=upload.sha256, size=upload.size, mime=upload.mime) if upload else None
    name = upload.file_name if upload else tidy_name(str(wish.url).partition("?")[0])
    job = _row(caller, wish, name, mark, medium.id if medium else None, batch, correlation)
    return Submission(caller, wish, upload, job, medium, request_hash(content, wish) if token else "", token)


def submit(site: Site, submission: Submission) -> Submitted:
    """Make the job, or find the one that answers already. The upload's file is kept or left where it is.

    Raises :class:`Problem` for quotas and a full queue, :class:`faceproof.errors.OutputError` when there is no room.
    """
    outcome = settle(site, [submission])[0]
    if isinstance(outcome, Exception):
        raise outcome
    if outcome.is_new:
        site.ring(outcome.job.id)
    return outcome


def settle(site: Site, wanted: Sequence[Submission]) -> list[Submitted | Exception]:
    """What each submission came to, in their order: all of them in one transaction, since that costs like one.

    One that the database or the disk refuses does not take the others along.
    """
    try:
        with site.store.write() as session:
            outcomes = _Desk(session, site, wanted).outcomes()
    except (IntegrityError, OutputError, OSError) as error:
        # The same request that arrived at another server at once, or a file for which there was no room.
        if len(wanted) > 1:
            return [settle(site, [one])[0] for one in wanted]
        repeated = isinstance(error, IntegrityError) and wanted[0].token is not None
        outcomes = [_replayed(site, wanted[0]) or error if repeated else error]
    except Exception as error:  # noqa: BLE001 - everyone who asked is told
        outcomes = [error for _ in wanted]
    for one, outcome in zip(wanted, outcomes, strict=True):
        if one.kept and not (isinstance(outcome, Submitted) and outcome.is_new) and one.medium is not None:
            site.files.delete(f"media/{one.medium.id}")
    return outcomes


def _replayed(site: Site, one: Submission) -> Submitted | Exception | None:
    with site.store.read() as session:
        known = session.get(Idempotency, (one.caller.owner, one.token))
        return None if known is None else _again(known.request_hash, session.get_one(Job, known.job_id), one)


def _again(said: str, job: Job, one: Submission) -> Submitted | Exception:
    if said != one.said:
        return Problem(
            422, "idempotency", "this Idempotency-Key was used for another request", "Choose a new one per request."
        )
    return Submitted(job, replayed=True)


class _Desk:
    """Decides on submissions one after another within one transaction, and writes what they became together."""

    def __init__(self, session: Session, site: Site, wanted: Sequence[Submission]) -> None:
        self._session = session
        self._site = site
        self._wanted = wanted
        self._waiting = jobs.queued(session)
        self._taken: list[Submission] = []
        self._tokens: dict[tuple[str, str], tuple[str, Job]] = {}
        self._same: dict[tuple[str, str], Job] = {}
        self._spent: dict[str, Spent] = {}
        self._requests: list[Idempotency] = []
        by_owner: dict[str, list[Submission]] = {}
        for one in wanted:
            by_owner.setdefault(one.caller.owner, []).append(one)
        # In one order everywhere, so that servers never wait in a circle.
        for owner, theirs in sorted(by_owner.items()):
            self._look_up(owner, theirs)

    def _look_up(self, owner: str, theirs: Sequence[Submission]) -> None:
        """What there is already: requests of the same token, jobs that give the same report."""
        if tokens := [one.token for one in theirs if one.token is not None]:
            for known, job in self._session.execute(_KNOWN, {"owner": owner, "tokens": tokens}):
                self._tokens[owner, known.token] = (known.request_hash, job)
        if marks := [one.job.fingerprint for one in theirs if one.job.fingerprint and not one.wish.fresh]:
            # Never anyone else's: that would tell who has a file.
            for job in self._session.scalars(_SAME, {"owner": owner, "marks": marks}):
                self._same[owner, str(job.fingerprint)] = job

    def outcomes(self) -> list[Submitted | Exception]:
        outcomes: list[Submitted | Exception] = []
        for one in self._wanted:
            try:
                outcomes.append(self._decide(one))
            except FaceproofError as error:
                outcomes.append(error)
        self._write()
        return outcomes

    def _decide(self, one: Submission) -> Submitted | Exception:
        owner, mark = one.caller.owner, one.job.fingerprint
        if one.token is not None and (known := self._tokens.get((owner, one.token))):
            return _again(*known, one)
        found = None if one.wish.fresh or mark is None else self._same.get((owner, mark))
        if found is None or not _answers_for(self._session, found, one.wish):
            found = None
            size = one.upload.size if one.upload else 0
            require_room(self._session, self._site, self._waiting)
            spent = self._spent.setdefault(owner, Spent())
            check_quota(self._session, one.caller, spent, size)
            spent.jobs, spent.size = spent.jobs + 1, spent.size + size
            self._waiting += 1
            self._taken.append(one)
            if mark is not None:
                self._same[owner, mark] = one.job
        job = found or one.job
        if one.token is not None:
            self._tokens[owner, one.token] = (one.said, job)
            self._requests.append(
                Idempotency(owner=owner, token=one.token, request_hash=one.said, job_id=job.id, created_at=time.time())
            )
        return Submitted(job, reused=found is not None)

    def _write(self) -> None:
        media = []
        for one in self._taken:
            if one.medium is None or one.upload is None:
                continue
            media.append(one.medium)
            # Before the row is committed: a row without its file would be a lost job.
            if not one.kept:
                self._site.files.keep(one.upload.path, f"media/{one.medium.id}")
                one.kept = True
        for owner, spent in sorted(self._spent.items()):
            if spent.jobs:
                jobs.use(self._session, owner, spent.size, spent.jobs)
        jobs.insert_rows(self._session, media)
        if self._taken:
            jobs.enqueue(self._session, *(one.job for one in self._taken))
        jobs.insert_rows(self._session, self._requests)
        if self._taken:
            audit.record_all(
                self._session, [audit.Act(one.caller.owner, "job.submit", one.job.id) for one in self._taken]
            )


def _answers_for(session: Session, job: Job, wish: Wish) -> bool:
    """Let a job that gives the same report stand for another wish: kept as long, and the webhook called too.

    False where it cannot: a job that has not ended has one webhook.
    """
    now = time.time()
    if wish.webhook and job.state == State.DONE:
        session.add(Delivery(job_id=job.id, url=wish.webhook, next_at=now))
    elif wish.webhook and job.webhook not in (None, wish.webhook):
        return False
    elif wish.webhook:
        job.webhook = wish.webhook
    job.expires_at = max(job.expires_at, now + wish.keep)
    return True


def submit_again(site: Site, caller: Caller, job: Job, wish: Wish, *, correlation: str | None) -> Submitted:
    """Judge a file that is here already, with another detector or other options, and keep it no longer than was asked."""
    wish = replace(wish, keep=min(wish.keep, job.expires_at - job.created_at))
    if job.media_id is None:
        raise Problem(409, "no_file", "the file of this job was never fetched", "Submit its address again.")
    with site.store.write() as session:
        medium = session.get(Medium, job.media_id)
        if medium is None:  # erased a moment ago
            raise not_found()
        mark = fingerprint(site, medium.sha256, wish)
        words = {"owner": caller.owner, "marks": [mark]}
        same = None if wish.fresh else next(reversed(session.scalars(_SAME, words).all()), None)
        if same is not None and _answers_for(session, same, wish):
            return Submitted(same, reused=True)
        require_room(session, site, jobs.queued(session))
        check_quota(session, caller, Spent(), 0)
        jobs.use(session, caller.owner, 0)
        fresh = _row(caller, wish, job.file_name, mark, medium.id, None, correlation)
        jobs.enqueue(session, fresh)
        audit.record(session, caller.owner, "job.submit", fresh.id)
    site.ring(fresh.id)
    return Submitted(fresh)


def request_overlay(site: Site, job: Job) -> None:
    """Queue the drawing of a job's overlay video, unless that is under way. Raises :class:`Problem` where it failed for a
    reason that stays; one that the machine had (no room, no device) may be gone."""
    with site.store.write() as session:
        known = session.scalars(sa.select(Job).where(Job.parent_id == job.id, Job.kind == "overlay")).first()
        if known is not None:
            if known.state == State.FAILED and known.error_code not in _PASSES:
                raise Problem(422, known.error_code or "evidence", known.error_message or "", known.error_remedy or "")
            drawn = known.state == State.DONE and site.files.size(f"evidence/{job.id}/overlay.mp4") is not None
            if known.state not in FINAL or drawn:
                return
            jobs.erase(session, [known.id], labels=False)
        require_room(session, site, jobs.queued(session))
        drawing = Job(
            id=new_id(),
            kind="overlay",
            owner=job.owner,
            parent_id=job.id,
            media_id=job.media_id,
            file_name=job.file_name,
            detector=job.detector,
            options={},
            created_at=time.time(),
            expires_at=job.expires_at,
            correlation=job.correlation,
        )
        jobs.enqueue(session, drawing)
    site.ring(drawing.id)


def fingerprint(site: Site, content_sha256: str, wish: Wish) -> str:
    """Equal for requests whose reports would be equal."""
    parts = [content_sha256, wish.detector, site.detectors.fingerprint(wish.detector), __version__, wish.options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def request_hash(content: str, wish: Wish) -> str:
    parts = [content, wish.detector, wish.options, wish.priority, wish.keep, wish.webhook, wish.fresh]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _row(
    caller: Caller, wish: Wish, name: str, mark: str | None, media_id: str | None, batch: str | None, said: str | None
) -> Job:
    now = time.time()
    return Job(
        id=new_id(),
        owner=caller.owner,
        kind="scan",
        batch_id=batch,
        media_id=media_id,
        source_url=wish.url if media_id is None else None,
        file_name=name,
        detector=wish.detector,
        options=wish.options,
        fingerprint=mark,
        priority=wish.priority,
        created_at=now,
        expires_at=now + wish.keep,
        webhook=wish.webhook,
        correlation=said,
    )
