"""A running verdict per person from a camera, a stream or a file played at its own speed.

People keep their number while they are in view, or out of it for a few seconds. Pieces of one person are not put together
again (:mod:`faceproof.faces.reunion`): that takes a whole shot, and by then the faces of an earlier piece lie outside the
window that a running score rests on.

Latency is bounded: only the newest frame waits. Whatever arrives while one is being judged replaces it, and is counted
as dropped, never queued.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from faceproof.detectors.aggregate import FaceTable, aggregate
from faceproof.detectors.calibration import calibrate
from faceproof.detectors.detector import Detector
from faceproof.detectors.quality import Quality
from faceproof.detectors.spec import Margin
from faceproof.detectors.verdict import Opinion, judge_score, unqualified
from faceproof.errors import MediaNotFoundError, MediaUnsupportedError
from faceproof.faces import Face, FaceDetector, Tracker, cut, sharpness
from faceproof.media import Frame, Limits, MediaInfo, probe, read_frames
from faceproof.results import Box, Reason, Verdict

Image = npt.NDArray[np.uint8]

# Faces are looked for at most at this size: enough for people in front of a camera.
_SEARCH_SIDE = 640
# Faces scored per frame; with more people each waits for its turn, and the rate stays.
_SCORED_AT_ONCE = 3
_STREAMS = ("rtsp://", "rtsps://")
_OPEN_SECONDS = 10
_BARE = Margin()


@dataclass(frozen=True)
class LivePerson:
    """One person in view. score and verdict rest on the faces of the last ``window`` seconds; ``latest`` on the last one."""

    track: int
    box: Box
    score: float | None
    verdict: Verdict
    reason: Reason | None
    latest: float
    faces: int


@dataclass(frozen=True)
class LiveState:
    """After one judged frame. time: of the frame, in seconds since the first. fps: frames judged a second, over the last
    ones. latency: seconds from the frame's arrival to this state. dropped: frames that arrived and were not judged."""

    time: float
    fps: float
    latency: float
    judged: int
    dropped: int
    people: list[LivePerson]


@dataclass(frozen=True)
class _Arrived:
    frame: Frame
    at: float


class LatestFrame:
    """Holds one frame, the newest. A thread fills it from an iterator; the judge takes it."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self.dropped = 0
        self._frames = frames
        self._held: _Arrived | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._stop = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._fill, name="faceproof-camera", daemon=True)

    def __enter__(self) -> LatestFrame:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        # A camera that hangs in its driver must not hang us; the thread is a daemon.
        self._thread.join(timeout=2)

    def _fill(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    if self._held is not None:
                        self.dropped += 1
                    self._held = _Arrived(frame, time.monotonic())
                    self._changed.notify()
                if self._stop:
                    break
        except BaseException as error:  # noqa: BLE001 - raised again where the frames are taken
            self._error = error
        finally:
            close = getattr(self._frames, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._ended = True
                self._changed.notify()

    def take(self) -> _Arrived | None:
        """Wait for a frame newer than the last one taken; None at the end. Raises what the source raised."""
        with self._changed:
            while self._held is None and not self._ended:
                self._changed.wait(timeout=0.5)
            arrived, self._held = self._held, None
        if arrived is None and self._error is not None:
            raise self._error
        return arrived


def judge_live(
    frames: Iterator[Frame],
    detector: Detector,
    *,
    window: float = 5.0,
    threads: int | None = None,
    on_frame: Callable[[Image, LiveState], None] | None = None,
) -> Iterator[LiveState]:
    """Judge frames as they come and yield a state after each one judged, until the source ends or the consumer stops.

    ``window``: seconds of a person's past that their running score rests on. ``on_frame`` gets every judged frame
    (uint8 RGB ``[H, W, 3]``) with its state, for drawing.
    """
    judge = _LiveJudge(detector, window, threads)
    started: deque[float] = deque(maxlen=30)
    judged = 0
    with LatestFrame(frames) as latest:
        while (arrived := latest.take()) is not None:
            people = judge.look(arrived.frame)
            now = time.monotonic()
            started.append(now)
            judged += 1
            fps = (len(started) - 1) / (started[-1] - started[0]) if len(started) > 1 and now > started[0] else 0.0
            state = LiveState(arrived.frame.time, fps, now - arrived.at, judged, latest.dropped, people)
            if on_frame is not None:
                on_frame(arrived.frame.image, state)
            yield state


@dataclass
class _Past:
    """What is remembered of one person: (time, p, side, sharpness, detection) of scored faces, newest last."""

    faces: deque[tuple[float, float, float, float, float]] = field(default_factory=deque)
    seen: float = 0.0
    box: Box = (0.0, 0.0, 0.0, 0.0)
    detection: float = 1.0

    @property
    def scored_at(self) -> float:
        return self.faces[-1][0] if self.faces else -1.0


class _LiveJudge:
    def __init__(self, detector: Detector, window: float, threads: int | None) -> None:
        spec = detector.spec
        self.detector = detector
        self.window = window
        self._find = FaceDetector(
            thresholds=spec.faces.thresholds, min_face=spec.faces.min_face, scale=1.0, mode="fast", threads=threads
        )
        self._tracker = Tracker()
        self._past: dict[int, _Past] = {}

    def look(self, frame: Frame) -> list[LivePerson]:
        """Find, follow and score the faces of one frame; the people in view by number."""
        found = self._faces(frame.image)
        numbers = self._tracker.update(frame, found)
        for face, number in zip(found, numbers, strict=True):
            past = self._past.setdefault(number, _Past())
            x0, y0, x1, y1 = (float(v) for v in face.box)
            past.box, past.seen, past.detection = (x0, y0, x1, y1), frame.time, float(face.score)
        # Whose score is oldest comes first; crowds take turns.
        turn = sorted(numbers, key=lambda number: self._past[number].scored_at)[:_SCORED_AT_ONCE]
        self._score(frame, turn)
        self._forget(frame.time)
        return [self._person(number) for number in sorted(set(numbers)) if self._past[number].faces]

    def _faces(self, image: Image) -> list[Face]:
        share = min(1.0, _SEARCH_SIDE / max(image.shape[:2]))
        if share == 1.0:
            return self._find.detect(image)
        size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        return [_enlarged(face, 1 / share) for face in self._find.detect(small)]

    def _score(self, frame: Frame, numbers: list[int]) -> None:
        if not numbers:
            return
        boxes = [self._past[number].box for number in numbers]
        margin = self.detector.spec.faces.margin
        scores = self.detector.score([cut(frame.image, box, margin) for box in boxes])
        for number, box, p in zip(numbers, boxes, scores, strict=True):
            side = max(box[2] - box[0], box[3] - box[1])
            bare = sharpness(cut(frame.image, box, _BARE))
            past = self._past[number]
            past.faces.append((frame.time, float(p), side, bare, past.detection))

    def _forget(self, now: float) -> None:
        for number in list(self._past):
            past = self._past[number]
            while past.faces and past.faces[0][0] < now - self.window:
                past.faces.popleft()
            if past.seen < now - self.window:
                del self._past[number]

    def _person(self, number: int) -> LivePerson:
        past, spec = self._past[number], self.detector.spec
        _, p, sides, sharp, detections = (np.asarray(column) for column in zip(*past.faces, strict=True))
        reason = unqualified(
            len(p),
            float(np.median(sides)),
            float(np.median(sharp)),
            spec.verdict,
            frames=spec.verdict.min_faces,
            median_detection=float(np.median(detections)),
        )
        opinion = Opinion(Verdict.NOT_ASSESSED, None, reason)
        if reason is None:
            table = FaceTable.of([(i, number, float(one)) for i, one in enumerate(p)])
            score = calibrate(aggregate(table, spec.aggregate.track), spec.calibration)
            # As a scan judges it: worse or less material is never judged more boldly.
            quality = Quality(float(np.median(sides)), float(np.median(sharp)), faces=len(p))
            opinion = judge_score(score, spec.verdict, quality)
        return LivePerson(number, past.box, opinion.score, opinion.verdict, opinion.reason, float(p[-1]), len(p))


def _enlarged(face: Face, factor: float) -> Face:
    x0, y0, x1, y1 = (float(v) * factor for v in face.box)
    return Face((x0, y0, x1, y1), face.score, np.asarray(face.landmarks * factor, np.float32))


# -- sources ------------------------------------------------------------------------------------------------------


def live_frames(source: str, *, limits: Limits | None = None) -> Iterator[Frame]:
    """Frames of a camera (``"0"``, ``"1"``, …), an ``rtsp://`` stream, or a file played at its own speed.

    Raises :class:`faceproof.errors.MediaError` when it cannot be opened.
    """
    if source.isdigit():
        return _camera(int(source))
    if source.startswith(_STREAMS):
        return _stream(source)
    return paced(probe(Path(source), limits=limits or Limits()), limits or Limits())


def paced(info: MediaInfo, limits: Limits) -> Iterator[Frame]:
    """A file's frames, each no earlier than its own time."""
    started: float | None = None
    for frame in read_frames(info, "all", limits=limits):
        if started is None:
            started = time.monotonic() - frame.time
        wait = started + frame.time - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        yield frame


def _camera(number: int) -> Iterator[Frame]:
    # What OpenCV has to say of its drivers helps nobody; whether it opened is asked below.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        capture.release()
        raise MediaNotFoundError(f"camera {number} cannot be opened", remedy="Check that it is there and not in use.")
    return _captured(capture)


def _captured(capture: Any) -> Iterator[Frame]:
    started = time.monotonic()
    index = 0
    try:
        while True:
            good, image = capture.read()
            if not good:
                return
            rgb = np.ascontiguousarray(image[..., ::-1])
            yield Frame(index, time.monotonic() - started, rgb)
            index += 1
    finally:
        capture.release()


def _stream(address: str) -> Iterator[Frame]:
    import av

    options = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}
    try:
        container = av.open(address, options=options, timeout=_OPEN_SECONDS)
        if not container.streams.video:
            raise MediaUnsupportedError("the stream has no pictures")
    except (av.FFmpegError, OSError) as error:
        # The address may hold a password; it is not repeated.
        raise MediaNotFoundError(
            f"the stream cannot be opened: {error.strerror or type(error).__name__}", remedy="Check its address."
        ) from None
    return _streamed(container)


def _streamed(container: Any) -> Iterator[Frame]:
    import av

    started = time.monotonic()
    try:
        for index, picture in enumerate(container.decode(video=0)):
            yield Frame(index, time.monotonic() - started, np.ascontiguousarray(picture.to_ndarray(format="rgb24")))
    except av.FFmpegError as error:
        raise MediaUnsupportedError(f"the stream broke off: {error.strerror}", remedy="Start again.") from error
    finally:
        container.close()
