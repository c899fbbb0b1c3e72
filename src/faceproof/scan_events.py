"""What a scan tells its listeners: the events of :mod:`faceproof.events`, worded."""

from __future__ import annotations

from dataclasses import dataclass

from faceproof import wording
from faceproof.errors import FaceproofError
from faceproof.events import EventData, EventName, EventSink, ProgressEvent
from faceproof.results import Report


@dataclass
class ScanEvents:
    """Sends what listeners of the documented systems expect. Without a ``sink``, nothing."""

    sink: EventSink | None
    media_id: str
    user_id: str | None
    model: str

    def _send(self, event: EventName, message: str, data: EventData) -> None:
        if self.sink is not None:
            self.sink(
                ProgressEvent(media_id=self.media_id, user_id=self.user_id, event=event, message=message, data=data)
            )

    def progress(self, done: int, total: int | None, faces_so_far: int, faces_now: int) -> None:
        self._send(
            EventName.FRAME_ANALYSIS_PROGRESS,
            f"{done} of {total} frames" if total else f"{done} frames",
            EventData(
                model_name=self.model,
                progress=done,
                total=total,
                details={
                    "phase": "frame_processing",
                    "faces_detected_so_far": faces_so_far,
                    "current_frame_faces": faces_now,
                },
            ),
        )

    def complete(self, report: Report) -> None:
        self._send(
            EventName.ANALYSIS_COMPLETE,
            wording.headline(report),
            EventData(
                model_name=self.model,
                progress=report.frames_analyzed,
                total=report.frames_analyzed,
                details={
                    "prediction": report.prediction,
                    "confidence": report.confidence,
                    "processing_time": report.processing_time,
                    "total_frames": report.media.frame_count,
                    "faces_detected": report.metrics.total_faces_detected,
                },
            ),
        )

    def failed(self, error: FaceproofError) -> None:
        self._send(
            EventName.ANALYSIS_FAILED,
            error.message,
            EventData(model_name=self.model, details={"code": error.code, "remedy": error.remedy}),
        )
