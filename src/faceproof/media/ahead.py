"""Decode while the rest works: frames from a thread of their own, a bounded few ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from faceproof.media.facts import Frame


def read_ahead(
    frames: Iterator[Frame], *, depth: int, timed: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[Frame]:
    """Yield what ``frames`` yields, produced by a thread at most ``depth`` frames ahead; 0 is without a thread.

    An error in the thread is raised here. When the consumer stops early, the thread stops after its current frame.
    """
    if depth == 0:
        yield from _one_by_one(frames, timed)
        return
    ready: queue.Queue[Frame | BaseException | None] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: Frame | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            while True:
                with timed():
                    frame = next(frames, None)
                if frame is None or not put(frame):
                    break
            put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            put(error)
        finally:
            close = getattr(frames, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=produce, name="faceproof-decode", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _one_by_one(frames: Iterator[Frame], timed: Callable[[], AbstractContextManager[None]]) -> Iterator[Frame]:
    try:
        while True:
            with timed():
                frame = next(frames, None)
            if frame is None:
                return
            yield frame
    finally:
        close = getattr(frames, "close", None)
        if close is not None:
            close()
