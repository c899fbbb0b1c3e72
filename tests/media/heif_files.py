"""HEIC pictures as telephones make them, written box by box (ISO/IEC 23008-12): one picture, or tiles of one."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import av
import numpy as np
import pytest

needs_heif = pytest.mark.skipif("libx265" not in av.codecs_available, reason="no libx265 to make HEIC with")


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def _full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, flags]), *parts)


def _coded(picture: np.ndarray) -> tuple[bytes, bytes]:
    """One picture in HEVC: its decoder configuration and its data."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx265", rate=25)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv444p"
        stream.options = {"x265-params": "log-level=error:keyint=1:lossless=1:pools=1:frame-threads=1"}
        stream.codec_context.codec_tag = "hvc1"
        stream.codec_context.thread_count = 1
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(io.BytesIO(buffer.getvalue())) as container:
        (stream,) = container.streams.video
        data = next(bytes(packet) for packet in container.demux(stream) if packet.size)
        return bytes(stream.codec_context.extradata), data


def heic(
    tiles: Sequence[Sequence[np.ndarray]],
    *,
    turn: int = 0,
    mirror: int | None = None,
    exif: bytes = b"",
    size: tuple[int, int] | None = None,
    brand: bytes = b"heic",
    item: bytes = b"hvc1",
) -> bytes:
    """A HEIC file of uint8 RGB tiles of one size, row by row; a single one is no grid.

    turn: ``irot``, times 90 degrees anti-clockwise. mirror: ``imir``, 0 for top to bottom, 1 for left to right.
    exif: the TIFF structure of EXIF. size: width and height of the picture where the last tiles reach beyond it.
    brand: the file's first one. item: what the tiles say they are coded as.
    """
    rows, columns = len(tiles), len(tiles[0])
    height, width = tiles[0][0].shape[:2]
    across, down = size or (columns * width, rows * height)
    coded = [_coded(tile) for row in tiles for tile in row]
    payloads = [data for _, data in coded]
    kinds = [item] * len(coded)
    grid = len(coded) > 1
    references = []
    if grid:
        payloads.append(struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, across, down))
        kinds.append(b"grid")
        ids = range(1, len(coded) + 1)
        references.append(_box(b"dimg", struct.pack(f">HH{len(ids)}H", len(kinds), len(ids), *ids)))
    primary = len(kinds)
    if exif:
        payloads.append(struct.pack(">I", 0) + exif)
        kinds.append(b"Exif")
        references.append(_box(b"cdsc", struct.pack(">HHH", len(kinds), 1, primary)))
    properties = [
        _box(b"hvcC", coded[0][0]),
        _full(b"ispe", struct.pack(">II", width, height)),
        _full(b"ispe", struct.pack(">II", across, down)),
        _box(b"irot", bytes([turn])),
    ]
    if mirror is not None:
        properties.append(_box(b"imir", bytes([mirror])))
    shaping = [0x80 | 4, *([0x80 | 5] if mirror is not None else [])]
    having = {number: [0x80 | 1, 2] for number in range(1, len(coded) + 1)}
    having[primary] = [*([3] if grid else [0x80 | 1, 2]), *shaping]
    joined = b"".join(struct.pack(">HB", number, len(which)) + bytes(which) for number, which in having.items())
    entries = [
        # Tiles are hidden: none of them is a picture to show.
        _full(b"infe", struct.pack(">HH", number, 0), kind, b"\0", version=2, flags=int(grid and number < primary))
        for number, kind in enumerate(kinds, 1)
    ]
    start = _box(b"ftyp", brand, bytes(4), b"mif1heic")

    def meta(places: Sequence[int]) -> bytes:
        extents = b"".join(
            struct.pack(">HHHII", number, 0, 1, place, len(payload))
            for number, (place, payload) in enumerate(zip(places, payloads, strict=True), 1)
        )
        return _full(
            b"meta",
            _full(b"hdlr", bytes(4), b"pict", bytes(12), b"\0"),
            _full(b"pitm", struct.pack(">H", primary)),
            _full(b"iinf", struct.pack(">H", len(entries)), *entries),
            *([_full(b"iref", *references)] if references else []),
            _box(b"iprp", _box(b"ipco", *properties), _full(b"ipma", struct.pack(">I", len(having)), joined)),
            _full(b"iloc", b"\x44\x00", struct.pack(">H", len(payloads)), extents),
        )

    at = len(start) + len(meta([0] * len(payloads))) + 8
    places = []
    for payload in payloads:
        places.append(at)
        at += len(payload)
    return start + meta(places) + _box(b"mdat", *payloads)
