# ruff: noqa: E501 (sentences of a page)
"""Faceproof beside the naive pipeline, in turns on the same frames: writes ``docs/speed.md`` with ratios and goals.

    python -m benchmarks.speed [--quick] [--video CLIP] [--int8] [--rounds 5] [--frames 12] [--out docs/speed.md]

Each round starts every pipeline once, each in a process of its own, so that memory is its own and a busy moment hits all.
Numbers are medians. Results of ``benchmarks.scale`` and ``benchmarks.sampling`` are taken in where they were run before
(``build/bench``). Needs the ``bench`` extra and an idle machine; the load is printed on the page.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path("build/bench")
B7 = "efficientnet-b7-dfdc"


def child(*command: str) -> dict[str, float]:
    """Run one benchmark in its own process and read the last line it prints."""
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def apart(function: str, *arguments: Any) -> Any:
    """One of this module's functions in a process of its own: a process inherits the peak memory of whoever starts it, so
    this one stays small. What goes in and comes out is JSON."""
    code = (
        f"import json, sys; from benchmarks import speed; print(json.dumps(speed.{function}(*json.loads(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{function}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def median_of(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def networks(place: str, int8: bool) -> dict[str, str]:
    """The documents' networks with random weights, whose time does not depend on them; kept for the next run."""
    from benchmarks.cost import convert

    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, str] = {}
    for name in (B7, "efficientnet-b4-keras"):
        path, small = folder / f"{name}.onnx", folder / f"{name}.int8.onnx"
        if not path.is_file() or (int8 and not small.is_file()):
            convert(name, folder, int8)
        made[name] = str(path)
        if small.is_file():
            made[f"{name} int8"] = str(small)
    return made


def race(clip: Path, made: dict[str, str], rounds: int, frames: int) -> dict[str, dict[str, float]]:
    """Every pipeline in turn, ``rounds`` times over."""
    ours = {}
    for faces in ("thorough", "fast"):
        for precision in ("fp32", "bf16", "int8"):
            path = made.get(f"{B7} int8") if precision == "int8" else made[B7]
            if path is not None:
                hint = "fp32" if precision == "int8" else precision
                ours[f"{faces} {precision}"] = [
                    "benchmarks.race", str(clip), "--network", str(path), "--spec", B7, "--precision", hint,
                    "--faces", faces, "--frames", str(frames * (3 if faces == "fast" else 1)),
                ]  # fmt: skip
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ("naive", *ours, "default auto")}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        runs["naive"].append(child("benchmarks.naive", str(clip), "--frames", str(frames)))
        for name, command in ours.items():
            runs[name].append(child(*command))
        runs["default auto"].append(child("benchmarks.race", str(clip)))
    return {name: median_of(found) for name, found in runs.items()}


def alternate(tasks: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            times[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def stages(video: str, made: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds a frame or face: the naive stage, then ours in its settings."""
    import itertools

    import numpy as np
    import torch
    from facenet_pytorch import MTCNN

    from benchmarks.naive import frames_of
    from faceproof.faces import SEARCH_EVERY, FaceDetector, find_and_follow
    from faceproof.media import read_frames
    from faceproof.pipeline import ordered
    from faceproof.runtime import load_network
    from faceproof.runtime.cpu import computes_bf16, usable_cores
    from faceproof.training.systems import build, plan_of

    clip = Path(video)
    found: dict[str, dict[str, float]] = {}
    most = 60
    found["decode, a frame"] = {
        name: value / most
        for name, value in alternate(
            {
                "OpenCV to RGB": lambda: list(frames_of(clip, most)),
                "ours, all of them": lambda: list(itertools.islice(read_frames(clip, "all"), most)),
                "ours, every 10th wanted": lambda: list(itertools.islice(read_frames(clip, "every:10"), most // 10)),
            },
            min(rounds, 3),
        ).items()
    }
    images = [frame.image for frame in itertools.islice(read_frames(clip, "all"), 2 * SEARCH_EVERY)]
    reference = MTCNN(keep_all=True, thresholds=[0.7, 0.8, 0.8], min_face_size=20, device="cpu")
    cores = usable_cores()
    one, many = FaceDetector(), FaceDetector(streams=cores, threads=cores)
    fast = FaceDetector(mode="fast", streams=cores, threads=cores)
    runs = [images[:SEARCH_EVERY], images[SEARCH_EVERY:]]
    found["find faces, a frame"] = {
        name: value / len(images)
        for name, value in alternate(
            {
                "facenet-pytorch": lambda: [reference.detect(image) for image in images],
                "thorough, one frame at a time": lambda: [one.detect(image) for image in images],
                "thorough, as in a video": lambda: list(ordered(iter(images), many.detect, workers=cores)),
                "fast, searched": lambda: list(ordered(iter(images), fast.detect, workers=cores)),
                "fast, as in a video": lambda: list(
                    ordered(iter(runs), lambda run: list(find_and_follow(fast, run)), workers=cores)
                ),
            },
            min(rounds, 3),
        ).items()
    }
    for name, label in (("efficientnet-b4-keras", "B4"), (B7, "B7")):
        size = plan_of(name).image_size
        face = np.random.default_rng(0).random((1, 3, size, size), np.float32)
        torch.manual_seed(0)
        model = build(name).eval()

        def eager(model: Any = model, face: Any = face) -> None:
            with torch.no_grad():
                model(torch.from_numpy(face))

        tasks: dict[str, Callable[[], Any]] = {"torch eager fp32": eager}
        kinds = {"ours fp32": (made[name], "fp32")}
        if computes_bf16():
            kinds["ours bf16"] = (made[name], "bf16")
        if f"{name} int8" in made:
            kinds["ours int8"] = (made[f"{name} int8"], "fp32")
        for kind, (path, precision) in kinds.items():
            network = load_network(Path(path), precision=precision)  # type: ignore[arg-type]
            tasks[kind] = lambda network=network, face=face: network.run(face)
        found[f"score {label}@{size}, a face"] = alternate(tasks, rounds)
    return found


def cold(rounds: int) -> dict[str, float]:
    """Seconds from a cold process, compiled networks kept from a run before."""
    from benchmarks.scanning import run_scan

    def imported() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import faceproof"], check=True)
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder:
        from PIL import Image
        from skimage import data

        picture = Path(folder) / "astronaut.png"
        Image.fromarray(data.astronaut()).save(picture)
        run_scan(picture)
        runs = [run_scan(picture) for _ in range(rounds)]
    return {
        "import faceproof": statistics.median(imported() for _ in range(rounds)),
        "a picture": statistics.median(run[0] for run in runs),
        "a picture, MB": statistics.median(run[1] for run in runs),
    }


def installed_megabytes() -> dict[str, float]:
    """Megabytes on disk of the light core's distributions, as their own records list them."""
    core = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    package = [path for path in Path("src/faceproof").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    sizes = {"faceproof": sum(path.stat().st_size for path in package) / 1e6}
    waiting = [_name(wanted) for wanted in core if _applies(wanted)]
    while waiting:
        name = waiting.pop()
        if name in sizes:
            continue
        distribution = importlib.metadata.distribution(name)
        places = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
        sizes[name] = sum(path.stat().st_size for path in places if path.is_file() and path.suffix != ".pyc") / 1e6
        waiting += [_name(wanted) for wanted in distribution.requires or [] if _applies(wanted)]
    return sizes


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[ ;<>=!~\[(]", requirement, maxsplit=1)[0]).lower()


def _applies(requirement: str) -> bool:
    from packaging.requirements import Requirement

    marker = Requirement(requirement).marker
    return marker is None or marker.evaluate({"extra": ""})


def made_clip(place: str) -> None:
    from benchmarks.clips import make_clip

    make_clip(Path(place))


def macs(name: str) -> float:
    from benchmarks.cost import describe

    return float(describe(name)["macs"])


def goals(facts: dict[str, Any]) -> list[tuple[str, str, str, bool | None]]:
    """(goal, wanted, measured, met); None where it was not measured in this run."""
    race_, stage, rows = facts["race"], facts["stages"], []
    naive = race_["naive"]["seconds"] / race_["naive"]["frames"]

    def at_least(goal: str, wanted: float, value: float | None) -> None:
        measured = "not measured" if value is None else f"{value:.1f}×"
        rows.append((goal, f"≥ {wanted:g}×", measured, None if value is None else value >= wanted))

    def at_most(goal: str, wanted: float, value: float | None, unit: str) -> None:
        measured = "not measured" if value is None else f"{value:.2f} {unit}" if unit == "s" else f"{value:.0f} {unit}"
        rows.append((goal, f"≤ {wanted:g} {unit}", measured, None if value is None else value <= wanted))

    for precision, wanted in (("fp32", 4.5), ("bf16", 8), ("int8", 11)):
        for faces in ("thorough", "fast"):
            run = race_.get(f"{faces} {precision}")
            ratio = naive / (run["seconds"] / run["frames"]) if run else None
            at_least(f"B7@380 on every frame at 1080p, {precision}, faces {faces}", wanted, ratio)
            if run and run.get("repeated"):  # not every frame was scored: the goal is not this one's to meet
                goal, limit, measured, _ = rows.pop()
                scored = run["faces"] - run["repeated"]
                rows.append((goal, limit, f"{measured}, {scored:.0f} of {run['faces']:.0f} faces scored", False))
    find = stage["find faces, a frame"]
    at_least("faces at 1080p from 20 pixels, thorough", 5, find["facenet-pytorch"] / find["thorough, as in a video"])
    at_least("the same, fast", 15, find["facenet-pytorch"] / find["fast, as in a video"])
    b4 = next(value for key, value in stage.items() if key.startswith("score B4"))
    for precision, wanted in (("bf16", 3.2), ("int8", 4.5)):
        own = b4.get(f"ours {precision}")
        at_least(f"B4@380 a face, {precision}", wanted, b4["torch eager fp32"] / own if own else None)
    auto = race_["default auto"]
    at_most("the default detector, `auto`, on this clip", 2, auto["seconds"], "s")
    at_least("the same against the naive B7 on every frame", 100, naive * facts["clip_frames"] / auto["seconds"])
    at_most('`python -c "import faceproof"`', 0.3, facts["cold"]["import faceproof"], "s")
    at_most("a picture from a cold process", 0.8, facts["cold"]["a picture"], "s")
    at_most("install of the light core", 450, sum(facts["installed"].values()), "MB")
    sampling = facts.get("sampling")
    agreement, work = (sampling["agreement"], sampling["work"]) if sampling else (None, None)
    rows.append(
        (
            "`auto` says what `all` says",
            "≥ 98 % of clips",
            "not measured" if agreement is None else f"{agreement:.1%}",
            None if agreement is None else agreement >= 0.98,
        )
    )
    rows.append(
        (
            "… at this share of the frames",
            "≤ 15 %",
            "not measured" if work is None else f"{work:.1%}",
            None if work is None else work <= 0.15,
        )
    )
    return rows


def page(facts: dict[str, Any]) -> str:
    naive = facts["race"]["naive"]
    naive_frame = naive["seconds"] / naive["frames"]
    lines = [
        "# How fast it is",
        "",
        f"Written by `make bench` on {facts['cpu']}, {facts['cores']} cores, Python {facts['python']}; {facts['rounds']} rounds,",
        f"load average {facts['load']:.1f} before and {facts['load_after']:.1f} after. Clip: {facts['clip']}. Medians of runs that took turns, so",
        "ratios hold better than seconds. The opponent (`benchmarks/naive.py`) is what the documents and public repositories do:",
        "facenet-pytorch's MTCNN on every frame, a crop, the torch network in eager fp32, batch 1. What was tried: [speed-log.md](speed-log.md).",
        "",
        "## Goals",
        "",
        "| goal | wanted | measured | |",
        "|---|---|---|---|",
    ]
    words = {True: "met", False: "**not met**", None: "–"}
    lines += [f"| {goal} | {wanted} | {value} | {words[met]} |" for goal, wanted, value, met in facts["goals"]]
    lines += [
        "",
        "## End to end: B7@380 on every frame",
        "",
        "| pipeline | s/frame | ratio | decode | find | crop | score | peak MB | load, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, run in facts["race"].items():
        if name == "default auto":
            continue
        frame = run["seconds"] / run["frames"]
        parts = " | ".join(f"{run.get(key, 0) / run['frames']:.3f}" for key in ("decode", "detect", "crop", "score"))
        lines.append(
            f"| {name} | {frame:.3f} | {naive_frame / frame:.1f}× | {parts} | {run['mb']:.0f} | {run['load']:.1f} |"
        )
    lines += [
        "",
        "Stages of ours run side by side, so their seconds add up to more than the frame's.",
        *_within_reach(facts),
        "",
        "## Stages alone, ms",
        "",
    ]
    for stage, values in facts["stages"].items():
        first = next(iter(values.values()))
        lines += [f"| {stage} | ms | ratio |", "|---|---|---|"]
        lines += [f"| {name} | {value:.1f} | {first / value:.1f}× |" for name, value in values.items()]
        lines.append("")
    lines += [
        "## Share of the machine's peak",
        "",
        "| | measured peak, GFLOP/s | B4@380 | B7@380 |",
        "|---|---|---|---|",
    ]
    for precision, limit in facts["peak"].items():
        cells = []
        for label in ("B4", "B7"):
            key, times = next((k, v) for k, v in facts["stages"].items() if k.startswith(f"score {label}"))
            spent = times.get(f"ours {precision}")
            cells.append("–" if spent is None else f"{2 * facts['macs'][label] / (spent / 1000) / 1e9 / limit:.0%}")
            del key
        lines.append(f"| {precision} | {limit:.0f} | {' | '.join(cells)} |")
    auto = facts["race"]["default auto"]
    lines += [
        "",
        "## The default detector",
        "",
        f"`auto` looked at {auto['frames']:.0f} of {facts['clip_frames']} frames in {auto['seconds']:.2f} s ({auto['cpu']:.1f} s of processor time), peak {auto['mb']:.0f} MB.",
        f"From a cold process, compiled networks kept: `import faceproof` {facts['cold']['import faceproof']:.2f} s, a picture {facts['cold']['a picture']:.2f} s and {facts['cold']['a picture, MB']:.0f} MB.",
        "",
        "## What is installed",
        "",
        "| distribution | MB |",
        "|---|---|",
    ]
    largest = sorted(facts["installed"].items(), key=lambda pair: -pair[1])
    lines += [f"| {name} | {size:.0f} |" for name, size in largest[:8]]
    lines += [f"| {len(largest) - 8} others | {sum(size for _, size in largest[8:]):.0f} |", "", *WHY_SO_LARGE, ""]
    if facts.get("sampling"):
        found = facts["sampling"]
        lines += [
            "## `auto` beside `all`",
            "",
            f"`python -m benchmarks.sampling`: on {found['clips']} clips `auto` gives the verdict of {found['reference']} on {found['agreement']:.1%}",
            f"and looks at {found['work']:.1%} of the frames ({found['looked']} of {found['frames']}); {found['opposite']} clips turn from REAL to FAKE or back.",
            f"{found['after_first']} clips end after the first look.",
            "",
        ]
    if facts.get("scale"):
        lines += [
            "## Scale",
            "",
            "![Cost against length, faces, resolution and processes](images/speed-scale.svg)",
            "",
            "| seconds of the scan against | fitted law | R² | peak MB, least to most |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {row['name']} | {row['law']} | {row['r2']:.3f} | "
            + (f"{row['mb_low']:.0f} to {row['mb_high']:.0f} |" if row["mb_low"] == row["mb_low"] else "– |")
            for row in facts["scale"]["laws"]
        ]
        lines.append("")
    lines += ["There was no GPU at hand; no number here is a GPU's.", ""]
    return "\n".join(lines)


def _within_reach(facts: dict[str, Any]) -> list[str]:
    """What the network alone leaves of the goal for a frame."""
    naive = facts["race"]["naive"]
    allowed = 1000 * naive["seconds"] / naive["frames"] / 8
    alone = next(v for k, v in facts["stages"].items() if k.startswith("score B7")).get("ours bf16")
    if alone is None or alone < allowed:
        return []
    return [
        "In fast mode a face that hardly changed keeps the score of the one before it, so its ratios depend on the clip.",
        f"8× of the naive frame is {allowed:.0f} ms, and B7 alone takes {alone:.0f} ms in bf16 for its one face: with every frame",
        "scored, bf16 cannot meet that goal on this processor however little the rest takes.",
    ]


WHY_SO_LARGE = (
    "About 180 MB of that are never loaded: OpenVINO's plugins for GPUs and NPUs (61) and readers of other formats (13), OpenCV's",
    "OpenBLAS (39) and its copy of FFmpeg (40), PyAV's x265, SVT-AV1 and filters (33). They are parts of the wheels, which pip installs",
    "whole, and deleting files of other packages would break their updates. Older wheels are smaller (OpenVINO 2024.6: 142,",
    "opencv-python-headless 4.10: 142), and both together still leave 490 MB, with slower kernels and older decoders. ONNX Runtime in",
    "OpenVINO's place would save about 120 MB and lose bfloat16, which it does not compute on CPUs. Nothing can become",
    "an extra: a scan needs each of the five largest.",
)


def read_result(name: str) -> dict[str, Any] | None:
    place = RESULTS / f"{name}.json"
    return json.loads(place.read_text()) if place.is_file() else None


def main() -> None:
    from faceproof.media import probe
    from faceproof.runtime.cpu import cpu_name, usable_cores

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="a 1080p clip with a face; without one a made clip of 10 s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--int8", action="store_true", help="quantize too: minutes, once")
    parser.add_argument("--quick", action="store_true", help="three rounds of five frames")
    parser.add_argument("--out", type=Path, default=Path("docs/speed.md"))
    options = parser.parse_args()
    rounds, frames = (3, 5) if options.quick else (options.rounds, options.frames)
    RESULTS.mkdir(parents=True, exist_ok=True)
    clip = options.video or RESULTS / "made-1080p.mp4"
    if not clip.is_file():
        apart("made_clip", str(clip))
    load = os.getloadavg()[0]
    info = probe(clip)
    made = apart("networks", str(RESULTS / "networks"), options.int8)
    facts: dict[str, Any] = {
        "cpu": cpu_name(), "cores": usable_cores(), "python": platform.python_version(), "rounds": rounds, "load": load,
        "clip": f"{info.width}×{info.height}, {info.frame_count} frames, {info.codec}" + ("" if options.video else ", made"),
        "clip_frames": info.frame_count,
        "peak": child("benchmarks.peak"),
        "race": race(clip, made, rounds, frames),
        "stages": apart("stages", str(clip), made, rounds),
        "cold": apart("cold", rounds),
        "installed": installed_megabytes(),
        "macs": {"B4": apart("macs", "efficientnet-b4-keras"), "B7": apart("macs", B7)},
        "sampling": read_result("sampling"),
        "scale": read_result("scale"),
    }  # fmt: skip
    facts["load_after"] = os.getloadavg()[0]
    facts["goals"] = goals(facts)
    (RESULTS / "speed.json").write_text(json.dumps(facts, indent=1))
    options.out.write_text(page(facts), encoding="utf-8")
    print(f"Written: {options.out}")
    for goal, wanted, value, met in facts["goals"]:
        print(f"{'met' if met else 'not measured' if met is None else 'NOT MET':<13}{goal}: {value} (wanted {wanted})")


if __name__ == "__main__":
    main()
