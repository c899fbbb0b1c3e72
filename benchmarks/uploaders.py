"""Many uploaders in one process that takes as little from the server as it can: started by service_load.

``python -m benchmarks.uploaders URL CLIP --uploaders 50 --clips 200`` sends CLIP under many disguises and prints JSON: the
ids of the jobs, the seconds of every answer and its own processor seconds. Requests are put together from prepared bytes and
answers are read from plain sockets, since a full HTTP client costs as much as the server it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BOUNDARY = b"----faceproof-benchmark"
CLOSING = b"\r\n--" + BOUNDARY + b"--\r\n"


def _box(number: int) -> bytes:
    """At the end of a clip it makes it a file of its own: a free box that holds the number."""
    return b"\0\0\0\x10free" + number.to_bytes(8, "big")


def prepared(host: str, clip: bytes, frames: str) -> bytes:
    """Everything of an upload's request but the box that makes the file another one, and the form's closing line."""
    parts = [(b'name="evidence"', b"false"), (b'name="frames"', frames.encode())]
    parts.append((b'name="file"; filename="clip.mp4"\r\nContent-Type: video/mp4', clip))
    form = b"\r\n".join(
        b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + value for head, value in parts
    )
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n"
        f"Content-Length: {len(form) + len(_box(0)) + len(CLOSING)}\r\n\r\n"
    )
    return head.encode() + form


async def answer_to(
    request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[float, dict[str, Any]]:
    """Seconds until the whole answer was here, and its JSON. Raises :class:`SystemExit` for anything but 200 and 202."""
    started = time.perf_counter()
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    took = time.perf_counter() - started
    if head[9:12] not in (b"200", b"202"):
        raise SystemExit(f"the server answered {head[:40]!r}: {body[:300]!r}")
    return took, json.loads(body)


async def upload_all(
    url: str, clip: bytes, *, uploaders: int, clips: int, every: float, first: int, frames: str
) -> dict[str, Any]:
    """Each uploader sends its clips one after another, and looks at its job after each."""
    host = urlsplit(url).netloc
    request = prepared(host, clip, frames)
    ids: list[str] = []
    posts: list[float] = []
    looks: list[float] = []

    async def one(uploader: int) -> None:
        begun = time.perf_counter() + every * uploader / uploaders
        name, _, port = host.partition(":")
        reader, writer = await asyncio.open_connection(name, int(port))
        for number in range(first, first + clips):
            if every:
                await asyncio.sleep(max(0.0, begun + every * (number - first) - time.perf_counter()))
            took, job = await answer_to(request + _box(uploader * 1_000_000 + number) + CLOSING, reader, writer)
            posts.append(took)
            ids.append(job["id"])
            look = f"GET /v1/jobs/{job['id']} HTTP/1.1\r\nHost: {host}\r\n\r\n"
            looks.append((await answer_to(look.encode(), reader, writer))[0])
        writer.close()

    async def tell() -> None:
        while True:
            await asyncio.sleep(5)
            print(f"  {len(ids)} of {uploaders * clips} uploads", file=sys.stderr, flush=True)

    telling = asyncio.create_task(tell())
    started, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one(number) for number in range(uploaders)))
    took = time.perf_counter() - started
    telling.cancel()
    return {"ids": ids, "posts": posts, "looks": looks, "seconds": took, "cpu": time.process_time() - busy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--uploaders", type=int, default=50)
    parser.add_argument("--clips", type=int, default=200, help="of each uploader")
    parser.add_argument("--every", type=float, default=0.0, help="seconds from one upload to the next; 0: at once")
    parser.add_argument("--first", type=int, default=0, help="keeps the files apart from those of another run")
    parser.add_argument("--frames", default="auto", help="as the form field")
    chosen = parser.parse_args()
    factory = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    clip = chosen.clip.read_bytes()
    work = upload_all(
        chosen.url,
        clip,
        uploaders=chosen.uploaders,
        clips=chosen.clips,
        every=chosen.every,
        first=chosen.first,
        frames=chosen.frames,
    )
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(work)))


if __name__ == "__main__":
    main()
