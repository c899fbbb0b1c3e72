"""Files a second of a fleet on this machine with one and two workers: ``python -m benchmarks.fleet FOLDER [DETECTOR]``.

Needs redis-server, and an idle machine: wall-clock times of a busy one say nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faceproof.batch import ScanOptions
from faceproof.ops.fleet import scan_fleet

WORKERS = (1, 2)
WARM_UP = 10.0


def main() -> None:
    folder, detector = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broker = f"redis://127.0.0.1:{port}/0"
    redis = subprocess.Popen([program, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
    time.sleep(1)
    try:
        with tempfile.TemporaryDirectory() as out:
            for workers in WORKERS:
                command = [sys.executable, "-m", "faceproof", "fleet", "worker", "--broker", broker]
                running = subprocess.Popen(
                    [*command, "--processes", str(workers)],
                    start_new_session=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                time.sleep(WARM_UP)
                options = ScanOptions(detector=detector, threads=1)
                found = scan_fleet(folder, broker, Path(out) / f"{workers}.csv", options)
                rate = found["files"] / found["seconds"]
                print(f"{workers} workers: {found['files']} files in {found['seconds']:.1f} s, {rate:.2f} files/s")
                os.killpg(running.pid, signal.SIGTERM)
                running.wait()
        print(f"load average at the end: {os.getloadavg()[0]:.1f}")
    finally:
        redis.terminate()
        redis.wait()


if __name__ == "__main__":
    main()
