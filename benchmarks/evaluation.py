"""What measuring costs: a table of 100,000 scores with 1,000 bootstraps, and the harness on top of scanning.

    python -m benchmarks.evaluation [--rows 100000] [--bootstraps 1000] [--media FOLDER --detector NAME]

The table is made on the spot: two datasets, four methods, five files a source video, three facts about quality. With
``--media`` every picture in the folder is scanned twice, bare and through the harness with an empty score cache, in turn.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from faceproof.batch import ScanOptions, scan_one
from faceproof.detectors.catalog import DEFAULT_DETECTOR, find_spec
from faceproof.evaluation.cache import ScoreCache
from faceproof.evaluation.evaluation import Settings, evaluate
from faceproof.evaluation.harness import judge, tabulate
from faceproof.evaluation.manifest import Entry, Manifest
from faceproof.evaluation.scores import ScoreTable
from faceproof.media import walk


def make_table(rows: int) -> ScoreTable:
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, rows)
    score = 1 / (1 + np.exp(-(1.5 * (label - 0.5) + generator.normal(size=rows))))
    number = np.arange(rows)
    return ScoreTable.of(
        [f"{row}.mp4" for row in number],
        label,
        score,
        dataset=np.where(number % 2, "A", "B"),
        method=[f"method {row % 4}" for row in number],
        source_video=[f"{row // 5}" for row in number],
        quality={name: generator.random(rows) for name in ("face_side", "sharpness", "bits_per_pixel")},
    )


def measure_table(rows: int, bootstraps: int) -> dict[str, float]:
    table = make_table(rows)
    wall, cpu = time.perf_counter(), time.process_time()
    evaluate("benchmark", table, settings=Settings(resamples=bootstraps))
    return {
        "rows": rows,
        "bootstraps": bootstraps,
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def measure_harness(folder: Path, name: str) -> dict[str, float]:
    """CPU seconds of scanning alone and through the harness, hashing, cache and tables included; medians of three."""
    options = ScanOptions(detector=name, threads=1)
    detector = options.load()
    files = list(walk([folder]))
    manifest = Manifest(tuple(Entry(path, number % 2) for number, path in enumerate(files)), folder)
    bare, whole = [], []
    for _ in range(3):
        started = time.process_time()
        for path in files:
            scan_one(path, detector, options)
        bare.append(time.process_time() - started)
        with tempfile.TemporaryDirectory() as place:
            started = time.process_time()
            cache = ScoreCache(Path(place), find_spec(name).spec, options)
            tabulate(manifest, judge(manifest, options, detector=detector, cache=cache))
            whole.append(time.process_time() - started)
    alone, together = float(np.median(bare)), float(np.median(whole))
    return {
        "files": len(files),
        "scan_cpu_seconds": round(alone, 2),
        "harness_cpu_seconds": round(together, 2),
        "overhead": round(together / alone - 1, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--bootstraps", type=int, default=1000)
    parser.add_argument("--media", type=Path)
    parser.add_argument("--detector", default=DEFAULT_DETECTOR)
    chosen = parser.parse_args()
    print(json.dumps(measure_table(chosen.rows, chosen.bootstraps)))
    if chosen.media is not None:
        print(json.dumps(measure_harness(chosen.media, chosen.detector)))


if __name__ == "__main__":
    main()
