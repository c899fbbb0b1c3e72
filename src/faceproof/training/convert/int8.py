"""Eight-bit networks by NNCF, and the gate that each must pass: a smaller network that judges otherwise is no export."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.detectors.detector import Crop, Detector, p_fake
from faceproof.detectors.spec import DetectorSpec
from faceproof.errors import DatasetError, FaceproofError, WeightsError
from faceproof.faces.crops import batch as prepare
from faceproof.media import read_frames
from faceproof.runtime import load_network

MOST_AUROC_LOST = 0.005
MOST_FLIPPED = 0.02
LEAST_CROPS = 20
CALIBRATION_CROPS = 300

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelledCrops:
    """Face crops, uint8 RGB of any size, and whether each is fake."""

    crops: tuple[Crop, ...]
    fake: npt.NDArray[np.bool_]

    def every_other(self, start: int) -> LabelledCrops:
        """Every second crop of each class, so that what calibrates never judges."""
        keep = np.zeros(len(self.crops), bool)
        for label in (False, True):
            keep[np.flatnonzero(self.fake == label)[start::2]] = True
        return LabelledCrops(tuple(c for c, k in zip(self.crops, keep, strict=True) if k), self.fake[keep])


@dataclass(frozen=True)
class Gate:
    """What eight bits changed, on crops that did not calibrate them."""

    crops: int
    auroc: float
    auroc_int8: float
    flipped: float
    mean_difference: float
    largest_difference: float
    megabytes: float

    @property
    def passed(self) -> bool:
        return abs(self.auroc - self.auroc_int8) <= MOST_AUROC_LOST and self.flipped <= MOST_FLIPPED

    def words(self) -> str:
        return (
            f"AUROC {self.auroc:.4f} → {self.auroc_int8:.4f} (may change by {MOST_AUROC_LOST}), verdicts flipped "
            f"{self.flipped:.1%} (at most {MOST_FLIPPED:.0%}), mean |Δp| {self.mean_difference:.4f}, largest "
            f"{self.largest_difference:.3f}, over {self.crops} crops"
        )

    def as_dict(self) -> dict[str, float | int | bool]:
        return {**asdict(self), "passed": self.passed}


def read_crops(folder: Path) -> LabelledCrops:
    """Pictures of faces, already cut out, in ``folder/real`` and ``folder/fake``. Raises :class:`DatasetError`."""
    crops: list[Crop] = []
    labels: list[bool] = []
    for name, fake in (("real", False), ("fake", True)):
        if not (folder / name).is_dir():
            raise DatasetError(f"{folder / name} is missing", remedy="Put face crops into real/ and fake/.")
        for path in sorted(p for p in (folder / name).rglob("*") if p.is_file() and not p.name.startswith(".")):
            try:
                crops.append(next(iter(read_frames(path, "1"))).image)
            except (FaceproofError, StopIteration) as error:
                raise DatasetError(f"{path} is not a picture: {error}", remedy="Remove it.") from error
            labels.append(fake)
    found = LabelledCrops(tuple(crops), np.asarray(labels, bool))
    fewest = min(int(found.fake.sum()), int((~found.fake).sum()))
    if fewest < 2 * LEAST_CROPS:
        raise DatasetError(
            f"{folder} has only {fewest} crops of one class; {2 * LEAST_CROPS} are needed of each",
            remedy="Half of them calibrate, the other half judge.",
        )
    return found


def quantise(path: Path, spec: DetectorSpec, labelled: LabelledCrops, target: Path) -> Gate:
    """Write an eight-bit OpenVINO network to ``target`` (``.xml``) if it judges as the original does.

    Raises :class:`WeightsError` with the numbers when it does not; then nothing is left at ``target``.
    """
    import nncf
    import openvino as ov

    logging.getLogger("nncf").setLevel(logging.ERROR)
    calibration, judged = labelled.every_other(0), labelled.every_other(1)
    model = ov.convert_model(str(path))
    spread = np.random.default_rng(0).permutation(len(calibration.crops))[:CALIBRATION_CROPS]
    dataset = nncf.Dataset([calibration.crops[i] for i in spread], lambda crop: prepare([crop], spec.input))
    small = nncf.quantize(
        model,
        dataset,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(spread),
        fast_bias_correction=False,
    )
    ov.save_model(small, str(target), compress_to_fp16=False)
    try:
        gate = measure(path, target, spec, judged)
        if not gate.passed:
            raise WeightsError(
                f"the int8 network of {spec.name} is refused: {gate.words()}",
                remedy="Calibrate with more and more varied faces, or use bf16, which costs nothing.",
            )
    except BaseException:
        for file in (target, target.with_suffix(".bin")):
            file.unlink(missing_ok=True)
        raise
    return gate


def measure(path: Path, small: Path, spec: DetectorSpec, judged: LabelledCrops) -> Gate:
    """Score the same crops with both networks."""
    before = _scores(path, spec, judged.crops)
    after = _scores(small, spec, judged.crops)
    threshold = spec.verdict.threshold
    size = small.stat().st_size + small.with_suffix(".bin").stat().st_size
    return Gate(
        crops=len(judged.crops),
        auroc=auroc(before, judged.fake),
        auroc_int8=auroc(after, judged.fake),
        flipped=float(np.mean((before > threshold) != (after > threshold))),
        mean_difference=float(np.abs(before - after).mean()),
        largest_difference=float(np.abs(before - after).max()),
        megabytes=size / 1e6,
    )


def _scores(path: Path, spec: DetectorSpec, crops: tuple[Crop, ...]) -> Scores:
    detector = Detector(spec, load_network(path, runtime="openvino", precision="fp32"))
    return np.concatenate([p_fake(detector.logits([crop]), spec.output) for crop in crops]).astype(np.float64)


def auroc(scores: Scores, fake: npt.NDArray[np.bool_]) -> float:
    """Share of (fake, real) pairs in which the fake scores higher; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    fakes, reals = int(fake.sum()), int((~fake).sum())
    return float((rank[fake].sum() - fakes * (fakes + 1) / 2) / (fakes * reals))
