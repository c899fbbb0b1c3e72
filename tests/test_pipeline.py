"""Stages side by side: the same answers in the same order, a bounded number in flight, and a clean end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceproof.pipeline import ordered


def no_threads_left(name: str) -> bool:
    return not any(thread.name.startswith(f"faceproof-{name}") for thread in threading.enumerate())


@settings(deadline=None, max_examples=40)
@given(items=st.lists(st.integers(0, 3), max_size=30), workers=st.integers(0, 4), ahead=st.integers(0, 3))
def test_the_order_and_the_answers_are_those_of_plain_work(items: list[int], workers: int, ahead: int) -> None:
    def work(item: int) -> int:
        time.sleep(item / 2000)  # later items may well be done first
        return item * item

    assert list(ordered(iter(items), work, workers=workers, ahead=ahead, name="law")) == [i * i for i in items]
    assert no_threads_left("law")


@pytest.mark.parametrize(("workers", "ahead"), [(0, 1), (1, 0), (2, 1), (3, 2)])
def test_a_slow_consumer_holds_the_source_back(workers: int, ahead: int) -> None:
    taken = 0
    most = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for i in range(40):
            taken += 1
            yield i

    for done, _ in enumerate(ordered(source(), lambda i: i, workers=workers, ahead=ahead, name="slow")):
        time.sleep(0.002)
        most = max(most, taken - done)
    assert taken == 40
    assert most <= max(1, workers + ahead) + 1


def test_workers_really_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert len(list(ordered(iter(range(6)), lambda _: meeting.wait(), workers=3, name="meet"))) == 6


def test_an_error_comes_in_its_turn_and_ends_everything() -> None:
    begun: list[int] = []
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.set()

    def work(item: int) -> int:
        begun.append(item)
        if item == 5:
            raise ValueError("five")
        return item

    got: list[int] = []
    with pytest.raises(ValueError, match="five"):
        got.extend(ordered(source(), work, workers=2, ahead=1, name="error"))
    assert got == [0, 1, 2, 3, 4]
    assert max(begun) < 10
    assert closed.is_set()
    assert no_threads_left("error")


def test_an_error_of_the_source_is_raised_and_nothing_stays_behind() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(ordered(source(), lambda i: i, workers=2, name="source"))
    assert no_threads_left("source")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, GeneratorExit])
def test_an_interrupted_consumer_leaves_no_thread(stop: type[BaseException]) -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    stages = ordered(
        ordered(source(), lambda i: i, workers=2, name="interrupt-a"), lambda i: i, workers=2, name="interrupt-b"
    )
    next(stages)
    with pytest.raises((stop, StopIteration)):
        stages.throw(stop)  # type: ignore[attr-defined]
    assert closed.is_set()
    assert no_threads_left("interrupt")
