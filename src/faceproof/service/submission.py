"""From an upload or an address to a queued job: options, quotas, back-pressure, reuse, idempotency."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from faceproof import __version__
from faceproof.errors import OptionError
from faceproof.service import audit, jobs
from faceproof.service.callers import Caller, check_quota
from faceproof.service.outward import resolve
from faceproof.service.problems import Problem
from faceproof.service.running import insert_medium
from faceproof.service.settings import parse_span
from faceproof.service.site import Site
from faceproof.service.tables import Idempotency, Job, Medium, State, new_id
from faceproof.service.uploads import Upload, tidy_name

_FRAMES = re.compile(r"auto|all|[1-9]\d{0,5}|every:[1-9]\d{0,5}", re.ASCII)
_FIELDS = ("detector", "frames", "faces", "evidence", "priority", "keep", "webhook", "fresh", "url")


@dataclass(frozen=True)
class Wish:
    """What a caller wants done with a file, checked."""

    detector: str
    frames: str
    faces: str
    evidence: bool
    priority: int
    keep: float
    webhook: str | None
    fresh: bool
    url: str | None

    @property
    def options(self) -> dict[str, Any]:
        return {"frames": self.frames, "faces": self.faces, "evidence": self.evidence}


@dataclass(frozen=True)
class Submitted:
    """The job a request led to. ``reused``: it was there already. ``replayed``: the very request was."""

    job: Job
    reused: bool = False
    replayed: bool = False


def read_wish(site: Site, caller: Caller, fields: dict[str, str], *, priority: int = 0) -> Wish:
    """Check the form's options. Raises :class:`OptionError` and the like, each naming the field."""
    for name in fields:
        if name not in _FIELDS:
            raise OptionError(f"unknown option {_shown(name)}", remedy=f"Options are {', '.join(_FIELDS)}.")
    detector = fields.get("detector") or site.detectors.default
    site.detectors.fingerprint(detector)
    frames = fields.get("frames") or "auto"
    if not _FRAMES.fullmatch(frames):
        raise OptionError(f"frames cannot be {_shown(frames)}", remedy="Use auto, a count, every:K or all.")
    faces = fields.get("faces") or "thorough"
    if faces not in ("thorough", "fast"):
        raise OptionError(f"faces cannot be {_shown(faces)}", remedy="Use thorough or fast.")
    return Wish(
        detector=detector,
        frames=frames,
        faces=faces,
        evidence=_yes("evidence", fields.get("evidence", "true")),
        priority=_priority(fields.get("priority"), caller) or priority,
        keep=_keep(fields.get("keep"), site.settings.keep),
        webhook=_address(fields.get("webhook"), site, "webhook"),
        fresh=_yes("fresh", fields.get("fresh")),
        url=_address(fields.get("url"), site, "url"),
    )


def _shown(text: str) -> str:
    return ascii(text[:60])


def _priority(text: str | None, caller: Caller) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"-?\d", text, re.ASCII):
        raise OptionError(f"priority cannot be {_shown(text)}", remedy="Use a whole number from -9 to 9.")
    if int(text) > 0 and not caller.may("admin"):
        raise Problem(
            403, "scope", "only keys with the scope admin may jump the queue", "Leave priority at 0 or below."
        )
    return int(text)


def _keep(text: str | None, most: float) -> float:
    if not text:
        return most
    try:
        keep = float(parse_span(text))
    except ValueError:
        raise OptionError(f"keep cannot be {_shown(text)}", remedy="Write a time such as 7d, 12h or 90s.") from None
    if not 0 < keep <= most:
        raise OptionError("keep is longer than this server keeps anything", remedy=f"At most {most:g} s.")
    return keep


def _yes(field: str, text: str | None) -> bool:
    if text in (None, "", "false", "False", "0", "no"):
        return False
    if text in ("true", "True", "1", "yes", "on"):
        return True
    raise OptionError(f"{field} cannot be {_shown(str(text))}", remedy="Use true or false.")


def _address(text: str | None, site: Site, field: str) -> str | None:
    if not text:
        return None
    if field == "url" and not site.settings.fetch_urls:
        raise Problem(403, "fetch_off", "this server does not fetch addresses", "Upload the file itself.")
    if not (text.isascii() and text.isprintable()) or len(text) > 2000:
        raise OptionError(f"{field} is not a web address", remedy="Encode other characters as %XX.")
    resolve(text, private=site.settings.private_addresses)
    return text


def require_room(site: Site) -> None:
    """Raises :class:`Problem` 429 when the queue is full, before a byte of the upload is read."""
    with site.store.read() as session:
        _require_room(session, site, 1)


def _require_room(session: Session, site: Site, more: int) -> None:
    waiting = jobs.queued(session)
    if waiting + more > site.settings.max_queued:
        wait = str(max(5, min(600, round(waiting * _seconds_per_job(session) / max(1, site.settings.workers)))))
        raise Problem(429, "queue_full", "the queue is full", f"Try again in {wait} s.", headers={"Retry-After": wait})


def _seconds_per_job(session: Session) -> float:
    from faceproof.service.tables import Counter

    seconds, done = (session.get(Counter, name) for name in ("scan_seconds", "jobs_done"))
    return seconds.value / done.value if seconds and done and done.value else 1.0


def submit(
    site: Site,
    caller: Caller,
    wish: Wish,
    upload: Upload | None,
    *,
    token: str | None = None,
    batch: str | None = None,
    correlation: str | None = None,
) -> Submitted:
    """Make the job, or find the one that answers already. The upload's file is kept or removed.

    Raises what the upload's own fault says, :class:`Problem` for quotas and a full queue, and
    :class:`faceproof.errors.OutputError` when there is no room.
    """
    if upload is None and wish.url is None:
        raise Problem(422, "file", "the form holds no file", "Send the file as the form field `file`.")
    if upload is not None and upload.fault is not None:
        raise upload.fault
    content = upload.sha256 if upload else str(wish.url)
    replayed = _replayed(site, caller, token, request_hash(content, wish))
    if replayed is not None:
        return replayed
    mark = fingerprint(site, content, wish) if upload else None
    medium = insert_medium(site, sha256=upload.sha256, size=upload.size, mime=upload.mime) if upload else None
    name = upload.file_name if upload else tidy_name(str(wish.url).partition("?")[0])
    job = _row(caller, wish, name, mark, medium.id if medium else None, batch, correlation)
    try:
        with site.store.write() as session:
            same = None if wish.fresh or mark is None else _same(session, caller, mark)
            if same is None:
                _require_room(session, site, 1)
                check_quota(session, caller, upload.size if upload else 0)
                jobs.use(session, caller.owner, upload.size if upload else 0)
                if medium is not None and upload is not None:
                    # Before the row is committed: a row without its file would be a lost job.
                    site.files.keep(upload.path, f"media/{medium.id}")
                    jobs.insert_row(session, medium)
                jobs.enqueue(session, job)
                audit.record(session, caller.owner, "job.submit", job.id)
            if token is not None:
                session.add(
                    Idempotency(
                        owner=caller.owner,
                        token=token,
                        request_hash=request_hash(content, wish),
                        job_id=same.id if same else job.id,
                        created_at=time.time(),
                    )
                )
    except IntegrityError:
        # The same request arrived twice at once; the other one won.
        _drop(site, medium)
        other = _replayed(site, caller, token, request_hash(content, wish))
        if other is None:
            raise
        return other
    except BaseException:
        _drop(site, medium)
        raise
    if same is not None:
        return Submitted(same, reused=True)
    site.ring(job.id)
    return Submitted(job)


def submit_again(site: Site, caller: Caller, job: Job, wish: Wish, *, correlation: str | None) -> Submitted:
    """Judge a file that is here already, with another detector or other options."""
    if job.media_id is None:
        raise Problem(409, "no_file", "the file of this job was never fetched", "Submit its address again.")
    with site.store.write() as session:
        medium = session.get_one(Medium, job.media_id)
        mark = fingerprint(site, medium.sha256, wish)
        same = None if wish.fresh else _same(session, caller, mark)
        if same is not None:
            return Submitted(same, reused=True)
        _require_room(session, site, 1)
        check_quota(session, caller, 0)
        jobs.use(session, caller.owner, 0)
        fresh = _row(caller, wish, job.file_name, mark, medium.id, None, correlation)
        jobs.enqueue(session, fresh)
        audit.record(session, caller.owner, "job.submit", fresh.id)
    site.ring(fresh.id)
    return Submitted(fresh)


def request_overlay(site: Site, job: Job) -> None:
    """Queue the drawing of a job's overlay video, unless that is under way or failed already."""
    with site.store.write() as session:
        known = session.scalars(sa.select(Job).where(Job.parent_id == job.id, Job.kind == "overlay")).first()
        if known is not None:
            if known.state == State.FAILED:
                raise Problem(422, known.error_code or "evidence", known.error_message or "", known.error_remedy or "")
            return
        _require_room(session, site, 1)
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


def _same(session: Session, caller: Caller, mark: str) -> Job | None:
    """A job of the same owner that gives, or will give, the same report. Never anyone else's: that would tell."""
    states = [State.DONE, State.QUEUED, State.RUNNING]
    found = sa.select(Job).where(Job.owner == caller.owner, Job.fingerprint == mark, Job.state.in_(states))
    return session.scalars(found.order_by(Job.created_at.desc()).limit(1)).first()


def _replayed(site: Site, caller: Caller, token: str | None, said: str) -> Submitted | None:
    if token is None:
        return None
    with site.store.read() as session:
        known = session.get(Idempotency, (caller.owner, token))
        if known is None:
            return None
        if known.request_hash != said:
            raise Problem(
                422, "idempotency", "this Idempotency-Key was used for another request", "Choose a new one per request."
            )
        return Submitted(session.get_one(Job, known.job_id), replayed=True)


def _drop(site: Site, medium: Medium | None) -> None:
    if medium is not None:
        site.files.delete(f"media/{medium.id}")
