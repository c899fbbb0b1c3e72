"""The one thread of a server that takes in uploads: as many in one transaction as are waiting.

Fifty people who upload at once cost fifty transactions otherwise, and as many threads that wait for each other.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog
from starlette.concurrency import run_in_threadpool

from faceproof.service import jobs, submission, wishes
from faceproof.service.site import Site
from faceproof.service.submission import Submission, Submitted

log = structlog.get_logger()

AT_ONCE = 64
LOOK_AGAIN = 0.5


@dataclass(frozen=True)
class _Waiting:
    """A request that waits for its answer in an event loop."""

    prepare: Callable[[], Submission]
    answer: asyncio.Future[Submission | Submitted | Exception]


class Intake:
    """Between the event loop and the database. Start it before the first request."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="faceproof-intake", daemon=True)
        self._free: int | None = None
        self._looked = float("-inf")
        self._looking = threading.Lock()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take in what is there, then end."""
        self._queue.put(None)
        self._thread.join()

    async def room(self) -> int | None:
        """Bytes that are free for files, None for no limit. Raises :class:`Problem` 429 when the queue is full.

        What it says may be :data:`LOOK_AGAIN` seconds old: the transaction looks again, this only saves reading in vain.
        """
        if time.monotonic() - self._looked > LOOK_AGAIN:
            await run_in_threadpool(self._look)
        return self._free

    def _look(self) -> None:
        with self._looking:
            if time.monotonic() - self._looked <= LOOK_AGAIN:
                return  # somebody else did, meanwhile
            with self._site.store.read() as session:
                submission.require_room(session, self._site, jobs.queued(session))
            self._free = self._site.files.free()
            self._looked = time.monotonic()

    async def take(self, prepare: Callable[[], Submission]) -> Submitted:
        """Make the job. ``prepare`` runs in the thread, where it may write a file but must not wait for a network.

        Raises what it raises and what :func:`faceproof.service.submission.submit` does.
        """
        outcome = await self._outcome(prepare)
        if isinstance(outcome, Submission):
            return await run_in_threadpool(self._take_slowly, outcome)
        if outcome.is_new and self._site.settings.broker:
            await run_in_threadpool(self._site.ring, outcome.job.id)
        return outcome

    def _take_slowly(self, one: Submission) -> Submitted:
        """For what waits on a name server or a bucket: nobody else shall."""
        wishes.require_public(self._site, one.wish)
        return submission.submit(self._site, one)

    async def _outcome(self, prepare: Callable[[], Submission]) -> Submission | Submitted:
        answer: asyncio.Future[Submission | Submitted | Exception] = asyncio.get_running_loop().create_future()
        self._queue.put(_Waiting(prepare, answer))
        outcome = await answer
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            waiting, over = [first], False
            while len(waiting) < AT_ONCE and not self._queue.empty():
                another = self._queue.get()
                if another is None:
                    over = True
                    break
                waiting.append(another)
            self._take_in(waiting)
            if over:
                return

    def _take_in(self, waiting: list[_Waiting]) -> None:
        outcomes: list[tuple[_Waiting, Submission | Submitted | Exception]] = []
        ready: list[tuple[_Waiting, Submission]] = []
        for one in waiting:
            try:
                made = one.prepare()
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                outcomes.append((one, error))
                continue
            slow = made.wish.webhook or made.wish.url or not self._site.files.keeps_at_once
            if slow:
                outcomes.append((one, made))
            else:
                ready.append((one, made))
        if ready:
            settled = submission.settle(self._site, [made for _, made in ready])
            outcomes += [(one, outcome) for (one, _), outcome in zip(ready, settled, strict=True)]
        # A server has one loop, which is woken once for all of them.
        for loop in {one.answer.get_loop() for one, _ in outcomes}:
            theirs = [(one, outcome) for one, outcome in outcomes if one.answer.get_loop() is loop]
            with suppress(RuntimeError):  # closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, theirs)


def _tell(outcomes: list[tuple[_Waiting, Submission | Submitted | Exception]]) -> None:
    for one, outcome in outcomes:
        if not one.answer.done():  # whoever asked may be gone
            one.answer.set_result(outcome)
