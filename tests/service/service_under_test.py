"""What tests of the service share: clips, settings, waiting, and what a job came to."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import sqlalchemy as sa
from PIL import Image

from faceproof.service.settings import Settings
from faceproof.service.store import Store
from faceproof.service.tables import Counter, Event, Job, Result


def make_clip(seed: int = 0, frames: int = 12, size: tuple[int, int] = (96, 64), fps: int = 10) -> bytes:
    """A small H.264 clip without faces; another seed makes another file."""
    drawn = np.random.default_rng(seed)
    colours = drawn.integers(0, 255, (frames, 3), dtype=np.uint8)
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = size[0], size[1], "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for colour in colours:
            picture = np.broadcast_to(colour, (size[1], size[0], 3)).copy()
            picture[: size[1] // 2] = 255 - colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return target.getvalue()


def make_picture(seed: int = 0, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, kind)
    return target.getvalue()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(check: Callable[[], Any], *, seconds: float = 90.0, what: str = "it") -> Any:
    """What ``check`` returns once that is true."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def make_settings(data: Path, **given: Any) -> Settings:
    chosen = {
        "data": data,
        "detector_loader": "fake_detectors:Fakes",
        "hosts": "testserver,127.0.0.1,localhost",
        "lease": 4.0,
        "threads": 1,
        "rate": "100000/minute",
        "upload_rate": "100000/minute",
        "log_format": "json",
    }
    return Settings.read({}, **{**chosen, **given})


def submit(client: Any, content: bytes, name: str = "clip.mp4", **fields: str) -> dict[str, Any]:
    answer = client.post("/v1/jobs", files={"file": (name, content)}, data=fields)
    assert answer.status_code in (200, 202), answer.text
    return dict(answer.json())


def ended(client: Any, job_id: str, *, seconds: float = 150.0) -> dict[str, Any]:
    """The job once it has ended."""

    def look() -> dict[str, Any] | None:
        job = client.get(f"/v1/jobs/{job_id}").json()
        return job if job["state"] in ("done", "failed", "cancelled") else None

    return dict(wait_for(look, seconds=seconds, what=f"the end of {job_id}"))


def outcomes(store: Store, job_id: str) -> tuple[int, int, float]:
    """Reports, final events and finished jobs counted: each must be one."""
    with store.read() as session:
        results = session.scalar(sa.select(sa.func.count()).select_from(Result).where(Result.job_id == job_id))
        ends = session.scalar(
            sa.select(sa.func.count()).select_from(Event).where(Event.job_id == job_id, Event.data.contains('"done"'))
        )
        done = session.get(Counter, "jobs_done")
    return results or 0, ends or 0, done.value if done else 0


def job_row(**given: Any) -> Job:
    """A job that is not in the table yet."""
    now = time.time()
    fields: dict[str, Any] = {"owner": "local", "file_name": "a", "detector": "fake", "options": {}, "created_at": now}
    return Job(**{**fields, "expires_at": now + 999, **given})
