"""Whether heat lies where a blend was planted: the pointing game on faces whose altered side is known.

    python -m benchmarks.pointing [--detector NAME] [--faces FOLDER] [--plays 120]

Without ``--faces`` it is played on scikit-image's astronaut (NASA, public domain), varied in size, place and light; with a
folder of face shards (``faces.csv`` and its archives, as training reads them) on the people that training holds out, one
face each. Seeded: the same weights give the same numbers. The bar of 0.7 counts as reached when the whole 95 % interval of
the hit rate lies above it.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from tests.evidence.planted_blends import (
    SIDES,
    SPOTS,
    PointingGame,
    astronaut_face,
    held_out_faces,
    planted_faces,
    play,
)

from faceproof.detectors.detector import load_detector
from faceproof.evidence.heatmap import HeatMethod

BAR = 0.7


def told(game: PointingGame) -> dict[str, object]:
    return {
        "hits": game.hits,
        "plays": game.plays,
        "rate": round(game.rate, 3),
        "interval_95": [round(end, 3) for end in game.interval],
        f"bar_{BAR}": game.against(BAR),
        "best_fixed_point": round(game.best_fixed, 3),
        "random_point": round(game.chance, 3),
        "by_region": {name: round(rate, 3) for name, rate in game.by_region.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector")
    parser.add_argument("--faces", type=Path, help="folder with faces.csv")
    parser.add_argument("--held-out", type=float, default=0.04, help="share of people that training held out")
    parser.add_argument("--plays", type=int, default=120)
    parser.add_argument("--method", choices=("graph", "occlusion"))
    arguments = parser.parse_args()
    detector = load_detector(arguments.detector, precision="fp32")
    method: HeatMethod | None = arguments.method
    if arguments.faces is None:
        faces = [astronaut_face()]
    else:
        faces = held_out_faces(arguments.faces, arguments.plays, share=arguments.held_out)
    result: dict[str, object] = {
        "detector": detector.spec.name,
        "weights_sha256": detector.spec.weights.sha256,
        "people": len(faces),
        "load_before": round(os.getloadavg()[0], 2),
    }
    for name, regions in (("sides", SIDES), ("spots", SPOTS)):
        result[name] = told(play(detector, planted_faces(faces, arguments.plays, regions), method=method))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
