"""The only place that opens untrusted media: what a file is, and its frames one after another.

``probe`` says what a file is; ``read_frames`` streams its frames, upright and in RGB, in the order in which
they are shown. A frame is handed out and forgotten: memory does not grow with the length of a video.

What the pixels are
-------------------
- Pictures: 8-bit RGB as stored, turned and mirrored as EXIF says (HEIC and AVIF: as the file's own properties say), the
  first of several pages. Deeper grey is scaled to 8 bits, CMYK goes through its embedded profile where it has one; RGB
  profiles are not applied, as the published detectors never applied them. Where a picture is transparent it is laid over
  mid-grey.
- Animated GIF, WebP, PNG and AVIF: videos whose frames are as those of pictures, once through.
- Videos: turned and mirrored as the display matrix says. Pixels stay as stored when they are not square
  (anamorphic video) and when a stream changes its size half-way. The colours are those FFmpeg and OpenCV give.

What is refused
---------------
Whatever is not a regular file, and every container not named in ``containers.CONTAINERS``: a playlist, a
concatenation script or an image sequence could make the demuxer open other files or addresses. File names are
never given to FFmpeg at all, so none can be read as a protocol or a pattern. What a file is follows from its
first bytes, never from its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from faceproof.media import animations, pictures
from faceproof.media.ahead import read_ahead
from faceproof.media.aside import SetAside
from faceproof.media.facts import DecodeStats, Frame, Limits, MediaInfo, Timeline
from faceproof.media.files import EXTENSIONS, is_media_name, open_regular, sha256_of, walk
from faceproof.media.sampling import Sampling, parse_sampling

__all__ = [
    "EXTENSIONS",
    "DecodeStats",
    "Frame",
    "Limits",
    "MediaInfo",
    "Sampling",
    "SetAside",
    "is_media_name",
    "parse_sampling",
    "probe",
    "read_ahead",
    "read_frames",
    "walk",
]

_DEFAULT_LIMITS = Limits()


def probe(path: str | os.PathLike[str], *, limits: Limits = _DEFAULT_LIMITS) -> MediaInfo:
    """Say what a file is, without keeping or scoring anything.

    The packets of a video are counted by walking through them, because containers lie about their number;
    one frame is decoded to learn which way is up.

    Raises
    ------
    MediaError: the subclass says why the file cannot be judged as media.
    """
    path = Path(path)
    with open_regular(path, max_bytes=limits.max_bytes) as file:
        digest = sha256_of(file, path)
        size = os.fstat(file.fileno()).st_size
        picture = pictures.survey(file, path, limits)
        if picture is not None and picture.animated:
            moving = animations.survey(file, path, limits)
            return MediaInfo(
                path=path,
                sha256=digest,
                kind="video",
                width=picture.width,
                height=picture.height,
                fps=moving.fps,
                duration=moving.duration,
                frame_count=len(moving.timeline.ticks) + moving.timeline.missing,
                codec=picture.codec,
                container=picture.codec,
                bit_rate=None,  # these formats spend bits otherwise than videos
                size_bytes=size,
                rotation=picture.rotation,
                animation=True,
                timeline=moving.timeline,
            )
        if picture is not None:
            return MediaInfo(
                path=path,
                sha256=digest,
                kind="image",
                width=picture.width,
                height=picture.height,
                fps=None,
                duration=None,
                frame_count=1,
                codec=picture.codec,
                container=picture.codec,
                bit_rate=None,
                size_bytes=size,
                rotation=picture.rotation,
                several=picture.several,
            )
        from faceproof.media import videos  # loads FFmpeg, which pictures do without

        video = videos.survey(file, path, limits)
        return MediaInfo(
            path=path,
            sha256=digest,
            kind="video",
            width=video.width,
            height=video.height,
            fps=video.fps,
            duration=video.duration,
            frame_count=len(video.timeline.ticks) + video.timeline.missing,
            codec=video.codec,
            container=video.container,
            bit_rate=video.bit_rate,
            size_bytes=size,
            rotation=video.rotation,
            several=video.several,
            timeline=video.timeline,
        )


def read_frames(
    source: str | os.PathLike[str] | MediaInfo,
    sampling: str | Sequence[int] | Sampling = "all",
    *,
    limits: Limits = _DEFAULT_LIMITS,
    stats: DecodeStats | None = None,
    aside: SetAside | None = None,
) -> Iterator[Frame]:
    """Stream the frames asked for, in the order in which they are shown.

    Parameters
    ----------
    source: a path, or what ``probe`` said of it (saves one walk through the packets).
    sampling: ``"all"``; ``"N"``, N frames evenly spaced from the first to the last, each once when the video
        has fewer; ``"every:K"``, frames 0, K, 2K, ...; or the indices themselves. Where a frame asked for by
        rule does not decode, the next one that does stands in for it, and the last one that decodes stands in
        for those after it. Indices given one by one are exact: those that do not decode are left out; with
        ``Sampling("near", given=...)`` others stand in for them as by rule.
    stats: set to zero when reading starts, then kept up to date; frames between the wanted ones count too, those that
        need no decoding as skipped. From the first damage on, everything is decoded and counted, from the start.
    aside: takes other frames of a video on the way; those of pictures and animations it leaves to another reading.

    Raises
    ------
    OptionError: the sampling makes no sense (at once, before anything is opened).
    MediaError: the file cannot be opened, or nothing in it decodes (at the first frame).
    """
    return _read(source, parse_sampling(sampling), limits, DecodeStats() if stats is None else stats, aside)


def _read(
    source: str | os.PathLike[str] | MediaInfo,
    sampling: Sampling,
    limits: Limits,
    stats: DecodeStats,
    aside: SetAside | None,
) -> Iterator[Frame]:
    stats.frames_decoded = stats.frames_failed = stats.frames_skipped = 0
    path = source.path if isinstance(source, MediaInfo) else Path(source)
    with open_regular(path, max_bytes=limits.max_bytes) as file:
        picture = pictures.survey(file, path, limits)
        if picture is not None and not picture.animated:
            yield from _read_picture(file, path, sampling, limits, stats)
            return
        if picture is not None:
            timeline = _known_timeline(source, file) or animations.survey(file, path, limits).timeline
            yield from animations.read(file, path, timeline, sampling, limits, stats)
            return
        from faceproof.media import videos

        timeline = _known_timeline(source, file) or videos.survey(file, path, limits).timeline
        yield from videos.read(file, path, timeline, sampling, limits, stats, aside)


def _read_picture(
    file: BinaryIO, path: Path, sampling: Sampling, limits: Limits, stats: DecodeStats
) -> Iterator[Frame]:
    if not sampling.indices(1):
        return
    stats.frames_failed = 1
    image = pictures.load(file, path, limits)
    stats.frames_decoded, stats.frames_failed = 1, 0
    yield Frame(index=0, time=0.0, image=image)


def _known_timeline(source: object, file: BinaryIO) -> Timeline | None:
    if not isinstance(source, MediaInfo) or os.fstat(file.fileno()).st_size != source.size_bytes:
        return None  # never probed, or changed since
    return source.timeline
