"""Detectors without weights, for worker processes of the tests. ``FACEPROOF_DETECTOR_LOADER=fake_detectors:Fakes``."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from faceproof.detectors.detector import Detector
from faceproof.detectors.spec import DetectorSpec, parse_spec, spec_sha256
from faceproof.errors import UnknownDetectorError
from faceproof.runtime import FakeNetwork

TOML = """
schema_version = 1
name = "{name}"
version = "1.0"
summary = "Answers without looking, for tests"
[licence]
weights = "none"
code = "Apache-2.0"
commercial = true
origin = "tests"
[faces]
fallback = "{fallback}"
[input]
size = {size}
[output]
fake_is = "high"
heatmap = "heatmap"
"""


def spec_of(name: str, *, fallback: str = "centre", size: int = 32) -> DetectorSpec:
    return parse_spec(TOML.format(name=name, fallback=fallback, size=size))


SPECS = {
    "fake": spec_of("fake"),
    "fake-other": spec_of("fake-other"),
    "fake-slow": spec_of("fake-slow", size=300),
    "fake-greedy": spec_of("fake-greedy"),
    "fake-stuck": spec_of("fake-stuck"),
    "fake-faces": spec_of("fake-faces", fallback="none", size=96),
}


def _logit(name: str) -> object:
    def answer(batch: npt.NDArray[np.float32]) -> npt.ArrayLike:
        if name == "fake-slow":
            time.sleep(0.15 * len(batch))
        if name == "fake-greedy":
            np.ones(40 * 2**30, np.uint8)
        if name == "fake-stuck":
            ends = time.time() + 600
            while time.time() < ends:
                sum(range(10_000))
        if name == "fake-other":
            return np.full(len(batch), -3.0)
        if name == "fake-faces":
            return 4 * np.sin(9 * batch.mean(axis=(1, 2, 3)) + 40 * batch[:, 0].std(axis=(1, 2)))
        return batch.std(axis=(1, 2, 3)) * 2 + batch.mean(axis=(1, 2, 3))

    return answer


class Fakes:
    def __init__(self) -> None:
        self.default = "fake"

    def specs(self) -> list[DetectorSpec]:
        return list(SPECS.values())

    def fingerprint(self, name: str) -> str:
        if name not in SPECS:
            raise UnknownDetectorError(f"no detector is called {name!r}")
        return spec_sha256(SPECS[name])

    def load(self, name: str, *, device: str, threads: int | None) -> Detector:
        return Detector(SPECS[name], FakeNetwork(_logit(name)))
