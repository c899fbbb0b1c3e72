"""Pictures that begin as videos do: HEIC and AVIF lie in the boxes that MP4 is made of.

Nothing is imported here, so that the service's front can tell them without a decoder in its process.
"""

from __future__ import annotations

from typing import Literal

# As much of a file as :func:`picture_in_boxes` asks to see.
BRANDS_WITHIN = 256

_AVIF = frozenset({b"avif", b"avis"})
_HEIF = frozenset(
    {
        b"heic",
        b"heix",
        b"heim",
        b"heis",
        b"hevc",
        b"hevx",
        b"hevm",
        b"hevs",
        b"mif1",
        b"mif2",
        b"mif3",
        b"msf1",
        b"miaf",
    }
)


def picture_in_boxes(head: bytes) -> Literal["AVIF", "HEIF"] | None:
    """Whether a file's first :data:`BRANDS_WITHIN` bytes are those of a picture in boxes, and of which kind.

    A file's first brand may only say that it is some picture; what it is coded in is then among the other brands.
    """
    if head[4:8] != b"ftyp":
        return None
    first = head[8:12]
    if first in _AVIF:
        return "AVIF"
    if first not in _HEIF:
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    others = {head[at : at + 4] for at in range(16, end - 3, 4)}
    return "AVIF" if others & _AVIF else "HEIF"
