"""What a file is by its first bytes. Names and declared types are never believed."""

from __future__ import annotations

from faceproof.brands import picture_in_boxes
from faceproof.errors import MediaEmptyError, MediaUnsupportedError

SNIFFED_BYTES = 4096

_PLAIN = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x1aE\xdf\xa3", "video/x-matroska"),
    (b"FLV\x01", "video/x-flv"),
    (b"OggS", "video/ogg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
)
_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def sniff(head: bytes) -> str | None:
    """The MIME type that the first :data:`SNIFFED_BYTES` bytes show, None for what is not picture or video."""
    for magic, mime in _PLAIN:
        if head.startswith(magic):
            return "video/webm" if mime == "video/x-matroska" and b"webm" in head[:64] else mime
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        picture = picture_in_boxes(head)
        if picture is not None:
            return {"AVIF": "image/avif", "HEIF": "image/heif"}[picture]
        return "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    if head[4:8] in _ATOMS:
        return "video/quicktime"
    for size in (188, 192):
        first = 0 if size == 188 else 4
        marks = head[first::size]
        if len(head) > 3 * size and marks[:3] == b"GGG":
            return "video/mp2t"
    return None


def require_media(head: bytes) -> str:
    """As :func:`sniff`. Raises :class:`MediaEmptyError` or :class:`MediaUnsupportedError`."""
    if not head:
        raise MediaEmptyError("the file is empty")
    mime = sniff(head)
    if mime is None:
        raise MediaUnsupportedError("this is not a picture or video that Faceproof can open")
    return mime
