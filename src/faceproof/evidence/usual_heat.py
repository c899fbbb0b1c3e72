"""What a network's mask usually looks like on genuine faces, so that heat shows what is unusual about this one.

A mask head learns first that masks lie on faces: its map is a pale face on every face, brightest where masks were most
common. Measured against the mean and spread of that map over genuine faces, what remains is where this face differs. The
numbers belong to one set of weights and are found by its sha256; without them the map is shown as it is.

    python -m faceproof.evidence.usual_heat DETECTOR FOLDER

measures them anew from pictures of genuine people (a few hundred, in the folder or in tar archives in it) and writes them
beside this module.
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from faceproof.detectors.detector import Detector, load_detector
from faceproof.faces import FaceDetector, cut
from faceproof.media import read_frames, walk

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

_FOLDER = Path(__file__).parent / "usual_heat_maps"
# Cells whose usual log-odds lie this far below the highest are not part of a face.
_FACE_DEPTH = 2.5
# Genuine faces differ from the mean by about this much somewhere; heat starts there (standard deviations).
_ORDINARY = 1.0
_EDGE = 1e-4
_MOST = 400


@dataclass(frozen=True)
class UsualHeat:
    """Mean and spread (standard deviation) of the log-odds of a map's cells over genuine faces: float32 ``[h, w]``."""

    mean: Floats
    spread: Floats

    def unusual(self, heats: Floats) -> Floats:
        """Maps ``[N, h, w]`` in [0, 1] as the network gives them to heat of the same shape in [0, 1].

        0 where a cell is as on most genuine faces or not on the face at all, 0.63 three spreads above the mean.
        """
        above = (_log_odds(heats) - self.mean) / (self.spread + 0.1)
        above = np.where(self.mean > self.mean.max() - _FACE_DEPTH, above, 0)
        return (1 - np.exp(-np.maximum(above - _ORDINARY, 0) / 2)).astype(np.float32)


def _log_odds(heats: Floats) -> Floats:
    clipped = np.clip(heats, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), np.float32)


@lru_cache(maxsize=8)
def usual_heat(weights_sha256: str | None) -> UsualHeat | None:
    """The numbers for these weights, None where none were measured."""
    path = _FOLDER / f"{(weights_sha256 or 'none')[:16]}.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as found:
        return UsualHeat(found["mean"].astype(np.float32), found["spread"].astype(np.float32))


def measure(detector: Detector, crops: Iterable[Image]) -> UsualHeat:
    """Mean and spread over genuine faces, uint8 RGB ``[h, w, 3]`` each, cut as the detector's spec says."""
    maps = []
    for crop in crops:
        _, heats = detector.score_with_heat([crop])
        if heats is None:
            raise SystemExit(f"{detector.spec.name} has no map of its own")
        maps.append(_log_odds(heats[0]))
    if len(maps) < 30:
        raise SystemExit(f"{len(maps)} faces are too few; give a few hundred")
    stacked = np.stack(maps)
    return UsualHeat(stacked.mean(axis=0), stacked.std(axis=0))


def _genuine_crops(folder: Path, detector: Detector) -> Iterator[Image]:
    """The largest face of every picture, at several sizes and JPEG qualities, mirrored half of the time."""
    find = FaceDetector()
    rng = np.random.default_rng(0)
    for image in _pictures(folder):
        scale = float(rng.uniform(0.5, 1.0))
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        if rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
        _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))])
        image = np.ascontiguousarray(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
        for face in find.detect(image)[:1]:
            x0, y0, x1, y1 = (float(v) for v in face.box)
            yield cut(image, (x0, y0, x1, y1), detector.spec.faces.margin)


def _pictures(folder: Path) -> Iterator[Image]:
    """Up to :data:`_MOST` pictures, uint8 RGB: the folder's own, or else spread evenly over its tar archives."""
    paths = list(walk([folder]))
    for path in paths[:: max(1, len(paths) // _MOST)][:_MOST]:
        yield next(read_frames(path, "1")).image
    archives = [] if paths else sorted(folder.glob("*.tar"))
    for archive in archives:
        with tarfile.open(archive) as opened:
            members = [member for member in opened.getmembers() if member.isfile()]
            each = max(1, _MOST // len(archives))
            for member in members[:: max(1, len(members) // each)][:each]:
                content = opened.extractfile(member)
                if content is None:
                    continue
                image = cv2.imdecode(np.frombuffer(content.read(), np.uint8), cv2.IMREAD_COLOR)
                if image is not None:
                    yield np.ascontiguousarray(np.asarray(image, np.uint8)[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the usual heat of a detector on pictures of genuine people.")
    parser.add_argument("detector")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    detector = load_detector(arguments.detector, precision="fp32")
    sha256 = detector.spec.weights.sha256
    found = measure(detector, _genuine_crops(arguments.folder, detector))
    _FOLDER.mkdir(exist_ok=True)
    out = _FOLDER / f"{(sha256 or '')[:16]}.npz"
    np.savez_compressed(out, mean=found.mean.astype(np.float16), spread=found.spread.astype(np.float16))
    print(f"Written: {out}")


if __name__ == "__main__":
    main()
