"""A documented network as an ONNX file with the outputs ``logit`` and ``heatmap``, and the proof that it is the same."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceproof.detectors.spec import DetectorSpec, Input, Output
from faceproof.errors import WeightsError
from faceproof.faces.crops import batch as prepare
from faceproof.runtime import load_network

OPSET = 20
OUTPUTS = ("logit", "heatmap")
LOGIT_TOLERANCE = 1e-4  # of the logit itself where it is beyond ±1: there fp32 holds no more
HEATMAP_TOLERANCE = 1e-3

FloatArray = npt.NDArray[np.float32]
# From prepared crops ``[N, 3, S, S]`` to a network's outputs by name.
Run = Callable[[FloatArray], Mapping[str, FloatArray]]


@dataclass(frozen=True)
class Agreement:
    """Largest differences between two forms of a network over ``crops`` random crops.

    ``share``: of the logit, as a share of it where it is beyond ±1. ``heatmap`` is 0 for networks without one.
    """

    crops: int
    logit: float
    heatmap: float
    share: float = 0.0

    @property
    def close(self) -> bool:
        return self.share <= LOGIT_TOLERANCE and self.heatmap <= HEATMAP_TOLERANCE


def export_onnx(network: nn.Module, size: int, path: Path) -> None:
    """Write ``network`` (in evaluation mode, returning logit and heatmap) for batches ``[N, 3, size, size]``."""
    example = torch.zeros(2, 3, size, size)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["input"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)


def random_crops(count: int, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    """Crops to compare networks on: half smooth as faces are, half noise, of different shapes."""
    rng = np.random.default_rng(seed)
    crops = []
    for number in range(count):
        height, width = (int(side) for side in rng.integers(64, 300, 2))
        if number % 2:
            crops.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        else:
            corners = rng.uniform(0, 255, (2, 2, 3))
            y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
            smooth = (corners[0, 0] * (1 - y) + corners[1, 0] * y) * (1 - x)
            smooth = smooth + (corners[0, 1] * (1 - y) + corners[1, 1] * y) * x
            crops.append(np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8))
    return crops


def differences(first: Run, second: Run, recipe: Input, output: Output, *, crops: int = 64) -> Agreement:
    """Ask two forms of a network about the same random crops. Raises :class:`WeightsError` for NaN and infinity."""
    worst_logit = worst_share = worst_heat = 0.0
    step = 4 if recipe.size < 300 else 1
    pictures = random_crops(crops)
    for start in range(0, len(pictures), step):
        values = prepare(pictures[start : start + step], recipe)
        one, two = first(values), second(values)
        names = [output.logit] + ([output.heatmap] if output.heatmap else [])
        if not all(np.isfinite(answers[name]).all() for answers in (one, two) for name in names):
            raise WeightsError(
                "the network's answers are not finite numbers", remedy="Its weights are damaged or of another network."
            )
        logit = one[output.logit]
        difference = np.abs(two[output.logit].reshape(logit.shape) - logit)
        worst_logit = max(worst_logit, float(difference.max()))
        worst_share = max(worst_share, float((difference / np.maximum(np.abs(logit), 1)).max()))
        if output.heatmap:
            worst_heat = max(worst_heat, float(np.abs(two[output.heatmap] - one[output.heatmap]).max()))
    return Agreement(crops, worst_logit, worst_heat, worst_share)


def compare(network: nn.Module, path: Path, spec: DetectorSpec, *, crops: int = 64) -> Agreement:
    """Run a network and its ONNX file on the same random crops. Raises :class:`WeightsError` where they differ."""
    other = load_network(path, runtime="onnx", precision="fp32")
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # a seventh faster on CPUs

    def run(values: FloatArray) -> Mapping[str, FloatArray]:
        with torch.inference_mode():
            return dict(zip(OUTPUTS, (t.numpy() for t in network(torch.from_numpy(values))), strict=True))

    found = differences(run, other.run, spec.input, spec.output, crops=crops)
    if not found.close:
        raise WeightsError(
            f"the converted network differs by {found.logit:.2g} in its logit and {found.heatmap:.2g} in its heatmap",
            remedy="Nothing was installed. Report this, with the versions that `faceproof doctor` prints.",
        )
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress and warns about its own internals; neither is for the user."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
