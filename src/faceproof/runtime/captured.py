"""Batches of any size on an engine that has each shape of batch prepared: CUDA graphs and their fixed buffers.

A graph replays what was recorded for one shape, with its inputs and outputs at fixed addresses. So a batch is padded up
to the nearest size that graphs are recorded for, one longer than the largest goes in pieces, and the answers of the
padding are dropped. No face's answer depends on the others in its batch, so padding changes nothing but the time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np

from faceproof.runtime.network import FloatArray

#: Powers of two: less than half of a batch is padding, and a scan records six graphs at most.
SIZES = (1, 2, 4, 8, 16, 32)
#: Shapes kept: those of one detector, with room for callers that change the crops' size.
MOST_KEPT = 12


class Captured(Protocol):
    """One recorded shape. ``given`` is the input, float32 ``[size, C, H, W]``, to be filled before :meth:`replay`."""

    given: FloatArray

    def replay(self) -> Mapping[str, FloatArray]:
        """The outputs, first axis ``size``; the next replay overwrites them."""
        ...


def size_for(count: int) -> int:
    """The smallest size that holds ``count`` faces, 1 to the largest of :data:`SIZES`."""
    return next(size for size in SIZES if size >= count)


def pieces(count: int) -> Iterator[slice]:
    """Where a batch of ``count`` faces is cut: into the largest size, the rest last."""
    for start in range(0, count, SIZES[-1]):
        yield slice(start, min(count, start + SIZES[-1]))


class CapturedBatches:
    """Runs batches through recorded shapes, recording each when it is first met. Any number of threads; one at a time.

    ``capture`` records a shape ``(size, C, H, W)``.
    """

    def __init__(self, capture: Callable[[tuple[int, ...]], Captured]) -> None:
        self._capture = capture
        self._kept: OrderedDict[tuple[int, ...], Captured] = OrderedDict()
        self._turn = threading.Lock()

    def run(self, batch: FloatArray) -> dict[str, FloatArray]:
        """New arrays with the outputs for float32 ``[N, C, H, W]``, N ≥ 1."""
        found = []
        for piece in pieces(len(batch)):
            with self._turn:
                found.append(self._run(batch[piece]))
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _run(self, batch: FloatArray) -> dict[str, FloatArray]:
        shape = (size_for(len(batch)), *batch.shape[1:])
        captured = self._kept.get(shape)
        if captured is None:
            captured = self._capture(shape)
            self._kept[shape] = captured
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(shape)
        captured.given[: len(batch)] = batch
        captured.given[len(batch) :] = 0
        return {name: np.array(value[: len(batch)], np.float32) for name, value in captured.replay().items()}
