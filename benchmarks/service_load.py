"""Load on the service: uploads lost, answers' speed while workers are saturated, memory, and what a second worker adds.

``python -m benchmarks.service_load`` starts servers of its own in a temporary folder. By default the network is one
without weights, so that the service is measured and not the detector; ``--cost CLIP`` measures the installed detector
on a real clip, in processor seconds, for the sizing table of docs/deploy.md.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import DetectorSpec, parse_spec, spec_sha256
from faceproof.runtime import FakeNetwork

SPEC = """
schema_version = 1
name = "none"
version = "1.0"
summary = "No network: measures the service around it"
[licence]
weights = "none"
code = "Apache-2.0"
commercial = true
origin = "benchmark"
[faces]
fallback = "centre"
[input]
size = 32
[output]
fake_is = "high"
"""


class NoNetwork:
    """Stands for the installed detectors in the servers this starts."""

    def __init__(self) -> None:
        self.default = "none"

    def specs(self) -> list[DetectorSpec]:
        return [parse_spec(SPEC)]

    def fingerprint(self, name: str) -> str:
        return spec_sha256(parse_spec(SPEC))

    def load(self, name: str, *, device: str, threads: int | None) -> Detector:
        return Detector(parse_spec(SPEC), FakeNetwork())


def small_clip(seed: int, frames: int = 12) -> bytes:
    """A second of 160×120 H.264, about 10 kB; another seed is another file."""
    noise = np.random.default_rng(seed)
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        ground = noise.integers(0, 255, (15, 20, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        for number in range(frames):
            frame = np.roll(ground, number * 3, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return target.getvalue()


def another(clip: bytes, number: int) -> bytes:
    """The same clip as a file of its own: a free box at the end holds the number."""
    return clip + b"\0\0\0\x10free" + number.to_bytes(8, "big")


class Server:
    """`faceproof serve` in a folder of its own."""

    def __init__(self, folder: Path, workers: int, *, installed: bool = False) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        settings = {
            "DATA": str(folder),
            "PORT": str(port),
            "WORKERS": str(workers),
            "THREADS": "1",
            "RATE": "10000000/minute",
            "UPLOAD_RATE": "10000000/minute",
            "MAX_QUEUED": "1000000",
        }
        if not installed:
            settings["DETECTOR_LOADER"] = "benchmarks.service_load:NoNetwork"
        environment = {**os.environ, **{f"FACEPROOF_{name}": value for name, value in settings.items()}}
        environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from faceproof.cli import main; main()", "serve"],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(600):
            try:
                if httpx.get(f"{self.url}/healthz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise SystemExit("the server did not start")

    def memory(self) -> dict[str, float]:
        """Resident megabytes of the server and of all its workers."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for file in children for pid in _read(file).split()]
        return {"server": _resident(self.process.pid), "workers": sum(_resident(pid) for pid in pids)}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def _resident(pid: int) -> float:
    status = _read(Path(f"/proc/{pid}/status")).splitlines()
    return next((int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS")), 0.0)


def _read(file: Path) -> str:
    """Of a process or thread; empty when it has just ended."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def upload_all(
    url: str, uploaders: int, clips: int, content: bytes, *, every: float = 0.0, first: int = 0
) -> tuple[set[str], list[float], list[float]]:
    """Each uploader sends its clips one after another and looks at its job. Returns ids and seconds of both.

    ``every``: seconds from one upload of an uploader to its next, as people have them; 0 is as fast as it goes. ``first``
    keeps the files apart from those of another call.
    """
    ids: set[str] = set()
    posts: list[float] = []
    looks: list[float] = []
    limits = httpx.Limits(max_connections=uploaders)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def one(uploader: int) -> None:
            begun = time.perf_counter() + every * uploader / uploaders
            for number in range(first, first + clips):
                await asyncio.sleep(max(0.0, begun + every * (number - first) - time.perf_counter()))
                file = ("clip.mp4", another(content, uploader * 1_000_000 + number))
                started = time.perf_counter()
                answer = await client.post("/v1/jobs", files={"file": file}, data={"evidence": "false"})
                posts.append(time.perf_counter() - started)
                answer.raise_for_status()
                ids.add(answer.json()["id"])
                started = time.perf_counter()
                (await client.get(f"/v1/jobs/{answer.json()['id']}")).raise_for_status()
                looks.append(time.perf_counter() - started)

        await asyncio.gather(*(one(number) for number in range(uploaders)))
    return ids, posts, looks


def drained(url: str, *, watch: Server | None = None) -> list[dict[str, float]]:
    """Wait until no job waits or runs; memory on the way, every two seconds."""
    seen: list[dict[str, float]] = []
    while True:
        stats = httpx.get(f"{url}/v1/stats", timeout=60).json()
        if watch is not None:
            seen.append({**watch.memory(), "done": stats["jobs"].get("done", 0)})
        if not stats["jobs"].get("queued") and not stats["jobs"].get("running"):
            return seen
        time.sleep(2)


def load(uploaders: int, clips: int, workers: int, paced: int) -> dict[str, Any]:
    """Many uploaders at once against saturated workers: as fast as they can, then ``paced`` clips each, one a second."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), workers)
        try:
            content = small_clip(1)
            asyncio.run(upload_all(server.url, 2, 2, small_clip(2)))
            drained(server.url)
            started = time.perf_counter()
            ids, posts, looks = asyncio.run(upload_all(server.url, uploaders, clips, content))
            sent = time.perf_counter() - started
            more, slow_posts, slow_looks = asyncio.run(
                upload_all(server.url, uploaders, paced, content, every=1.0, first=clips)
            )
            waiting = httpx.get(f"{server.url}/v1/stats", timeout=60).json()["jobs"].get("queued", 0)
            memory = drained(server.url, watch=server)
            took = time.perf_counter() - started
            done = httpx.get(f"{server.url}/v1/stats").json()["jobs"].get("done", 0) - 4
        finally:
            server.stop()
    count = uploaders * (clips + paced)
    quarter = [m for m in memory if m["done"] >= (done + 4) * 0.25] or memory
    return {
        "uploads": count,
        "jobs_done": done,
        "lost": count - len(ids | more) + (len(ids | more) - done),
        "as_fast_as_they_can": {**_spread(posts, looks), "uploads_per_second": round(uploaders * clips / sent, 1)},
        "one_a_second_each": {**_spread(slow_posts, slow_looks), "jobs_that_waited_at_the_end": waiting},
        "jobs_per_second": round(done / took, 1),
        "memory_mb_after_a_quarter": {k: round(quarter[0][k]) for k in ("server", "workers")},
        "memory_mb_at_the_end": {k: round(memory[-1][k]) for k in ("server", "workers")},
    }


def _spread(posts: Sequence[float], looks: Sequence[float]) -> dict[str, float]:
    return {
        "post_p50_ms": round(statistics.median(posts) * 1000, 1),
        "post_p95_ms": round(percentile(posts, 0.95) * 1000, 1),
        "get_p95_ms": round(percentile(looks, 0.95) * 1000, 1),
    }


def scaling(jobs: int, clip: Path | None = None) -> dict[str, Any]:
    """Jobs per second of one worker and of two, each held to one thread; with ``clip``, of the installed detector on it."""
    rates = {}
    warming, timed = small_clip(3), small_clip(4, frames=40)
    if clip is not None:
        warming = timed = clip.read_bytes()
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(Path(folder), workers, installed=clip is not None)
            try:
                asyncio.run(upload_all(server.url, workers * 2, 4 if clip is None else 1, warming))
                drained(server.url)
                ids, _, _ = asyncio.run(upload_all(server.url, 4, jobs // 4, timed))
                drained(server.url)
                rows = [httpx.get(f"{server.url}/v1/jobs/{one}").json() for one in ids]
            finally:
                server.stop()
        # Uploading disturbs; what counts is the second half, when only workers work.
        ends = sorted(np.datetime64(row["finished_at"].rstrip("Z")) for row in rows)
        half = ends[len(ends) // 2 :]
        rates[workers] = (len(half) - 1) / ((half[-1] - half[0]) / np.timedelta64(1, "s"))
    return {
        "one_worker_jobs_per_second": round(float(rates[1]), 2),
        "two_workers_jobs_per_second": round(float(rates[2]), 2),
        "gain": round(float(rates[2] / rates[1]), 2),
    }


def cost(clip: Path) -> dict[str, Any]:
    """Processor seconds of the installed default detector on one clip, with one thread, evidence left out."""
    import faceproof
    from faceproof.media import read_frames

    detector = faceproof.load_detector(threads=1)
    faceproof.scan(clip, detector=detector, threads=1)

    def used() -> float:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        return spent.ru_utime + spent.ru_stime

    before = used()
    report = faceproof.scan(clip, detector=detector, threads=1)
    scanned = used() - before
    before = used()
    for _ in read_frames(clip, "all"):
        pass
    decoded = used() - before
    length = report.media.duration or 1.0
    return {
        "clip": f"{report.media.width}×{report.media.height}, {length:.1f} s, {report.metrics.total_faces_detected} faces",
        "frames_looked_at": report.frames_analyzed,
        "cpu_seconds_per_clip": round(scanned, 2),
        "cpu_seconds_decoding_every_frame_of_a_minute": round(decoded * 60 / length, 2),
        "cpu_seconds_for_a_minute": round(scanned - decoded + decoded * 60 / length, 2),
    }


# Megabytes of a minute as phones and platforms store 1080p, days kept, and how full workers may be on average.
MINUTE_MB, DAYS, FULL = 40, 7, 0.6
# What one API process was seen to take, rounded down; each pod runs one.
UPLOADS_PER_API_SECOND = 20


def sizing(cpu_seconds: float) -> str:
    """A Markdown table of what one-minute 1080p videos need, from the processor seconds each of them costs."""
    lines = ["| videos a day | a second | worker cores | API pods | files kept | row changes a second |"]
    lines.append("|---:|---:|---:|---:|---:|---:|")
    for videos in (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        rate = videos / 86_400
        cores = max(1, round(rate * cpu_seconds / FULL + 0.499))
        pods = max(1, round(rate / UPLOADS_PER_API_SECOND / FULL + 0.499))
        kept = videos * DAYS * MINUTE_MB / 1e6
        lines.append(
            f"| {videos:,} | {rate:.3g} | {cores:,} | {pods} | {kept:,.{0 if kept >= 10 else 2}f} TB "
            f"| {rate * 20:,.{0 if rate > 1 else 2}f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploaders", type=int, default=50)
    parser.add_argument("--clips", type=int, default=200, help="of each uploader")
    parser.add_argument(
        "--paced", type=int, default=60, help="clips of each uploader at one a second, after the others"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the same in about four minutes: 1,400 uploads, 80 jobs")
    parser.add_argument("--scaling-jobs", type=int, default=200, help="0 leaves this part out")
    parser.add_argument(
        "--scaling-clip", type=Path, metavar="CLIP", help="only what a second worker adds, with the installed detector"
    )
    parser.add_argument("--cost", type=Path, metavar="CLIP", help="measure the installed detector instead")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.clips, chosen.paced, chosen.scaling_jobs = 8, 20, 80
    if chosen.cost:
        found: dict[str, Any] = {"cost": cost(chosen.cost)}
        print(sizing(found["cost"]["cpu_seconds_for_a_minute"]))
    elif chosen.scaling_clip:
        found = {"scaling": scaling(chosen.scaling_jobs, chosen.scaling_clip)}
    else:
        found = {"load": load(chosen.uploaders, chosen.clips, chosen.workers, chosen.paced)}
        if chosen.scaling_jobs:
            found["scaling"] = scaling(chosen.scaling_jobs)
    found["machine"] = {"cores": os.cpu_count(), "load_average": [round(x, 1) for x in os.getloadavg()]}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
