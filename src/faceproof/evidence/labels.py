"""Where the label of each face goes, so that no label covers another one or somebody else's face.

Boxes and places are in pixels, x right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence

Rectangle = tuple[float, float, float, float]

# How much a covered pixel costs: of another label (neither can be read), of another face, of the face itself.
_LABEL, _FACE, _OWN = 4.0, 1.0, 0.5
# Moving to another side costs this share of the label: without it labels would jump to and fro from frame to frame.
_MOVING = 0.25


def place_labels(
    faces: Sequence[Rectangle],
    sizes: Sequence[tuple[float, float]],
    frame: tuple[float, float],
    sides: Sequence[int | None] | None = None,
) -> list[tuple[float, float, int]]:
    """Top left corner and side for each face's label of ``sizes`` (width, height) in a ``frame`` (width, height).

    A side is 0 or 1 above, 2 or 3 below the face, flush with its left or right edge, 4 just inside it; ``sides`` are those
    of the frame before, None for the newly seen. Faces are served in turn. Labels lie in the frame where they fit into it.
    """
    placed: list[tuple[float, float, int]] = []
    taken: list[Rectangle] = []
    for number, (face, (width, height)) in enumerate(zip(faces, sizes, strict=True)):
        x0, y0, x1, y1 = face
        corners = (
            (x0, y0 - height),
            (x1 - width, y0 - height),
            (x0, y1),
            (x1 - width, y1),
            (x0, y0),
        )
        before = sides[number] if sides is not None else None
        best: tuple[float, float, float, int] | None = None
        for side, (x, y) in enumerate(corners):
            x, y = min(max(x, 0.0), max(frame[0] - width, 0.0)), min(max(y, 0.0), max(frame[1] - height, 0.0))
            here = (x, y, x + width, y + height)
            cost = sum(_LABEL * _common(here, other) for other in taken)
            cost += sum(
                (_OWN if other_number == number else _FACE) * _common(here, other)
                for other_number, other in enumerate(faces)
            )
            if before is not None and side != before:
                cost += _MOVING * width * height
            if best is None or cost < best[0]:
                best = (cost, x, y, side)
        assert best is not None
        _, x, y, side = best
        taken.append((x, y, x + width, y + height))
        placed.append((x, y, side))
    return placed


def _common(a: Rectangle, b: Rectangle) -> float:
    """The area two rectangles share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
