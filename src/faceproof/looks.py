"""How many frames a video needs: even looks, each finer than the last, until the verdict cannot change any more.

A sequential test over frames. After each look the score of every person gets an interval that holds, at the chosen error
rate, the score that all frames would give. When the verdict is the same all over the intervals, nothing more is looked at.
What is still open then decides where the last look goes: more even frames where an interval reaches over a band's edge,
around those seen too rarely to be judged, and around suspicious moments. That look is the last one, settled or not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from faceproof.detectors.aggregate import FaceTable, aggregate
from faceproof.detectors.calibration import calibrate
from faceproof.detectors.quality import Quality
from faceproof.detectors.spec import DetectorSpec
from faceproof.detectors.verdict import judge_score
from faceproof.judge import JudgedFrame, face_table, judge_tracks
from faceproof.media import Sampling
from faceproof.results import Reason, Verdict

# Frames of the even looks together; shorter videos are looked at whole.
FIRST_LOOK = 32
SECOND_LOOK_MOMENTS = 4
SECOND_LOOK_FRAMES = 4
# Even frames are added near a band's edge up to so many, and while all looks together take no more than this share.
FINER_FRAMES = 64
MOST_OF_THE_FRAMES = 0.15
# An early end saves sixteen searches. Where the frames they need are put aside while the first look decodes, that is worth
# it up to as many frames as take as long to decode; where every look decodes the file anew, up to fewer (5 of 12
# clips ended early; a 1080p frame takes 4 ms to decode and 60 ms to search). Longer videos are looked at more closely from
# the start, and no less of them for it.
_WORTH_PUTTING_ASIDE = 600
_WORTH_TWO_PASSES = 180
# How often a verdict may differ from that of all frames because the looking ended early, over both looks together.
ERROR_RATE = 0.02
_LOOKS = 2
# Scores whose spread the jackknife tells. It fails for the median, and the highest faces of a person only ever rise.
_SETTLING = frozenset({"mean", "logit_mean", "trimmed_mean"})
_FEWEST = 8
_RANK = {Verdict.REAL: 0, Verdict.INCONCLUSIVE: 1, Verdict.FAKE: 2}


def first_looks(frame_count: int, *, aside: bool = False) -> list[Sampling]:
    """The even looks at a video, coarse to fine; no frame is in two of them.

    ``aside``: whether the frames of the second can be put aside while the first is decoded.
    """
    every = Sampling("count", FIRST_LOOK).indices(frame_count)
    if frame_count <= FIRST_LOOK or frame_count > (_WORTH_PUTTING_ASIDE if aside else _WORTH_TWO_PASSES):
        return [Sampling("count", FIRST_LOOK)]
    # The first goes to the last frame, so that it meets all that is damaged.
    return [Sampling("near", given=tuple(every[1::2])), Sampling("near", given=tuple(every[::2]))]


@dataclass(frozen=True, slots=True)
class OpenQuestions:
    """What the frames not looked at could still change about a file's verdict.

    spread: how far scores may move is not known, or nobody was judged.
    edge: somebody's interval reaches over the edge of a band.
    rarely_seen: people who would be judged, had they been seen more often.
    moments: a person called real was suspicious for a moment.
    """

    spread: bool = False
    edge: bool = False
    rarely_seen: tuple[int, ...] = ()
    moments: bool = False

    def __bool__(self) -> bool:
        return self.spread or self.edge or bool(self.rarely_seen) or self.moments


def open_questions(
    frames: Sequence[JudgedFrame],
    spec: DetectorSpec,
    *,
    of: int,
    bits: float = float("nan"),
    error_rate: float = ERROR_RATE,
) -> OpenQuestions:
    """What is open after looking at ``frames`` of a video of ``of`` frames.

    ``frames`` are evenly spread, every face scored; ``bits`` is the file's compression, as judging takes it. Something is
    always open for a spec whose score rests on the highest faces and for a published rule over the whole table.
    """
    table = face_table(frames)
    tracks = judge_tracks(frames, table, spec, bits)
    rarely_seen = tuple(track.id for track in tracks if track.reason is Reason.TOO_FEW_FACES)
    if spec.aggregate.file.method != "worst_track" or spec.aggregate.track.method not in _SETTLING:
        return OpenQuestions(spread=True, rarely_seen=rarely_seen)
    seen = len(frames) / of
    reaches = []
    for track in tracks:
        if track.score is not None:
            rows = table.where(table.track == track.id)
            ends = score_interval(rows, spec, seen=seen, error_rate=error_rate / _LOOKS)
            # Bands may depend on how many faces a score rests on: now, and in all frames.
            reach = {
                _RANK[
                    judge_score(
                        end, spec.verdict, Quality(track.median_side, track.median_sharpness, bits, faces)
                    ).verdict
                ]
                for end in ends
                for faces in (len(rows), round(len(rows) / seen))
            }
            reaches.append((min(reach), max(reach)))
    if not reaches:
        return OpenQuestions(spread=True, rarely_seen=rarely_seen)
    # The file's verdict is its worst person's.
    low, high = (max(ends) for ends in zip(*reaches, strict=True))
    if low == high == _RANK[Verdict.FAKE]:
        return OpenQuestions()  # whatever the others come to
    moments = low == high == _RANK[Verdict.REAL] and any(
        face.p > spec.verdict.frame_threshold for frame in frames for face in frame.faces
    )
    return OpenQuestions(edge=low != high, rarely_seen=rarely_seen, moments=moments)


def score_interval(table: FaceTable, spec: DetectorSpec, *, seen: float, error_rate: float) -> tuple[float, float]:
    """An interval for the calibrated score that all of a person's faces would give, from those looked at.

    By the jackknife over faces, with Student's factor and the correction for having ``seen`` that share of the frames. From
    fewer than eight faces, everything.
    """
    count = len(table)
    if count < _FEWEST:
        return 0.0, 1.0
    method = spec.aggregate.track
    keep = ~np.eye(count, dtype=bool)
    without = np.asarray([aggregate(table.where(rows), method) for rows in keep])
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    reach = _student(1 - error_rate / 2, count - 1) * error * math.sqrt(max(0.0, 1 - seen))
    raw = aggregate(table, method)
    low, high = max(0.0, raw - reach), min(1.0, raw + reach)
    return calibrate(low, spec.calibration), calibrate(high, spec.calibration)


def _student(share: float, freedom: int) -> float:
    """Quantile of Student's distribution, by the expansion around the normal one (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(share)
    return float(
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def last_look_plan(
    frames: Sequence[JudgedFrame], threshold: float, questions: OpenQuestions, *, of: int
) -> dict[int, int]:
    """Which frames to look at in the end, and which frame called for each: ``{new index: frame that called for it}``.

    Those that more even frames are called for stand for themselves.
    """
    plan = second_look_plan(frames, threshold)
    places = {frame.index: place for place, frame in enumerate(frames)}
    for person in questions.rarely_seen[:SECOND_LOOK_MOMENTS]:
        sightings = [frame.index for frame in frames if any(face.track == person for face in frame.faces)]
        middle = places[sightings[len(sightings) // 2]]
        plan = {**_around(frames, middle), **plan}
    if questions.edge:
        room = min(FINER_FRAMES, int(MOST_OF_THE_FRAMES * of) - len(frames) - len(plan))
        plan = {**{index: index for index in _between(frames, room)}, **plan}
    return plan


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
    plan: dict[int, int] = {}
    for _, place in suspicious[:SECOND_LOOK_MOMENTS]:
        plan = {**_around(first, place), **plan}
    return plan


def _around(frames: Sequence[JudgedFrame], place: int) -> dict[int, int]:
    """Frames not looked at yet in the nearer halves of the gaps on both sides of one that was."""
    taken = {frame.index for frame in frames}
    here = frames[place].index
    low = frames[place - 1].index if place else here
    high = frames[place + 1].index if place + 1 < len(frames) else here
    reach_low, reach_high = (here - low) / 2, (high - here) / 2
    shares = [step / (SECOND_LOOK_FRAMES // 2) for step in range(1, SECOND_LOOK_FRAMES // 2 + 1)]
    near = {index for share in shares for index in (round(here - reach_low * share), round(here + reach_high * share))}
    return dict.fromkeys(sorted(near - taken), here)


def _between(frames: Sequence[JudgedFrame], count: int) -> list[int]:
    """Up to ``count`` frames not looked at yet, spread evenly over the gaps between those that were."""
    indices = [frame.index for frame in frames]
    gaps = [(one, other) for one, other in pairwise(indices) if other - one > 1]
    found = []
    for place, (one, other) in enumerate(gaps):
        share = (place + 1) * count // len(gaps) - place * count // len(gaps) if count > 0 else 0
        steps = {one + round((other - one) * step / (share + 1)) for step in range(1, share + 1)}
        found += sorted(steps - {one, other})
    return found
