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

from benchmarks.clips import make_clip
from faceproof.batch import ScanOptions
from faceproof.ops.fleet import scan_fleet


def make_clips(folder: Path, count: int) -> None:
    """Clips of five seconds with a face; the fleet does not notice that they are one."""
    folder.mkdir()
    first = make_clip(folder / "000.mp4", width=640, height=480, seconds=5)
    for number in range(1, count):
        shutil.copyfile(first, folder / f"{number:03d}.mp4")


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
