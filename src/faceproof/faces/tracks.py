"""Interim tracks: greedy overlap. To be replaced by the appearance-based tracker."""

from __future__ import annotations

from collections.abc import Sequence

from faceproof.faces.mtcnn import Face
from faceproof.media import Frame


class Tracker:
    """Greedy IoU tracker over centre distance."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, float, float, float]] = {}
        self._next = 1

    def update(self, frame: Frame, faces: Sequence[Face]) -> list[int]:
        """Numbers of the people, one per face."""
        pairs = []
        for i, face in enumerate(faces):
            for number, box in self._last.items():
                cx = abs((face.box[0] + face.box[2]) - (box[0] + box[2])) / 2
                cy = abs((face.box[1] + face.box[3]) - (box[1] + box[3])) / 2
                side = max(face.side, box[2] - box[0])
                if max(cx, cy) < side:
                    pairs.append((cx + cy, i, number))
        numbers: dict[int, int] = {}
        for _, i, number in sorted(pairs):
            if i not in numbers and number not in numbers.values():
                numbers[i] = number
        for i in range(len(faces)):
            if i not in numbers:
                numbers[i] = self._next
                self._next += 1
            self._last[numbers[i]] = faces[i].box
        return [numbers[i] for i in range(len(faces))]
