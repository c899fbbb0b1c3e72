"""Eight-bit networks by NNCF, and the gate that each must pass: a smaller network that judges otherwise is no export.

Weights of every layer become eight bits. What flows between layers does so only where it costs little: at convolutions
over places. Squeeze-and-excitation, residual sums, the head and the heatmap's closed form stay in floats. They are a
hundredth of the work, but they multiply, compare with nought or subtract large numbers of one another, where a rounded
input is another answer. Where even that changes the verdicts, only the weights are in eight bits: as small, no faster.

The result is one ONNX file with QuantizeLinear and DequantizeLinear, which OpenVINO runs in its integer kernels and ONNX
Runtime runs too. As OpenVINO's own format a B4 takes a megabyte more: XML, and bias and scale in fp32.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from faceproof.detectors.detector import Crop, Detector
from faceproof.detectors.spec import DetectorSpec
from faceproof.errors import DatasetError, FaceproofError, WeightsError
from faceproof.faces.crops import batch as prepare
from faceproof.media import read_frames
from faceproof.runtime import load_network
from faceproof.training.convert import storage

if TYPE_CHECKING:
    from onnx import ModelProto

MOST_AUROC_LOST = 0.005
MOST_FLIPPED = 0.02
# Of a heatmap: how alike two maps of one crop must be on average over crops, and how far a place may be off.
LEAST_HEAT_CORRELATION = 0.9
MOST_HEAT_MOVED = 0.05
# A map whose places differ by less shows no place at all: its noise need not be kept.
FLAT = 0.05
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
    """What eight bits changed, on crops that did not calibrate them.

    ``heat_correlation`` is the mean over crops of Pearson's correlation over the places of their two maps, where the
    original's are not flat; ``heat_moved`` the mean absolute difference of a place. None without such maps.
    ``activations``: whether what flows between convolutions is in eight bits too. ``refused``: why it is not.
    """

    activations: bool
    crops: int
    auroc: float
    auroc_int8: float
    flipped: float
    mean_difference: float
    largest_difference: float
    megabytes: float
    heat_correlation: float | None = None
    heat_moved: float | None = None
    refused: str = ""

    @property
    def passed(self) -> bool:
        return (
            abs(self.auroc - self.auroc_int8) <= MOST_AUROC_LOST
            and self.flipped <= MOST_FLIPPED
            and (self.heat_correlation is None or self.heat_correlation >= LEAST_HEAT_CORRELATION)
            and (self.heat_moved is None or self.heat_moved <= MOST_HEAT_MOVED)
        )

    def words(self) -> str:
        heat = ""
        if self.heat_correlation is not None:
            heat += f", heatmaps correlate by {self.heat_correlation:.3f} (at least {LEAST_HEAT_CORRELATION})"
        if self.heat_moved is not None:
            heat += f", mean |Δheat| {self.heat_moved:.3f} (at most {MOST_HEAT_MOVED})"
        what = "activations too" if self.activations else "weights alone"
        return (
            f"{what}: AUROC {self.auroc:.4f} → {self.auroc_int8:.4f} (may change by {MOST_AUROC_LOST}), verdicts flipped "
            f"{self.flipped:.1%} (at most {MOST_FLIPPED:.0%}), mean |Δp| {self.mean_difference:.4f}, largest "
            f"{self.largest_difference:.3f}{heat}, over {self.crops} crops"
        )

    def as_dict(self) -> dict[str, float | int | bool | str | None]:
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
    """Write an eight-bit ONNX network to ``target`` if it judges as the original does.

    Activations are tried first, then weights alone. Raises :class:`WeightsError` with the numbers of both when neither
    passes; then nothing is left at ``target``.
    """
    import onnx

    calibration, judged = labelled.every_other(0), labelled.every_other(1)
    spread = np.random.default_rng(0).permutation(len(calibration.crops))[:CALIBRATION_CROPS]
    samples = [calibration.crops[i] for i in spread]
    before = _answers(path, spec, judged.crops)
    refused: list[str] = []
    passed = False
    try:
        for activations in (True, False):
            onnx.save(reduce(path, spec, samples if activations else None), str(target))
            gate = measure(before, target, spec, judged, activations=activations)
            if gate.passed:
                passed = True
                return replace(gate, refused="; ".join(refused))
            refused.append(gate.words())
    finally:
        if not passed:
            target.unlink(missing_ok=True)
    raise WeightsError(
        f"the int8 network of {spec.name} is refused, {'; '.join(refused)}",
        remedy="Calibrate with more and more varied faces, or use bf16, which costs nothing.",
    )


def reduce(path: Path, spec: DetectorSpec, samples: Sequence[Crop] | None) -> ModelProto:
    """The network of an ONNX file with weights in eight bits and, calibrated by ``samples``, activations too."""
    import nncf
    import onnx

    nncf.set_log_level(logging.ERROR)  # it sets its own when it is imported
    model = onnx.load(str(path))
    storage.restore_floats(model)
    for number, node in enumerate(model.graph.node):
        node.name = f"{number}.{node.op_type}"  # files of other makers name none, or two alike
    if samples is not None:
        given = model.graph.input[0].name
        model = nncf.quantize(
            model,
            nncf.Dataset(list(samples), lambda crop: {given: prepare([crop], spec.input)}),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(samples),
            fast_bias_correction=True,
            # Not validated: NNCF has no nodes for what only reads shapes.
            ignored_scope=nncf.IgnoredScope(names=kept_in_floats(model), validate=False),
        )
    storage.store_eight_bits(model)
    storage.share_equal(model)
    storage.store_half(model)
    storage.strip(model)
    onnx.checker.check_model(model)
    return model


def kept_in_floats(model: ModelProto) -> list[str]:
    """Names of the nodes whose input stays in floats: all but convolutions over several places to several channels."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    names = []
    for node in model.graph.node:
        _, channels, *places = sizes.get(node.output[0], (0, 1)) if node.op_type == "Conv" else (0, 1)
        # OpenVINO 2026.4 scales a single channel twice when it is averaged and used elsewhere: logits became 1e-5.
        if channels == 1 or all(side == 1 for side in places):
            names.append(node.name)
    return names


Answers = tuple[Scores, npt.NDArray[np.float32] | None]


def measure(
    before: Answers, small: Path, spec: DetectorSpec, judged: LabelledCrops, *, activations: bool = True
) -> Gate:
    """Compare what the original answered with what the eight-bit network answers to the same crops."""
    scores, heats = before
    scores_after, heats_after = _answers(small, spec, judged.crops)
    threshold = spec.verdict.threshold
    alike, moved = (None, None) if heats is None or heats_after is None else compare_heat(heats, heats_after)
    return Gate(
        activations=activations,
        crops=len(judged.crops),
        auroc=auroc(scores, judged.fake),
        auroc_int8=auroc(scores_after, judged.fake),
        flipped=float(np.mean((scores > threshold) != (scores_after > threshold))),
        mean_difference=float(np.abs(scores - scores_after).mean()),
        largest_difference=float(np.abs(scores - scores_after).max()),
        megabytes=small.stat().st_size / 1e6,
        heat_correlation=alike,
        heat_moved=moved,
    )


def compare_heat(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> tuple[float | None, float]:
    """Mean correlation over places of maps ``[N, h, w]`` that are not flat before, and mean absolute difference.

    A map that became flat agrees with nothing: its correlation counts as nought.
    """
    first = before.reshape(len(before), -1).astype(np.float64)
    second = after.reshape(len(after), -1).astype(np.float64)
    telling = np.ptp(first, axis=1) >= FLAT
    moved = float(np.abs(first - second).mean())
    if not telling.any():
        return None, moved
    a = first[telling] - first[telling].mean(1, keepdims=True)
    b = second[telling] - second[telling].mean(1, keepdims=True)
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    each = np.divide((a * b).sum(1), scale, out=np.zeros(len(a)), where=scale > 1e-9)
    return float(each.mean()), moved


def _answers(path: Path, spec: DetectorSpec, crops: Sequence[Crop]) -> Answers:
    scores, heats = Detector(spec, load_network(path, runtime="openvino", precision="fp32")).score_with_heat(crops)
    return scores.astype(np.float64), heats


def auroc(scores: Scores, fake: npt.NDArray[np.bool_]) -> float:
    """Share of (fake, real) pairs in which the fake scores higher; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    fakes, reals = int(fake.sum()), int((~fake).sum())
    return float((rank[fake].sum() - fakes * (fakes + 1) / 2) / (fakes * reals))
