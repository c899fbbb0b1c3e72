"""What a scan costs from a cold process: seconds and peak memory, and whether memory grows with a video's length.

python -m benchmarks.scanning --video clip.mp4 [--picture face.png] [--repeat 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import av


def run_scan(path: Path, *options: str) -> tuple[float, float]:
    """Scan in a fresh process; returns seconds and peak resident memory in MB. Python keeps what it compiles, as it does for
    everybody who does not forbid it: otherwise each process compiles every module that changed since."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "faceproof", "scan", str(path), "--json", os.devnull, *options],
        environment,
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)],
    )
    _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"scan of {path} failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def repeat_video(source: Path, times: int, target: Path) -> None:
    """The same packets ``times`` times over, not decoded again, so that the content costs the same per second."""
    with av.open(str(target), "w") as out:
        made = None
        shift = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                stream = container.streams.video[0]
                if made is None:
                    made = out.add_stream_from_template(stream)
                last = 0
                for packet in container.demux(stream):
                    if packet.dts is None:
                        continue
                    last = max(last, (packet.pts or 0) + (packet.duration or 1))
                    packet.pts = (packet.pts or 0) + shift
                    packet.dts += shift
                    packet.stream = made
                    out.mux(packet)
                shift += last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--longer", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture = options.picture
        if picture is None:
            from PIL import Image
            from skimage import data

            picture = Path(folder) / "astronaut.png"
            Image.fromarray(data.astronaut()).save(picture)
        long_video = Path(folder) / "long.mp4"
        repeat_video(options.video, options.longer, long_video)
        print(f"median of {options.repeat} cold processes, load average before: {os.getloadavg()[0]:.1f}")
        print(f"{'input':<34}{'seconds':>9}{'peak MB':>9}")
        for name, path in (
            ("picture", picture),
            ("video, auto", options.video),
            (f"video {options.longer} times as long, auto", long_video),
        ):
            runs = [run_scan(path) for _ in range(options.repeat)]
            seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
            print(f"{name:<34}{seconds:>9.2f}{memory:>9.0f}")


if __name__ == "__main__":
    main()
