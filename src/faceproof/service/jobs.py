"""The life of a job in the table: submitted, claimed, kept alive, finished. Every change is one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from faceproof.service.store import Store
from faceproof.service.tables import (
    FINAL,
    Counter,
    Delivery,
    Event,
    FileLabel,
    Idempotency,
    Job,
    Lane,
    Medium,
    Result,
    State,
    Table,
    Usage,
)

BACKOFF_CAP = 300.0

_QUEUED = sa.select(sa.func.count()).select_from(Job.__table__).where(Job.__table__.c.state == State.QUEUED.value)


@dataclass(frozen=True)
class Claim:
    """The right to run one attempt at a job. Whoever holds a newer attempt has taken it over."""

    job_id: str
    attempt: int
    worker: str


@dataclass(frozen=True)
class Fault:
    """Why a job failed, for machines and for people."""

    code: str
    message: str
    remedy: str = ""


WORKER_DIED = Fault(
    "worker_died",
    "the process that read this file was killed, each time it was tried",
    "The file may be damaged on purpose or need more memory than a worker may use; treat it with care.",
)


def enqueue(session: Session, *jobs: Job) -> None:
    """Add jobs, behind their owners' earlier ones but not behind everyone else's: owners take turns."""
    by_owner: dict[str, list[Job]] = {}
    for job in jobs:
        by_owner.setdefault(job.owner, []).append(job)
    # In one order everywhere, so that writers never wait in a circle.
    for owner, theirs in sorted(by_owner.items()):
        last = _take_turns(session, owner, len(theirs))
        for turn, job in enumerate(theirs, start=last - len(theirs) + 1):
            job.turn = turn
    insert_rows(session, jobs)
    waiting = json.dumps({"state": State.QUEUED.value})
    rows = [{"job_id": job.id, "name": "state", "data": waiting} for job in jobs]
    session.connection().execute(_inserts(Event), rows)


def emit(session: Session, job_id: str, name: str, data: dict[str, Any]) -> None:
    """Tell the job's listeners."""
    session.connection().execute(_inserts(Event), [{"job_id": job_id, "name": name, "data": json.dumps(data)}])


def claim(store: Store, worker: str, *, lease: float, job_id: str | None = None) -> Claim | None:
    """Take the next job in turn, or the one named, for ``lease`` seconds. None when there is nothing to take."""
    now = time.time()
    wanted = (
        sa.select(Job)
        .where(Job.state == State.QUEUED, Job.run_after <= now)
        .order_by(Job.priority.desc(), Job.turn, Job.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if job_id is not None:
        wanted = wanted.where(Job.id == job_id)
    with store.read() as session:  # an idle worker must not take SQLite's only write lock
        if session.scalar(wanted.with_only_columns(Job.id).with_for_update(skip_locked=True)) is None:
            return None
    with store.write() as session:
        job = session.scalars(wanted).first()
        if job is None:
            return None
        job.state = State.RUNNING
        job.attempt += 1
        job.worker = worker
        job.lease_until = now + lease
        job.started_at = now
        session.connection().execute(_reached(_dialect(session)), {"reached": job.turn})
        emit(session, job.id, "state", {"state": State.RUNNING.value, "attempt": job.attempt})
        return Claim(job.id, job.attempt, worker)


def _mine(claimed: Claim) -> Sequence[sa.ColumnElement[bool]]:
    return (Job.id == claimed.job_id, Job.attempt == claimed.attempt, Job.state == State.RUNNING)


def keep_alive(store: Store, claimed: Claim, *, lease: float) -> bool:
    """Extend the lease. False when the job was cancelled, deleted or taken over: stop."""
    with store.write() as session:
        changed = session.execute(sa.update(Job).where(*_mine(claimed)).values(lease_until=time.time() + lease))
        return _rows(changed) == 1


def progress(store: Store, claimed: Claim, *, lease: float, data: dict[str, Any]) -> bool:
    """Write how far the attempt has come, tell listeners, extend the lease. False means stop, as in :func:`keep_alive`."""
    with store.write() as session:
        changed = session.execute(
            sa.update(Job)
            .where(*_mine(claimed))
            .values(
                lease_until=time.time() + lease,
                frames_done=data.get("progress"),
                frames_total=data.get("total"),
                faces_seen=data.get("faces"),
            )
        )
        if _rows(changed) != 1:
            return False
        emit(session, claimed.job_id, "progress", data)
        return True


def finish(
    store: Store,
    claimed: Claim,
    *,
    report: str,
    verdict: str,
    score: float | None,
    sums: dict[str, float],
    facts: dict[str, Any] | None = None,
) -> bool:
    """Write the report, once: False when this attempt no longer holds the job, and then nothing is written.

    ``facts`` are columns of the job: ``version``, ``seconds``, ``memory``, ``signals``.
    """
    with store.write() as session:
        job = session.scalars(sa.select(Job).where(*_mine(claimed)).with_for_update()).one_or_none()
        if job is None:
            return False
        job.verdict, job.score = verdict, score
        for name, value in (facts or {}).items():
            setattr(job, name, value)
        session.add(Result(job_id=job.id, report=report))
        add_to(session, {**sums, f"verdict_{verdict}": 1})
        _close(session, job, State.DONE, {"verdict": verdict, "score": score})
        return True


def finish_other(store: Store, claimed: Claim) -> bool:
    """As :func:`finish` for a job whose outcome is a file, not a report."""
    with store.write() as session:
        job = session.scalars(sa.select(Job).where(*_mine(claimed)).with_for_update()).one_or_none()
        if job is not None:
            _close(session, job, State.DONE, {})
        return job is not None


def fail(store: Store, claimed: Claim, fault: Fault) -> bool:
    """End the job without a report. False when this attempt no longer holds it."""
    with store.write() as session:
        job = session.scalars(sa.select(Job).where(*_mine(claimed)).with_for_update()).one_or_none()
        if job is not None:
            _fail(session, job, fault)
        return job is not None


def retry(store: Store, claimed: Claim, fault: Fault, *, attempts: int) -> None:
    """Put the job back for another attempt after a pause, or fail it when it has had ``attempts``."""
    with store.write() as session:
        job = session.scalars(sa.select(Job).where(*_mine(claimed)).with_for_update()).one_or_none()
        if job is not None:
            _put_back(session, job, fault, attempts=attempts, pause=min(BACKOFF_CAP, 2.0**job.attempt))


def give_back(store: Store, claimed: Claim) -> None:
    """Put the job back as if this attempt had never been: the worker is being stopped in an orderly way."""
    with store.write() as session:
        job = session.scalars(sa.select(Job).where(*_mine(claimed)).with_for_update()).one_or_none()
        if job is not None:
            _put_back(session, job, WORKER_DIED, attempts=job.attempt + 1, pause=0.0)
            job.attempt -= 1


def release_dead(store: Store, *, attempts: int, worker: str | None = None) -> list[str]:
    """Take back the jobs whose lease ran out, or those of a ``worker`` known to be dead. Returns the ids put back."""
    dead = [Job.worker == worker] if worker is not None else [Job.lease_until < time.time()]
    chosen = sa.select(Job).where(Job.state == State.RUNNING, *dead)
    with store.read() as session:
        if session.scalars(chosen.limit(1)).first() is None:
            return []
    with store.write() as session:
        jobs = session.scalars(chosen.with_for_update(skip_locked=True)).all()
        return [job.id for job in jobs if _put_back(session, job, WORKER_DIED, attempts=attempts, pause=0.0)]


def _put_back(session: Session, job: Job, fault: Fault, *, attempts: int, pause: float) -> bool:
    if job.attempt >= attempts:
        _fail(session, job, fault)
        return False
    job.state = State.QUEUED
    job.worker = job.lease_until = job.rung_at = None
    job.run_after = time.time() + pause
    job.frames_done = job.faces_seen = None
    emit(session, job.id, "state", {"state": State.QUEUED.value, "attempt": job.attempt})
    return True


def _fail(session: Session, job: Job, fault: Fault) -> None:
    job.error_code, job.error_message, job.error_remedy = fault.code, fault.message, fault.remedy
    add_to(session, {f"error_{fault.code}": 1})
    _close(session, job, State.FAILED, {"code": fault.code, "message": fault.message, "remedy": fault.remedy})


def cancel(session: Session, job: Job) -> bool:
    """End a job that is not final yet; whoever runs it notices within a heartbeat. False when it was final."""
    if job.state in FINAL:
        return False
    _close(session, job, State.CANCELLED, {})
    return True


def _close(session: Session, job: Job, state: State, data: dict[str, Any]) -> None:
    job.state = state
    job.finished_at = time.time()
    job.worker = job.lease_until = None
    # The steps on the way interest nobody any more; the table must not grow with them.
    session.execute(sa.delete(Event).where(Event.job_id == job.id, Event.name == "progress"))
    emit(session, job.id, "state", {"state": state.value, **data})
    add_to(session, {f"jobs_{state.value}": 1})
    if job.webhook and job.kind == "scan":
        session.add(Delivery(job_id=job.id, url=job.webhook, next_at=time.time()))


def erase(session: Session, job_ids: Sequence[str], *, labels: bool) -> list[str]:
    """Delete jobs, what hangs on them, and the media no other job needs. Returns the names of files to delete.

    ``labels``: those too, which otherwise stay to tell how detectors did.
    """
    ids = list(session.scalars(sa.select(Job.id).where(sa.or_(Job.id.in_(job_ids), Job.parent_id.in_(job_ids)))))
    media = set(session.scalars(sa.select(Job.media_id).where(Job.id.in_(ids), Job.media_id.is_not(None))))
    for table in (Result, Event, Idempotency, Delivery):
        session.execute(sa.delete(table).where(table.job_id.in_(ids)))
    if labels:
        session.execute(sa.delete(FileLabel).where(FileLabel.job_id.in_(ids)))
    session.execute(sa.delete(Job).where(Job.id.in_(ids)))
    names = [f"evidence/{one}" for one in ids]
    for medium in media:
        if session.scalars(sa.select(Job.id).where(Job.media_id == medium).limit(1)).first() is None:
            session.execute(sa.delete(Medium).where(Medium.id == medium))
            names.append(f"media/{medium}")
    return names


# Statements are put together once and for all: SQLAlchemy takes longer to build one than the database to run it.


@cache
def _inserts(table: type[Table]) -> Any:
    columns: Any = table.__table__  # of the table itself: by way of its class an insert takes twice as long
    return sa.insert(columns).inline()


@cache
def _upsert(dialect: str, table: type[Table]) -> Any:
    """INSERT with ON CONFLICT, which each database has in its own dialect."""
    return (postgresql if dialect == "postgresql" else sqlite).insert(table.__table__)


@cache
def _turns(dialect: str) -> Any:
    lane, whole = Lane.__table__.c, Lane.__table__.alias()
    more = sa.bindparam("more", type_=sa.BigInteger)
    reached = sa.func.coalesce(sa.select(whole.c.turn).where(whole.c.owner == "*").scalar_subquery(), 0)
    row = _upsert(dialect, Lane).values(owner=sa.bindparam("who"), turn=reached + more)
    further = sa.case((lane.turn > reached, lane.turn), else_=reached) + more
    return row.on_conflict_do_update(index_elements=["owner"], set_={"turn": further}).returning(lane.turn)


def _take_turns(session: Session, owner: str, count: int) -> int:
    """The last of ``count`` turns, further than the owner's last job and than the queue as a whole has come."""
    words = {"who": owner, "more": count}
    return int(session.connection().execute(_turns(_dialect(session)), words).scalar_one())


@cache
def _reached(dialect: str) -> Any:
    row = _upsert(dialect, Lane).values(owner="*", turn=sa.bindparam("reached"))
    later = Lane.__table__.c.turn < row.excluded.turn
    return row.on_conflict_do_update(index_elements=["owner"], set_={"turn": row.excluded.turn}, where=later)


@cache
def _sums(dialect: str) -> Any:
    row = _upsert(dialect, Counter).values(name=sa.bindparam("sum"), value=sa.bindparam("more"))
    more = Counter.__table__.c.value + row.excluded.value
    return row.on_conflict_do_update(index_elements=["name"], set_={"value": more})


@cache
def _uses(dialect: str) -> Any:
    words = {"owner": "who", "day": "when", "jobs": "count", "size": "bytes"}
    row = _upsert(dialect, Usage).values(**{column: sa.bindparam(word) for column, word in words.items()})
    used = Usage.__table__.c
    more = {"jobs": used.jobs + row.excluded.jobs, "size": used.size + row.excluded.size}
    return row.on_conflict_do_update(index_elements=["owner", "day"], set_=more)


def _dialect(session: Session) -> str:
    return session.get_bind().dialect.name


def insert_rows(session: Session, rows: Sequence[Table]) -> None:
    """Insert rows of one table as they stand, defaults filled in. A flush of the session costs several times as much."""
    if rows:
        session.connection().execute(_inserts(type(rows[0])), [_filled(row) for row in rows])


def _filled(row: Table) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for column in row.__table__.columns:
        value = getattr(row, column.key)
        if value is None and column.default is not None:
            value = column.default.arg if column.default.is_scalar else column.default.arg(None)
            setattr(row, column.key, value)
        values[column.key] = value
    return values


def add_to(session: Session, sums: Mapping[str, float]) -> None:
    """Add to counters that outlive the jobs."""
    # In one order everywhere, so that writers never wait in a circle.
    rows = [{"sum": name, "more": value} for name, value in sorted(sums.items())]
    session.connection().execute(_sums(_dialect(session)), rows)


def use(session: Session, owner: str, size: int, count: int = 1) -> None:
    """Book ``count`` jobs of together ``size`` bytes on the owner's day."""
    words = {"who": owner, "when": int(time.time() // 86400), "count": count, "bytes": size}
    session.connection().execute(_uses(_dialect(session)), words)


def queued(session: Session) -> int:
    """How many jobs wait."""
    return int(session.connection().execute(_QUEUED).scalar_one())


def _rows(result: sa.Result[Any]) -> int:
    return int(getattr(result, "rowcount", 0))
