"""The one place where the stages meet: media ▶ faces ▶ tracks ▶ crops ▶ detector.

Decoding, finding faces with cutting them out, and scoring run side by side on videos (:mod:`faceproof.pipeline`); people are
followed in between, in the caller's thread. Frames stream: a worker keeps a frame until its faces are cut out, and what
follows has only crops and numbers.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import repeat

import numpy as np
import numpy.typing as npt

from faceproof import wording
from faceproof.detectors.detector import Crop, Detector
from faceproof.detectors.ensemble import Ensemble, MemberCrops
from faceproof.detectors.spec import DetectorSpec, Margin
from faceproof.faces import (
    SEARCH_EVERY,
    Face,
    Sight,
    Tracker,
    cut,
    find_and_follow,
    sharpness,
    sight,
)
from faceproof.faces.stillness import Stillness
from faceproof.judge import JudgedFace, JudgedFrame
from faceproof.loading import FaceMode, face_search, searches_at_once, wanted_faces
from faceproof.media import (
    DecodeStats,
    Frame,
    Limits,
    MediaInfo,
    Sampling,
    SetAside,
    read_ahead,
    read_frames,
)
from faceproof.pipeline import ordered
from faceproof.runtime.memory import give_back
from faceproof.scan_events import ScanEvents
from faceproof.stopwatch import Stopwatch

PROGRESS_EVERY = 5
# Frames this close in seconds show the same people a little further on. A run of them is held at once.
_NEIGHBOURS_WITHIN = 0.11
_MOST_BYTES_IN_A_RUN = 64_000_000

_NO_MARGIN = Margin()


@dataclass(slots=True)
class _Seen:
    """What is left of a frame once its faces are cut out of it."""

    index: int
    time: float
    faces: list[Face]
    # What to follow people by; nobody is followed in a picture.
    sight: Sight | None
    sharpness: list[float]
    crops: list[Crop | MemberCrops]
    # What is judged where no face was found, when the spec asks for that.
    instead: tuple[JudgedFace, Crop] | None = None


_Batch = list[tuple[JudgedFace, Crop | MemberCrops]]


@dataclass
class Stages:
    """One file on its way through the stages, once or several times."""

    info: MediaInfo
    detector: Detector
    mode: FaceMode
    limits: Limits
    threads: int | None
    events: ScanEvents
    watch: Stopwatch
    frames_failed: int = 0
    notes: list[str] = field(default_factory=list)
    faces_seen: int = 0
    frames_seen: int = 0
    faces_repeated: int = 0
    # Members of an ensemble that could not score, and why.
    failed: dict[str, str] = field(default_factory=dict)
    # Of several looks: what to follow people by once all are taken.
    sights: dict[int, Sight] | None = None
    _still: Stillness[JudgedFace] = field(default_factory=Stillness)
    # Faces that hardly changed, each with the one whose score it takes.
    _repeats: list[tuple[JudgedFace, JudgedFace]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._searchers = searches_at_once(self.info.kind, self.threads)
        self._scorers = self.detector.streams if self._searchers else 0
        self._find = face_search(self.spec.faces, self.mode, self.threads, self._searchers)

    @property
    def spec(self) -> DetectorSpec:
        return self.detector.spec

    def told(self) -> list[str]:
        """What people should know about how the scan went."""
        notes = [*self.notes]
        if self.info.several:
            is_picture = self.info.kind == "image"
            notes.append(wording.ONE_OF_SEVERAL if is_picture else wording.ONE_OF_SEVERAL_STREAMS)
        if self.info.animation and self.info.codec == "gif":
            notes.append(wording.FEW_COLOURS)
        if self.faces_repeated:
            share = f"{self.faces_repeated} of {self.faces_seen} faces"
            notes.append(f"Fast mode: {share} had hardly changed and kept the score of the one before them.")
        return notes

    def look(
        self, sampling: Sampling, cell_of: Mapping[int, int] | None = None, *, aside: SetAside | None = None
    ) -> list[JudgedFrame]:
        """One pass over the file: every face scored, and people numbered within the pass.

        ``cell_of``: the frame that called for each. ``aside`` is filled on the way, or holds the frames to look at.
        """
        judged: list[JudgedFrame] = []
        self._still = Stillness()
        tracker = Tracker()
        batches = self._batches(sampling, cell_of or {}, judged, tracker, aside)
        for faces, answers in ordered(batches, self._score, workers=self._scorers, name="score"):
            for face, answer in zip(faces, answers, strict=True):
                if isinstance(self.detector, Ensemble):
                    face.votes = tuple(answer.tolist())
                    face.p = self.detector.fuse_votes(answer)
                else:
                    face.p = float(answer)
        for face, like in self._repeats:
            face.p, face.votes = like.p, like.votes
        self.faces_repeated += len(self._repeats)
        self._repeats.clear()
        self._find.rest()
        give_back()
        if self.sights is None and self.info.kind == "video":
            self.number_people(judged, tracker)
        return judged

    def number_people(self, judged: list[JudgedFrame], tracker: Tracker) -> None:
        """From tracks to people, now that all of them were seen."""
        with self.watch("track"):
            people = tracker.people()
        for face in (face for frame in judged for face in frame.faces if not face.fallback):
            face.track = people[face.track]

    def _batches(
        self,
        sampling: Sampling,
        cell_of: Mapping[int, int],
        judged: list[JudgedFrame],
        tracker: Tracker,
        aside: SetAside | None,
    ) -> Iterator[_Batch]:
        """Follow people from frame to frame, fill ``judged``, and hand out crops in batches to score."""
        waiting: _Batch = []
        planned = self._planned(sampling)
        total = None if planned is None else self.frames_seen + planned
        runs = ordered(self._runs(sampling, aside), self._see, workers=self._searchers, name="search")
        try:
            for seen in (seen for run in runs for seen in run):
                waiting += self._take(seen, tracker, cell_of, judged)
                self.frames_seen += 1
                if self.frames_seen % PROGRESS_EVERY == 0:
                    self.events.progress(self.frames_seen, total, self.faces_seen, len(seen.crops))
                while len(waiting) >= self.detector.batch_size:
                    yield waiting[: self.detector.batch_size]
                    waiting = waiting[self.detector.batch_size :]
        finally:
            runs.close()
        if waiting:
            yield waiting

    def _frames(self, sampling: Sampling, aside: SetAside | None) -> Generator[Frame]:
        """Decode in a thread of its own, a few frames ahead of the rest; with one thread to use, in this one."""
        stats = DecodeStats()
        if aside is not None and aside.complete:
            frames = aside.frames()
        else:
            frames = read_frames(self.info, sampling, limits=self.limits, stats=stats, aside=aside)
        depth = 0 if self.limits.threads == 1 else 2
        try:
            ahead = read_ahead(frames, depth=depth, timed=lambda: self.watch("decode"))
            yield from _first(ahead, self.spec.frames.limit)
        finally:
            # Looks end where their last frame is, so one of them may see more of a damaged file than another.
            self.frames_failed = max(self.frames_failed, stats.frames_failed)

    def _planned(self, sampling: Sampling) -> int | None:
        """How many frames the sampling will give, as far as the container tells."""
        count = 1 if self.info.kind == "image" else self.info.frame_count
        if sampling.rule in ("given", "near"):
            return len(sampling.given)
        return len(sampling.indices(count)) if count is not None else None

    def _runs(self, sampling: Sampling, aside: SetAside | None) -> Iterator[list[Frame]]:
        """Frames one by one; in fast mode, neighbours so close in time that faces are followed through them."""
        run: list[Frame] = []
        frames = self._frames(sampling, aside)
        try:
            for frame in frames:
                if run and not (
                    self.mode == "fast"
                    and len(run) < min(SEARCH_EVERY, _MOST_BYTES_IN_A_RUN // frame.image.nbytes)
                    and frame.time - run[-1].time <= _NEIGHBOURS_WITHIN
                    and frame.image.shape == run[-1].image.shape
                ):
                    yield run
                    run = []
                run.append(frame)
        finally:
            frames.close()
        if run:
            yield run

    def _see(self, run: list[Frame]) -> list[_Seen]:
        """Find the faces of neighbouring frames and cut them out."""
        found: Iterator[list[Face]] = repeat([])
        if self.spec.faces.keep != "none":
            found = find_and_follow(self._find, [frame.image for frame in run], still=self.info.kind == "image")
        seen = []
        for frame in run:
            with self.watch("detect"):
                faces = next(found)
            seen.append(self._see_frame(frame, faces))
        return seen

    def _see_frame(self, frame: Frame, found: list[Face]) -> _Seen:
        """Cut the faces that the detector wants out of one frame."""
        rule = self.spec.faces
        found = wanted_faces(rule, found)
        with self.watch("track"):
            what = sight(frame, found) if self.info.kind == "video" else None
        with self.watch("crop"):
            sharp = [sharpness(cut(frame.image, face.box, _NO_MARGIN)) for face in found]
            crops = [self.detector.cut(frame.image, face.box) for face in found]
            instead = None
            if not found and rule.fallback != "none":
                instead = _without_face(frame, whole=rule.fallback == "frame")
        return _Seen(frame.index, frame.time, list(found), what, sharp, crops, instead)

    def _take(self, seen: _Seen, tracker: Tracker, cell_of: Mapping[int, int], judged: list[JudgedFrame]) -> _Batch:
        """Number a frame's people, within the detector's budget, and enter the frame among those judged."""
        limit = self.spec.faces.limit
        if limit is not None and self.faces_seen + len(seen.crops) > limit:
            left = limit - self.faces_seen
            if seen.sight is not None:
                seen.sight = replace(seen.sight, faces=seen.sight.faces[:left], looks=seen.sight.looks[:left])
            del seen.faces[left:], seen.crops[left:]
            note = f"Only the first {limit} faces were judged, as this detector was published."
            if note not in self.notes:
                self.notes.append(note)
        self.faces_seen += len(seen.crops)
        numbers = list(range(1, len(seen.faces) + 1))
        if seen.sight is not None:
            with self.watch("track"):
                numbers = tracker.follow(seen.sight)
            if self.sights is not None:
                # A frame that stands in for damaged ones may come in two looks: the first, whose faces are kept, counts.
                self.sights.setdefault(seen.index, seen.sight)
        frame = JudgedFrame(seen.index, seen.time, cell_of.get(seen.index, seen.index))
        batch: _Batch = []
        for face, number, sharp, crop in zip(seen.faces, numbers, seen.sharpness, seen.crops, strict=False):
            x0, y0, x1, y1 = (float(v) for v in face.box)
            judged_face = JudgedFace((x0, y0, x1, y1), number, float(face.score), max(x1 - x0, y1 - y0), sharp)
            frame.faces.append(judged_face)
            like = None
            if self.mode == "fast" and self.info.kind == "video":
                like = self._still.like(number, judged_face.box, crop, judged_face)
            if like is None:
                batch.append((judged_face, crop))
            else:
                self._repeats.append((judged_face, like))
        if seen.instead is not None:
            frame.faces.append(seen.instead[0])
            batch.append(seen.instead)
        judged.append(frame)
        return batch

    def _score(self, batch: _Batch) -> tuple[list[JudgedFace], npt.NDArray[np.floating]]:
        crops = [crop for _, crop in batch]
        with self.watch("score"):
            if isinstance(self.detector, Ensemble):
                return [face for face, _ in batch], self.detector.votes(crops, self.failed)
            return [face for face, _ in batch], self.detector.score(crops)


def _first(frames: Iterator[Frame], limit: int | None) -> Iterator[Frame]:
    """No more than ``limit`` frames, and the reading ended with them."""
    try:
        for count, frame in enumerate(frames, 1):
            yield frame
            if count == limit:
                return
    finally:
        frames.close()  # type: ignore[attr-defined]


def _without_face(frame: Frame, *, whole: bool) -> tuple[JudgedFace, Crop]:
    """The centre square of a frame, or all of it, judged as person 0 where the spec asks for it and no face was found."""
    height, width = frame.image.shape[:2]
    across, down = (width, height) if whole else (min(height, width),) * 2
    x, y = (width - across) // 2, (height - down) // 2
    crop = frame.image[y : y + down, x : x + across].copy()
    face = JudgedFace((x, y, x + across, y + down), 0, 0.0, float(max(across, down)), sharpness(crop), fallback=True)
    return face, crop
