"""Judging one file: its stages (:mod:`faceproof.stages`) once or several times over, and the report of what was found.

``auto`` looks several times (:mod:`faceproof.looks`): evenly, then finer where that could change the verdict, and around
the most suspicious frames. Faces from around a frame are pooled with that frame's, so they refine an opinion and never
inflate it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.detectors.detector import Detector
from faceproof.detectors.ensemble import Ensemble
from faceproof.detectors.spec import DetectorSpec
from faceproof.errors import FaceproofError
from faceproof.events import EventSink, heard_by_all
from faceproof.faces import Tracker
from faceproof.faces.turned import SURE, Turn, turn_that_shows_a_face
from faceproof.judge import JudgedFrame, compression, make_report, media_facts
from faceproof.jury import judge_jointly
from faceproof.loading import FaceMode, face_search, load_for_scanning
from faceproof.looks import FIRST_LOOK, OpenQuestions, first_looks, last_look_plan, open_questions
from faceproof.media import Limits, MediaInfo, SetAside, parse_sampling, probe, read_frames
from faceproof.results import Report
from faceproof.runtime.network import Precision
from faceproof.scan_events import ScanEvents
from faceproof.stages import Stages
from faceproof.stopwatch import Stopwatch

# Enough to see whether a video in which nobody was found lies on its side.
_TURNED_FRAMES = 3


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
    frames: ``auto`` (as the detector's spec says; for the default one 16 or 32 evenly spaced and a closer look),
        a count (``"32"``), ``every:K`` or ``all``.
    on_event: called with every :class:`ProgressEvent`, in this thread.
    faces: ``thorough`` finds what the reference cascade finds in every frame. ``fast`` searches a smaller frame, follows
        faces through neighbouring frames, and scores one that holds still once, as the report tells; it may miss small ones.
    limits: caps on pixels, duration and bytes.
    threads: most cores to use, decoding included; all by default.

    Raises
    ------
    :class:`faceproof.errors.MediaError` when the file cannot be judged as media,
    :class:`faceproof.errors.WeightsError` when the detector has no checked weights,
    :class:`OptionError` for a wrong option. An ANALYSIS_FAILED event precedes each of them.
    """
    started = time.perf_counter()
    on_event = heard_by_all(on_event)
    limits = limits or Limits()
    if limits.threads is None:
        limits = replace(limits, threads=threads)
    identity = media_id or ""
    name = detector.spec.name if isinstance(detector, Detector) else detector or ""
    try:
        if frames != "auto":
            parse_sampling(frames)
        if not isinstance(detector, Detector):
            detector = load_for_scanning(
                detector, faces=faces, device=device, precision=precision, threads=threads, path=Path(os.fspath(path))
            )
        name = detector.spec.name
        with Stopwatch() as watch:
            with watch("probe"):
                info = probe(Path(os.fspath(path)), limits=limits)
            identity = media_id or info.sha256[:16]
            events = ScanEvents(on_event, identity, user_id, name)
            looking = Stages(info, detector, faces, limits, threads, events, watch)
            judged = _look_through(looking, frames)
            turned = _turned(looking, judged)
        joint = None
        if isinstance(detector, Ensemble):
            joint = judge_jointly(info, judged, detector, looking.failed, turned=turned is not None)
        report = make_report(
            info,
            judged,
            detector,
            frames_failed=looking.frames_failed,
            faces_repeated=looking.faces_repeated,
            processing_time=time.perf_counter() - started,
            timings=watch.seconds,
            notes=looking.told(),
            judged=joint,
            turned=turned,
        )
    except FaceproofError as error:
        ScanEvents(on_event, identity, user_id, name).failed(error)
        raise
    events.complete(report)
    return report


def _turned(stages: Stages, judged: list[JudgedFrame]) -> Turn | None:
    some = (frame.image for frame in read_frames(stages.info, str(_TURNED_FRAMES), limits=stages.limits))
    with stages.watch("detect"):
        return how_turned(some, judged, stages.spec, stages.threads)


def how_turned(
    images: Iterable[npt.NDArray[np.uint8]], judged: list[JudgedFrame], spec: DetectorSpec, threads: int | None
) -> Turn | None:
    """How a file that lies on its side has to be turned, by some of its frames (uint8 RGB); asked where no face in it is
    beyond doubt. A published system knows no doubt (its ``min_detection`` is 0) and judges it as it lies."""
    if spec.faces.keep == "none" or spec.verdict.min_detection == 0:
        return None
    surest = max((face.detection_score for frame in judged for face in frame.faces), default=0.0)
    if surest >= SURE:
        return None
    return turn_that_shows_a_face(images, face_search(spec.faces, "fast", threads, 0), surer_than=surest)


def _look_through(stages: Stages, sampling: str) -> list[JudgedFrame]:
    """All sampled frames in time order, every face scored and numbered by person."""
    chosen = stages.spec.frames.sampling if sampling == "auto" else sampling
    if chosen == "auto" and stages.info.kind == "video":
        return _several_looks(stages)
    return stages.look(parse_sampling("all" if stages.info.kind == "image" else chosen))


def _several_looks(stages: Stages) -> list[JudgedFrame]:
    """Even looks until the verdict is settled, then a last one at what is still open if it is not."""
    info, spec = stages.info, stages.spec
    stages.sights = {}
    present = len(info.timeline.ticks) if info.timeline else info.frame_count or 1
    bits = compression(media_facts(info))
    frames: dict[int, JudgedFrame] = {}
    # An ensemble's verdict is made of its members', which the test knows nothing of.
    questions = OpenQuestions(spread=True)
    keeps = _can_put_aside(info)
    looks = first_looks(present, aside=keeps)
    aside = SetAside(looks[1].given) if keeps and len(looks) > 1 else None
    for look in looks:
        for frame in stages.look(look, aside=aside):
            frames.setdefault(frame.index, frame)
        judged = _follow_anew(stages, frames)
        if not isinstance(stages.detector, Ensemble):
            questions = open_questions(judged, spec, of=max(present, len(judged)), bits=bits)
            if not questions:
                return judged
    cell_of = last_look_plan(judged, spec.verdict.frame_threshold, questions, of=present)
    if not cell_of:
        return judged
    for frame in stages.look(parse_sampling(list(cell_of)), cell_of):
        frames.setdefault(frame.index, frame)
    return _follow_anew(stages, frames)


def _can_put_aside(info: MediaInfo) -> bool:
    """Whether half the even frames of a video fit into memory as they are decoded, mostly twelve bits a pixel."""
    return not info.animation and FIRST_LOOK // 2 * info.width * info.height * 3 // 2 <= SetAside.MOST_BYTES


def _follow_anew(stages: Stages, frames: dict[int, JudgedFrame]) -> list[JudgedFrame]:
    """The frames in time order, people numbered over all of them."""
    assert stages.sights is not None
    tracker = Tracker()
    judged = [frames[index] for index in sorted(frames)]
    for frame in judged:
        with stages.watch("track"):
            numbers = tracker.follow(stages.sights[frame.index])
        for face, number in zip((face for face in frame.faces if not face.fallback), numbers, strict=True):
            face.track = number
    stages.number_people(judged, tracker)
    return judged
