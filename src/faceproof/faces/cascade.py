"""The steps of the cascade: the P-Net's proposals, and what the R- and the O-Net say of each of them.

Where a CPU computes bfloat16, a coarser network looks first, the screen, and the exact one only at what comes near the
threshold there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from faceproof.faces.area import AreaSums
from faceproof.faces.boxes import Indices, suppress
from faceproof.faces.pyramid import STEP, WINDOW, Layout
from faceproof.runtime.network import Network

Floats = npt.NDArray[np.float32]
_BATCH = 64
# Log-odds by which bfloat16 may understate a window or a box. The most that `python -m benchmarks.screening` saw over 32
# million windows of 315 frames was 0.42, and 0.24 of one that passes; of the R-Net's 27,000 boxes 0.18.
DOUBT = 0.5
_WINDOWS = 256
# One window alone costs the P-Net as much as so many of a whole canvas.
_APART_COSTS = 16


def propose(
    canvas: Floats, layout: Layout, pnet: Network, threshold: float, screen: Network | None = None
) -> tuple[Floats, Floats, Floats]:
    """Windows that the P-Net takes for faces: boxes, probabilities and corrections in shares of the side.

    With a ``screen``, a coarser P-Net looks at everything, and the P-Net itself only at the windows that come near the
    threshold there.
    """
    doubt = _near(canvas, layout, screen, threshold) if screen is not None and 0 < threshold < 1 else None
    if doubt is not None:
        rows, columns = doubt
        scores, shifts = _look_closer(canvas, rows, columns, pnet)
        kept = scores >= threshold
        return _per_level(layout, columns[kept], rows[kept], scores[kept], shifts[kept])
    found = []
    for top, strip in strips(canvas, layout):
        outputs = pnet.run(strip)
        prob, bbreg = outputs["prob"][0, 0], outputs["bbreg"][0]
        y, x = np.nonzero(prob >= threshold)
        found.append((x, y + top // STEP, prob[y, x], bbreg[:, y, x].T))
    if not found:
        return np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 4), np.float32)
    columns, rows = (np.concatenate([part[axis] for part in found]) for axis in (0, 1))
    scores = np.concatenate([part[2] for part in found])
    shifts = np.concatenate([part[3] for part in found])
    return _per_level(layout, columns, rows, scores, shifts)


def strips(canvas: Floats, layout: Layout) -> Iterator[tuple[int, Floats]]:
    for top in layout.strips():
        yield top, np.ascontiguousarray(canvas[None, :, top : top + layout.strip])


def _near(canvas: Floats, layout: Layout, screen: Network, threshold: float) -> tuple[Indices, Indices] | None:
    """Rows and columns of the windows that may reach the threshold; None where there are so many that looking at each
    costs more than looking at everything."""
    least = doubtful_from(threshold)
    near = np.zeros((layout.height // STEP, layout.width // STEP), dtype=bool)
    for top, strip in strips(canvas, layout):
        logit = screen.run(strip)["logit"][0, 0]
        place = near[top // STEP :][: len(logit), : logit.shape[1]]
        np.greater_equal(logit, least, out=place)
        if np.count_nonzero(near) * _APART_COSTS > near.size:
            return None
    rows, columns = np.nonzero(near)
    return rows, columns


def _look_closer(canvas: Floats, rows: Indices, columns: Indices, pnet: Network) -> tuple[Floats, Floats]:
    """The P-Net's word on single windows: probabilities and corrections, as a pass over the whole canvas gives them."""
    windows = np.lib.stride_tricks.sliding_window_view(canvas, (WINDOW, WINDOW), axis=(1, 2))
    windows = windows[:, ::STEP, ::STEP]
    scores, shifts = np.empty(len(rows), np.float32), np.empty((len(rows), 4), np.float32)
    for some in _batches(len(rows), _WINDOWS):
        part = windows[:, rows[some], columns[some]].transpose(1, 0, 2, 3)
        outputs = pnet.run(_fill(np.ascontiguousarray(part), len(rows), _WINDOWS))
        scores[some] = outputs["prob"][: len(part), 0, 0, 0]
        shifts[some] = outputs["bbreg"][: len(part), :, 0, 0]
    return scores, shifts


def _per_level(
    layout: Layout, columns: Indices, rows: Indices, scores: Floats, shifts: Floats
) -> tuple[Floats, Floats, Floats]:
    """From canvas cells to boxes in the frame, thinned out within each level. Windows across two tiles drop out here."""
    keep_boxes, keep_scores, keep_shifts = [], [], []
    for index, level in enumerate(layout.levels):
        cells = []
        for tile in layout.tiles:
            if tile.level != index:
                continue
            across, down = tile.cells
            x, y = columns - tile.x // STEP, rows - tile.y // STEP
            inside = np.flatnonzero((x >= 0) & (x < across) & (y >= 0) & (y < down))
            cells.append((x[inside] + tile.left // STEP, y[inside], inside))
        x, y, which = (np.concatenate([part[axis] for part in cells]) for axis in (0, 1, 2))
        corner = np.stack([x, y], axis=1).astype(np.float32) * STEP
        scale = np.float32(level.scale)
        boxes = np.concatenate([np.floor((corner + 1) / scale), np.floor((corner + WINDOW) / scale)], axis=1)
        kept = suppress(boxes, scores[which], 0.5)
        keep_boxes.append(boxes[kept])
        keep_scores.append(scores[which][kept])
        keep_shifts.append(shifts[which][kept])
    return np.concatenate(keep_boxes), np.concatenate(keep_scores), np.concatenate(keep_shifts)


def judge(
    sums: AreaSums, boxes: Floats, network: Network, size: int, threshold: float, screen: Network | None = None
) -> tuple[Floats, Floats, Floats, Floats]:
    """What the network says of each box: the boxes above the threshold, probabilities, corrections and landmarks.

    With a ``screen``, a coarser network looks at all boxes, and the network itself only at those near the threshold there.
    """
    edges = np.trunc(boxes).astype(np.int64)
    low = np.maximum(edges[:, :2], 1) - 1
    high = np.minimum(edges[:, 2:], (sums.width, sums.height))
    usable = np.flatnonzero((high > low).all(axis=1))
    boxes, crops = boxes[usable], sums.crops(low[usable], high[usable], size)
    if screen is not None and 0 < threshold < 1 and len(boxes) > _BATCH:
        near = log_odds(answers(screen, crops)["prob"][:, 0]) >= doubtful_from(threshold)
        boxes, crops = boxes[near], crops[near]
    outputs = answers(network, crops)
    passed = outputs["prob"][:, 0] > threshold
    marks = outputs.get("landmarks", np.empty((len(boxes), 0), np.float32))
    return boxes[passed], outputs["prob"][passed, 0], outputs["bbreg"][passed], marks[passed]


def answers(network: Network, crops: Floats) -> dict[str, Floats]:
    parts = [
        {name: values[: some.stop - some.start] for name, values in network.run(batch).items()}
        for some in _batches(len(crops), _BATCH)
        for batch in (_fill(crops[some], len(crops), _BATCH),)
    ]
    if not parts:
        return {"prob": np.empty((0, 1), np.float32), "bbreg": np.empty((0, 4), np.float32)}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def doubtful_from(threshold: float) -> float:
    """The least log-odds from a screen that may be the threshold's."""
    return float(log_odds(np.float64(threshold)) - DOUBT)


def log_odds(probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Finite ones: float64 of the same shape, up to 16 either way."""
    held = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(held / (1 - held)))


def _batches(count: int, most: int) -> Iterator[slice]:
    return (slice(start, min(start + most, count)) for start in range(0, count, most))


def _fill(batch: Floats, of: int, most: int) -> Floats:
    """Round the batch up, so that an engine meets few shapes: to ``most`` where there are as many in all, as changing
    from one shape to another costs more than zeros do, else to a power of two."""
    count = most if of > most else 1 << (len(batch) - 1).bit_length()
    if count == len(batch):
        return batch
    return np.concatenate([batch, np.zeros((count - len(batch), *batch.shape[1:]), np.float32)])
