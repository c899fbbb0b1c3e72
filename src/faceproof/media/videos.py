"""Videos, through PyAV: one walk to count, then forward decoding with conversion of the wanted frames only."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import heappush, heappushpop
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from faceproof.errors import (
    MediaCorruptError,
    MediaEmptyError,
    MediaLimitError,
    MediaUnsupportedError,
)
from faceproof.media.aside import SetAside
from faceproof.media.containers import (
    is_cut_off,
    moving_streams,
    opened,
    packets,
    stop_at_damage,
    use_one_thread,
    video_stream,
)
from faceproof.media.facts import DecodeStats, Frame, Limits, Resets, Timeline
from faceproof.media.files import shown
from faceproof.media.sampling import Sampling
from faceproof.media.skipping import DecodingInDoubt, ResetSearch, Skipping

_MAX_OPENING_PACKETS = 300  # to look through for a first whole frame
_MOST_REORDERED = 16  # frames that any codec here decodes before one that is shown earlier
_BACK = Fraction(1, 2)  # seconds by which decoding times fall for no other reason than a clock set anew


@dataclass(frozen=True)
class VideoSurvey:
    width: int
    height: int
    rotation: int
    fps: Fraction | None
    duration: float
    codec: str
    container: str
    bit_rate: int | None
    several: bool
    timeline: Timeline


def survey(file: BinaryIO, path: Path, limits: Limits) -> VideoSurvey:
    """Walk through all packets and decode up to the first whole frame."""
    with opened(file, path, limits) as container:
        stream = video_stream(container, path, limits)
        _check_pixels(stream.width, stream.height, path, limits)
        declared = float(container.duration / av.time_base) if container.duration else 0.0
        if declared > limits.max_duration and _tells_duration(container):
            raise _too_long(path, declared, limits)
        timeline, first = _walk(container, stream, path, limits)
        size = os.fstat(file.fileno()).st_size
        fps = _fps(stream)
        if is_cut_off(file, size):
            timeline = replace(timeline, missing=_missing(container, stream, timeline, size, declared, fps))
        if not timeline.ticks:
            if timeline.missing:
                raise MediaCorruptError(f"{shown(path)} is cut off before its first frame")
            raise MediaEmptyError(f"the video {shown(path)} has no frames")
        if first is None:
            raise MediaCorruptError(f"none of the first frames of {shown(path)} decodes")
        _check_pixels(first.width, first.height, path, limits)
        matrix = turning_of(first)
        width, height = (first.height, first.width) if _lies_down(matrix) else (first.width, first.height)
        last = len(timeline.ticks) - 1
        promised = float((len(timeline.ticks) + timeline.missing) / fps) if fps else 0.0
        shown_for = timeline.time(last) + (float(1 / fps) if fps else 0.0)
        return VideoSurvey(
            width=width,
            height=height,
            rotation=_rotation(matrix),
            fps=fps,
            duration=max(shown_for, declared, promised) if timeline.missing else shown_for,
            codec=str(stream.codec_context.codec.canonical_name),
            container=str(container.format.name),
            bit_rate=int(stream.bit_rate or container.bit_rate or 0) or None,
            several=len(moving_streams(container)) > 1,
            timeline=timeline,
        )


def read(
    file: BinaryIO,
    path: Path,
    timeline: Timeline,
    sampling: Sampling,
    limits: Limits,
    stats: DecodeStats,
    aside: SetAside | None = None,
) -> Iterator[Frame]:
    """Decode forward and convert the wanted frames; see ``faceproof.media.read_frames`` for the rules."""
    wanted = sampling.indices(len(timeline.ticks))
    if not wanted:
        return
    handed_out = -1
    try:
        for frame in _pass(file, path, timeline, sampling, limits, stats, strict=True, aside=aside):
            handed_out = frame.index
            yield frame
    except DecodingInDoubt:
        # Up to here every frame was the one asked for, as when all are decoded. What damage does from here on depends on
        # the frames left out, so they are decoded now, and on how far other threads had come, so there is one.
        stats.frames_decoded = stats.frames_failed = stats.frames_skipped = 0
        yield from _pass(file, path, timeline, sampling, limits, stats, strict=False, after=handed_out, aside=aside)
    if aside is not None:
        aside.ended()


def _pass(
    file: BinaryIO,
    path: Path,
    timeline: Timeline,
    sampling: Sampling,
    limits: Limits,
    stats: DecodeStats,
    *,
    strict: bool,
    after: int = -1,
    aside: SetAside | None = None,
) -> Iterator[Frame]:
    """The wanted frames behind the one with the index ``after``. ``strict``: what is not needed for them and for those to be
    set ``aside`` is left out, and the first sign of damage raises :class:`DecodingInDoubt`."""
    total = len(timeline.ticks)
    own = sampling.indices(total)
    others = [index for index in aside.indices if index < total] if aside is not None else []
    wanted = sorted({*own, *others}) if others else own
    put_aside = frozenset(others).difference(own)
    with opened(file, path, limits) as container:
        stream = video_stream(container, path, limits)
        _check_pixels(stream.width, stream.height, path, limits)
        skipping = Skipping(stream, timeline, wanted) if strict and Skipping.pays(stream, timeline, wanted) else None
        if strict:
            stop_at_damage(stream)
        else:
            use_one_thread(stream)
        to_rgb = RgbConverter(path)

        def convert(index: int, picture: Any) -> Frame:
            _check_pixels(picture.width, picture.height, path, limits)
            return Frame(index=index, time=timeline.time(min(index, total - 1)), image=to_rgb(picture))

        place = bisect_right(wanted, after)
        index = -1
        spare: Any = None  # the last decoded frame, while it has not been handed out
        for index, picture in decoded_pictures(container, stream, timeline, skipping, strict=strict):
            stats.frames_decoded += 1
            stats.frames_skipped = skipping.skipped_before(index) if skipping is not None else 0
            stats.frames_failed = max(0, index + 1 - stats.frames_decoded - stats.frames_skipped)
            if index <= after:
                continue
            spare = picture
            if sampling.exact:
                while place < len(wanted) and wanted[place] < index:
                    place += 1
            # A frame that stands in for those before it that did not decode is as good as all of them.
            until = bisect_right(wanted, index, lo=place)
            if until > place:
                if aside is not None and put_aside.issuperset(wanted[place:until]):
                    aside.put(index, picture, convert)
                else:
                    spare = None
                    yield convert(index, picture)
                place = until
            if place == len(wanted):
                break
        if place < len(wanted) or wanted[-1] >= total - 1:  # read to the end
            stats.frames_skipped = skipping.skipped_before(total) if skipping is not None else 0
            stats.frames_failed = max(0, total + timeline.missing - stats.frames_decoded - stats.frames_skipped)
        if stats.frames_decoded == 0:
            raise MediaCorruptError(f"none of the {total + timeline.missing} frames of {shown(path)} decodes")
        if not put_aside.issuperset(wanted[place:]) and spare is not None and not sampling.exact:
            if aside is not None:
                aside.drop(index)
            yield convert(index, spare)


def _check_pixels(width: int, height: int, path: Path, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise MediaLimitError(f"{shown(path)} has {width}x{height} pixels, over the limit of {limits.max_pixels}")


def _too_long(path: Path, seconds: float, limits: Limits) -> MediaLimitError:
    return MediaLimitError(f"{shown(path)} lasts {seconds:.0f} s, over the limit of {limits.max_duration:g} s")


def _tells_duration(container: Any) -> bool:
    """Whether the container stores its duration; of the others FFmpeg guesses it from the bit rate."""
    return str(container.format.name).split(",")[0] in ("mov", "matroska", "avi", "flv", "asf")


def _fps(stream: Any) -> Fraction | None:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate is not None and 0 < rate <= 1000:
            return Fraction(rate)
    return None


def _is_shown(codec: str, packet: Any) -> bool:
    """Whether a packet holds a frame that is shown, by what the container and the codec's first byte say."""
    if not packet.size or packet.is_discard:
        return False
    return codec != "vp8" or bool(bytes(memoryview(packet)[:1])[0] & 0x10)


def _walk(container: Any, stream: Any, path: Path, limits: Limits) -> tuple[Timeline, Any]:
    codec = str(stream.codec_context.codec.canonical_name)
    time_base = Fraction(stream.time_base) if stream.time_base else Fraction(1, 1000)
    shows, decodes = array("q"), array("q")
    search = ResetSearch(stream)
    clock = _Clock(time_base, limits.max_duration)
    unknown = False
    first: Any = None
    tried = 0
    for packet in packets(container, stream):
        if first is None and tried < _MAX_OPENING_PACKETS:
            tried += 1
            first = _first_whole(stream, packet)
        search.note(packet)
        if not _is_shown(codec, packet):
            continue
        unknown = unknown or packet.pts is None
        shows.append(packet.pts if packet.pts is not None else 0)
        decodes.append(packet.dts if packet.dts is not None else 0)
        search.add(packet, shows[-1])
        if len(shows) > limits.max_frames:
            raise _too_long(path, len(shows) / 1000, limits)
        if not unknown and not clock.is_set_anew(packet) and (shows[-1] - shows[0]) * time_base > limits.max_duration:
            raise _too_long(path, float((shows[-1] - shows[0]) * time_base), limits)
    # AVI stores no presentation times: frames come out in the order of showing, each in the slot of a decoding time.
    by_position = unknown or clock.set_anew or container.format.name == "avi"
    ticks = decodes if by_position else shows
    if clock.set_anew:
        ticks = _closed_up(
            decodes, round(1 / (_fps(stream) or Fraction(25)) / time_base), limits.max_duration / time_base
        )
        if (ticks[-1] - ticks[0]) * time_base > limits.max_duration:
            raise _too_long(path, float((ticks[-1] - ticks[0]) * time_base), limits)
    elif by_position and len(set(ticks)) < len(ticks):
        time_base = 1 / (_fps(stream) or Fraction(25))
        ticks = array("q", range(len(ticks)))
    resets = Resets() if by_position else search.found()
    return Timeline(array("q", sorted(ticks)), time_base, by_position, resets=resets), first


class _Clock:
    """Tells where a recording's clock was set anew: recordings joined end to end start theirs again, a camera's may wrap.

    From there on times no longer say which frame is meant. Within one recording no frame is shown before more than
    :data:`_MOST_REORDERED` that were decoded earlier, none is to be decoded long before the one in front of it, and none
    comes later by more than a video may last (``most``, seconds).
    """

    def __init__(self, time_base: Fraction, most: float) -> None:
        self.set_anew = False
        self._most, self._back = most / time_base, _BACK / time_base
        self._latest: list[int] = []  # a heap of the times shown last of all so far
        self._decoded: int | None = None

    def is_set_anew(self, packet: Any) -> bool:
        """Whether it was, at the frame of this packet or at one before it. Asked of each shown frame in turn."""
        tick, latest = packet.pts, self._latest
        if packet.dts is not None:
            fell = self._decoded is not None and self._decoded - packet.dts > self._back
            self.set_anew, self._decoded = self.set_anew or fell, packet.dts
        if len(latest) <= _MOST_REORDERED:
            heappush(latest, tick)
        else:
            self.set_anew = self.set_anew or tick < latest[0] or tick - latest[0] > self._most
            heappushpop(latest, tick)
        return self.set_anew


def _closed_up(decodes: Sequence[int], usual: int, most: float) -> array[int]:
    """Decoding times of recordings joined end to end, ascending: each goes on a frame after the one before it."""
    ticks = array("q")
    before = at = 0
    step = max(1, usual)
    for tick in decodes:
        if ticks:
            if 0 < tick - before <= most:
                step = tick - before
            at += step
        ticks.append(at)
        before = tick
    return ticks


def _first_whole(stream: Any, packet: Any) -> Any:
    try:
        pictures = stream.codec_context.decode(packet)
    except (av.FFmpegError, OSError):
        return None
    return next((picture for picture in pictures if not picture.is_corrupt), None)


def _missing(container: Any, stream: Any, timeline: Timeline, size: int, declared: float, fps: Fraction | None) -> int:
    """Frames promised by a file that is cut off, beyond those still in it."""
    present = len(timeline.ticks)
    if container.format.name.startswith("mov"):
        promised = sum(1 for entry in stream.index_entries if not entry.is_discard)
    elif stream.frames:
        promised = stream.frames
    else:
        promised = round(declared * fps) if fps else 0
    return max(0, min(promised, size) - present)  # a promise of more frames than bytes is a lie


def decoded_pictures(
    container: Any, stream: Any, timeline: Timeline, skipping: Skipping | None = None, *, strict: bool = False
) -> Iterator[tuple[int, Any]]:
    """Whole frames (``av.VideoFrame``) with their index, in the order of showing. What fails leaves a gap in the
    indices; when ``strict``, and with ``skipping``, it raises :class:`DecodingInDoubt`."""
    context = stream.codec_context
    ticks = timeline.ticks
    index = -1
    for packet in packets(container, stream) if skipping is None else _needed(container, stream, skipping):
        try:
            pictures = context.decode(packet)
        except (av.FFmpegError, OSError) as error:
            if strict or skipping is not None:
                raise DecodingInDoubt from error
            if timeline.by_position:
                index += 1
            continue
        for picture in pictures:
            if timeline.by_position or picture.pts is None:
                index += 1
            else:
                index = max(index + 1, bisect_left(ticks, picture.pts))
            if skipping is not None:
                skipping.came_out(index, picture)
            # A damaged frame is one whose holes the decoder has painted over: nobody took that picture.
            if not picture.is_corrupt:
                yield index, picture
            elif strict:
                raise DecodingInDoubt
    if skipping is not None:
        skipping.ended()


def _needed(container: Any, stream: Any, skipping: Skipping) -> Iterator[Any]:
    """The packets that are to be decoded; None empties the decoder before a jump, behind which it starts anew."""
    for packet in packets(container, stream):
        if _is_shown("h264", packet):
            if not skipping.needs(packet):
                continue
            if skipping.jumps:
                yield None
                stream.codec_context.flush_buffers()
        yield packet


class RgbConverter:
    """Decoded frames (``av.VideoFrame``) to upright uint8 RGB ``[h, w, 3]``, C-contiguous; one for each pass.

    Raises :class:`MediaUnsupportedError` for a pixel format without a way to RGB.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reformatter: Any = VideoReformatter()  # keeps swscale's tables from frame to frame
        self._matrices: dict[int, Turning] = {}

    def __call__(self, picture: Any) -> NDArray[np.uint8]:
        # Asking a frame for its side data ties it into a reference cycle, and thousands of frames would wait for
        # the garbage collector; the rotation comes without, so the matrix is read once for each rotation met.
        rotation = picture.rotation
        if rotation not in self._matrices:
            self._matrices[rotation] = turning_of(picture)
        try:
            pixels = self._reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise MediaUnsupportedError(
                f"the pixel format {picture.format.name} of {shown(self.path)} cannot be converted to RGB"
            ) from error
        return np.ascontiguousarray(turned(pixels, self._matrices[rotation]))


Turning = tuple[int, int, int, int]
"""``(a, b, c, d)`` of a container's display matrix: x' = a x + c y, y' = b x + d y."""


def turning_of(picture: Any) -> Turning:
    """How a decoded frame is to be turned; the identity where its container says nothing."""
    side = picture.side_data.get("DISPLAYMATRIX")
    if side is None:
        return 1, 0, 0, 1
    values = np.frombuffer(bytes(side), dtype=np.int32)
    if len(values) != 9 or not values[[0, 1, 3, 4]].any():
        return 1, 0, 0, 1
    return int(values[0]), int(values[1]), int(values[3]), int(values[4])


def _lies_down(matrix: Turning) -> bool:
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def turned(pixels: NDArray[np.uint8], matrix: Turning) -> NDArray[np.uint8]:
    """``[h, w, channels]`` turned and mirrored to the nearest right angle; a view wherever possible."""
    a, b, c, d = matrix
    if _lies_down(matrix):
        pixels = pixels.transpose(1, 0, 2)
        rightward, downward = c, b
    else:
        rightward, downward = a, d
    if rightward < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if downward < 0 else pixels


def _rotation(matrix: Turning) -> int:
    if _lies_down(matrix):
        return 90 if matrix[1] > 0 else 270
    return 180 if matrix[3] < 0 else 0
