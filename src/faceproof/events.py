"""Progress, as the scan reports it to whoever listens: a bar, a job table, a web page, a webhook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class EventName(StrEnum):
    """Names as the systems Faceproof runs have always sent them."""

    FRAME_ANALYSIS_PROGRESS = "FRAME_ANALYSIS_PROGRESS"
    ANALYSIS_COMPLETE = "ANALYSIS_COMPLETE"
    ANALYSIS_FAILED = "ANALYSIS_FAILED"


class EventData(BaseModel):
    """The event's numbers: ``progress`` of ``total`` frames, and ``details`` by event.

    ``details`` of FRAME_ANALYSIS_PROGRESS: phase, faces_detected_so_far, current_frame_faces.
    Of ANALYSIS_COMPLETE: prediction, confidence, processing_time, total_frames, faces_detected.
    Of ANALYSIS_FAILED: code, remedy.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model_name: str
    progress: int | None = None
    total: int | None = None
    details: dict[str, Any] = Field(default_factory=dict)


class ProgressEvent(BaseModel):
    """One step of one scan."""

    model_config = ConfigDict(extra="forbid")

    media_id: str
    user_id: str | None = None
    event: EventName
    message: str
    data: EventData


EventSink = Callable[[ProgressEvent], None]

_listeners: list[EventSink] = []


@contextmanager
def listening(sink: EventSink) -> Iterator[None]:
    """Hear the events of every scan in this process while the block runs, besides whoever started it.

    ``sink`` is called in the scan's thread and must be quick. What it raises ends the scan.
    """
    _listeners.append(sink)
    try:
        yield
    finally:
        _listeners.remove(sink)


def heard_by_all(own: EventSink | None) -> EventSink | None:
    """One sink for a scan's own listener and those of :func:`listening`; None when nobody listens."""
    sinks = [sink for sink in (own, *_listeners) if sink is not None]
    if len(sinks) < 2:
        return sinks[0] if sinks else None

    def tell(event: ProgressEvent) -> None:
        for sink in sinks:
            sink(event)

    return tell
