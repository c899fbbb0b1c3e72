"""Simulated traffic: what a week of scans looks like to the drift monitor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

RESOLUTIONS = np.asarray([360.0, 480.0, 720.0, 1080.0])


def scans(
    rng: np.random.Generator, number: int, *, harder: float = 0.0, blur: float = 1.0, no_face: float = 0.06
) -> Iterator[dict[str, float]]:
    """``harder`` moves the scores up by that many standard deviations of their logit; ``blur`` scales the sharpness."""
    for _ in range(number):
        signals = {
            "resolution": float(rng.choice(RESOLUTIONS, p=[0.1, 0.2, 0.4, 0.3])),
            "bit_rate": float(rng.lognormal(14, 0.8)),
        }
        if rng.random() < no_face:
            yield signals | {"no_face": 1.0}
            continue
        yield signals | {
            "no_face": 0.0,
            "score": float(1 / (1 + np.exp(-rng.normal(-1.5 + 1.5 * harder, 1.5)))),
            "face_side": float(rng.lognormal(4.6, 0.5)),
            "sharpness": float(blur * rng.lognormal(4.0, 0.9)),
        }
