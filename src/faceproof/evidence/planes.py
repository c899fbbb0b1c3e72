"""A video's frames as upright YUV planes, for drawing on them without a detour through RGB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from faceproof.errors import MediaCorruptError
from faceproof.evidence.canvas import Plane
from faceproof.media import Limits, MediaInfo, read_frames
from faceproof.media.containers import opened, video_stream
from faceproof.media.facts import Timeline
from faceproof.media.files import open_regular, shown
from faceproof.media.videos import RgbConverter, Turning, decoded_pictures, turned, turning_of

_BT709 = 1
# Untagged pictures of so many rows or more are taken for high definition, whose colours are BT.709's.
_HD = 720


@dataclass(frozen=True)
class UprightPicture:
    """One decoded frame.

    index: as in the report. ticks: when it is shown, in the video's ``time_base``. time: seconds since the first frame.
    planes: y uint8 ``[h, w]``, u and v uint8 ``[ceil(h/2), ceil(w/2)]``, limited range, upright; read only.
    picture: the ``av.VideoFrame`` as decoded, for its colour tags. to_rgb: how the scan converts it.
    """

    index: int
    ticks: int
    time: float
    planes: tuple[Plane, Plane, Plane]
    picture: Any
    to_rgb: Callable[[Any], npt.NDArray[np.uint8]]

    def rgb(self) -> npt.NDArray[np.uint8]:
        """uint8 RGB ``[h, w, 3]``, exactly as the scan saw it."""
        return self.to_rgb(self.picture)


def matrix_of(picture: Any, height: int) -> str:
    """Which colour matrix a player will use: as tagged, otherwise by the usual rule of size."""
    tag = int(picture.colorspace)
    if tag == _BT709:
        return "bt709"
    return "bt709" if tag == 2 and height >= _HD else "bt601"


@dataclass(frozen=True)
class OpenVideo:
    """A video opened for one pass. sound: a container of its own, apart from the one the pictures come from; None where
    nothing is heard."""

    info: MediaInfo
    timeline: Timeline
    sound: Any | None
    aspect: Fraction | None
    _container: Any
    _stream: Any

    def pictures(self) -> Iterator[UprightPicture]:
        """Every frame that decodes, in the order of showing. Raises :class:`MediaCorruptError` when none does."""
        reformatter = VideoReformatter()
        to_rgb = RgbConverter(self.info.path)
        turnings: dict[int, Turning] = {}
        last = len(self.timeline.ticks) - 1
        size: tuple[int, int] | None = None
        for index, picture in decoded_pictures(self._container, self._stream, self.timeline):
            rotation = picture.rotation
            if rotation not in turnings:
                turnings[rotation] = turning_of(picture)
            planes = _planes(picture, reformatter, turnings[rotation])
            if size is None:
                size = planes[0].shape[0], planes[0].shape[1]
            elif planes[0].shape != size:
                # The stream changed its size half-way; one file has one size.
                planes = _resized(planes, size)
            place = min(index, last)
            yield UprightPicture(index, self.timeline.ticks[place], self.timeline.time(place), planes, picture, to_rgb)
        if size is None:
            raise MediaCorruptError(f"none of the frames of {shown(self.info.path)} decodes")


@dataclass(frozen=True)
class OpenAnimation:
    """An animated picture opened for one pass, in the words of :class:`OpenVideo`: silent, of square pixels."""

    info: MediaInfo
    timeline: Timeline
    limits: Limits
    sound: None = None
    aspect: None = None

    def pictures(self) -> Iterator[UprightPicture]:
        """Every picture that decodes, in the order of showing. Raises :class:`MediaCorruptError` when none does."""
        reformatter = VideoReformatter()
        for frame in read_frames(self.info, "all", limits=self.limits):
            coloured = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
            matrix = Colorspace.ITU709 if frame.image.shape[0] >= _HD else Colorspace.ITU601
            picture = reformatter.reformat(
                coloured, format="yuv420p", dst_colorspace=matrix, dst_color_range=ColorRange.MPEG, threads=1
            )
            planes = _planes(picture, reformatter, (1, 0, 0, 1))
            ticks = self.timeline.ticks[frame.index]
            yield UprightPicture(frame.index, ticks, frame.time, planes, picture, _already(frame.image))


def _already(image: npt.NDArray[np.uint8]) -> Callable[[Any], npt.NDArray[np.uint8]]:
    return lambda picture: image


@contextmanager
def open_video(info: MediaInfo, limits: Limits) -> Iterator[OpenVideo | OpenAnimation]:
    """Open a probed video for one pass over its pictures and its sound."""
    assert info.timeline is not None
    if info.animation:
        yield OpenAnimation(info, info.timeline, limits)
        return
    with (
        open_regular(info.path) as file,
        open_regular(info.path) as sound_file,
        opened(file, info.path, limits) as container,
        opened(sound_file, info.path, limits) as sound,
    ):
        stream = video_stream(container, info.path, limits)
        aspect = stream.sample_aspect_ratio or None
        if aspect is not None and info.rotation in (90, 270):
            aspect = 1 / Fraction(aspect)
        heard = sound if sound.streams.audio else None
        yield OpenVideo(info, info.timeline, heard, aspect, container, stream)


def _planes(picture: Any, reformatter: Any, turning: Turning) -> tuple[Plane, Plane, Plane]:
    if picture.format.name != "yuv420p" or int(picture.color_range) == int(ColorRange.JPEG):
        picture = reformatter.reformat(picture, format="yuv420p", dst_color_range=ColorRange.MPEG, threads=1)
    y, u, v = (
        turned(
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width, None], turning
        )[..., 0]
        for plane in picture.planes
    )
    return y, u, v


def _resized(planes: tuple[Plane, Plane, Plane], size: tuple[int, int]) -> tuple[Plane, Plane, Plane]:
    height, width = size
    half = ((width + 1) // 2, (height + 1) // 2)
    y, u, v = (
        np.asarray(cv2.resize(np.ascontiguousarray(plane), to, interpolation=cv2.INTER_AREA), np.uint8)
        for plane, to in zip(planes, ((width, height), half, half), strict=True)
    )
    return y, u, v
