"""Frames of a video that need no decoding: nobody asked for them, and no frame asked for is predicted from them.

In H.264 each packet says whether other frames are predicted from it (``nal_ref_idc``), and frames after an IDR are
never predicted from frames before it. Encoders leave about half of all frames unused by others, so a few frames of a
video cost little more than half of decoding everything, and less where there are IDRs on the way. HEVC says the same by
the types of its units (ITU-T H.265, table 7-1): sub-layer non-reference pictures, and pictures with random access, before
which some of those decoded after them may be shown (leading pictures), predicted from what was before or not. In VP9 and
AV1 only key frames are a place to start anew. The frames that do come out are the same to the bit.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from faceproof.media.facts import Resets, Timeline

_CODECS = ("h264", "hevc", "vp9", "av1")
_SLICES = range(1, 6)
_IDR = 5
_NON_REFERENCE = range(0, 16, 2)  # of HEVC, and so on
_LEADING = range(6, 10)
_LEADING_FROM_BEFORE = range(8, 10)  # RASL
_RANDOM_ACCESS = range(16, 24)
_RESETTING = (19, 20, 21)  # IDR with and without leading pictures, CRA; leading pictures of the rest (BLA) may be lost
_PICTURES = range(32)
_PARAMETER_SETS = range(32, 35)
_SETS_NEEDED = {33, 34}  # a video parameter set tells decoders of one layer nothing
_PREFIX_SEI = 39
_FILM_GRAIN = 19
_AV1_SEQUENCE, _AV1_FRAME_HEADER, _AV1_FRAME = 1, 3, 6


class DecodingInDoubt(Exception):
    """Not everything that was decoded came out as it should: decode everything instead."""


class Skipping:
    """Says packet by packet what to decode, and holds what comes out against it.

    ``wanted``: ascending indices. Raises :class:`DecodingInDoubt` from the first frame on that is missing, damaged or
    interlaced (whose two fields may be packets of their own), or whose time is not on the timeline.
    """

    def __init__(self, stream: Any, timeline: Timeline, wanted: Sequence[int]) -> None:
        self._ticks, self._resets = timeline.ticks, timeline.resets
        self._codec = str(stream.codec_context.codec.canonical_name)
        self._wanted = wanted
        self._length = nal_length(stream)
        self._open = len(wanted)  # wanted frames before the next reset that were not sent yet
        self._leading = True  # whether leading pictures of the last reset are wanted
        self._gap = self._jumps = False
        self._next = 0  # among the wanted: which is to come out next
        self._due: set[int] = set()
        self._ahead: list[int] = []  # a heap of the frames skipped beyond what has come out
        self._behind = 0

    @staticmethod
    def pays(stream: Any, timeline: Timeline, wanted: Sequence[int]) -> bool:
        """Whether frames of this stream may be skipped at all."""
        return (
            stream.codec_context.codec.canonical_name in _CODECS
            and timeline.resets.trusted
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
        resets = self._resets
        reset = bisect_left(resets.ticks, packet.pts)
        if starts := reset < len(resets.ticks) and resets.ticks[reset] == packet.pts:
            end = self._place(resets.borders[reset + 1]) if reset + 1 < len(resets.ticks) else len(self._wanted)
            first = self._place(resets.firsts[reset])
            self._open = end - first
            self._leading = first < self._place(packet.pts)
        place = bisect_left(self._wanted, index)
        is_wanted = place < len(self._wanted) and self._wanted[place] == index
        if not self._open:
            self._gap = True
        if not self._open or (not is_wanted and self._is_disposable(packet)):
            heapq.heappush(self._ahead, index)
            return False
        self._jumps = starts and self._gap and self._codec != "h264"
        if starts:
            self._gap = False
        self._open -= is_wanted
        self._due.add(index)
        return True

    @property
    def jumps(self) -> bool:
        """Whether frames are missing before the packet needed last, so that the decoder is to be emptied and to start
        anew. (An IDR of H.264 does that by itself.)"""
        return self._jumps

    def _place(self, tick: int) -> int:
        """How many wanted frames are shown before this tick."""
        return bisect_left(self._wanted, bisect_left(self._ticks, tick))

    def _is_disposable(self, packet: Any) -> bool:
        if self._codec == "h264":
            return is_disposable(packet, self._length)
        if self._codec != "hevc":
            return False  # a frame of VP9 that no other shows may still hand on its probabilities and motion
        picture = hevc_picture(packet, self._length)
        if picture is None:
            return False
        if picture.kind in _LEADING and not self._leading:
            return True  # only leading pictures of the same reset are predicted from them
        return picture.kind in _NON_REFERENCE and picture.layer == self._resets.layer

    def came_out(self, index: int, picture: Any) -> None:
        """Hold a decoded picture against what was sent."""
        self._due.discard(index)
        if self._next < len(self._wanted) and self._wanted[self._next] <= index:
            if self._wanted[self._next] < index:
                raise DecodingInDoubt
            self._next += 1
        if picture.is_corrupt or picture.interlaced_frame or any(due < index for due in self._due):
            raise DecodingInDoubt

    def ended(self) -> None:
        """Everything was sent and the decoder emptied."""
        if self._due or self._next < len(self._wanted):
            raise DecodingInDoubt

    def skipped_before(self, index: int) -> int:
        """How many frames before this one were left out. Indices must not fall from call to call."""
        while self._ahead and self._ahead[0] < index:
            heapq.heappop(self._ahead)
            self._behind += 1
        return self._behind


class ResetSearch:
    """Finds the resets of a stream while the packets of its shown frames go by, in the order of decoding."""

    def __init__(self, stream: Any) -> None:
        self._codec = str(stream.codec_context.codec.canonical_name)
        self._length = nal_length(stream)
        self._ticks, self._firsts, self._highest_before = array("q"), array("q"), array("q")
        self._from_before = bytearray()  # for each reset: whether leading pictures need what was before
        self._highest = -(1 << 63)  # the latest time so far
        self._layer = 0
        self._sets_in_band = False
        self._trusted = True

    def note(self, packet: Any) -> None:
        """Look at any packet, of a frame that is shown or not."""
        # Told with one packet only: left out with it, all frames behind would be decoded by the settings of those before.
        if packet.has_sidedata("new_extradata"):
            self._trusted = False

    def add(self, packet: Any, tick: int) -> None:
        """Look at the packet of a frame shown at ``tick``."""
        resets = from_before = False
        if self._codec == "hevc":
            picture = hevc_picture(packet, self._length)
            if picture is None or not is_one_slice(packet, self._length):
                self._trusted = False  # FFmpeg 8's filters at the borders of slices depend on what was decoded before
            else:
                resets = self._resets(picture)
                from_before = picture.kind in _LEADING_FROM_BEFORE
        elif packet.is_keyframe and self._codec in _KEYS:
            resets = _KEYS[self._codec](packet, self._length)
        if resets:
            self._ticks.append(tick)
            self._firsts.append(tick)
            self._highest_before.append(self._highest)
            self._from_before.append(False)
        elif self._ticks:
            self._firsts[-1] = min(self._firsts[-1], tick)
            self._from_before[-1] = self._from_before[-1] or from_before
        self._highest = max(self._highest, tick)

    def _resets(self, picture: HevcPicture) -> bool:
        random_access = picture.kind in _RANDOM_ACCESS
        complete = picture.sets >= _SETS_NEEDED
        self._layer = max(self._layer, picture.layer)
        self._sets_in_band = self._sets_in_band or bool(picture.sets)
        # Parameter sets must not get lost with frames left out, and grain is drawn by the decoder's count of frames.
        if picture.film_grain or (picture.sets and not random_access):
            self._trusted = False
        if random_access and (picture.kind not in _RESETTING or (self._sets_in_band and not complete)):
            self._trusted = False
        return random_access

    def found(self) -> Resets:
        """Without places where the times of the frames contradict what the codec says of their order."""
        borders = array(
            "q",
            [
                tick if open_ else first
                for tick, first, open_ in zip(self._ticks, self._firsts, self._from_before, strict=True)
            ],
        )
        if any(before >= border for before, border in zip(self._highest_before, borders, strict=True)):
            return Resets(layer=self._layer, trusted=self._trusted)
        return Resets(self._ticks, self._firsts, borders, self._layer, self._trusted)


def nal_length(stream: Any) -> int:
    """Bytes of the length before each unit of a packet, or 0 where units stand between start codes."""
    extra = bytes(stream.codec_context.extradata or b"")
    at = 21 if stream.codec_context.codec.canonical_name == "hevc" else 4
    return (extra[at] & 3) + 1 if len(extra) > at and extra[0] == 1 else 0


def is_disposable(packet: Any, length: int) -> bool:
    """Whether no other frame is predicted from this one. Damage counts as no."""
    header = _first_slice(bytes(memoryview(packet)), length)
    return header is not None and header & 0x1F != _IDR and not header & 0x60


def is_idr(packet: Any, length: int) -> bool:
    """Whether no frame from here on is predicted from one before."""
    header = _first_slice(bytes(memoryview(packet)), length)
    return header is not None and header & 0x1F == _IDR


def is_vp9_key(packet: Any, length: int = 0) -> bool:
    """Whether the first frame of the packet is a key frame that is shown."""
    first = bytes(memoryview(packet)[:1])
    if not first or first[0] >> 6 != 2:
        return False
    reserved = first[0] & 0x30 == 0x30  # profile 3 has a bit more
    return first[0] >> (0 if reserved else 1) & 0b111 == 0b001  # shown anew, a key frame, not hidden


def is_av1_key(packet: Any, length: int = 0) -> bool:
    """Whether the packet begins with a sequence header and a key frame that is shown."""
    data = bytes(memoryview(packet))
    at, sequence = 0, False
    while at < len(data):
        kind, extended, sized = data[at] >> 3 & 15, data[at] & 4, data[at] & 2
        at += 2 if extended else 1
        size, shift = len(data) - at, 0
        if sized:
            size = 0
            while at < len(data) and shift < 56:
                size |= (data[at] & 0x7F) << shift
                shift += 7
                at += 1
                if not data[at - 1] & 0x80:
                    break
        if kind in (_AV1_FRAME_HEADER, _AV1_FRAME):
            return sequence and 0 < size <= len(data) - at and data[at] >> 4 == 0b0001
        sequence = sequence or kind == _AV1_SEQUENCE
        at += size
    return False


class HevcPicture(NamedTuple):
    """What the units of a packet tell up to its first slice.

    kind: of the slice. layer: temporal, from 0. sets: kinds of parameter sets before. film_grain: whether grain is to be
    drawn on the picture.
    """

    kind: int
    layer: int
    sets: frozenset[int]
    film_grain: bool


def hevc_picture(packet: Any, length: int) -> HevcPicture | None:
    """What a packet of HEVC holds; None where no slice of the base layer is found."""
    data = bytes(memoryview(packet))
    sets: set[int] = set()
    film_grain = False
    for start in _units(data, length):
        if start + 2 >= len(data):
            return None
        kind, of_layer, layer = (
            data[start] >> 1 & 63,
            (data[start] & 1) << 5 | data[start + 1] >> 3,
            data[start + 1] & 7,
        )
        if of_layer:
            continue  # another view
        if kind in _PICTURES:
            return HevcPicture(kind, layer - 1, frozenset(sets), film_grain) if layer else None
        if kind in _PARAMETER_SETS:
            sets.add(kind)
        film_grain = film_grain or (kind == _PREFIX_SEI and data[start + 2] == _FILM_GRAIN)
    return None


def is_one_slice(packet: Any, length: int) -> bool:
    """Whether a packet of HEVC holds the base layer of one picture in one piece."""
    data = bytes(memoryview(packet))
    slices = 0
    for start in _units(data, length):
        if data[start] >> 1 in _PICTURES and start + 1 < len(data) and not data[start] & 1 and not data[start + 1] >> 3:
            slices += 1
    return slices == 1


def _first_slice(data: bytes, length: int) -> int | None:
    """The header of the first unit with a picture in it: all such units of one picture agree on what is asked here."""
    return next((data[start] for start in _units(data, length) if data[start] & 0x1F in _SLICES), None)


def _units(data: bytes, length: int) -> Iterator[int]:
    """Where the units of a packet begin, as far as they are whole."""
    at = 0
    while True:
        if length:
            start = at + length
            at = start + int.from_bytes(data[at:start], "big")
            if at == start and start < len(data):
                continue  # an empty unit
            if at > len(data):
                return
        else:
            found = data.find(b"\0\0\1", at)
            if found < 0:
                return
            at = start = found + 3
        if start >= len(data):
            return
        yield start


_KEYS = {"h264": is_idr, "vp9": is_vp9_key, "av1": is_av1_key}
