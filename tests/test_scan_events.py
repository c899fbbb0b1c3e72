"""What listeners hear of a scan."""

from __future__ import annotations

from faceproof.errors import MediaEmptyError
from faceproof.events import EventName, ProgressEvent
from faceproof.scan_events import ScanEvents


def test_progress_tells_frames_and_faces() -> None:
    heard: list[ProgressEvent] = []
    events = ScanEvents(heard.append, "clip", "someone", "toy")
    events.progress(5, 32, 7, 2)
    events.progress(6, None, 7, 0)
    told, open_ended = heard
    assert (told.event, told.message) == (EventName.FRAME_ANALYSIS_PROGRESS, "5 of 32 frames")
    assert (told.media_id, told.user_id, told.data.model_name) == ("clip", "someone", "toy")
    assert (told.data.progress, told.data.total) == (5, 32)
    assert told.data.details["faces_detected_so_far"] == 7
    assert told.data.details["current_frame_faces"] == 2
    assert open_ended.message == "6 frames"


def test_a_failure_carries_its_code_and_what_to_do() -> None:
    heard: list[ProgressEvent] = []
    error = MediaEmptyError("nothing in it")
    ScanEvents(heard.append, "clip", None, "toy").failed(error)
    (told,) = heard
    assert (told.event, told.message) == (EventName.ANALYSIS_FAILED, "nothing in it")
    assert told.data.details == {"code": error.code, "remedy": error.remedy}


def test_nobody_listening_is_fine() -> None:
    ScanEvents(None, "clip", None, "toy").progress(1, 1, 0, 0)
