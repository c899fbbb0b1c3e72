"""Known answers: what a detector must say to given crops, wherever its network runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from faceproof.detectors.spec import Golden
from faceproof.errors import SpecError, WeightsError
from faceproof.runtime import Network

if TYPE_CHECKING:
    from faceproof.detectors.detector import Detector

Crop = npt.NDArray[np.uint8]

#: By how much a probability may move wherever a network runs.
SHIFT = 0.02
_PATTERNS = ("pattern:1", "pattern:2")


def golden_crop(asset: str, folder: Path) -> Crop:
    """The picture a golden row speaks of: uint8 RGB ``[h, w, 3]``.

    ``pattern:SEED`` is smooth noise of 256×256 px drawn here, the same on every machine; anything else is a PNG in
    ``folder``. Raises :class:`SpecError` when there is no such picture.
    """
    kind, _, seed = asset.partition(":")
    if kind == "pattern" and seed.isdigit():
        coarse = np.random.default_rng(int(seed)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        # Whole-number weights in plain numpy: no library's resize decides what the picture is.
        steps = np.arange(256)
        low = np.minimum(steps * 7 // 255, 6)
        share = steps * 7 - low * 255
        rows = coarse[low].astype(np.int64) * (255 - share)[:, None, None] + coarse[low + 1] * share[:, None, None]
        both = rows[:, low] * (255 - share)[None, :, None] + rows[:, low + 1] * share[None, :, None]
        pattern: Crop = (both // (255 * 255)).astype(np.uint8)
        return pattern
    try:
        data = (folder / asset).read_bytes()
    except OSError as error:
        raise SpecError(f"the golden picture {asset} is missing") from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise SpecError(f"the golden picture {asset} cannot be read")
    return np.ascontiguousarray(image[:, :, ::-1])


def difference(detector: Detector, crop: Crop) -> float:
    """The network's logit for one crop; of two classes, that of the fake one over the other."""
    logits = detector.logits([crop])[0]
    if len(logits) == 2:
        index = detector.spec.output.fake_index
        return float(logits[index] - logits[1 - index])
    return float(logits[0])


def known_answers(
    detector: Detector, folder: Path, assets: Sequence[str] = (), *, other: Detector | None = None
) -> tuple[Golden, ...]:
    """What ``detector`` says to ``assets`` here (two patterns by default), as rows for its spec; run it in fp32.

    ``other`` is the same network in another engine. Engines round eight bits differently: a row's tolerance is at least
    twice that.
    """
    rows = []
    for asset in assets or _PATTERNS:
        crop = golden_crop(asset, folder)
        logit = difference(detector, crop)
        apart = 0.0 if other is None else abs(difference(other, crop) - logit)
        tolerance = max(SHIFT, 0.01 * abs(logit), 2 * apart)
        rows.append(Golden(asset=asset, logit=round(logit, 6), tolerance=round(tolerance, 6)))
    return tuple(rows)


def low_precision_tolerance(known: float) -> float:
    """By how much a logit may move at low precision: what moves p = 1/2 by :data:`SHIFT`, or a twentieth of a large one.

    bfloat16 keeps eight bits: errors grow with the numbers that are added up.
    """
    return max(4 * SHIFT, 0.05 * abs(known))


def moved(logit: float, known: float) -> float:
    """By how much the probability differs, 0 to 1."""
    return abs(1 / (1 + math.exp(-max(logit, -700))) - 1 / (1 + math.exp(-max(known, -700))))


def require_the_same_network(detector: Detector, folder: Path, here: Callable[[], Network]) -> None:
    """Ask a network elsewhere for the spec's known answers or, without any, for what the network here answers.

    ``folder`` holds the spec's pictures; ``here`` loads the checked weights on this machine. Raises
    :class:`WeightsError` when it answers otherwise: it holds another network, or other weights.
    """
    rows = [(row.asset, row.logit) for row in detector.spec.golden]
    if not rows:
        local = type(detector)(detector.spec, here())
        rows = [(asset, difference(local, golden_crop(asset, folder))) for asset in _PATTERNS]
    for asset, known in rows:
        said = difference(detector, golden_crop(asset, folder))
        if not abs(said - known) <= low_precision_tolerance(known) or moved(said, known) > SHIFT:
            raise WeightsError(
                f"{detector.network.device} does not serve {detector.spec.name} {detector.spec.version}: its logit for "
                f"{asset} is {said:.4f}, not {known:.4f}",
                remedy="Serve the very file that this detector has here, and the version its record names.",
            )
