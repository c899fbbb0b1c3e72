"""Padding and cutting change nothing: what a batch is answered does not depend on the shapes that were recorded."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceproof.runtime import FakeNetwork
from faceproof.runtime.captured import MOST_KEPT, SIZES, CapturedBatches, pieces, size_for
from faceproof.runtime.network import FloatArray


class FixedPlaces:
    """A recorded shape as a CUDA graph has it: one input and one output place each, overwritten by every replay."""

    def __init__(self, shape: tuple[int, ...], fill: float = np.nan) -> None:
        self.given: FloatArray = np.full(shape, fill, np.float32)
        self.outputs = {name: value.copy() for name, value in FakeNetwork().run(np.zeros(shape, np.float32)).items()}
        self.running = threading.Lock()

    def replay(self) -> Mapping[str, FloatArray]:
        assert self.running.acquire(blocking=False), "two threads replay one graph at once"
        try:
            for name, value in FakeNetwork().run(self.given).items():
                self.outputs[name][...] = value
            return self.outputs
        finally:
            self.running.release()


def batch_of(count: int, seed: int = 0, side: int = 3) -> FloatArray:
    return np.random.default_rng(seed).normal(0, 1, (count, 3, side, side)).astype(np.float32)


@given(st.integers(1, SIZES[-1]))
def test_the_size_holds_the_batch_and_none_smaller_does(count: int) -> None:
    size = size_for(count)
    assert size in SIZES
    assert size >= count
    assert all(other < count for other in SIZES if other < size)
    assert size < 2 * count, "half of it or more would be padding"


@given(st.integers(1, 300))
def test_pieces_are_the_whole_batch_in_order_and_none_is_too_large(count: int) -> None:
    cuts = list(pieces(count))
    assert np.concatenate([np.arange(count)[cut] for cut in cuts]).tolist() == list(range(count))
    assert all(cut.stop - cut.start == SIZES[-1] for cut in cuts[:-1])


@given(st.lists(st.integers(1, 80), min_size=1, max_size=8), st.integers(0, 99))
def test_padded_and_cut_batches_answer_as_the_batch_itself(counts: list[int], seed: int) -> None:
    batches = CapturedBatches(FixedPlaces)
    kept = []
    for count in counts:
        batch = batch_of(count, seed)
        kept.append((batches.run(batch), FakeNetwork().run(batch)))
    # After all of them: an answer that was a view of a fixed place would have been overwritten.
    for found, right in kept:
        assert found.keys() == right.keys()
        for name in right:
            np.testing.assert_array_equal(found[name], right[name])
            assert found[name].dtype == np.float32


def test_a_shape_is_recorded_once_and_the_oldest_goes() -> None:
    recorded: list[tuple[int, ...]] = []

    def capture(shape: tuple[int, ...]) -> FixedPlaces:
        recorded.append(shape)
        return FixedPlaces(shape)

    batches = CapturedBatches(capture)
    for count in (5, 8, 7, 32, 33, 6):
        batches.run(batch_of(count))
    assert recorded == [(8, 3, 3, 3), (32, 3, 3, 3), (1, 3, 3, 3)]
    for side in range(4, 4 + MOST_KEPT - 1):
        batches.run(batch_of(1, side=side))
        batches.run(batch_of(1))  # used meanwhile, so it stays
    recorded.clear()
    batches.run(batch_of(1))
    assert recorded == []
    batches.run(batch_of(8))
    assert recorded == [(8, 3, 3, 3)], "of all kept shapes it was used least lately"


def test_padding_is_nought_whatever_was_there_before() -> None:
    places = FixedPlaces((4, 3, 3, 3), fill=np.nan)
    CapturedBatches(lambda shape: places).run(batch_of(3))
    assert not places.given[3].any()


def test_a_recording_that_fails_is_tried_anew() -> None:
    tries: list[int] = []

    def capture(shape: tuple[int, ...]) -> FixedPlaces:
        tries.append(len(tries))
        if len(tries) == 1:
            raise RuntimeError("out of memory")
        return FixedPlaces(shape)

    batches = CapturedBatches(capture)
    with pytest.raises(RuntimeError, match="out of memory"):
        batches.run(batch_of(2))
    np.testing.assert_array_equal(batches.run(batch_of(2))["logit"], FakeNetwork().run(batch_of(2))["logit"])


def test_threads_take_turns_and_each_gets_its_own_answers() -> None:
    batches = CapturedBatches(FixedPlaces)
    asked = [batch_of(1 + seed % 40, seed) for seed in range(60)]
    with ThreadPoolExecutor(8) as pool:
        for batch, found in zip(asked, pool.map(batches.run, asked), strict=True):
            np.testing.assert_array_equal(found["logit"], FakeNetwork().run(batch)["logit"])
