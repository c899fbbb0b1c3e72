"""Many machines: Celery on Redis wakes workers; the job table decides what they do.

A message is only a ring: it carries an id, but the worker takes whichever job is next in turn, so priorities and
fairness hold across machines, a message delivered twice does no harm and a message lost is rung again.
"""

from __future__ import annotations

import os
from typing import Any

import structlog

from faceproof.ops.task_queue import make_celery
from faceproof.service.settings import Settings
from faceproof.service.site import Site

log = structlog.get_logger()

QUEUE = "faceproof"
TASK = "faceproof.run"
VISIBILITY = 600.0

_sites: dict[int, tuple[Site, str]] = {}


def make_app(settings: Settings) -> Any:
    """The Celery application of this service. Raises :class:`faceproof.errors.MissingExtraError`."""
    app = make_celery(
        "faceproof", settings.broker, queue=QUEUE, lease=VISIBILITY, feature="A service with a broker", extra="cluster"
    )
    from celery.signals import worker_process_init

    app.conf.worker_hijack_root_logger = False
    worker_process_init.connect(_confine_process, weak=False)
    app.task(name=TASK, bind=True, max_retries=None)(_run)
    return app


def _confine_process(**_: Any) -> None:
    from faceproof.service import logs
    from faceproof.service.confinement import confine

    settings = Settings.read()
    logs.configure(settings.log_format)
    confine(settings)


def _run(task: Any, job_id: str) -> None:
    """The task: one job, the next in turn."""
    from sqlalchemy.exc import SQLAlchemyError

    from faceproof.service.running import run_job
    from faceproof.service.worker import worker_name

    pid = os.getpid()
    if pid not in _sites:  # opened in the child: connections do not survive a fork
        _sites[pid] = (Site.open(Settings.read()), worker_name())
    site, name = _sites[pid]
    try:
        run_job(site, name)
    except SQLAlchemyError as error:
        log.exception("worker could not reach the job table", worker=name)
        raise task.retry(exc=error, countdown=min(300, 2 ** (task.request.retries + 1))) from error


_ringers: dict[str, Any] = {}


def ring(site: Site, job_id: str) -> None:
    """Send a message for a job. A broker that is away is no error: housekeeping rings again."""
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    broker = site.settings.broker
    if broker not in _ringers:
        _ringers[broker] = make_app(site.settings)
    try:
        _ringers[broker].send_task(TASK, args=[job_id], queue=QUEUE, retry=False)
    except (OperationalError, RedisError, OSError):
        log.warning("the broker did not take a ring; housekeeping repeats it", job=job_id)


def serve_queue(settings: Settings) -> None:
    """Work for the broker until told to stop: ``faceproof worker`` where ``FACEPROOF_BROKER`` is set."""
    from faceproof.service.housekeeping import Housekeeping

    os.environ.update(settings.environment())
    site = Site.open(settings)
    housekeeping = Housekeeping(site)
    housekeeping.start()
    try:
        make_app(settings).worker_main(
            [
                "worker",
                "--pool=prefork",
                f"--concurrency={max(1, settings.workers)}",
                "--loglevel=WARNING",
                "--without-gossip",
                "--without-mingle",
                f"--queues={QUEUE}",
            ]
        )
    finally:
        housekeeping.stop()
        site.close()
