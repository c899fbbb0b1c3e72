"""The tables. Times are seconds since 1970 (UTC); ids are random and say nothing about what they name."""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class State(StrEnum):
    """Where a job stands. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = (State.DONE, State.FAILED, State.CANCELLED)


def new_id() -> str:
    """128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)


# SQLite counts up only columns declared INTEGER.
_Serial = BigInteger().with_variant(Integer(), "sqlite")


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {float: Double(), dict[str, Any]: JSON()}  # noqa: RUF012 - SQLAlchemy's own name and form


class Key(Table):
    """An API key. Only hashes of secrets are kept; ``previous_hash`` is honoured until ``previous_until``."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    secret_hash: Mapped[str] = mapped_column(String(64))
    previous_hash: Mapped[str | None] = mapped_column(String(64))
    previous_until: Mapped[float | None]
    scopes: Mapped[str] = mapped_column(String(200))
    jobs_per_day: Mapped[int | None]
    bytes_per_day: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]


class Medium(Table):
    """An uploaded file. Several jobs may judge the same one; it goes with the last of them."""

    __tablename__ = "media"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    mime: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[float]


class Job(Table):
    """One piece of work. ``attempt`` is the fence: only the attempt that holds it may write the outcome."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_claim", "state", "priority", "turn"),
        Index("ix_jobs_list", "owner", "created_at"),
        Index("ix_jobs_reuse", "owner", "fingerprint"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(16), default="scan")
    owner: Mapped[str] = mapped_column(String(16))
    parent_id: Mapped[str | None] = mapped_column(String(32), index=True)
    batch_id: Mapped[str | None] = mapped_column(String(32), index=True)
    media_id: Mapped[str | None] = mapped_column(ForeignKey("media.id"), index=True)
    source_url: Mapped[str | None] = mapped_column(Text)
    file_name: Mapped[str] = mapped_column(String(255))
    detector: Mapped[str] = mapped_column(String(80))
    options: Mapped[dict[str, Any]]
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(10), default=State.QUEUED.value)
    priority: Mapped[int] = mapped_column(default=0)
    turn: Mapped[int] = mapped_column(BigInteger, default=0)
    attempt: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None] = mapped_column(String(120), index=True)
    lease_until: Mapped[float | None]
    run_after: Mapped[float] = mapped_column(default=0.0)
    rung_at: Mapped[float | None]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None] = mapped_column(index=True)
    expires_at: Mapped[float] = mapped_column(index=True)
    frames_done: Mapped[int | None]
    frames_total: Mapped[int | None]
    faces_seen: Mapped[int | None]
    error_code: Mapped[str | None] = mapped_column(String(40))
    error_message: Mapped[str | None] = mapped_column(Text)
    error_remedy: Mapped[str | None] = mapped_column(Text)
    verdict: Mapped[str | None] = mapped_column(String(16))
    score: Mapped[float | None]
    # Of the scan: the detector's version, its time, the worker's peak memory in bytes, and what drift is watched on.
    version: Mapped[str | None] = mapped_column(String(40))
    seconds: Mapped[float | None]
    memory: Mapped[int | None] = mapped_column(BigInteger)
    signals: Mapped[dict[str, Any] | None]
    webhook: Mapped[str | None] = mapped_column(Text)
    correlation: Mapped[str | None] = mapped_column(String(64))


class Result(Table):
    """The report of a job that is done, as the JSON people build on."""

    __tablename__ = "results"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    report: Mapped[str] = mapped_column(Text)


class FileLabel(Table):
    """What someone found out about a file, beside what was answered about it. It has no name and no picture, and outlives
    its job's retention; it goes when the job is erased by hand."""

    __tablename__ = "labels"

    job_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(String(16), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    truth: Mapped[str] = mapped_column(String(4))
    note: Mapped[str] = mapped_column(String(500), default="")
    labelled_at: Mapped[float]
    detector: Mapped[str] = mapped_column(String(80))
    version: Mapped[str] = mapped_column(String(40))
    verdict: Mapped[str] = mapped_column(String(16))
    score: Mapped[float | None]
    judged_at: Mapped[float]


class Event(Table):
    """What listeners of a job are told, in order of ``id``."""

    __tablename__ = "events"
    # Listeners go on after the last id they saw, so SQLite must not hand out the id of a deleted row again.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's own name and form

    id: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(16))
    data: Mapped[str] = mapped_column(Text)


class Idempotency(Table):
    """A request that may be repeated without being done twice."""

    __tablename__ = "idempotency"

    owner: Mapped[str] = mapped_column(String(16), primary_key=True)
    token: Mapped[str] = mapped_column(String(200), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[float]


class Delivery(Table):
    """A webhook call that is owed. It lives until it is accepted, given up or its job is deleted."""

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    url: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10), default="waiting")
    attempt: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float] = mapped_column(index=True)
    last_answer: Mapped[str | None] = mapped_column(String(200))


class Lane(Table):
    """How far each owner's jobs have been dealt out; the row ``*`` is how far the queue as a whole has come."""

    __tablename__ = "lanes"

    owner: Mapped[str] = mapped_column(String(16), primary_key=True)
    turn: Mapped[int] = mapped_column(BigInteger)


class Counter(Table):
    """Sums that outlive the jobs they count."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    value: Mapped[float]


class Usage(Table):
    """What a key used on one day (days since 1970, UTC)."""

    __tablename__ = "usage"

    owner: Mapped[str] = mapped_column(String(16), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    jobs: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)


class AuditEntry(Table):
    """Who did what, each entry holding the hash of the one before; the database refuses changes and deletions."""

    __tablename__ = "audit"
    __table_args__ = (UniqueConstraint("previous_hash"),)

    seq: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=False)
    at: Mapped[float]
    actor: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(40))
    target: Mapped[str] = mapped_column(String(64))
    details: Mapped[str] = mapped_column(Text)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
