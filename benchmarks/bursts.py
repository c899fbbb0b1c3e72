"""What a face does between neighbouring frames: the measures that ``benchmarks.temporal`` compares.

A burst is a few neighbouring frames of one face in a window that stands still. Every measure is 0 for a picture that does
not change, and more of it is taken to speak for forgery. Whatever looks at pixels is a ratio or a difference of regions of
the same frames, because an encoder refreshes a whole frame at once: the pulse of its P and I frames lifts both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import Margin
from faceproof.faces import Face, FaceDetector, Tracker, cut
from faceproof.media import Frame, probe, read_frames

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: Side of the aligned patch in pixels, and of the window that it shows in sides of the face's box.
SIDE = 160
WINDOW = 2.0
#: Regions by distance from the face's centre; 1 is the border of brows, cheeks and chin, where forgeries are blended in.
INSIDE = 0.0, 0.7
RING = 0.85, 1.1
OUTSIDE = 1.2, 1.6
#: Least correlation of a frame with the burst's middle one after alignment: below it there was a cut, or the face was lost.
ALIGNED = 0.7
#: Periods of up to four frames (7.5 Hz at 30 frames a second) count as high.
HIGH = 0.25
# Grey levels, shares and pixels that count as nothing, so that stillness over stillness is 0.
_TEXTURE = 0.25
_SHARE = 0.02
_FLOW = 0.02
_FEWEST = 60

CUES = {
    "logits, boxes as found": "spread of the logits within a burst",
    "logits, boxes held": "the same where one box follows the aligned face",
    "landmarks": "jitter of five landmarks after a similarity, in eye distances",
    "box": "jitter of the box against the landmarks, in eye distances",
    "edge over inside": "change of fine detail along the blending edge over that inside the face",
    "edge over outside": "the same over that around the face",
    "edge over both": "the same over the mean of both",
    "heatmap": "change of the network's map over its spread",
    "high frequencies, face": "strength of fast changes inside the face over that around it",
    "high frequencies, mouth": "strength of fast changes at the mouth over that around the face",
    "optical flow": "change of the flow inside the face over that around it",
}


@dataclass(frozen=True, eq=False)
class Burst:
    """Neighbouring frames of one face.

    images: uint8 RGB ``[T, S, S, 3]``, the same window of every frame; points: float32 ``[T, 5, 2]``, the landmarks of
    :class:`faceproof.faces.Face`; boxes: float32 ``[T, 4]``; seen: x0, y0, x1, y1 of what lies inside the frame, the rest is
    mirrored. All in pixels of the window. The middle frame is the one that the others are compared with.
    """

    images: Image
    points: Floats
    boxes: Floats
    seen: tuple[int, int, int, int]

    @property
    def middle(self) -> int:
        return len(self.images) // 2


@dataclass(eq=False)
class Track:
    """One person's bursts in the order of the video."""

    bursts: list[Burst] = field(default_factory=list)

    @property
    def side(self) -> float:
        """Median of the longer sides of the boxes, in pixels of the frame."""
        return float(np.median([(b.boxes[:, 2:] - b.boxes[:, :2]).max() for b in self.bursts]))


@dataclass(frozen=True, eq=False)
class Aligned:
    """A burst laid on its middle frame.

    stack: grey levels, float32 ``[T, SIDE, SIDE]``; inside, ring, outside, mouth: bool ``[SIDE, SIDE]``, without what
    some frame does not show; moved: float64 ``[T, 2]``, how far the face's centre is from the middle frame's, in pixels of
    the window.
    """

    stack: Floats
    inside: Mask
    ring: Mask
    outside: Mask
    mouth: Mask
    moved: npt.NDArray[np.float64]


def read_tracks(
    path: Path, finder: FaceDetector, *, bursts: int = 6, length: int = 9, lost: Counter[str] | None = None
) -> list[Track]:
    """The people of a video, each with the bursts in which the face could be followed from the first frame to the last.

    ``lost`` counts bursts that gave nothing, by reason. Raises as :func:`faceproof.media.read_frames`.
    """
    lost = Counter() if lost is None else lost
    info = probe(path)
    total = info.frame_count or 0
    starts = sorted(
        {max(0, min(total - length, round((k + 0.5) * total / bursts - length / 2))) for k in range(bursts)}
    )
    starts = [s for i, s in enumerate(starts) if i == 0 or s >= starts[i - 1] + length]
    wanted = [start + step for start in starts for step in range(length)]
    tracker, tracks, held = Tracker(), dict[int, Track](), list[Frame]()
    for frame in read_frames(info, wanted):
        if frame.index in starts:
            held = []
        held.append(frame)
        if len(held) < length:
            continue
        if held[-1].index - held[0].index != length - 1:
            lost["a frame did not decode"] += 1
            continue
        middle = held[length // 2]
        faces = finder.detect(middle.image)
        for face, person in zip(faces, tracker.update(middle, faces), strict=True):
            burst = follow([f.image for f in held], face, finder)
            if burst is None:
                lost["the face could not be followed"] += 1
            else:
                tracks.setdefault(person, Track()).bursts.append(burst)
        if not faces:
            lost["no face"] += 1
    return list(tracks.values())


def follow(images: Sequence[Image], face: Face, finder: FaceDetector) -> Burst | None:
    """The face of the middle frame through all of them, or None where it is lost.

    Every frame is looked at in the same place, so that a landmark's jitter is the face's, not that of the search.
    """
    found = [now for image in images if (now := finder.look_again(image, [face])[0]) is not None]
    if len(found) < len(images):
        return None
    height, width = images[0].shape[:2]
    x0, y0, x1, y1 = face.box
    side = int(face.side * WINDOW)
    left, top = int(np.floor((x0 + x1 - side) / 2)), int(np.floor((y0 + y1 - side) / 2))
    margin = Margin(kind="square", value=WINDOW)
    corner = np.array([left, top], np.float32)
    return Burst(
        images=np.stack([cut(image, face.box, margin) for image in images]),
        points=np.stack([now.landmarks - corner for now in found]),
        boxes=np.stack([np.array(now.box, np.float32) - np.tile(corner, 2) for now in found]),
        seen=(max(0, -left), max(0, -top), min(side, width - left), min(side, height - top)),
    )


def align(burst: Burst) -> Aligned | None:
    """Lay every frame on the middle one by what the face does (an affine motion, Evangelidis and Psarakis 2008).

    None where a frame does not come to lie on it, or too little of a region is seen.
    """
    size = burst.images.shape[1]
    scale = SIDE / size
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in burst.images]
    kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = [cv2.resize(one, (SIDE, SIDE), interpolation=kernel).astype(np.float32) for one in grey]
    radius, mouth, centre = _places(burst.points[burst.middle] * scale)
    x0, y0, x1, y1 = (round(edge * scale) for edge in burst.seen)
    seen = np.zeros((SIDE, SIDE), np.uint8)
    seen[y0:y1, x0:x1] = 1
    face = ((radius < OUTSIDE[0]) & (seen > 0)).astype(np.uint8)
    steps = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
    still = np.eye(2, 3, dtype=np.float32)
    motions = {burst.middle: still}
    order = [*range(burst.middle - 1, -1, -1), *range(burst.middle + 1, len(small))]
    for place in order:
        before = motions[place + 1 if place < burst.middle else place - 1]
        try:
            kept, motion = cv2.findTransformECC(
                small[burst.middle], small[place], before.copy(), cv2.MOTION_AFFINE, steps, face, 5
            )
        except cv2.error as error:
            if error.code != cv2.Error.StsNoConv:
                raise
            return None
        if not kept >= ALIGNED:
            return None
        motions[place] = np.asarray(motion, np.float32)
    every = seen.copy()
    stack = np.empty((len(small), SIDE, SIDE), np.float32)
    moved = np.empty((len(small), 2))
    how = cv2.WARP_INVERSE_MAP
    for place, one in enumerate(small):
        motion = motions[place]
        stack[place] = one
        if place != burst.middle:
            stack[place] = cv2.warpAffine(
                one, motion, (SIDE, SIDE), flags=how | cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
            )
            every &= cv2.warpAffine(seen, motion, (SIDE, SIDE), flags=how | cv2.INTER_NEAREST)
        moved[place] = (motion @ np.append(centre, 1) - centre) / scale
    # What the warps and filters took from the rim is not evidence.
    whole = cv2.erode(cv2.copyMakeBorder(every, 1, 1, 1, 1, cv2.BORDER_CONSTANT), np.ones((7, 7), np.uint8))[1:-1, 1:-1]
    inside, ring, outside = ((radius >= low) & (radius < high) & (whole > 0) for low, high in (INSIDE, RING, OUTSIDE))
    mouth &= whole > 0
    if min(int(region.sum()) for region in (inside, ring, outside, mouth)) < _FEWEST:
        return None
    return Aligned(stack, inside, ring, outside, mouth, moved)


def _places(points: Floats) -> tuple[Floats, Mask, npt.NDArray[np.float64]]:
    """Distance of every pixel of the patch from the face's centre (1 is the border), the mouth, and the centre."""
    eyes, mouth = points[:2].mean(0).astype(np.float64), points[3:].mean(0).astype(np.float64)
    down = mouth - eyes
    # From eyes to mouth is about 1.1 distances of the eyes; a turned head hides one of the two.
    unit = max(float(np.linalg.norm(points[1] - points[0])), float(np.linalg.norm(down)) / 1.1, 1.0)
    down /= max(float(np.linalg.norm(down)), 1e-6)
    across = np.array([down[1], -down[0]])
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float64)

    def distance(middle: npt.NDArray[np.float64], wide: float, high: float) -> npt.NDArray[np.float64]:
        dx, dy = x - middle[0], y - middle[1]
        along, off = dx * across[0] + dy * across[1], dx * down[0] + dy * down[1]
        return np.asarray(np.hypot(along / (wide * unit), off / (high * unit)))

    centre = eyes + 0.7 * unit * down
    return distance(centre, 1.05, 1.17).astype(np.float32), distance(mouth, 0.55, 0.35) < 1, centre


# -- measures of one burst ----------------------------------------------------------------------------------------


def landmark_jitter(points: Floats) -> float:
    """How much five landmarks tremble against each other: ``points`` float32 ``[T, 5, 2]``, in distances of the eyes.

    Shift, turn and size of the whole face are taken out of every frame; the second difference over time leaves what is no
    steady movement, scaled so that independent noise of deviation s in both coordinates gives about s times √2. Landmark
    series as a cue: Sun et al., CVPR 2021.
    """
    series = points[..., 0].astype(np.float64) + 1j * points[..., 1]
    series -= series.mean(axis=1, keepdims=True)
    shape = series.mean(axis=0)
    for _ in range(3):
        shape /= max(abs(shape[1] - shape[0]), 1e-9)
        power = np.maximum((np.abs(series) ** 2).sum(axis=1), 1e-9)
        turns = (np.conj(series) @ shape) / power
        fitted = turns[:, None] * series
        shape = fitted.mean(axis=0)
    shape /= max(abs(shape[1] - shape[0]), 1e-9)
    return _tremble((fitted - shape).T)


def box_jitter(boxes: Floats, points: Floats) -> float:
    """How much the box (float32 ``[T, 4]``) trembles against the landmarks, in distances of the eyes."""
    unit = max(float(np.linalg.norm(points[:, 1] - points[:, 0], axis=1).mean()), 1e-6)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 - points.mean(axis=1)
    size = boxes[:, 2:] - boxes[:, :2]
    return _tremble(np.concatenate([centre, size], axis=1).T.astype(np.float64) / unit)


def _tremble(series: npt.NDArray[np.float64] | npt.NDArray[np.complex128]) -> float:
    """Root mean square of the second difference of ``[N, T]`` over time, √6 for noise of deviation 1."""
    bend = series[:, 2:] - 2 * series[:, 1:-1] + series[:, :-2]
    return float(np.sqrt(np.mean(np.abs(bend) ** 2) / 6))


def edge_flicker(face: Aligned) -> dict[str, float]:
    """How much fine detail changes along the blending edge from frame to frame, over inside and around the face.

    Change of a region is that of its detail (a band of one to three pixels) over how much detail it has. Medians over the
    pairs of neighbours.
    """
    fine = np.stack([cv2.GaussianBlur(one, (0, 0), 1) - cv2.GaussianBlur(one, (0, 0), 3) for one in face.stack])
    changed, there = np.abs(np.diff(fine, axis=0)), np.abs(fine)

    def changes(region: Mask) -> npt.NDArray[np.float64]:
        detail = there[:, region].mean(axis=1, dtype=np.float64)
        return np.asarray(
            changed[:, region].mean(axis=1, dtype=np.float64) / ((detail[1:] + detail[:-1]) / 2 + _TEXTURE)
        )

    inside, ring, outside = changes(face.inside), changes(face.ring), changes(face.outside)
    return {
        "edge over inside": float(np.median(ring / (inside + _SHARE))),
        "edge over outside": float(np.median(ring / (outside + _SHARE))),
        "edge over both": float(np.median(ring / ((inside + outside) / 2 + _SHARE))),
    }


def high_frequencies(face: Aligned) -> dict[str, float]:
    """Strength of fast changes inside the face and at the mouth, over that around the face, each over how much detail the
    region has (spectrum of each pixel over time as a cue: Kim et al., ICCV 2025)."""
    series = np.stack([cv2.GaussianBlur(one, (0, 0), 1) for one in face.stack])
    detail = np.abs(series - np.stack([cv2.GaussianBlur(one, (0, 0), 3) for one in face.stack]))
    time = np.arange(len(series), dtype=np.float32) - (len(series) - 1) / 2
    slope = np.tensordot(time, series, 1) / (time @ time)
    window = np.hanning(len(series) + 2)[1:-1].astype(np.float32)
    still = (series - series.mean(axis=0) - time[:, None, None] * slope) * window[:, None, None]
    fast = np.fft.rfftfreq(len(series)) >= HIGH
    power = (np.abs(np.fft.rfft(still, axis=0)[fast]) ** 2).sum(axis=0) / (window @ window)

    def strength(region: Mask) -> float:
        return float(np.sqrt(power[region].mean()) / (detail[:, region].mean() + _TEXTURE))

    around = strength(face.outside) + _SHARE
    return {
        "high frequencies, face": strength(face.inside) / around,
        "high frequencies, mouth": strength(face.mouth) / around,
    }


def flow_jitter(face: Aligned) -> float:
    """How much the optical flow that is left after alignment changes from pair to pair inside the face, over that around
    it (flow as a cue: Amerini et al., ICCV workshops 2019; flow by Kroeger et al., ECCV 2016)."""
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    frames = np.clip(np.round(face.stack), 0, 255).astype(np.uint8)
    flows = np.stack([finder.calc(one, two, None) for one, two in pairwise(frames)])
    change = np.linalg.norm(np.diff(flows, axis=0), axis=3)
    return float(change[:, face.inside].mean() / (change[:, face.outside].mean() + _FLOW))


def map_flicker(heats: Floats) -> float:
    """Mean change of the network's map ``[T, h, w]`` from frame to frame, over how much it varies within a frame."""
    return float(np.abs(np.diff(heats, axis=0)).mean() / (heats.std(axis=(1, 2)).mean() + _SHARE))


def log_odds(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Logits of probabilities, kept 1e-6 away from 0 and 1."""
    kept = np.clip(np.asarray(p, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(kept) - np.log1p(-kept))


@dataclass(frozen=True)
class Reading:
    """One burst: P(fake) of every frame and the value of each of :data:`CUES`."""

    p: npt.NDArray[np.float32]
    cues: dict[str, float]


def read(burst: Burst, face: Aligned, detector: Detector) -> Reading:
    """Take every measure of a burst."""
    found = [detector.cut(image, tuple(box)) for image, box in zip(burst.images, burst.boxes, strict=True)]
    box = burst.boxes[burst.middle]
    held = [
        detector.cut(image, tuple(box + np.tile(moved, 2).astype(np.float32)))
        for image, moved in zip(burst.images, face.moved, strict=True)
    ]
    p = detector.score(found)
    steady, heats = detector.score_with_heat(held)
    return Reading(
        p,
        {
            "logits, boxes as found": float(log_odds(p).std()),
            "logits, boxes held": float(log_odds(steady).std()),
            "landmarks": landmark_jitter(burst.points),
            "box": box_jitter(burst.boxes, burst.points),
            **edge_flicker(face),
            **({} if heats is None else {"heatmap": map_flicker(heats)}),
            **high_frequencies(face),
            "optical flow": flow_jitter(face),
        },
    )
