"""All sizes of a frame side by side on one canvas, so that the P-Net looks at every size in a few equal requests.

The P-Net sees windows of 12 pixels with a step of 2. A level of the pyramid shows faces of one size at 12 pixels. Levels
are packed on a canvas, and the canvas is cut into horizontal strips of one shape, which overlap by the 10 pixels that two
neighbouring rows of windows share: a cell's value never depends on where a strip begins. So there is one
request shape per frame size, and memory grows with the strip, not with the frame. The P-Net's time goes by the pixels it is
shown, so the canvas is as wide as leaves the fewest: a narrow one is packed tighter and its strips share fewer pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.faces.area import AreaSums

WINDOW = 12
STEP = 2
SHARED = WINDOW - STEP
_STRIP_PIXELS = 150_000
_WIDEST = 2048
# Columns that the widest level may be cut into. More of them are narrower than is worth a request.
_MOST_COLUMNS = 8
_NARROWEST = 128

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
# Index of the level, first column, width and height.
Piece = tuple[int, int, int, int]
# Which piece is packed first; whatever leaves the fewest pixels is taken.
_ORDERS: tuple[Callable[[Piece, int], Any], ...] = (
    lambda piece, canvas_width: piece[0],
    lambda piece, canvas_width: (piece[2] < canvas_width, -piece[3]),
    lambda piece, canvas_width: (-piece[2], -piece[3]),
)


@dataclass(frozen=True, slots=True)
class Level:
    """One size of the frame: ``scale`` is level pixels per frame pixel."""

    scale: float
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Tile:
    """A column range of a level (nearly always all of it) and its place on the canvas."""

    level: int
    left: int
    width: int
    height: int
    x: int
    y: int

    @property
    def cells(self) -> tuple[int, int]:
        """Columns and rows of windows; an odd last pixel makes one window more, as the network's pooling rounds up."""
        return _cells(self.width), _cells(self.height)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything goes for one frame size."""

    levels: tuple[Level, ...]
    tiles: tuple[Tile, ...]
    width: int
    height: int
    strip: int

    @property
    def shown(self) -> int:
        """Pixels that the P-Net is shown, those of two strips twice."""
        return self.width * self.strip * sum(1 for _ in self.strips())

    def strips(self) -> Iterator[int]:
        """First pixel row of each strip; the last one is moved up to end with the canvas."""
        top = 0
        while top + self.strip < self.height:
            yield top
            top += self.strip - SHARED
        yield self.height - self.strip


@lru_cache(maxsize=64)
def plan(width: int, height: int, min_face: float, factor: float) -> Layout:
    """Levels as in the published cascade: the first shows ``min_face`` at 12 pixels, each next is ``factor`` smaller."""
    levels = []
    scale = WINDOW / min_face
    shorter = min(width, height) * scale
    while shorter >= WINDOW:
        levels.append(Level(scale, int(width * scale + 1), int(height * scale + 1)))
        scale *= factor
        shorter *= factor
    if not levels:
        return Layout((), (), 0, 0, 0)
    widest = levels[0].width
    widths = {_round_up(-(-(widest + SHARED * (n - 1)) // n), 16) for n in range(1, _MOST_COLUMNS + 1)}
    fit = [span for span in widths if _NARROWEST <= span <= _WIDEST] or [min(_round_up(widest, 16), _WIDEST)]
    layouts = [_lay_out(tuple(levels), span, order) for span in sorted(fit, reverse=True) for order in _ORDERS]
    return min(layouts, key=lambda layout: layout.shown)


def _lay_out(levels: tuple[Level, ...], canvas_width: int, order: Callable[[Piece, int], Any]) -> Layout:
    pieces = [
        (index, left, span, level.height)
        for index, level in enumerate(levels)
        for left, span in _columns(level, canvas_width)
    ]
    tiles, used = _pack(sorted(pieces, key=lambda piece: order(piece, canvas_width)), canvas_width)
    tiles.sort(key=lambda tile: (tile.level, tile.left))
    highest = max(_round_up(_STRIP_PIXELS // canvas_width, 32), 4 * WINDOW)
    if used <= highest:
        canvas_height = _round_up(used, 32)
        return Layout(levels, tuple(tiles), canvas_width, canvas_height, min(highest, canvas_height))
    # The strips share the height evenly: one that moved up to end with the canvas would see most rows twice.
    count = -(-(used - SHARED) // (highest - SHARED))
    strip = _round_up(-(-(used - SHARED) // count) + SHARED, STEP)
    return Layout(levels, tuple(tiles), canvas_width, used, strip)


def paint(sums: AreaSums, layout: Layout, before: Floats | None = None) -> Floats:
    """The canvas: float32 ``[3, height, width]``, pixels from 0 to 255, zeros between the tiles. ``before`` is one that
    was painted in the same layout and may be painted over."""
    canvas = np.zeros((3, layout.height, layout.width), dtype=np.float32) if before is None else before
    for index, level in enumerate(layout.levels):
        tiles = [tile for tile in layout.tiles if tile.level == index]
        spots = [canvas[:, tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] for tile in tiles]
        sums.shrink(level.width, level.height, list(zip((tile.left for tile in tiles), spots, strict=True)))
        for tile in tiles:
            _repeat_odd_edges(canvas[:, tile.y :, tile.x :], tile)
    return canvas


def _repeat_odd_edges(spot: Floats, tile: Tile) -> None:
    """The window over an odd edge pools one pixel beyond it."""
    width, height = tile.width, tile.height
    if height % 2:
        spot[:, height, :width] = spot[:, height - 1, :width]
    if width % 2:
        spot[:, : _even(height), width] = spot[:, : _even(height), width - 1]


def _columns(level: Level, widest: int) -> Iterator[tuple[int, int]]:
    left = 0
    while level.width - left > widest:
        yield left, widest
        left += widest - SHARED
    yield left, level.width - left


def _pack(pieces: list[Piece], canvas_width: int) -> tuple[list[Tile], int]:
    """Each piece goes to the lowest place where it fits, the leftmost of those. The skyline counts pairs of pixels, so
    every tile begins on an even one and its windows fall on the network's own steps."""
    skyline = np.zeros(canvas_width // 2, dtype=np.int64)
    tiles = []
    for index, left, width, height in pieces:
        span = _even(width) // 2
        windows = _highest(skyline, span)
        start = int(windows.argmin())
        y = int(windows[start])
        skyline[start : start + span] = y + _even(height)
        tiles.append(Tile(index, left, width, height, 2 * start, y))
    return tiles, int(skyline.max())


def _highest(skyline: Integers, span: int) -> Integers:
    """The maximum of each ``span`` neighbours, from those of half as many."""
    known = 1
    while known < span:
        step = min(known, span - known)
        skyline = np.maximum(skyline[:-step], skyline[step:])
        known += step
    return skyline


def _cells(pixels: int) -> int:
    return max(0, (pixels - SHARED + 1) // STEP)


def _even(pixels: int) -> int:
    return pixels + pixels % 2


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
