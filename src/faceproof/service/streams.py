"""Server-sent events of one job, from its rows, so that any server can go on where another stopped."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
import sqlalchemy as sa
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from faceproof.service.site import Site
from faceproof.service.tables import FINAL, Event, Job

LOOK_EVERY = 0.4
SIGN_OF_LIFE = 15.0
LONGEST = 3600.0


def _news(site: Site, job_id: str, seen: int) -> tuple[list[Event], bool]:
    """Events after ``seen``, and whether the job has ended."""
    with site.store.read() as session:
        state = session.scalar(sa.select(Job.state).where(Job.id == job_id))
        events = list(
            session.scalars(sa.select(Event).where(Event.job_id == job_id, Event.id > seen).order_by(Event.id))
        )
    return events, state is None or state in FINAL


async def follow(request: Request, site: Site, job_id: str, seen: int) -> Response:
    """The job's events after ``seen`` until it ends. 204 tells a browser that reconnects to stop."""
    first, ended = await run_in_threadpool(_news, site, job_id, seen)
    if ended and not first:
        return Response(status_code=204)

    async def lines() -> AsyncIterator[str]:
        events, over, last = first, ended, seen
        started = spoke = time.monotonic()
        yield "retry: 2000\n\n"
        while True:
            for event in events:
                last = event.id
                spoke = time.monotonic()
                yield f"id: {event.id}\nevent: {event.name}\ndata: {event.data}\n\n"
            closing = getattr(request.app.state, "closing", False)
            if over or closing or time.monotonic() - started > LONGEST or await request.is_disconnected():
                return
            if time.monotonic() - spoke > SIGN_OF_LIFE:
                spoke = time.monotonic()
                yield ": still here\n\n"
            await anyio.sleep(LOOK_EVERY)
            events, over = await run_in_threadpool(_news, site, job_id, last)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)
