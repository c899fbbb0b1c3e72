"""What the file says about itself: EXIF and XMP of pictures, tags, encoders and edit lists of videos.

All of it can be written by anyone, and most platforms remove it: it is a lead, never a proof.
"""

from __future__ import annotations

import re
import struct
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags
from pydantic import BaseModel, ConfigDict, Field

from faceproof.errors import MediaError
from faceproof.media import Limits, MediaInfo
from faceproof.media.containers import opened, packets, video_stream
from faceproof.media.files import open_regular
from faceproof.media.pictures import DAMAGE, open_picture

_LONGEST = 300
# Starting later than this into a track (seconds) is more than any decoder's delay.
_DELAY = 0.5
_MOST = 60
_XMP_PACKET = re.compile(rb"<x:xmpmeta.{0,200000}?</x:xmpmeta>", re.DOTALL)
_XMP_VALUES = re.compile(
    r"(?:xmp:|xap:|tiff:|photoshop:|stEvt:|Iptc4xmpExt:)"
    r"(CreatorTool|CreateDate|ModifyDate|MetadataDate|Software|softwareAgent|DigitalSourceType|History|action)"
    r"(?:=\"([^\"]{1,300})\"|>([^<]{1,300})<)"
)
_X264 = re.compile(rb"x26[45] (?:- core |\(build )\d{1,4}")


class Metadata(BaseModel):
    """Tags by name, as written in the file, cut to 300 characters. Empty means absent.

    container: of the file as a whole; streams: one dictionary each. encoders: every program that left its name.
    edit_lists: for each track of an MP4 or MOV, how many edits play it other than from its start to its end.
    """

    model_config = ConfigDict(extra="forbid")

    exif: dict[str, str] = Field(default_factory=dict)
    xmp: dict[str, str] = Field(default_factory=dict)
    container: dict[str, str] = Field(default_factory=dict)
    streams: list[dict[str, str]] = Field(default_factory=list)
    encoders: list[str] = Field(default_factory=list)
    edit_lists: list[int] = Field(default_factory=list)
    has_location: bool = False
    has_thumbnail: bool = False


def read_metadata(info: MediaInfo, limits: Limits) -> Metadata:
    """Everything the file says about itself. What cannot be read is left out; nothing in a file raises."""
    in_frames = info.kind == "video" and not info.animation
    found = _of_video(info, limits) if in_frames else _of_picture(info.path, limits)
    with open_regular(info.path) as file:
        found.xmp.update(_xmp(file))
    named = [
        found.exif.get("Software"),
        found.xmp.get("CreatorTool"),
        found.container.get("encoder"),
        found.container.get("com.apple.quicktime.software"),
        *(stream.get("encoder") for stream in found.streams),
        *found.encoders,
    ]
    found.encoders = list(dict.fromkeys(name for name in named if name))
    return found


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = _decoded(value)
    text = "".join(c if c.isprintable() else " " for c in str(value)).strip()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _decoded(content: bytes) -> str:
    """UTF-8 where it is that, Latin-1 otherwise: EXIF calls its text ASCII, and programs write either."""
    content = content.rstrip(b"\0")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _exif_text(name: str, value: Any) -> str:
    if isinstance(value, bytes) and name.startswith("XP"):
        return _text(value.decode("utf-16-le", "replace"))
    if isinstance(value, str):
        # Pillow reads these bytes as Latin-1, one character a byte.
        with suppress(UnicodeEncodeError):
            value = _decoded(value.encode("latin-1"))
    return _text(value)


def _of_picture(path: Path, limits: Limits) -> Metadata:
    found = Metadata()
    try:
        with warnings.catch_warnings(), open_regular(path) as file:
            warnings.simplefilter("ignore")
            picture = open_picture(file, path, limits)
            if picture is not None:
                exif = picture.getexif()
                tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
                found.has_location = bool(exif.get_ifd(ExifTags.IFD.GPSInfo))
                found.has_thumbnail = bool(exif.get_ifd(ExifTags.IFD.IFD1))
                for number, value in list(tags.items())[:_MOST]:
                    name = ExifTags.TAGS.get(number, f"tag {number}")
                    if name not in ("MakerNote", "UserComment", "ExifOffset", "GPSInfo", "XMLPacket"):
                        found.exif[name] = _exif_text(name, value)
    except (MediaError, *DAMAGE):
        pass
    return found


def _xmp(file: BinaryIO) -> dict[str, str]:
    """A few telling values of the first XMP packet in the first 4 MB; the XML is searched, not parsed."""
    match = _XMP_PACKET.search(file.read(4_000_000))
    if match is None:
        return {}
    words = match.group().decode("utf-8", "replace")
    values: dict[str, str] = {}
    for name, quoted, plain in _XMP_VALUES.findall(words)[:_MOST]:
        text = _text(quoted or plain)
        values[name] = f"{values[name]}; {text}" if name in values and text not in values[name] else text
    return values or {"packet": "present"}


def _of_video(info: MediaInfo, limits: Limits) -> Metadata:
    found = Metadata()
    try:
        with open_regular(info.path) as file:
            found.edit_lists = edit_lists(file)
            with opened(file, info.path, limits) as container:
                found.container = {_text(k): _text(v) for k, v in list(container.metadata.items())[:_MOST]}
                for stream in list(container.streams)[:16]:
                    tags = {_text(k): _text(v) for k, v in list(stream.metadata.items())[:_MOST]}
                    codec = getattr(stream, "codec_context", None)
                    kind = {"type": str(stream.type), "codec": "" if codec is None else str(codec.name)}
                    found.streams.append({**kind, **tags})
                stream = video_stream(container, info.path, limits)
                for number, packet in enumerate(packets(container, stream)):
                    marks = _X264.findall(bytes(memoryview(packet)[:4000])) if packet.size else []
                    found.encoders += [_text(mark.replace(b"(", b"")) for mark in marks]
                    if number >= 2:
                        break
    except MediaError:
        pass
    found.has_location = any("location" in key.lower() for key in found.container)
    return found


def edit_lists(file: BinaryIO) -> list[int]:
    """For each track of an MP4 or MOV the number of edits that are not "all of it, from the start".

    A trim in an editor that copies streams leaves one; so does the delay of B-frames, which is not counted.
    """
    file.seek(0)
    if file.read(12)[4:8] != b"ftyp":
        return []
    file.seek(0, 2)
    size = file.tell()
    counts: list[int] = []
    for start, end in _boxes(file, 0, size, b"moov"):
        for track_start, track_end in _boxes(file, start, end, b"trak"):
            counts.append(0)
            clock = _ticks_a_second(file, track_start, track_end)
            for edits_start, edits_end in _boxes(file, track_start, track_end, b"edts"):
                for at, until in _boxes(file, edits_start, edits_end, b"elst"):
                    file.seek(at)
                    counts[-1] = _telling_edits(file.read(min(until - at, 8 + 20 * 1000)), clock)
    return counts


def _ticks_a_second(file: BinaryIO, start: int, end: int) -> int:
    """The unit of a track's own times; 90,000 a second where it does not say."""
    for media_start, media_end in _boxes(file, start, end, b"mdia"):
        for at, until in _boxes(file, media_start, media_end, b"mdhd"):
            file.seek(at)
            box = file.read(min(until - at, 32))
            place = 20 if box[:1] == b"\x01" else 12
            if len(box) >= place + 4:
                return int.from_bytes(box[place : place + 4], "big") or 90_000
    return 90_000


def _telling_edits(box: bytes, clock: int) -> int:
    if len(box) < 8:
        return 0
    long = box[0] == 1
    form, width = (">Qqi", 20) if long else (">Iii", 12)
    count = min(struct.unpack(">I", box[4:8])[0], (len(box) - 8) // width)
    edits = [struct.unpack(form, box[8 + i * width : 8 + (i + 1) * width]) for i in range(count)]
    played = [edit for edit in edits if edit[1] >= 0]
    # One edit that starts within the first frames only hides decoder delay (B-frames, AAC priming).
    starts_late = sum(1 for edit in played if edit[1] > _DELAY * clock)
    return max(len(played) - 1, 0) + (starts_late if len(played) == 1 else 0)


def _boxes(file: BinaryIO, start: int, end: int, wanted: bytes) -> list[tuple[int, int]]:
    """Content of the boxes of one kind between two positions, as (start, end)."""
    found: list[tuple[int, int]] = []
    at = start
    for _ in range(10_000):
        if at + 8 > end:
            break
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        header = 8
        if length == 1:
            length, header = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = end - at
        if length < header:
            break
        if kind == wanted:
            found.append((at + header, min(at + length, end)))
        at += length
    return found
