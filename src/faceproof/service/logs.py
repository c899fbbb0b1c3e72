"""Structured logs: one JSON object a line on stderr, joined across processes by the request's id.

What is logged is chosen here by name: no file names, no addresses of callers, no scores, nothing about faces.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

ALLOWED = frozenset(
    {"event", "level", "timestamp", "exception", "request", "job", "attempt", "kind", "outcome", "seconds", "status"}
    | {"method", "route", "worker", "count", "key", "host", "port", "workers", "auth", "code", "url_host", "delivery"}
)


def configure(log_format: str) -> None:
    """Set up logging for this process. ``log_format`` is json, text, or auto: text for people at a terminal."""
    at_terminal = sys.stderr.isatty()
    as_text = log_format == "text" or (log_format == "auto" and at_terminal)
    last: Any = structlog.processors.JSONRenderer()
    if as_text:
        last = structlog.dev.ConsoleRenderer(colors=at_terminal)
    chain: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _only_allowed,
        last,
    ]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _only_allowed(_logger: Any, _name: str, words: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in [name for name in words if name not in ALLOWED]:
        del words[name]
    return words
