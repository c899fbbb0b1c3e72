"""How fast the overlay is drawn and encoded: frames a second for a made 1080p30 clip, without and with heat.

    python -m benchmarks.overlay [--seconds 10]

The clip is made on the spot; scanning it is not part of the number. "real time" is 30 frames a second.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import parse_spec
from faceproof.evidence.overlay import write_overlay
from faceproof.judge import JudgedFace, JudgedFrame, make_report
from faceproof.media import MediaInfo, probe
from faceproof.results import Report
from faceproof.runtime import FakeNetwork

FPS = 30
SIZE = (1920, 1080)
SPEC = """
schema_version = 1
name = "benchmark"
version = "1"
summary = "Mean brightness, for benchmarks."
licence = { weights = "Apache-2.0", code = "Apache-2.0", commercial = true, origin = "made for this benchmark" }
faces = { margin = { kind = "square", value = 1.3 } }
input = { size = 160 }
output = { fake_is = "high", heatmap = "heatmap", heatmap_kind = "activation" }
"""


def make_clip(path: Path, seconds: float) -> None:
    """A textured picture that drifts, with some noise, encoded as phones do (H.264, about 8 Mbit/s)."""
    rng = np.random.default_rng(1)
    width, height = SIZE
    ground = cv2.GaussianBlur(rng.integers(0, 256, (height, width + 400, 3), dtype=np.uint8), (0, 0), 6)
    ground = cv2.normalize(ground, None, 20, 235, cv2.NORM_MINMAX)
    noise = [rng.integers(0, 6, (height, width, 3), dtype=np.uint8) for _ in range(4)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "b": "8M"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(round(seconds * FPS)):
            shift = number % 400
            image = cv2.add(ground[:, shift : shift + width], noise[number % 4])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))
        out.mux(stream.encode(None))


def make_overlay_report(info: MediaInfo, detector: Detector) -> Report:
    """Two people, sampled six times a second."""
    frames = []
    for index in range(0, info.frame_count or 0, 5):
        faces = [
            JudgedFace((300.0 + index, 300, 700.0 + index, 820), 1, 0.99, 520, 100, p=0.5 + 0.4 * np.sin(index / 20)),
            JudgedFace((1200, 250, 1500, 640), 2, 0.99, 390, 100, p=0.1),
        ]
        frames.append(JudgedFrame(index, float(Fraction(index, FPS)), index, faces))
    return make_report(info, frames, detector, frames_failed=0, processing_time=0, timings={})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    detector = Detector(parse_spec(SPEC), FakeNetwork())
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip, arguments.seconds)
        info = probe(clip)
        report = make_overlay_report(info, detector)
        result: dict[str, object] = {"frames": info.frame_count, "cores": len(os.sched_getaffinity(0))}
        result["load_before"] = round(os.getloadavg()[0], 2)
        for name, heat in (("without_heat", False), ("with_heat", True)):
            started = time.perf_counter()
            cpu = time.process_time()
            written = write_overlay(report, clip, Path(folder) / f"{name}.mp4", detector=detector, heat=heat)
            seconds = time.perf_counter() - started
            result[name] = {
                "fps": round(written.frames / seconds, 1),
                "times_real_time": round(written.frames / seconds / FPS, 2),
                "cpu_ms_per_frame": round((time.process_time() - cpu) / written.frames * 1000, 1),
            }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
