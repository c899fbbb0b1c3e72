"""Opening untrusted containers, and what can be said of them without decoding."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.stream import Disposition

from faceproof.errors import MediaCorruptError, MediaError, MediaUnsupportedError, NoVideoStreamError
from faceproof.media.facts import Limits
from faceproof.media.files import shown

# Demuxers that read nothing but the file they are given. Those for sound are here so that a sound file is told
# apart from an unknown one.
CONTAINERS = (
    "mov",
    "matroska",
    "avi",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "m4v",
    "h264",
    "hevc",
    "flv",
    "asf",
    "ogg",
    "ivf",
    "mp3",
    "aac",
    "flac",
    "wav",
    "aiff",
    "amr",
)
# Decoders for what cameras, editors and web sites write; the hundreds of others are attack surface.
CODECS = frozenset(
    {"h264", "hevc", "vvc", "av1", "libdav1d", "vp8", "vp9", "libvpx", "libvpx-vp9", "vp6", "vp6f", "vp6a"}
    | {"mpeg4", "mpeg1video", "mpeg2video", "mpegvideo", "msmpeg4", "msmpeg4v1", "msmpeg4v2", "h263", "h263p", "flv"}
    | {"wmv1", "wmv2", "wmv3", "vc1", "theora", "mjpeg", "prores", "dnxhd", "dvvideo", "ffv1", "huffyuv", "ffvhuff"}
    | {"utvideo", "rawvideo", "png", "qtrle", "svq1", "svq3", "cinepak"}
)
_OPTIONS = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "none"}

# First bytes of containers: a file that has them but does not open is damaged, not unknown.
_MARKS: tuple[tuple[int, bytes], ...] = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (0, b"\x1a\x45\xdf\xa3"),
    (8, b"AVI "),
    (0, b"FLV\x01"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (0, b"OggS"),
    (0, b"\x00\x00\x01\xba"),
)

# Tags that are no UTF-8: an error in older releases unless they are told otherwise. PyAV 19 cannot be told, and raises none.
_BROKEN_TEXT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}

_MAX_READ_ERRORS = 64  # in a row, without a packet between them
_MAX_THREADS = 8  # every thread holds a frame of its own
_UNTHREADED = frozenset({"mpeg4", "msmpeg4", "msmpeg4v1", "msmpeg4v2", "h263", "h263p", "flv", "wmv1", "wmv2"})


@contextmanager
def opened(file: BinaryIO, path: Path, limits: Limits) -> Iterator[Any]:
    """A container over an open file. FFmpeg never sees the name, only the bytes."""
    file.seek(0)
    head = file.read(16)
    file.seek(0)
    try:
        container = av.open(
            _Nameless(file),
            "r",
            options=_decoder_options(limits),  # for the frames FFmpeg decodes on its own to learn what it has
            container_options=_OPTIONS,
            buffer_size=1 << 16,
            **_BROKEN_TEXT,
        )
    except (av.FFmpegError, OSError, ValueError, UnicodeError) as error:
        raise _why_not_opened(path, head, error) from error
    try:
        if not container.streams and _is_marked(head):
            raise _damaged(path)
        yield container
    finally:
        container.close()


def _decoder_options(limits: Limits) -> dict[str, str]:
    """A stream may grow to any size half-way: have the decoder refuse before it takes the memory.

    Twice the limit, because it counts the padding of its blocks too; the frames are measured exactly afterwards.
    """
    return {"max_pixels": str(2 * limits.max_pixels + 65_536)}


class _Nameless:
    """The part of a file that PyAV needs, without the name that FFmpeg would draw conclusions from."""

    name = ""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


def _is_marked(head: bytes) -> bool:
    return any(head[at : at + len(mark)] == mark for at, mark in _MARKS)


def _why_not_opened(path: Path, head: bytes, error: Exception) -> MediaError:
    if _is_marked(head):
        return _damaged(path)
    return MediaUnsupportedError(f"{shown(path)} is not a picture or a video that Faceproof can open")


def _damaged(path: Path) -> MediaCorruptError:
    return MediaCorruptError(
        f"{shown(path)} begins like a video, but its index or its headers are missing or damaged",
        remedy="Fetch the file again; a recording that was interrupted can sometimes be repaired with untrunc.",
    )


def moving_streams(container: Any) -> list[Any]:
    """The video streams that are no cover picture, and no row of thumbnails beside something else."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return [s for s in streams if not s.disposition & Disposition.timed_thumbnails] or streams


def video_stream(container: Any, path: Path, limits: Limits) -> Any:
    """The stream to look at, where there are several the one that players choose."""
    moving = moving_streams(container)
    if not moving:
        raise NoVideoStreamError(f"{shown(path)} has no video stream")
    best = container.streams.best("video")
    stream = next((s for s in moving if best is not None and s.index == best.index), moving[0])
    context = stream.codec_context
    if context is None or context.codec.name not in CODECS:
        name = "an unknown codec" if context is None else f"the codec {context.codec.name}"
        raise MediaUnsupportedError(f"{shown(path)} uses {name}, which Faceproof does not decode")
    context.options = _decoder_options(limits)
    context.thread_type = "AUTO"
    # MPEG-4's frame threads now and then hand a damaged frame out before they have marked it as such.
    most = min(_MAX_THREADS, limits.threads or (os.cpu_count() or 1) + 1)
    context.thread_count = 1 if context.codec.name in _UNTHREADED else most
    return stream


def stop_at_damage(stream: Any) -> None:
    """Have the decoder fail where it would paint over a hole and say nothing. For a stream that was not decoded yet."""
    stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}


def use_one_thread(stream: Any) -> None:
    """Frame threads read what others may not have written yet once one of them gave up on a damaged frame: the pixels behind
    it were others from run to run, by up to 222 of 255. For a stream that was not decoded yet."""
    stream.codec_context.thread_count = 1


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """All packets of a stream, the empty one that flushes the decoder last. Damage between packets is stepped over."""
    errors = 0
    while True:
        try:
            for packet in container.demux(stream):
                errors = 0
                yield packet
        except (av.FFmpegError, OSError):
            errors += 1
            if errors < _MAX_READ_ERRORS:
                continue
        except IndexError:
            pass  # PyAV stumbles at the end over streams that appeared on the way, after flushing the known ones
        return


def is_cut_off(file: BinaryIO, size: int) -> bool:
    """Whether the outermost box, chunk or element says it goes on beyond the end of the file."""
    file.seek(0)
    head = file.read(64)
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little") > size
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska_end(head) > size
    at = 0
    for _ in range(10_000):  # boxes of MP4 and MOV
        file.seek(at)
        box = file.read(16)
        if len(box) < 8 or not box[4:8].isalnum():
            return False
        length = int.from_bytes(box[:4], "big")
        if length == 1:
            length = int.from_bytes(box[8:16], "big")
        if length < 8:  # to the end of the file, or nonsense
            return False
        at += length
        if at >= size:
            return at > size
    return False


def _matroska_end(head: bytes) -> int:
    """Where the segment says it ends; 0 when it does not say."""
    header, at = _ebml_size(head, 4)
    at += header
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    length, start = _ebml_size(head, at + 4)
    return start + length if length else 0


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length size and the position behind it; 0 for "unknown"."""
    if at >= len(data) or data[at] == 0:
        return 0, at + 1
    width = 9 - data[at].bit_length()
    ones = (1 << 7 * width) - 1
    value = int.from_bytes(data[at : at + width], "big") & ones
    return (0 if value == ones else value), at + width
