"""How often a picture is known to lie on its side, and how often an upright one is taken for it.

    python -m benchmarks.turned FOLDER_OR_TAR… [--most 480] [--min-face 32]

Every picture is asked upright and turned by a quarter, a half and three quarters, as a scan asks: a thorough search of the
picture as it lies, and where no face in it is beyond doubt, fast ones of it turned. Pictures must hold an upright face.
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from faceproof.faces import shared_detector
from faceproof.faces.turned import SURE, turn_that_shows_a_face

ENDINGS = (".jpg", ".jpeg", ".png")


def pictures(place: Path) -> Iterator[bytes]:
    """The encoded pictures of a folder or a tar file, in the order of their names."""
    if place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.suffix.lower() in ENDINGS:
                yield path.read_bytes()
        return
    with tarfile.open(place) as tar:
        for member in sorted(tar.getmembers(), key=lambda one: one.name):
            content = tar.extractfile(member) if member.name.lower().endswith(ENDINGS) else None
            if content is not None:
                yield content.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", type=Path, nargs="+")
    parser.add_argument("--most", type=int, default=480, help="pictures of each place, evenly taken")
    parser.add_argument("--min-face", type=float, default=32)
    options = parser.parse_args()
    thorough, fast = (
        shared_detector((0.7, 0.8, 0.8), options.min_face, 0.709, "auto", mode, None)  # type: ignore[arg-type]
        for mode in ("thorough", "fast")
    )
    for place in options.places:
        encoded = list(pictures(place))
        known = dict.fromkeys((0, 90, 180, 270), 0)
        right = dict.fromkeys((90, 180, 270), 0)
        some = [encoded[i] for i in np.linspace(0, len(encoded) - 1, min(options.most, len(encoded)), dtype=int)]
        for content in some:
            upright = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            for angle in known:
                lying = np.ascontiguousarray(np.rot90(upright[:, :, ::-1], -angle // 90))
                surest = max((face.score for face in thorough.detect(lying, still=True)), default=0.0)
                turn = None if surest >= SURE else turn_that_shows_a_face([lying], fast, surer_than=surest)
                known[angle] += turn is not None
                if angle:
                    right[angle] += turn == 360 - angle
        print(f"{place.name}: {len(some)} pictures; upright ones taken for turned: {known[0]}")
        for angle, count in right.items():
            share = known[angle] / len(some)
            print(f"  turned by {angle}: {known[angle]} known to be ({share:.1%}), {count} by the right angle")


if __name__ == "__main__":
    main()
