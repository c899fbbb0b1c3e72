"""Faces that hardly change: a slide show, a frozen call, a frame shown twice."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

Box = tuple[float, float, float, float]
Grey = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
Scored = TypeVar("Scored")

_SIDE = 32
_PART = 4
# Grey levels, of 255. The largest change of any part counts, not the mean: lips move while a head holds still.
HARDLY = 2.0
_BOX_MOVED = 0.02


class Stillness(Generic[Scored]):
    """Compares each person's face with the last one of theirs that was scored, so small changes cannot add up."""

    def __init__(self) -> None:
        self._scored: dict[int, tuple[Grey, Box, Scored]] = {}

    def like(self, person: int, box: Box, crop: Any, face: Scored) -> Scored | None:
        """The scored face that this one hardly differs from, or None: then ``face`` counts as scored from now on.

        ``crop``: uint8 RGB, or a tuple of them, one for each member of an ensemble; ``box`` is in frame pixels.
        """
        look = look_of(crop[0] if isinstance(crop, tuple) else crop)
        before = self._scored.get(person)
        if before is not None and _is_near(box, before[1]) and difference(look, before[0]) < HARDLY:
            return before[2]
        self._scored[person] = look, box, face
        return None


def difference(one: Grey, other: Grey) -> float:
    """The largest mean change of any of the 64 parts of two looks, in grey levels."""
    parts = np.abs(one - other).reshape(_SIDE // _PART, _PART, _SIDE // _PART, _PART)
    return float(parts.mean(axis=(1, 3)).max())


def look_of(crop: Image) -> Grey:
    """A uint8 RGB crop with pixels in it, small and grey: float32 ``[32, 32]``, 0 to 255."""
    small = cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def _is_near(one: Box, other: Box) -> bool:
    moved = max(abs(a - b) for a, b in zip(one, other, strict=True))
    return moved <= _BOX_MOVED * max(one[2] - one[0], one[3] - one[1])
