"""`make bench-smoke`: whether speed is still of its order, by ratios within one run and wide bounds; under 90 seconds.

Ratios hold on a busy machine where seconds do not: both sides are measured in turns, by the processor time they take.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import faceproof
from benchmarks.clips import make_clip
from faceproof.detectors.detector import load_detector
from faceproof.faces import SEARCH_EVERY, FaceDetector, find_and_follow
from faceproof.media import probe, read_frames


def ratio(slow: Callable[[], Any], quick: Callable[[], Any], rounds: int = 3) -> float:
    """How many times the processor time of ``quick`` goes into that of ``slow``: the median of turns."""
    slow(), quick()
    found = []
    for _ in range(rounds):
        spent = []
        for task in (slow, quick):
            began = time.process_time()
            task()
            spent.append(time.process_time() - began)
        found.append(spent[0] / max(spent[1], 1e-6))
    return statistics.median(found)


def checks(folder: Path) -> dict[str, tuple[float, float, float]]:
    """By what is compared: the ratio, and the bounds it must lie between."""
    clip = make_clip(folder / "clip.mp4", width=1280, height=720, seconds=4)
    info = probe(clip)
    images = [frame.image for frame in itertools.islice(read_frames(info, "all"), SEARCH_EVERY)]
    thorough, fast = FaceDetector(threads=1), FaceDetector(mode="fast", threads=1)
    detector = load_detector(threads=1)
    crop = images[0][:300, :300]
    damaged = folder / "damaged.mp4"
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    damaged.write_bytes(content)
    cut_off = folder / "cut-off.mp4"
    cut_off.write_bytes(_index_first(clip, folder)[: middle + 40_000])
    crowd = make_clip(folder / "crowd.mp4", width=1280, height=720, faces=20, seconds=0.4)

    def scan(path: Path, frames: str = "8") -> object:
        return faceproof.scan(path, detector=detector, frames=frames, threads=1)

    return {
        "searching every frame, of following in fast mode": (
            ratio(
                lambda: [fast.detect(image) for image in images],
                lambda: list(find_and_follow(fast, images)),
            ),
            1.5,
            50,
        ),
        "thorough search, of a fast one": (
            ratio(lambda: thorough.detect(images[0]), lambda: fast.detect(images[0])),
            1.15,
            30,
        ),
        "converting every frame, of every 15th": (
            ratio(lambda: list(read_frames(info, "all")), lambda: list(read_frames(info, "every:15"))),
            1.15,
            30,
        ),
        "32 faces one by one, of batches": (
            ratio(lambda: [detector.score([crop]) for _ in range(32)], lambda: detector.score([crop] * 32)),
            0.7,
            10,
        ),
        "a damaged clip, of the whole one": (ratio(lambda: scan(damaged), lambda: scan(clip)), 0.05, 1.5),
        "a clip cut off, of the whole one": (ratio(lambda: scan(cut_off), lambda: scan(clip)), 0.05, 1.5),
        # Even where a frame itself cost nothing, faces that cost the same each would give 20; pairs of faces hundreds.
        "twenty faces a frame, of one": (ratio(lambda: scan(crowd), lambda: scan(clip)), 0.3, 14),
    }


def _index_first(clip: Path, folder: Path) -> bytes:
    """The same packets with the index in front, so that a cut leaves something to decode."""
    import av

    target = folder / "index-first.mp4"
    with av.open(str(clip)) as source, av.open(str(target), "w", options={"movflags": "faststart"}) as out:
        stream = source.streams.video[0]
        made = out.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = made
                out.mux(packet)
    return target.read_bytes()


def main() -> None:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = checks(Path(folder))
    wrong = 0
    for name, (value, low, high) in found.items():
        held = low <= value <= high
        wrong += not held
        print(f"{'held' if held else 'BROKEN':<8}{name}: {value:.2f} (from {low:g} to {high:g})")
    print(f"{time.perf_counter() - began:.0f} s")
    if wrong:
        sys.exit(f"{wrong} ratios are out of bounds: something became much slower, or the bound is no longer right")


if __name__ == "__main__":
    main()
