"""Whether a picture lies on its side: cameras and messengers lose the note that says which way is up.

The cascade looks for upright faces and detectors judge upright faces. Of a turned one it finds nothing, or something that it
is not sure of, and what a detector says of that means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from faceproof.faces.mtcnn import FaceDetector

Turn = Literal[90, 180, 270]
# How certain the search is of a face that stands upright. By `python -m benchmarks.turned`, of 1,520 upright portraits none
# and of 760 tight crops one is taken for turned; of the same turned by a quarter or a half, 81 to 98 in 100.
SURE = 0.99
# How much surer it has to be of the turned picture, in log-odds.
_SURER = 1.0


def turn_that_shows_a_face(
    images: Iterable[npt.NDArray[np.uint8]], search: FaceDetector, *, surer_than: float = 0.0
) -> Turn | None:
    """By how many degrees clockwise uint8 RGB frames ``[H, W, 3]`` are to be turned to show a face.

    That turn of a quarter, a half or three quarters which shows one in most of them, with more certainty than any was
    found in them as they are (``surer_than``, a probability); None where none does. Costs three searches a frame.
    """
    least = max(_log_odds(SURE), _log_odds(surer_than) + _SURER)
    turns: tuple[Turn, ...] = (90, 180, 270)
    found: dict[Turn, list[float]] = {turn: [] for turn in turns}
    count = 0
    for image in images:
        count += 1
        for turn in turns:
            faces = search.detect(np.ascontiguousarray(np.rot90(image, -turn // 90)))
            surest = max((_log_odds(face.score) for face in faces), default=-math.inf)
            if surest >= least:
                found[turn].append(surest)
    best = max(turns, key=lambda turn: (len(found[turn]), sum(found[turn])))
    return best if 2 * len(found[best]) > count else None


def _log_odds(probability: float) -> float:
    held = min(max(probability, 1e-7), 1 - 1e-7)
    return math.log(held / (1 - held))
