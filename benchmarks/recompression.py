"""How often a video that was encoded twice is told from one encoded once, by the sizes of its frames.

    python -m benchmarks.recompression [--clips 20]

Clips of 240 frames (320 x 240, a textured scene under a moving camera) are made on the spot with differing content,
quality and spacing of key frames: as many encoded once as twice. Seeded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from faceproof.evidence.frame_sizes import CHANCE, STRONG, Rhythm, size_rhythm
from faceproof.media import Limits, read_frames

Frames = list[npt.NDArray[np.uint8]]


def scene(seed: int, frames: int = 240) -> Frames:
    """A textured ground under a wandering camera, a disc crossing it, and sensor noise."""
    rng = np.random.default_rng(seed)
    ground = sum(
        cv2.resize(rng.normal(0, 1, (s, s, 3)).astype(np.float32), (640, 560), interpolation=cv2.INTER_CUBIC) * w
        for s, w in ((6, 40), (24, 22), (96, 14))
    )
    ground = np.clip(ground + 120, 0, 255)
    walk = np.cumsum(rng.normal(0, 0.5, (frames, 2)), axis=0) + rng.uniform(-0.4, 0.4, 2) * np.arange(frames)[:, None]
    made = []
    for number in range(frames):
        x, y = np.clip(walk[number] + 120, 0, (310, 310)) * (1.0, 1.0)
        shift = np.array([[1, 0, -x], [0, 1, -y]], np.float64)
        image = cv2.warpAffine(
            ground.astype(np.float32), shift, (320, 240), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        cv2.circle(image, (int(40 + number * 1.1) % 320, 120 + int(30 * np.sin(number / 17))), 34, (180, 140, 120), -1)
        made.append(np.clip(image + rng.normal(0, 2.5, image.shape), 0, 255).astype(np.uint8))
    return made


def encode(path: Path, frames: Frames, *, crf: int, spacing: int, preset: str = "veryfast", b_frames: int = 2) -> Path:
    options = {"crf": str(crf), "preset": preset, "g": str(spacing), "bf": str(b_frames), "sc_threshold": "0"}
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(25), options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode(None))
    return path


def measure(clips: int, first_seed: int, folder: Path) -> dict[str, object]:
    once: list[Rhythm | None] = []
    twice: list[tuple[int, Rhythm | None]] = []
    for seed in range(first_seed, first_seed + clips):
        rng = np.random.default_rng((7, seed))
        first_spacing, spacing = int(rng.choice([12, 15, 24, 30, 48])), int(rng.choice([50, 60, 250]))
        first, second = int(rng.integers(20, 34)), int(rng.integers(18, 30))
        b_frames = int(rng.choice([0, 2]))
        frames = scene(seed)
        single = encode(folder / "once.mp4", frames, crf=second, spacing=spacing, b_frames=b_frames)
        once.append(size_rhythm(single, Limits()))
        before = encode(folder / "before.mp4", frames, crf=first, spacing=first_spacing)
        decoded = [frame.image for frame in read_frames(before, "all")]
        double = encode(folder / "twice.mp4", decoded, crf=second, spacing=spacing, b_frames=b_frames)
        twice.append((first_spacing, size_rhythm(double, Limits())))
    told = [(spacing, found) for spacing, found in twice if found is not None and found.tells]
    return {
        "clips": clips,
        "once_called_twice": sum(found is not None and found.tells for found in once),
        "twice_found": len(told),
        "twice_found_with_the_right_spacing": sum(found.period % spacing == 0 for spacing, found in told),
        "chance_level": CHANCE,
        "least_strength": STRONG,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100, help="the limits were set on seeds 0 to 5")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(arguments.clips, arguments.first_seed, Path(folder)), indent=2))


if __name__ == "__main__":
    main()
