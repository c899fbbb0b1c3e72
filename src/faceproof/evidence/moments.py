"""Which faces to show, and those faces cut again from the file.

A scan keeps no frames. Evidence takes its report, picks a few moments of every person, decodes those frames once more
and scores them with heat. It works from a stored report as well, on any later day.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from faceproof.detectors.aggregate import FaceTable, aggregate
from faceproof.detectors.calibration import calibrate, on_one_scale
from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import DetectorSpec
from faceproof.errors import EvidenceError, OptionError
from faceproof.evidence.heatmap import FaceHeat, HeatMethod, face_heats
from faceproof.faces import cut
from faceproof.media import Limits, MediaInfo, probe, read_frames
from faceproof.results import Box, FaceScore, FrameScore, Report, TrackScore

Image = npt.NDArray[np.uint8]

MOMENTS = 5
PEOPLE = 16
# Shown crops need not be larger; networks see them at most at this size.
_CROP_SIDE = 512
_SCENE_SIDE = 960
_RESAMPLES = 300


@dataclass(frozen=True)
class Moment:
    """One person's face at one time.

    crop: uint8 RGB ``[h, w, 3]`` with the detector's margin, at most 512 px on its longer side.
    heat: the crop's heat, None for people who could not be judged. p_fake: on the scale of people's scores.
    best: whether this is the face that stands for the person.
    """

    track: int
    index: int
    time: float
    box: Box
    p_fake: float
    crop: Image
    heat: FaceHeat | None
    best: bool = False


@dataclass(frozen=True)
class Scene:
    """The frame that stands for the file: the most suspicious one, uint8 RGB at most 960 px wide and high.

    ``scale`` takes the report's pixels to its own.
    """

    index: int
    time: float
    image: Image
    scale: float


@dataclass(frozen=True)
class Shown:
    """What a report shows in pictures: moments by person in order of time, and one scene (None without any face)."""

    moments: dict[int, list[Moment]]
    scene: Scene | None
    left_out: int = 0


def show(
    report: Report,
    detector: Detector,
    path: str | os.PathLike[str],
    *,
    tracks: Sequence[int] | None = None,
    per_track: int = MOMENTS,
    method: HeatMethod | None = None,
    limits: Limits | None = None,
) -> Shown:
    """Decode and score again the moments worth showing.

    Parameters
    ----------
    path: where the reported file lies now; its sha256 must be the report's.
    tracks: people to show; all by default, of crowds the :data:`PEOPLE` most suspicious.
    per_track: moments of each person, the best face included.
    method: see :func:`faceproof.evidence.heatmap.face_heats`.

    Raises
    ------
    :class:`EvidenceError` when the file is not the one reported on, :class:`OptionError` for a person the report lacks,
    and the errors of :func:`faceproof.media.probe`.
    """
    info = probe(path, limits=limits or Limits())
    if info.sha256 != report.media.sha256:
        raise EvidenceError(
            f"{info.path.name!r} is not the file of the report (sha256 {info.sha256[:12]}…, "
            f"reported {report.media.sha256[:12]}…)",
            remedy="Scan it again.",
        )
    report = on_one_scale(report)
    chosen = _chosen(report, tracks)
    wanted: dict[int, list[tuple[int, FaceScore, bool]]] = {}
    for track in chosen:
        for index, face, best in pick_moments(report, track, per_track):
            wanted.setdefault(index, []).append((track.id, face, best))
    scene_index = _scene_index(report)
    indices = sorted({*wanted, *([scene_index] if scene_index is not None else [])})
    cut_out, scene = _decode(info, indices, wanted, scene_index, detector.spec, limits)
    # Whoever could not be judged has no heat either: it would be an opinion on a face that nobody can judge.
    judged = {track.id for track in chosen if track.score is not None}
    heats = iter(face_heats(detector, [m.crop for m in cut_out if m.track in judged], method=method))
    moments: dict[int, list[Moment]] = {track.id: [] for track in chosen}
    for moment in cut_out:
        heat = _small_heat(next(heats)) if moment.track in judged else None
        moments[moment.track].append(replace(_small(moment), heat=heat))
    return Shown(moments, scene, len(report.tracks) - len(chosen) if tracks is None else 0)


def _chosen(report: Report, tracks: Sequence[int] | None) -> list[TrackScore]:
    if tracks is None:
        ranked = sorted(report.tracks, key=lambda t: (t.score is None, -(t.score or 0.0), -t.faces))
        kept = {track.id for track in ranked[:PEOPLE]}
        return [track for track in report.tracks if track.id in kept]
    known = {track.id: track for track in report.tracks}
    for number in tracks:
        if number not in known:
            raise OptionError(
                f"there is no person {number} in this file",
                remedy=f"Its people are numbered {', '.join(map(str, known))}."
                if known
                else "No face was found in it.",
            )
    return [known[number] for number in dict.fromkeys(tracks)]


def pick_moments(report: Report, track: TrackScore, count: int) -> list[tuple[int, FaceScore, bool]]:
    """Up to ``count`` faces of a person as (frame index, face, is the best one), in order of time.

    The best face and the most suspicious one, then those that are not close neighbours of one already taken.
    """
    seen = [
        (frame.index, frame.time, face)
        for frame in report.frame_predictions
        for face in frame.faces
        if face.track == track.id
    ]
    if not seen:
        return []
    apart = (seen[-1][1] - seen[0][1]) / (2 * count)
    ranked = sorted(seen, key=lambda item: (-item[2].p_fake, item[0]))
    # The peak is what readers look for, so it is shown even where the best face is next to it.
    first = sorted(ranked, key=lambda item: item[0] != track.best_frame)
    taken = list({item[0]: item for item in (first[0], ranked[0])}.values())[:count]
    for item in ranked:
        if len(taken) < count and all(abs(item[1] - other[1]) >= apart and item[0] != other[0] for other in taken):
            taken.append(item)
    return [(index, face, index == track.best_frame) for index, _, face in sorted(taken, key=lambda item: item[0])]


def _scene_index(report: Report) -> int | None:
    """The frame whose worst judged face is the most suspicious; ties go to the frame with more faces."""
    judged = {track.id for track in report.tracks if track.score is not None}
    seen = [frame for frame in report.frame_predictions if frame.faces]
    if not seen:
        return report.frame_predictions[0].index if report.frame_predictions else None

    def worst(frame: FrameScore) -> float:
        return max((face.p_fake for face in frame.faces if face.track in judged), default=-1.0)

    return max(seen, key=lambda frame: (worst(frame), len(frame.faces))).index


def _decode(
    info: MediaInfo,
    indices: Sequence[int],
    wanted: dict[int, list[tuple[int, FaceScore, bool]]],
    scene_index: int | None,
    spec: DetectorSpec,
    limits: Limits | None,
) -> tuple[list[Moment], Scene | None]:
    moments: list[Moment] = []
    scene: Scene | None = None
    if not indices:
        return moments, scene
    for frame in read_frames(info, indices, limits=limits or Limits()):
        for number, face, best in wanted.get(frame.index, ()):
            crop = cut(frame.image, face.box, spec.faces.margin)
            moments.append(Moment(number, frame.index, frame.time, face.box, face.p_fake, crop, None, best))
        if frame.index == scene_index:
            scale = min(1.0, _SCENE_SIDE / max(frame.image.shape[:2]))
            scene = Scene(frame.index, frame.time, _reduced(frame.image, scale), scale)
    return moments, scene


def _small(moment: Moment) -> Moment:
    scale = min(1.0, _CROP_SIDE / max(moment.crop.shape[:2]))
    return replace(moment, crop=_reduced(moment.crop, scale))


def _small_heat(heat: FaceHeat) -> FaceHeat:
    import cv2

    height, width = heat.heat.shape
    scale = min(1.0, _CROP_SIDE / max(height, width))
    if scale == 1.0:
        return heat
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return replace(heat, heat=np.asarray(cv2.resize(heat.heat, size, interpolation=cv2.INTER_AREA), np.float32))


def _reduced(image: Image, scale: float) -> Image:
    if scale >= 1.0:
        return image
    import cv2

    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def score_ranges(report: Report, spec: DetectorSpec, *, seed: int = 0) -> dict[int, tuple[float, float]]:
    """How much each person's score depends on which of their frames were looked at: the central 90 % over resampled frames.

    The bootstrap's deviations are laid around the reported score. People with one face, or without a score, are left out.
    It is no statement about how often the detector errs; that is what its evaluation measures.
    """
    rng = np.random.default_rng(seed)
    ranges: dict[int, tuple[float, float]] = {}
    for track in report.tracks:
        rows = [(f.index, a.track, a.p_fake) for f in report.frame_predictions for a in f.faces if a.track == track.id]
        if track.score is None or len(rows) < 2:
            continue
        table = FaceTable.of(rows)

        def scored(one: FaceTable) -> float:
            return calibrate(aggregate(one, spec.aggregate.track), spec.calibration)

        centre = scored(table)
        spread = []
        for _ in range(_RESAMPLES):
            pick = np.sort(rng.integers(0, len(rows), len(rows)))
            spread.append(scored(FaceTable(table.frame[pick], table.track[pick], table.p[pick])) - centre)
        low, high = np.quantile(spread, [0.05, 0.95])
        ranges[track.id] = (
            float(np.clip(track.score + low, 0, track.score)),
            float(np.clip(track.score + high, track.score, 1)),
        )
    return ranges
