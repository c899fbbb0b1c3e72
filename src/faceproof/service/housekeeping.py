"""What has to happen although nobody asks: leases that ran out, lost rings, webhooks, retention, leftovers."""

from __future__ import annotations

import threading
import time

import sqlalchemy as sa
import structlog

from faceproof.errors import FaceproofError
from faceproof.service import audit, jobs, webhooks
from faceproof.service.files import sweep_incoming
from faceproof.service.site import Site
from faceproof.service.tables import FINAL, Idempotency, Job, Medium, State
from faceproof.service.watch import Watch

log = structlog.get_logger()

RETENTION = "retention"
RING_AGAIN = 30.0
LEFTOVER_AGE = 3600.0
IDEMPOTENCY_AGE = 86400.0
ERASE_AT_ONCE = 200


class Housekeeping:
    """A thread that tidies. Several machines may run it at the same time: every step claims what it does."""

    def __init__(self, site: Site, *, every: float = 1.0, watch: Watch | None = None) -> None:
        self._site = site
        self._watch = watch
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faceproof-housekeeping", daemon=True)
        self._swept = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        while not self._stop.wait(self._every):
            try:
                self.round()
            except (SQLAlchemyError, OSError, FaceproofError):
                log.exception("housekeeping failed; tried again in a moment")

    def round(self) -> None:
        """Do everything that is due once."""
        for job_id in jobs.release_dead(self._site.store, attempts=self._site.settings.attempts):
            log.warning("job put back", job=job_id)
        ring_waiting(self._site)
        webhooks.deliver_due(self._site)
        erase_expired(self._site)
        self._site.store.tidy()
        if self._watch is not None:
            self._watch.look()
        if time.monotonic() - self._swept > 300 or not self._swept:
            self._swept = time.monotonic()
            sweep(self._site)


def ring_waiting(site: Site) -> int:
    """Ring for queued jobs whose ring was lost: a broker that restarted, a retry that came due. Returns how many."""
    if not site.settings.broker:
        return 0
    now = time.time()
    with site.store.write() as session:
        due = session.scalars(
            sa.select(Job)
            .where(
                Job.state == State.QUEUED,
                Job.run_after <= now,
                sa.or_(Job.rung_at.is_(None), Job.rung_at < now - RING_AGAIN),
            )
            .order_by(Job.priority.desc(), Job.turn)
            .limit(500)
            .with_for_update(skip_locked=True)
        ).all()
        for job in due:
            job.rung_at = now
        ids = [job.id for job in due]
    for job_id in ids:
        site.ring(job_id)
    return len(ids)


def erase_expired(site: Site) -> int:
    """Erase jobs whose time is over. Returns how many."""
    with site.store.read() as session:
        chosen = sa.select(Job.id).where(Job.expires_at < time.time(), Job.state.in_(FINAL)).limit(ERASE_AT_ONCE)
        ids = list(session.scalars(chosen))
    if ids:
        erase(site, ids, actor=RETENTION)
    return len(ids)


def erase(site: Site, job_ids: list[str], *, actor: str) -> None:
    """Delete jobs with everything that came of them: rows, media, evidence, and what SQLite still has in its journal.

    Labels go too, unless it is only that the time is over: they say how the detector did, not what the file shows.
    """
    with site.store.write() as session:
        names = jobs.erase(session, job_ids, labels=actor != RETENTION)
        for job_id in job_ids:
            audit.record(session, actor, "job.erase", job_id)
    for name in names:
        site.files.delete(name)
    if site.store.is_sqlite:
        with site.store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def sweep(site: Site) -> None:
    """Remove files that no row speaks of, and answers nobody will ask for again."""
    old = time.time() - LEFTOVER_AGE
    sweep_incoming(site.files.incoming().parent, older_than=LEFTOVER_AGE)
    with site.store.read() as session:
        for name, written in site.files.names("media"):
            if written < old and session.get(Medium, name.rpartition("/")[2]) is None:
                site.files.delete(name)
        for name, written in site.files.names("evidence"):
            if written < old and session.get(Job, name.split("/")[1]) is None:
                site.files.delete(name)
    with site.store.write() as session:
        session.execute(sa.delete(Idempotency).where(Idempotency.created_at < time.time() - IDEMPOTENCY_AGE))
