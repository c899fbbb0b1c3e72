"""Live judging is never late: frames are dropped, not queued."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faceproof.detectors.spec import BandPoint, QualityBands
from faceproof.errors import MediaNotFoundError
from faceproof.evidence.live import LatestFrame, judge_live, live_frames, paced
from faceproof.faces import FaceDetector
from faceproof.media import Frame, Limits, probe
from faceproof.results import Reason, Verdict
from tests.evidence.made_reports import toy_detector


def ticking(count: int, gap: float) -> Iterator[Frame]:
    for index in range(count):
        time.sleep(gap)
        yield Frame(index, index * gap, np.zeros((8, 8, 3), np.uint8))


def test_a_slow_judge_drops_frames_and_stays_current() -> None:
    seen = []
    with LatestFrame(ticking(60, 0.01)) as latest:
        while (arrived := latest.take()) is not None:
            seen.append(arrived.frame.index)
            assert time.monotonic() - arrived.at < 0.15
            time.sleep(0.08)
    assert seen[-1] >= 58
    assert len(seen) < 25
    assert latest.dropped == 60 - len(seen)
    assert np.diff(seen).min() >= 1


def test_what_breaks_in_the_source_is_raised_where_frames_are_taken() -> None:
    def broken() -> Iterator[Frame]:
        yield Frame(0, 0.0, np.zeros((8, 8, 3), np.uint8))
        raise MediaNotFoundError("the camera is gone")

    with LatestFrame(broken()) as latest:
        assert latest.take() is not None
        with pytest.raises(MediaNotFoundError):
            latest.take()


def test_a_consumer_may_stop_at_any_time() -> None:
    started = time.monotonic()
    with LatestFrame(ticking(10_000, 0.005)) as latest:
        assert latest.take() is not None
    assert time.monotonic() - started < 2.5


def test_files_play_at_their_own_speed(clip_mp4: Path) -> None:
    started = time.monotonic()
    frames = paced(probe(clip_mp4), Limits())
    for frame in frames:
        if frame.index == 15:
            break
    assert time.monotonic() - started >= 15 * 1001 / 30000 - 0.01
    frames.close()  # type: ignore[attr-defined]


def test_a_running_verdict_per_person(clip_mp4: Path) -> None:
    states = list(judge_live(live_frames(str(clip_mp4)), toy_detector(pivot=0.2), window=1.0))
    assert states[-1].judged + states[-1].dropped == 90
    people = [state.people for state in states if state.people]
    assert people
    person = people[-1][0]
    assert person.verdict is Verdict.FAKE
    assert person.score is not None
    assert person.score > 0.9
    # The window bounds how much of the past is remembered.
    assert max(p.faces for state in states for p in state.people) <= 32
    assert all(state.latency < 5 for state in states)


def test_a_pattern_is_not_judged_as_a_person(clip_mp4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FaceDetector.detect
    monkeypatch.setattr(FaceDetector, "detect", lambda self, image: [replace(f, score=0.9) for f in real(self, image)])
    rule = toy_detector().spec.verdict
    strict = toy_detector(pivot=0.2, verdict=rule.model_copy(update={"min_detection": 0.95}))
    for state in judge_live(live_frames(str(clip_mp4)), strict, window=1.0):
        for person in state.people:
            assert (person.verdict, person.score) == (Verdict.NOT_ASSESSED, None)
            assert person.reason is Reason.PERHAPS_NO_FACE
        if state.people:
            break
    else:
        pytest.fail("nobody was seen")


def test_few_faces_are_judged_no_more_boldly_than_in_a_scan(clip_mp4: Path) -> None:
    never = QualityBands(false_alarms=0.01, misses=0.2, faces=(BandPoint(at=1000, low=0, high=1),))
    rule = toy_detector().spec.verdict.model_copy(update={"band": (0.5, 0.5), "quality": never})
    states = judge_live(live_frames(str(clip_mp4)), toy_detector(pivot=0.2, verdict=rule))
    judged = next(person for state in states for person in state.people if person.score is not None)
    assert (judged.verdict, judged.reason) == (Verdict.INCONCLUSIVE, Reason.INSIDE_BAND)


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(MediaNotFoundError):
        next(live_frames("rtsp://user:secret@127.0.0.1:9/none"))
    with pytest.raises(MediaNotFoundError) as caught:
        next(live_frames("97"))
    assert "camera 97" in caught.value.message
    with pytest.raises(MediaNotFoundError):
        next(live_frames(str(tmp_path / "none.mp4")))


def test_the_password_of_a_stream_is_not_repeated() -> None:
    with pytest.raises(MediaNotFoundError) as caught:
        next(live_frames("rtsp://user:secret@127.0.0.1:9/none"))
    assert "secret" not in str(caught.value)
