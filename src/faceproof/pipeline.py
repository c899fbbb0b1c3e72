"""Work that runs side by side and comes out in order: each stage of a scan pulls from the one before it.

A stage is a generator. :func:`ordered` puts threads between two of them and holds a bounded number of items, so a slow
consumer holds back everything before it, and what comes out does not depend on how many threads there were. The heavy
steps (decoding, convolutions, resizing) release Python's lock, so threads are enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered(
    items: Iterator[Item], work: Callable[[Item], Result], *, workers: int, ahead: int = 1, name: str = "stage"
) -> Generator[Result]:
    """Yield ``work(item)`` for each item, in the order of the items, worked on by ``workers`` threads.

    At most ``workers + ahead`` items are taken from ``items`` before their results are taken from here. ``workers=0`` works
    in the calling thread. An error in ``work`` is raised in its turn. When the consumer stops, fails or is interrupted, no
    further item is begun, the items begun are waited for, and ``items`` is closed.
    """
    try:
        if workers == 0:
            for item in items:
                yield work(item)
            return
        waiting: deque[Future[Result]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix=f"faceproof-{name}")
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                del item  # its result may wait long after the item is of no more use
                if len(waiting) >= workers + ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
