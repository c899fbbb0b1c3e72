"""A whole service in a temporary folder: real database, real files, real worker processes, a network without weights."""

from __future__ import annotations

import io
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import structlog
from PIL import Image

HERE = Path(__file__).parent
structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
sys.path.insert(0, str(HERE))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))

from fastapi.testclient import TestClient  # noqa: E402

from faceproof.service.app import make_app  # noqa: E402
from faceproof.service.settings import Settings  # noqa: E402
from faceproof.service.site import Site  # noqa: E402
from servers import PostgreSQL, Redis  # noqa: E402


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


def wait_for(check: Callable[[], Any], *, seconds: float = 30.0, what: str = "it") -> Any:
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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Database and files without any process around them."""
    opened = Site.open(make_settings(tmp_path / "data", workers=0))
    yield opened
    opened.close()


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[TestClient]:
    """A service whose queue nobody works off."""
    with TestClient(make_app(make_settings(tmp_path / "data", workers=0))) as client:
        yield client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with one worker process, shared by a module's tests."""
    with TestClient(make_app(make_settings(tmp_path_factory.mktemp("service"), workers=1))) as opened:
        yield opened


def submit(client: Any, content: bytes, name: str = "clip.mp4", **fields: str) -> dict[str, Any]:
    answer = client.post("/v1/jobs", files={"file": (name, content)}, data=fields)
    assert answer.status_code in (200, 202), answer.text
    return dict(answer.json())


def ended(client: Any, job_id: str, *, seconds: float = 60.0) -> dict[str, Any]:
    """The job once it has ended."""

    def look() -> dict[str, Any] | None:
        job = client.get(f"/v1/jobs/{job_id}").json()
        return job if job["state"] in ("done", "failed", "cancelled") else None

    return dict(wait_for(look, seconds=seconds, what=f"the end of {job_id}"))


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    server = PostgreSQL(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.stop()


@pytest.fixture
def redis() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.stop()
