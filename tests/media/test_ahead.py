"""Reading ahead keeps order, stays bounded, hands errors over and leaves no thread behind."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from faceproof.errors import FaceproofError
from faceproof.media import Frame, read_ahead


def number(index: int) -> Frame:
    return Frame(index, float(index), np.zeros((1, 1, 3), np.uint8))


def test_reading_ahead_keeps_order_and_bounds_what_waits() -> None:
    made: list[int] = []

    def source() -> Iterator[Frame]:
        for index in range(50):
            made.append(index)
            yield number(index)

    seen = []
    for frame in read_ahead(source(), depth=2):
        seen.append(frame.index)
        assert len(made) - len(seen) <= 4
    assert seen == list(range(50))


def test_an_error_while_reading_ahead_is_raised_where_frames_are_used() -> None:
    def source() -> Iterator[Frame]:
        yield number(0)
        raise FaceproofError("gone")

    reading = read_ahead(source(), depth=2)
    assert next(reading).index == 0
    with pytest.raises(FaceproofError, match="gone"):
        list(reading)


def test_no_thread_is_left_behind_when_the_consumer_stops() -> None:
    closed = threading.Event()

    def source() -> Iterator[Frame]:
        try:
            while True:
                yield number(0)
        finally:
            closed.set()

    reading = read_ahead(source(), depth=2)
    next(reading)
    reading.close()
    assert closed.is_set()
    assert not [t for t in threading.enumerate() if t.name == "faceproof-decode"]


def test_no_depth_is_no_thread() -> None:
    def source() -> Iterator[Frame]:
        for index in range(3):
            assert threading.current_thread() is threading.main_thread()
            yield number(index)

    assert [frame.index for frame in read_ahead(source(), depth=0)] == [0, 1, 2]
