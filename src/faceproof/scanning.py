"""The one place where the stages meet: media ▶ faces ▶ tracks ▶ crops ▶ detector ▶ report.

Frames stream: only the faces' numbers are kept. ``auto`` looks twice: 32 evenly spaced frames first, then, if any
of them is suspicious, more frames around the most suspicious ones. The
second look's faces are pooled with the frame that called for them, so it refines an opinion and never inflates it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from faceproof import wording
from faceproof.detectors.detector import Crop, Detector, load_detector
from faceproof.detectors.ensemble import Ensemble, MemberCrops
from faceproof.detectors.spec import DetectorSpec, Margin
from faceproof.errors import FaceproofError
from faceproof.events import EventData, EventName, EventSink, ProgressEvent
from faceproof.faces import Face, FaceDetector, Tracker, cut, sharpness
from faceproof.judge import JudgedFace, JudgedFrame, make_report
from faceproof.jury import judge_jointly
from faceproof.media import DecodeStats, Frame, Limits, MediaInfo, parse_sampling, probe, read_ahead, read_frames
from faceproof.results import Report
from faceproof.runtime.network import Precision

FIRST_LOOK = 32
SECOND_LOOK_MOMENTS = 4
SECOND_LOOK_FRAMES = 4
PROGRESS_EVERY = 5

FaceMode = Literal["fast", "thorough"]
_NO_MARGIN = Margin()


def scan(
    path: str | os.PathLike[str],
    *,
    detector: Detector | str | None = None,
    frames: str = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    on_event: EventSink | None = None,
    faces: FaceMode = "thorough",
    limits: Limits | None = None,
    threads: int | None = None,
    media_id: str | None = None,
    user_id: str | None = None,
) -> Report:
    """Judge one picture or video.

    Parameters
    ----------
    path: a picture or video file.
    detector: a loaded detector, a name, or None for the default one.
    frames: ``auto`` (as the detector's spec says; for the default one 32 evenly spaced and a second look),
        a count (``"32"``), ``every:K`` or ``all``.
    on_event: called with every :class:`ProgressEvent`, in this thread.
    faces: ``thorough`` finds what the reference cascade finds; ``fast`` may miss small faces.
    limits: caps on pixels, duration and bytes.
    threads: most cores to use, decoding included; all by default.

    Raises
    ------
    :class:`faceproof.errors.MediaError` when the file cannot be judged as media,
    :class:`faceproof.errors.WeightsError` when the detector has no checked weights,
    :class:`OptionError` for a wrong option. An ANALYSIS_FAILED event precedes each of them.
    """
    started = time.perf_counter()
    limits = limits or Limits()
    if limits.threads is None:
        limits = replace(limits, threads=threads)
    identity = media_id or ""
    name = detector.spec.name if isinstance(detector, Detector) else detector or ""
    try:
        if frames != "auto":
            parse_sampling(frames)
        if not isinstance(detector, Detector):
            detector = load_detector(detector, device=device, precision=precision, threads=threads)
        name = detector.spec.name
        with _Stopwatch() as watch:
            with watch("probe"):
                info = probe(Path(os.fspath(path)), limits=limits)
            identity = media_id or info.sha256[:16]
            events = _Events(on_event, identity, user_id, name)
            looking = _Scan(info, detector, faces, limits, threads, events, watch)
            judged = looking.run(frames)
        joint = judge_jointly(info, judged, detector, looking.failed) if isinstance(detector, Ensemble) else None
        report = make_report(
            info,
            judged,
            detector,
            frames_failed=looking.stats.frames_failed,
            processing_time=time.perf_counter() - started,
            timings=watch.seconds,
            notes=looking.notes,
            judged=joint,
        )
    except FaceproofError as error:
        _Events(on_event, identity, user_id, name).failed(error)
        raise
    events.complete(report)
    return report


class _Stopwatch:
    """Seconds spent per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> _Stopwatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = {name: round(value, 4) for name, value in self.seconds.items()}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


@dataclass
class _Events:
    """Sends what listeners of the documented systems expect."""

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


@dataclass
class _Scan:
    """One file on its way through the stages."""

    info: MediaInfo
    detector: Detector
    mode: FaceMode
    limits: Limits
    threads: int | None
    events: _Events
    watch: _Stopwatch
    stats: DecodeStats = field(default_factory=DecodeStats)
    notes: list[str] = field(default_factory=list)
    faces_seen: int = 0
    # Members of an ensemble that could not score, and why.
    failed: dict[str, str] = field(default_factory=dict)
    _waiting: list[tuple[JudgedFace, Crop | MemberCrops]] = field(default_factory=list)
    # Faces of the first look by frame, kept only while a second look may need them.
    _found: dict[int, list[Face]] | None = None

    def __post_init__(self) -> None:
        spec = self.spec.faces
        self._find = _face_detector(spec.thresholds, spec.min_face, spec.factor, spec.scale, self.mode, self.threads)

    @property
    def spec(self) -> DetectorSpec:
        return self.detector.spec

    def run(self, sampling: str) -> list[JudgedFrame]:
        """All sampled frames in time order, every face scored and numbered by person."""
        chosen = self.spec.frames.sampling if sampling == "auto" else sampling
        if chosen == "auto" and self.info.kind == "video":
            return self._two_looks()
        return self._look("all" if self.info.kind == "image" else chosen)

    def _look(self, sampling: str | Sequence[int]) -> list[JudgedFrame]:
        """One pass over the file."""
        tracker = Tracker()
        judged: list[JudgedFrame] = []
        total = self._planned(sampling)
        cap = self.spec.frames.limit
        for frame in self._frames(sampling, self.stats):
            found = self._detect(frame)
            with self.watch("track"):
                numbers = tracker.update(frame, found)
            judged.append(self._take(frame, found, numbers, cell=frame.index))
            if len(judged) % PROGRESS_EVERY == 0:
                self.events.progress(len(judged), total, self.faces_seen, len(found))
            if cap is not None and len(judged) >= cap:
                break
        self._score_waiting()
        return judged

    def _two_looks(self) -> list[JudgedFrame]:
        """An even first look; where it finds suspicious moments, more frames around them, and tracks drawn over both."""
        self._found = {}
        first = {frame.index: frame for frame in self._look(str(FIRST_LOOK))}
        cell_of = second_look_plan(list(first.values()), self.spec.verdict.frame_threshold)
        if not cell_of:
            return list(first.values())
        tracker = Tracker()
        judged: list[JudgedFrame] = []
        for frame in self._frames(sorted([*first, *cell_of]), DecodeStats()):
            seen = first.get(frame.index)
            found = self._found[frame.index] if seen else self._detect(frame)
            with self.watch("track"):
                numbers = tracker.update(frame, found)
            if seen:
                for face, number in zip((f for f in seen.faces if not f.fallback), numbers, strict=True):
                    face.track = number
                judged.append(seen)
            else:
                judged.append(self._take(frame, found, numbers, cell=cell_of[frame.index]))
        self._score_waiting()
        return judged

    def _frames(self, sampling: str | Sequence[int], stats: DecodeStats) -> Iterator[Frame]:
        """Decode in a thread of its own, a few frames ahead of the rest, unless there may be only one."""
        frames = read_frames(self.info, sampling, limits=self.limits, stats=stats)
        return read_ahead(frames, depth=0 if self.threads == 1 else 2, timed=lambda: self.watch("decode"))

    def _planned(self, sampling: str | Sequence[int]) -> int | None:
        """How many frames the sampling will give, as far as the container tells."""
        count = 1 if self.info.kind == "image" else self.info.frame_count
        if not isinstance(sampling, str):
            return len(sampling)
        if sampling.isdigit():
            return min(int(sampling), count or int(sampling))
        if count is None or sampling == "all":
            return count
        return -(-count // int(sampling.partition(":")[2]))

    def _detect(self, frame: Frame) -> list[Face]:
        """The faces of one frame that the detector wants, within its budget."""
        if self.spec.faces.keep == "none":
            return []
        with self.watch("detect"):
            found = self._find.detect(frame.image)
        rule = self.spec.faces
        if rule.keep == "largest":
            found = found[:1]
        elif rule.keep == "best":
            found = sorted(found, key=lambda face: -face.score)[:1]
        if rule.limit is not None and self.faces_seen + len(found) > rule.limit:
            found = found[: rule.limit - self.faces_seen]
            note = f"Only the first {rule.limit} faces were judged, as this detector was published."
            if note not in self.notes:
                self.notes.append(note)
        if self._found is not None:
            self._found[frame.index] = found
        return found

    def _take(self, frame: Frame, found: Sequence[Face], numbers: Sequence[int], *, cell: int) -> JudgedFrame:
        """Cut the faces out of a frame; their scores follow with the next full batch."""
        judged = JudgedFrame(frame.index, frame.time, cell)
        with self.watch("crop"):
            for face, number in zip(found, numbers, strict=True):
                x0, y0, x1, y1 = (float(v) for v in face.box)
                bare = cut(frame.image, face.box, _NO_MARGIN)
                one = JudgedFace((x0, y0, x1, y1), number, float(face.score), max(x1 - x0, y1 - y0), sharpness(bare))
                judged.faces.append(one)
                self._waiting.append((one, self.detector.cut(frame.image, face.box)))
            if not found and self.spec.faces.fallback != "none":
                one, crop = _without_face(frame, whole=self.spec.faces.fallback == "frame")
                judged.faces.append(one)
                self._waiting.append((one, crop))
        self.faces_seen += len(found)
        while len(self._waiting) >= self.detector.batch_size:
            self._score_waiting(self.detector.batch_size)
        return judged

    def _score_waiting(self, count: int | None = None) -> None:
        batch, self._waiting = self._waiting[:count], self._waiting[count:] if count else []
        if not batch:
            return
        crops = [crop for _, crop in batch]
        with self.watch("score"):
            if isinstance(self.detector, Ensemble):
                for (face, _), votes in zip(batch, self.detector.votes(crops, self.failed), strict=True):
                    face.votes = tuple(votes.tolist())
                    face.p = self.detector.fuse_votes(votes)
            else:
                for (face, _), p in zip(batch, self.detector.score(crops), strict=True):
                    face.p = float(p)


@lru_cache(maxsize=4)
def _face_detector(
    thresholds: tuple[float, float, float],
    min_face: float,
    factor: float,
    scale: Literal["auto"] | float,
    mode: FaceMode,
    threads: int | None,
) -> FaceDetector:
    """Loaded once for all files: compiling the cascade costs more than searching a picture."""
    return FaceDetector(
        thresholds=thresholds, min_face=min_face, factor=factor, scale=scale, mode=mode, threads=threads
    )


def _without_face(frame: Frame, *, whole: bool) -> tuple[JudgedFace, Crop]:
    """The centre square of a frame, or all of it, judged as person 0 where the spec asks for it and no face was found."""
    height, width = frame.image.shape[:2]
    across, down = (width, height) if whole else (min(height, width),) * 2
    x, y = (width - across) // 2, (height - down) // 2
    crop = frame.image[y : y + down, x : x + across].copy()
    face = JudgedFace((x, y, x + across, y + down), 0, 0.0, float(max(across, down)), sharpness(crop), fallback=True)
    return face, crop


def second_look_plan(first: Sequence[JudgedFrame], threshold: float) -> dict[int, int]:
    """Which frames to look at again, and which frame of the first look called for each: ``{new index: old index}``.

    Up to :data:`SECOND_LOOK_MOMENTS` frames whose highest face exceeds ``threshold``, most suspicious first; for each,
    up to :data:`SECOND_LOOK_FRAMES` frames spread evenly over the nearer halves of the gaps to its neighbours.
    """
    suspicious = sorted(
        (
            (max(face.p for face in frame.faces), place)
            for place, frame in enumerate(first)
            if frame.faces and max(face.p for face in frame.faces) > threshold
        ),
        reverse=True,
    )
    taken = {frame.index for frame in first}
    plan: dict[int, int] = {}
    for _, place in suspicious[:SECOND_LOOK_MOMENTS]:
        here = first[place].index
        low = first[place - 1].index if place else here
        high = first[place + 1].index if place + 1 < len(first) else here
        reach_low, reach_high = (here - low) / 2, (high - here) / 2
        for step in range(1, SECOND_LOOK_FRAMES // 2 + 1):
            share = step / (SECOND_LOOK_FRAMES // 2)
            for index in (round(here - reach_low * share), round(here + reach_high * share)):
                if index not in taken:
                    taken.add(index)
                    plan[index] = here
    return plan
