from __future__ import annotations

import pytest
from service_under_test import make_clip, make_picture

from faceproof.errors import MediaEmptyError, MediaUnsupportedError
from faceproof.service.sniffing import require_media, sniff


@pytest.mark.parametrize(
    ("kind", "mime"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("WEBP", "image/webp"),
    ],
)
def test_pictures_are_known_by_their_first_bytes(kind: str, mime: str) -> None:
    assert sniff(make_picture(kind=kind)) == mime


@pytest.mark.parametrize(
    ("brands", "mime"),
    [
        (b"heic\0\0\0\0mif1heic", "image/heif"),
        (b"mif1\0\0\0\0mif1heic", "image/heif"),
        (b"heix\0\0\0\0mif1heix", "image/heif"),
        (b"avif\0\0\0\0mif1avif", "image/avif"),
        (b"mif1\0\0\0\0mif1avif", "image/avif"),
        (b"isom\0\0\0\0isomavc1", "video/mp4"),
        (b"qt  \0\0\0\0qt  \0\0\0\0", "video/quicktime"),
    ],
)
def test_pictures_in_the_boxes_of_a_video_are_known(brands: bytes, mime: str) -> None:
    assert sniff(b"\0\0\0\x18ftyp" + brands + bytes(500)) == mime


def test_videos_are_known_by_their_first_bytes() -> None:
    assert sniff(make_clip()) == "video/mp4"
    assert sniff(b"\x1aE\xdf\xa3" + b"...webm...") == "video/webm"
    assert sniff((b"G" + b"\0" * 187) * 4) == "video/mp2t"


@pytest.mark.parametrize("head", [b"<html>", b"#!/bin/sh\n", b"PK\x03\x04", b"%PDF-1.7", b"#EXTM3U\n", b"\0" * 64])
def test_what_is_not_media_is_refused_whatever_its_name(head: bytes) -> None:
    with pytest.raises(MediaUnsupportedError):
        require_media(head)


def test_nothing_is_refused_as_nothing() -> None:
    with pytest.raises(MediaEmptyError):
        require_media(b"")
