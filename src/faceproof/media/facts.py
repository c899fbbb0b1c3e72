"""The words of the media room: limits, what a file is, a frame, and how decoding went."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Limits:
    """What Faceproof agrees to open.

    max_pixels: of one frame or picture, width x height.
    max_duration: of a video, in seconds.
    max_bytes: of the file; None for no cap.
    threads: that a decoder may use; None for as many as there are cores.
    """

    max_pixels: int = 100_000_000
    max_duration: float = 4 * 3600.0
    max_bytes: int | None = None
    threads: int | None = None

    @property
    def max_frames(self) -> int:
        """A cap that follows from the duration, for videos whose timestamps lie."""
        return int(self.max_duration * 1000) + 1


@dataclass(frozen=True)
class Resets:
    """Frames of a stream behind which little or nothing is predicted from frames before, as far as known: IDR pictures of
    H.264, random access pictures of HEVC, key frames of VP9 and AV1.

    ticks: their presentation times, ascending (int64).
    firsts: for each, the earliest time of a frame decoded from there on (HEVC shows leading pictures before).
    borders: for each, the time up to which frames may need frames decoded before it.
    layer: the highest temporal layer of HEVC.
    trusted: False where the stream is to be decoded whole.
    """

    ticks: array[int] = field(default_factory=lambda: array("q"))
    firsts: array[int] = field(default_factory=lambda: array("q"))
    borders: array[int] = field(default_factory=lambda: array("q"))
    layer: int = 0
    trusted: bool = True


@dataclass(frozen=True)
class Timeline:
    """When each frame of a video is shown, as far as its packets are in the file.

    ticks: presentation times in ``time_base``, ascending (int64).
    by_position: the timestamps of single frames cannot be trusted (AVI, raw streams): count frames instead.
    missing: frames the container promises that lie beyond the end of the file.
    resets: where decoding may start anew.
    """

    ticks: array[int]
    time_base: Fraction
    by_position: bool
    missing: int = 0
    resets: Resets = field(default_factory=Resets)

    def time(self, index: int) -> float:
        """Seconds since the first frame."""
        return float((self.ticks[index] - self.ticks[0]) * self.time_base)


@dataclass(frozen=True)
class MediaInfo:
    """What a file is.

    width, height: of the upright picture, after ``rotation``.
    fps: average frames a second, exact; None for pictures and where nothing tells.
    duration: in seconds, from the first frame to the end of the last.
    frame_count: frames the file promises, those beyond a cut-off end included; 1 for a picture.
    rotation: degrees clockwise by which the stored picture was turned (0, 90, 180, 270).
    several: whether more pictures follow the first of a picture file (pages, a series), or other video streams lie beside
        the one of a video, which nobody looks at.
    animation: whether the video is an animated picture (GIF, WebP, PNG, AVIF), which FFmpeg is never given.
    """

    path: Path
    sha256: str
    kind: Literal["image", "video"]
    width: int
    height: int
    fps: Fraction | None
    duration: float | None
    frame_count: int | None
    codec: str
    container: str
    bit_rate: int | None
    size_bytes: int
    rotation: int
    several: bool = False
    animation: bool = False
    timeline: Timeline | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Frame:
    """One frame, upright.

    index: its place in the order of showing, from 0; frames that did not decode keep their place.
    time: seconds since the first frame.
    image: uint8 [H, W, 3], RGB, C-contiguous; nobody else holds it.
    """

    index: int
    time: float
    image: NDArray[np.uint8]


@dataclass
class DecodeStats:
    """How decoding went, up to the last frame asked for.

    frames_decoded: frames that came out whole.
    frames_failed: frames the file promised that did not decode, came out damaged or were cut off.
    frames_skipped: frames that were not decoded, because nobody asked for them and those asked for do without. Damage in
        these goes unnoticed.
    """

    frames_decoded: int = 0
    frames_failed: int = 0
    frames_skipped: int = 0
