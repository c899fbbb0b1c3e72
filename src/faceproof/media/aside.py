"""Frames put aside as they were decoded, in case somebody wants them after all: they cost no second decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from faceproof.media.facts import Frame


class SetAside:
    """Collects these frames of a video in a pass made for others, for :func:`faceproof.media.read_frames`.

    Parameters
    ----------
    indices: of the frames, as by rule: the next frame that decodes stands in for one that does not.
    most_bytes: of decoded pictures to hold. Where they do not fit, none is held and :attr:`complete` stays False.

    One pass fills it, and :meth:`frames` empties it. Not for use by several threads at the same time.
    """

    MOST_BYTES = 64_000_000

    def __init__(self, indices: Sequence[int], most_bytes: int = MOST_BYTES) -> None:
        self.indices = tuple(sorted(set(indices)))
        self.complete = False
        self._left = most_bytes
        self._held: dict[int, Any] = {}
        self._convert: Callable[[int, Any], Frame] | None = None

    def put(self, index: int, picture: Any, convert: Callable[[int, Any], Frame]) -> None:
        """Hold a decoded picture (``av.VideoFrame``), of which ``convert`` makes the frame with that index."""
        if index not in self._held:
            self._left -= sum(plane.buffer_size for plane in picture.planes)
        if self._left < 0:
            self._held.clear()
            return
        self._held[index], self._convert = picture, convert

    def drop(self, index: int) -> None:
        """Forget a frame that was handed out instead."""
        self._held.pop(index, None)

    def ended(self) -> None:
        """The pass has come to its end."""
        self.complete = self._left >= 0

    def frames(self) -> Iterator[Frame]:
        """What is held, in the order of showing; each frame is let go as it is handed out."""
        for index in sorted(self._held):
            assert self._convert is not None
            yield self._convert(index, self._held.pop(index))
