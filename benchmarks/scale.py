"""What a scan costs against length, faces, resolution and processes: plots, fitted laws, and whether memory stays flat.

    python -m benchmarks.scale [--quick] [--longest 7200] [--rounds 3] [--out docs/images/speed-scale.svg]

The default detector on made clips; each point is a process of its own. Writes ``build/bench/scale.json`` for the speed page.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import make_clip
from benchmarks.scanning import repeat_video
from benchmarks.speed import RESULTS, child, median_of

FRAMES = 24
SIZES = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080), "1440p": (2560, 1440), "4K": (3840, 2160)}


def point(clip: Path, rounds: int, *options: str) -> dict[str, float]:
    return median_of([child("benchmarks.race", str(clip), *options) for _ in range(rounds)])


def by_length(folder: Path, longest: int, rounds: int) -> list[tuple[float, dict[str, float]]]:
    """``auto`` on longer and longer videos of the same packets: decoding grows, looking does not."""
    base = make_clip(folder / "base.mp4", width=1280, height=720, seconds=10)
    points = []
    for seconds in (10, 30, 60, 120, 300, 600, 1800, 3600, 7200):
        if seconds > longest:
            break
        clip = base
        if seconds > 10:
            clip = folder / f"{seconds}.mp4"
            repeat_video(base, seconds // 10, clip)
        points.append((float(seconds), point(clip, 1 if seconds > 300 else rounds)))
        if clip is not base:
            clip.unlink()
    return points


def by_faces(folder: Path, counts: tuple[int, ...], rounds: int) -> list[tuple[float, dict[str, float]]]:
    points = []
    for count in counts:
        clip = make_clip(folder / f"faces-{count}.mp4", faces=count, seconds=1)
        points.append((float(count), point(clip, rounds, "--frames", str(FRAMES))))
    return points


def by_resolution(folder: Path, names: tuple[str, ...], rounds: int) -> list[tuple[float, dict[str, float]]]:
    points = []
    for name in names:
        width, height = SIZES[name]
        clip = make_clip(folder / f"{name}.mp4", width=width, height=height, seconds=1)
        points.append((width * height / 1e6, point(clip, rounds, "--frames", str(FRAMES))))
    return points


def by_processes(folder: Path, rounds: int) -> list[tuple[float, dict[str, float]]]:
    """Eight files through one and two processes of `faceproof scan`, starting them included."""
    clip = make_clip(folder / "one.mp4", width=1280, height=720, seconds=4)
    many = folder / "many"
    many.mkdir()
    for number in range(8):
        shutil.copyfile(clip, many / f"{number}.mp4")
    points = []
    for jobs in (1, 2):
        runs = []
        for _ in range(rounds):
            began = time.perf_counter()
            command = [sys.executable, "-m", "faceproof", "scan", str(many), "--jobs", str(jobs), "--csv", "-"]
            subprocess.run(command, check=True, capture_output=True)
            runs.append(time.perf_counter() - began)
        points.append((float(jobs), {"seconds": statistics.median(runs), "mb": float("nan")}))
    return points


def fit(points: list[tuple[float, dict[str, float]]]) -> tuple[float, float, float]:
    """Seconds = a + b·x by least squares; returns a, b and R²."""
    x, y = np.array([p[0] for p in points]), np.array([p[1]["seconds"] for p in points])
    b, a = np.polyfit(x, y, 1)
    left = float(((y - a - b * x) ** 2).sum())
    whole = float(((y - y.mean()) ** 2).sum())
    return float(a), float(b), 1 - left / whole if whole else 1.0


def draw(axes: dict[str, tuple[str, list[tuple[float, dict[str, float]]]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "speed"
    figure, panels = pyplot.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    for panel, (name, (label, points)) in zip(panels.flat, axes.items(), strict=True):
        x = [p[0] for p in points]
        panel.plot(x, [p[1]["seconds"] for p in points], "o", color="#0072B2")
        if len(points) > 2:
            a, b, _ = fit(points)
            ends = np.array([min(x), max(x)])
            panel.plot(ends, a + b * ends, "-", color="#0072B2", alpha=0.5)
        panel.set(title=name, xlabel=label, ylabel="seconds", ylim=(0, 1.1 * max(p[1]["seconds"] for p in points)))
        memory = [p[1]["mb"] for p in points]
        if np.isfinite(memory).all():
            other = panel.twinx()
            other.plot(x, memory, "s--", color="#D55E00", markersize=4, alpha=0.7)
            other.set(ylabel="peak MB", ylim=(0, 1.1 * max(memory)))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few points, one run of each")
    parser.add_argument("--longest", type=int, default=7200, help="seconds of the longest video")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/images/speed-scale.svg"))
    options = parser.parse_args()
    quick = options.quick
    rounds = 1 if quick else options.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        axes = {
            "Length, auto, 720p": ("seconds of video", by_length(folder, 120 if quick else options.longest, rounds)),
            f"Faces, {FRAMES} frames of 1080p": (
                "faces a frame",
                by_faces(folder, (0, 4, 20) if quick else (0, 1, 2, 5, 10, 15, 20), rounds),
            ),
            f"Resolution, {FRAMES} frames, one face": (
                "megapixels",
                by_resolution(folder, ("360p", "1080p", "4K") if quick else tuple(SIZES), rounds),
            ),
            "Processes, 8 files": ("processes", by_processes(folder, rounds)),
        }
    laws: list[dict[str, Any]] = []
    for title, (label, points) in axes.items():
        a, b, r2 = fit(points)
        memory = [p[1]["mb"] for p in points]
        if len(points) == 2:
            (_, one), (_, two) = points
            law, r2 = f"2 processes take {two['seconds'] / one['seconds']:.2f} of one's time", 1.0
        else:
            law = f"{a:.2f} + {b:.4g} · {label}"
        laws.append({"name": title, "law": law, "r2": r2, "mb_low": min(memory), "mb_high": max(memory)})
        print(f"{title:<40}{law}   R² {r2:.3f}   {min(memory):.0f} to {max(memory):.0f} MB")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps({"laws": laws, "points": {k: v[1] for k, v in axes.items()}}))
    draw(axes, options.out)
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
