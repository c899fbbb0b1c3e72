"""Between two searches: faces followed from frame to frame instead of searched for anew.

The second of two neighbouring frames shows the same people a few pixels further on, and one look of the O-Net at the old
place says where. Any doubt is settled by a full search: a face that is gone, has moved by half its size, or overlaps
another one. Somebody who comes into view is found at the next regular search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from faceproof.faces.boxes import overlaps
from faceproof.faces.mtcnn import Face, FaceDetector
from faceproof.faces.stillness import HARDLY, difference, look_of

Image = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.float32]

SEARCH_EVERY = 5
_APART = 0.3


def find_and_follow(detector: FaceDetector, images: Sequence[Image], *, still: bool = False) -> Iterator[list[Face]]:
    """Faces of neighbouring uint8 RGB frames of one size: searched for in the first, followed through the others.

    A face whose pixels hardly change keeps its very box. ``still``: a picture of its own, see :meth:`FaceDetector.detect`.
    """
    faces: list[Face] = []
    looks: list[Grey] = []
    for place, image in enumerate(images):
        if place:
            now = [look_of(_pixels(image, face)) for face in faces]
            moved = [i for i, look in enumerate(now) if difference(look, looks[i]) >= HARDLY]
            again = detector.look_again(image, [faces[i] for i in moved]) if moved else []
            for i, face in zip(moved, again, strict=True):
                if face is not None:
                    faces[i], looks[i] = face, look_of(_pixels(image, face))
        if place == 0 or None in again or (moved and not _are_apart(faces)):
            faces = detector.detect(image, still=still)
            looks = [look_of(_pixels(image, face)) for face in faces]
        yield list(faces)


def _pixels(image: Image, face: Face) -> Image:
    x0, y0 = (max(0, int(v)) for v in face.box[:2])
    return image[y0 : max(y0 + 1, int(face.box[3])), x0 : max(x0 + 1, int(face.box[2]))]


def _are_apart(faces: Sequence[Face]) -> bool:
    boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
    shares = overlaps(boxes, boxes)
    return all(shares[one, other] < _APART for one, other in combinations(range(len(faces)), 2))
