"""Progress, as the scan reports it to whoever listens: a bar, a job table, a web page, a webhook."""

from __future__ import annotations

from collections.abc import Callable
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
