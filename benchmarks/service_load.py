"""Load on the service: uploads lost, answers' speed while workers are saturated, memory, and what a second worker adds.

``python -m benchmarks.service_load`` starts servers of its own in a temporary folder. By default the network is one
without weights, so that the service is measured and not the detector; ``--cost CLIP`` measures the installed detector
on a real clip, in processor seconds, for the sizing table of docs/deploy.md.
"""

from __future__ import annotations

import argparse
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
        self._sha256 = spec_sha256(parse_spec(SPEC))

    def specs(self) -> list[DetectorSpec]:
        return [parse_spec(SPEC)]

    def fingerprint(self, name: str) -> str:
        return self._sha256

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

    def cpu(self) -> float:
        """Processor seconds of the server itself so far, without its workers."""
        fields = _read(Path(f"/proc/{self.process.pid}/stat")).rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stats(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.url}/v1/stats", timeout=60).json())

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


def upload_all(
    server: Server, clip: bytes, uploaders: int, clips: int, *, every: float = 0.0, first: int = 0, frames: str = "auto"
) -> dict[str, Any]:
    """Each uploader sends its clips one after another and looks at its job after each, from a process of its own.

    ``every``: seconds from one upload of an uploader to its next, as people have them; 0 is as fast as it goes. ``first``
    keeps the files apart from those of another call. Besides what :mod:`benchmarks.uploaders` prints: the processor seconds
    that the server spent meanwhile.
    """
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(clip)
        file.flush()
        command = [sys.executable, "-m", "benchmarks.uploaders", server.url, file.name, "--uploaders", str(uploaders)]
        command += ["--clips", str(clips), "--every", str(every), "--first", str(first), "--frames", frames]
        before = server.cpu()
        done = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, check=True)
        return {**json.loads(done.stdout), "server_cpu": server.cpu() - before}


def drained(server: Server) -> list[dict[str, float]]:
    """Wait until no job waits or runs; memory on the way, every two seconds."""
    seen: list[dict[str, float]] = []
    told = time.monotonic()
    while True:
        jobs = server.stats()["jobs"]
        seen.append({**server.memory(), "done": jobs.get("done", 0)})
        if not jobs.get("queued") and not jobs.get("running"):
            return seen
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"  {jobs.get('done', 0)} jobs done, {jobs.get('queued', 0)} wait", file=sys.stderr, flush=True)
        time.sleep(2)


def load(uploaders: int, clips: int, workers: int, paced: int) -> dict[str, Any]:
    """Many uploaders at once against saturated workers: as fast as they can, then ``paced`` clips each, one a second."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), workers)
        try:
            content = small_clip(1)
            upload_all(server, small_clip(2), 2, 2)
            drained(server)
            started = time.perf_counter()
            # Two frames of each: the workers never run out of work, and yet ten thousand jobs end within minutes.
            fast = upload_all(server, content, uploaders, clips, frames="2")
            slow = upload_all(server, content, uploaders, paced, every=1.0, first=clips, frames="2")
            waiting = server.stats()["jobs"].get("queued", 0)
            memory = drained(server)
            took = time.perf_counter() - started
            stats = server.stats()
        finally:
            server.stop()
    done = stats["jobs"].get("done", 0) - 4
    count, ids = uploaders * (clips + paced), {*fast["ids"], *slow["ids"]}
    return {
        "uploads": count,
        "jobs_done": done,
        "lost": count - len(ids) + (len(ids) - done),
        "finished_twice": round(stats["totals"]["jobs_done"] - stats["jobs"].get("done", 0)),
        "as_fast_as_they_can": _spread(fast),
        "one_a_second_each": {**_spread(slow), "jobs_that_waited_at_the_end": waiting},
        "jobs_per_second": round(done / took, 1),
        **_growth(memory),
    }


def memory(jobs: int, workers: int) -> dict[str, Any]:
    """Memory of the server and its workers over many jobs, once a quarter of them has warmed everything up."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), workers)
        try:
            upload_all(server, small_clip(5), 10, jobs // 10)
            seen = drained(server)
        finally:
            server.stop()
    return {"jobs": jobs, **_growth(seen)}


def _growth(seen: Sequence[dict[str, float]]) -> dict[str, Any]:
    last = seen[-1]["done"]
    marks = {share: next(m for m in seen if m["done"] >= last * share) for share in (0.25, 0.5, 0.75, 1.0)}
    return {
        f"{who}_memory_mb_by_share_of_jobs_done": {share: round(one[who]) for share, one in marks.items()}
        for who in ("server", "workers")
    }


def _spread(sent: dict[str, Any]) -> dict[str, float]:
    posts, looks = sent["posts"], sent["looks"]
    return {
        "post_p50_ms": round(statistics.median(posts) * 1000, 1),
        "post_p95_ms": round(percentile(posts, 0.95) * 1000, 1),
        "get_p95_ms": round(percentile(looks, 0.95) * 1000, 1),
        "all_answers_p95_ms": round(percentile(posts + looks, 0.95) * 1000, 1),
        "uploads_per_second": round(len(posts) / sent["seconds"], 1),
        "server_cpu_ms_per_upload_and_look": round(sent["server_cpu"] / len(posts) * 1000, 2),
        "client_cpu_ms_per_upload_and_look": round(sent["cpu"] / len(posts) * 1000, 2),
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
                upload_all(server, warming, workers * 2, 4 if clip is None else 1, first=900_000)
                drained(server)
                ids = upload_all(server, timed, 4, jobs // 4)["ids"]
                drained(server)
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


def _some(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploaders", type=int, default=50, help="0 leaves this part out")
    parser.add_argument("--clips", type=int, default=200, help="of each uploader, at least one")
    parser.add_argument(
        "--paced", type=_some, default=20, help="clips of each uploader at one a second, after the others"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the same with 1,400 uploads, 200 and 80 jobs")
    parser.add_argument("--memory-jobs", type=int, default=1000, help="0 leaves this part out")
    parser.add_argument("--scaling-jobs", type=int, default=200, help="0 leaves this part out")
    parser.add_argument(
        "--scaling-clip", type=Path, metavar="CLIP", help="only what a second worker adds, with the installed detector"
    )
    parser.add_argument("--cost", type=Path, metavar="CLIP", help="measure the installed detector instead")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.clips, chosen.paced, chosen.memory_jobs, chosen.scaling_jobs = 8, 20, 200, 80
    if chosen.cost:
        found: dict[str, Any] = {"cost": cost(chosen.cost)}
        print(sizing(found["cost"]["cpu_seconds_for_a_minute"]))
    elif chosen.scaling_clip:
        found = {"scaling": scaling(chosen.scaling_jobs, chosen.scaling_clip)}
    else:
        found = {}
        if chosen.uploaders:
            found["load"] = load(chosen.uploaders, chosen.clips, chosen.workers, chosen.paced)
        if chosen.memory_jobs:
            found["memory"] = memory(chosen.memory_jobs, chosen.workers)
        if chosen.scaling_jobs:
            found["scaling"] = scaling(chosen.scaling_jobs)
    found["machine"] = {"cores": os.cpu_count(), "load_average": [round(x, 1) for x in os.getloadavg()]}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
