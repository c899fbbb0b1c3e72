"""One Faceproof pipeline in a process of its own, for the speed page: seconds, stages, memory as one line of JSON.

python -m benchmarks.race CLIP --network B7.onnx --spec efficientnet-b7-dfdc [--precision bf16] [--faces fast] [--frames 8]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--network", type=Path, help="ONNX or IR file; without one the installed detector")
    parser.add_argument("--spec", default="faceproof-small")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--faces", default="thorough")
    parser.add_argument("--frames", type=int, help="the first so many, every one; without, as the spec samples")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    started = time.perf_counter()
    import faceproof
    from faceproof.detectors import catalog
    from faceproof.detectors.detector import Detector, load_detector
    from faceproof.detectors.spec import Frames
    from faceproof.runtime import load_network

    if options.network is None:
        detector = load_detector(options.spec, precision=options.precision, threads=options.threads)
    else:
        spec = catalog.find_spec(options.spec).spec
        # Searched as the opponent searches: the whole frame, faces from 20 pixels, all of them.
        whole = {"thresholds": (0.7, 0.8, 0.8), "min_face": 20, "scale": "auto", "limit": None, "keep": "all"}
        spec = spec.model_copy(update={"faces": spec.faces.model_copy(update=whole)})
        detector = Detector(spec, load_network(options.network, precision=options.precision, threads=options.threads))
    loaded = time.perf_counter() - started

    def scan(frames: int | None) -> faceproof.Report:
        sampling = Frames(sampling="all", limit=frames) if frames else detector.spec.frames
        limited = Detector(detector.spec.model_copy(update={"frames": sampling}), detector.network)
        return faceproof.scan(options.clip, detector=limited, faces=options.faces, threads=options.threads)

    scan(3)  # the first of everything is slower
    began = time.perf_counter()
    cpu = time.process_time()
    report = scan(options.frames)
    result = {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "frames": report.frames_analyzed,
        "faces": report.metrics.total_faces_detected,
        "repeated": report.faces_repeated,
        **report.timings,
        "load": loaded,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
