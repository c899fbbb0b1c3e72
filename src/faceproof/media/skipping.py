"""Frames of a video that need no decoding: nobody asked for them, and no frame asked for is predicted from them.

In H.264 each packet says whether other frames are predicted from it (``nal_ref_idc``), and frames after an IDR are
never predicted from frames before it. Encoders leave about half of all frames unused by others, so a few frames of a
video cost little more than half of decoding everything, and less where there are IDRs on the way. The frames that do come
out are the same to the bit.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from faceproof.media.facts import Timeline

_SLICES = range(1, 6)
_IDR = 5


class DecodingInDoubt(Exception):
    """Not everything that was decoded came out as it should: decode everything instead."""


class Skipping:
    """Says packet by packet what to decode, and holds what comes out against it.

    ``wanted``: ascending indices. Raises :class:`DecodingInDoubt` from the first frame on that is missing, damaged or
    interlaced (whose two fields may be packets of their own), or whose time is not on the timeline.
    """

    def __init__(self, stream: Any, timeline: Timeline, wanted: Sequence[int]) -> None:
        self._ticks, self._resets = timeline.ticks, timeline.resets
        self._wanted = wanted
        self._length = nal_length(stream)
        self._open = len(wanted)  # wanted frames before the next IDR that were not sent yet
        self._due: set[int] = set()
        self._ahead: list[int] = []  # a heap of the frames skipped beyond what has come out
        self._behind = 0

    @staticmethod
    def pays(stream: Any, timeline: Timeline, wanted: Sequence[int]) -> bool:
        """Whether frames of this stream may be skipped at all."""
        return (
            stream.codec_context.codec.canonical_name == "h264"
            and not timeline.by_position
            and not timeline.missing
            and len(wanted) < len(timeline.ticks)
        )

    def needs(self, packet: Any) -> bool:
        """Whether to decode the packet of a shown frame."""
        if packet.pts is None:
            raise DecodingInDoubt
        index = bisect_left(self._ticks, packet.pts)
        if index == len(self._ticks) or self._ticks[index] != packet.pts:
            raise DecodingInDoubt
        reset = bisect_left(self._resets, packet.pts)
        if reset < len(self._resets) and self._resets[reset] == packet.pts:
            end = (
                bisect_left(self._ticks, self._resets[reset + 1]) if reset + 1 < len(self._resets) else len(self._ticks)
            )
            self._open = bisect_left(self._wanted, end) - bisect_left(self._wanted, index)
        place = bisect_left(self._wanted, index)
        is_wanted = place < len(self._wanted) and self._wanted[place] == index
        if not self._open or (not is_wanted and is_disposable(packet, self._length)):
            heapq.heappush(self._ahead, index)
            return False
        self._open -= is_wanted
        self._due.add(index)
        return True

    def came_out(self, index: int, picture: Any) -> None:
        """Hold a decoded picture against what was sent."""
        self._due.discard(index)
        if picture.is_corrupt or picture.interlaced_frame or any(due < index for due in self._due):
            raise DecodingInDoubt

    def ended(self) -> None:
        """Everything was sent and the decoder emptied."""
        if self._due:
            raise DecodingInDoubt

    def skipped_before(self, index: int) -> int:
        """How many frames before this one were left out. Indices must not fall from call to call."""
        while self._ahead and self._ahead[0] < index:
            heapq.heappop(self._ahead)
            self._behind += 1
        return self._behind


def nal_length(stream: Any) -> int:
    """Bytes of the length before each unit of a packet, or 0 where units stand between start codes."""
    extra = bytes(stream.codec_context.extradata or b"")
    return (extra[4] & 3) + 1 if len(extra) > 4 and extra[0] == 1 else 0


def is_disposable(packet: Any, length: int) -> bool:
    """Whether no other frame is predicted from this one. Damage counts as no."""
    header = _first_slice(bytes(memoryview(packet)), length)
    return header is not None and header & 0x1F != _IDR and not header & 0x60


def is_idr(packet: Any, length: int) -> bool:
    """Whether no frame from here on is predicted from one before."""
    header = _first_slice(bytes(memoryview(packet)), length)
    return header is not None and header & 0x1F == _IDR


def _first_slice(data: bytes, length: int) -> int | None:
    """The header of the first unit with a picture in it: all such units of one picture agree on what is asked here."""
    at = 0
    while True:
        if length:
            start = at + length
            at = start + int.from_bytes(data[at:start], "big")
            if at == start and start < len(data):
                continue  # an empty unit
            if at > len(data):
                return None
        else:
            found = data.find(b"\0\0\1", at)
            if found < 0:
                return None
            at = start = found + 3
        if start >= len(data):
            return None
        if data[start] & 0x1F in _SLICES:
            return data[start]
