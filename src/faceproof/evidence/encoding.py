"""Writing a video that browsers play: H.264 with the index in front, VP9 where that encoder is missing, the sound kept.

The file appears under its name only when it is whole.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av

from faceproof.errors import NoVideoStreamError, OptionError, OutputError
from faceproof.result_files import whole_file

_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# Sound that a container takes as it is; everything else is encoded anew.
_COPIED_SOUND = {
    "mp4": frozenset({"aac", "mp3", "opus", "ac3", "eac3", "flac", "alac"}),
    "mov": frozenset({"aac", "mp3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s16be"}),
    "matroska": frozenset({"aac", "mp3", "opus", "vorbis", "ac3", "eac3", "flac", "alac", "pcm_s16le", "pcm_s24le"}),
    "webm": frozenset({"opus", "vorbis"}),
}


@dataclass(frozen=True)
class VideoFormat:
    """What the written video is to be. width, height: even pixels. time_base: unit of the frames' ``pts``.
    fps: average frames a second, None where nothing tells. like: a decoded frame whose colour tags are kept.
    aspect: of one pixel."""

    width: int
    height: int
    time_base: Fraction
    fps: Fraction | None
    like: Any
    aspect: Fraction | None = None


def video_encoder(container: str) -> str:
    """The encoder to use: H.264 where there is one and the container takes it, VP9 otherwise.

    Raises :class:`OutputError` when this installation has neither.
    """
    names = ("libvpx-vp9",) if container == "webm" else ("libx264", "libvpx-vp9")
    for name in names:
        with suppress(ValueError, av.FFmpegError):
            av.codec.Codec(name, "w")
            return name
    raise OutputError("no video encoder is installed", remedy="Install PyAV from its wheels: pip install av.")


_SETTINGS = {
    "libx264": {"preset": "superfast", "crf": "20", "bf": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "7", "crf": "32", "b": "0", "row-mt": "1"},
}


class VideoWriter:
    """Frames in, a playable file out. Use it in a ``with`` block; leaving it without an error completes the file.

    Raises :class:`OutputError` when the disk is full and the like; nothing half-written remains.
    """

    def __init__(self, path: Path, form: VideoFormat, sound: Any | None = None) -> None:
        """``sound`` is an open input container of its own whose audio is to be kept, None for silence."""
        kind = _CONTAINERS.get(path.suffix.lower())
        if kind is None:
            raise OptionError(
                f"an overlay cannot be a {path.suffix or 'file without an ending'!r}", remedy="Name it .mp4 or .webm."
            )
        self._kind = kind
        self._whole = whole_file(path)
        fresh = self._whole.__enter__()
        try:
            options = {"movflags": "faststart"} if kind in ("mp4", "mov") else {}
            self._file = av.open(str(fresh), "w", format=kind, options=options)
            try:
                self._video = self._add_video(form)
                self._sound = _Sound(self._file, sound, kind) if sound is not None else None
            except BaseException:
                self._file.close()
                raise
        except BaseException as error:
            self._leave(error)
            raise
        self._last_pts: int | None = None

    def _add_video(self, form: VideoFormat) -> Any:
        name = video_encoder(self._kind)
        stream = self._file.add_stream(name, rate=form.fps or Fraction(25), options=dict(_SETTINGS[name]))
        context = stream.codec_context
        context.width, context.height = form.width, form.height
        context.pix_fmt = "yuv420p"
        context.time_base = form.time_base
        stream.time_base = form.time_base
        if form.aspect is not None and form.aspect > 0:
            context.sample_aspect_ratio = form.aspect
        for tag in ("colorspace", "color_primaries", "color_trc"):
            with suppress(AttributeError, TypeError, ValueError):
                setattr(context, tag, int(getattr(form.like, tag)))
        self.encoder = name
        return stream

    def start_at(self, seconds: Fraction) -> None:
        """Time 0 of the written file in the input's own time: sound is moved by as much as the frames were."""
        if self._sound is not None:
            self._sound.start = seconds

    def write(self, frame: Any) -> None:
        """Encode one ``av.VideoFrame`` (yuv420p) whose ``pts`` is in the format's time base and later than the last."""
        if self._sound is not None:
            self._sound.mux_until(frame.pts * frame.time_base)
        for packet in self._video.encode(frame):
            self._file.mux(packet)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                for packet in self._video.encode(None):
                    self._file.mux(packet)
                if self._sound is not None:
                    self._sound.mux_until(None)
                self._file.close()
            except BaseException as late:
                with suppress(Exception):
                    self._file.close()
                self._leave(late)
                raise
        else:
            with suppress(Exception):
                self._file.close()
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        # FFmpeg's errors for files are OSErrors too; those of codecs are not, and go through unchanged.
        self._whole.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


class _Sound:
    """All audio of an input, carried over in step with the pictures."""

    def __init__(self, out: Any, source: Any, kind: str) -> None:
        self.start = Fraction(0)
        self._out = out
        self._streams: dict[int, tuple[Any, bool]] = {}
        wanted = []
        for stream in source.streams.audio:
            if stream.codec_context is None:
                continue
            copied = stream.codec_context.codec.canonical_name in _COPIED_SOUND[kind]
            if copied:
                target = out.add_stream_from_template(stream)
            else:
                target = out.add_stream("libopus" if kind == "webm" else "aac", rate=_rate(stream, kind))
            self._streams[stream.index] = (target, copied)
            wanted.append(stream)
        self._packets = source.demux(wanted) if wanted else iter(())
        self._waiting: Any = None
        self._ended = not wanted

    def mux_until(self, seconds: Fraction | None) -> None:
        """Carry over what is heard before ``seconds`` of the written file; None for all of it."""
        while not self._ended:
            if self._waiting is None:
                try:
                    self._waiting = next(self._packets, None)
                except av.FFmpegError:
                    self._ended = True
                    return
                if self._waiting is None:
                    self._ended = True
                    return
            packet = self._waiting
            if packet.dts is None:
                self._waiting = None
                self._flush(packet)
                continue
            if seconds is not None and packet.dts * packet.time_base - self.start > seconds:
                return
            self._waiting = None
            self._carry(packet)

    def _carry(self, packet: Any) -> None:
        target, copied = self._streams[packet.stream.index]
        if copied:
            shift = round(self.start / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = packet.dts - shift
            packet.stream = target
            self._out.mux(packet)
            return
        with suppress(av.FFmpegError):
            for frame in packet.decode():
                if frame.pts is not None:
                    frame.pts -= round(self.start / frame.time_base)
                for made in target.encode(frame):
                    self._out.mux(made)

    def _flush(self, packet: Any) -> None:
        target, copied = self._streams[packet.stream.index]
        if copied:
            return
        with suppress(av.FFmpegError):
            for frame in packet.decode():
                for made in target.encode(frame):
                    self._out.mux(made)
        with suppress(av.FFmpegError):
            for made in target.encode(None):
                self._out.mux(made)


def _rate(stream: Any, kind: str) -> int:
    return 48000 if kind == "webm" else int(stream.codec_context.sample_rate or 48000)


def first_sound(source: Any) -> Fraction | None:
    """When the first audio of an open input is heard, in the input's own time; None without audio."""
    starts = [Fraction(s.start_time) * s.time_base for s in source.streams.audio if s.start_time is not None]
    return min(starts, default=None)


def no_pictures(path: Path) -> NoVideoStreamError:
    return NoVideoStreamError(f"{path.name!r} is a picture", remedy="An overlay is made of a video; use `explain`.")
