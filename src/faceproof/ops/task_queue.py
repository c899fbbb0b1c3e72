"""Celery on Redis as Faceproof uses it: JSON only, and a task counts as done when it is done, not when it is taken."""

from __future__ import annotations

from typing import Any

from faceproof.errors import MissingExtraError


def make_celery(name: str, broker: str, *, queue: str, lease: float, feature: str, extra: str) -> Any:
    """A Celery application on one ``queue``, one message ahead, that keeps no results.

    ``lease``: seconds after which a task whose worker vanished is handed out again. Raises :class:`MissingExtraError`
    that says that ``feature`` needs ``extra``.
    """
    try:
        from celery import Celery  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise MissingExtraError.of(feature, extra) from None
    app = Celery(name, broker=broker)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=queue,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": lease, "socket_keepalive": True},
    )
    return app
