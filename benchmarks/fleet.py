"""Files a second of a fleet on this machine with one and two workers: ``python -m benchmarks.fleet``.

Without ``--folder`` it makes clips of its own, each with a face in it. Needs redis-server, and an idle machine: wall-clock
times of a busy one say nothing; processor seconds do. About two minutes with its 24 clips.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from skimage import data

from faceproof.batch import ScanOptions
from faceproof.ops.fleet import scan_fleet

FRAMES, SIZE = 150, (640, 480)


def make_clips(folder: Path, count: int) -> None:
    """Clips of five seconds: a picture with a face (scikit-image's, public domain) under a slowly moving window."""
    folder.mkdir()
    picture = np.kron(data.astronaut(), np.ones((2, 2, 1), np.uint8))
    for number in range(count):
        with av.open(str(folder / f"{number:03d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            stream.options = {"preset": "ultrafast", "crf": "28"}
            for place in range(FRAMES):
                x, y = 100 + number + place % 75, 20 + place % 40
                frame = np.ascontiguousarray(picture[y : y + SIZE[1], x : x + SIZE[0]])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))


@contextmanager
def redis_server() -> Iterator[str]:
    """A Redis of this run's own; its address."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([program, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
    time.sleep(1)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def measure(folder: Path, warm: Path, broker: str, out: Path, workers: int, options: ScanOptions) -> dict[str, Any]:
    """One fleet over all files of ``folder``, after its workers have loaded the detector on those of ``warm``."""
    command = [sys.executable, "-m", "faceproof", "fleet", "worker", "--broker", broker, "--processes", str(workers)]
    running = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        scan_fleet(str(warm), broker, out / f"warm-{workers}.csv", options)
        found = scan_fleet(str(folder), broker, out / f"{workers}.csv", options)
    finally:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        os.killpg(running.pid, signal.SIGTERM)
        running.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "workers": workers,
        "files": found["files"],
        "failed": found["failed"],
        "seconds": round(found["seconds"], 1),
        "files_per_second": round(found["files"] / found["seconds"], 2),
        "processor_seconds_of_the_workers_warm_up_included": round(spent, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="clips to scan instead of made ones")
    parser.add_argument("--clips", type=int, default=24, help="made clips")
    parser.add_argument("--detector")
    chosen = parser.parse_args()
    # A worker is one process held to one thread, as many of them as there are cores.
    options = ScanOptions(detector=chosen.detector, threads=1)
    with tempfile.TemporaryDirectory() as place, redis_server() as broker:
        folder, warm = chosen.folder or Path(place) / "clips", Path(place) / "warm"
        if chosen.folder is None:
            make_clips(folder, chosen.clips)
        make_clips(warm, 4)
        found = [measure(folder, warm, broker, Path(place), workers, options) for workers in (1, 2)]
    gain = found[1]["files_per_second"] / found[0]["files_per_second"]
    load = round(os.getloadavg()[0], 1)
    print(json.dumps({"fleets": found, "gain": round(gain, 2), "cores": os.cpu_count(), "load": load}, indent=2))


if __name__ == "__main__":
    main()
