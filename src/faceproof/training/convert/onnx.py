"""A documented network as an ONNX file with the outputs ``logit`` and ``heatmap``, and the proof that it is the same."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from faceproof.detectors.spec import Input
from faceproof.errors import WeightsError
from faceproof.faces.crops import batch as prepare
from faceproof.runtime import load_network
from faceproof.runtime.network import Runtime

OPSET = 20
LOGIT_TOLERANCE = 1e-4  # of the logit itself where it is beyond ±1: there fp32 holds no more
HEATMAP_TOLERANCE = 1e-3

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Largest differences between a network and its converted file over ``crops`` random crops."""

    crops: int
    logit: float
    heatmap: float


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
            output_names=["logit", "heatmap"],
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


def compare(network: nn.Module, path: Path, recipe: Input, *, crops: int = 64, runtime: Runtime = "onnx") -> Agreement:
    """Run the network and its file on the same random crops. Raises :class:`WeightsError` for unlike or broken numbers."""
    other = load_network(path, runtime=runtime, precision="fp32")
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # a seventh faster on CPUs
    worst_logit = worst_share = worst_heat = 0.0
    step = 4 if recipe.size < 300 else 1
    pictures = random_crops(crops)
    for start in range(0, len(pictures), step):
        values = prepare(pictures[start : start + step], recipe)
        with torch.inference_mode():
            logit, heat = (t.numpy() for t in network(torch.from_numpy(values)))
        outputs = other.run(values)
        if not (np.isfinite(logit).all() and np.isfinite(outputs["logit"]).all()):
            raise WeightsError(
                "the network's answers are not finite numbers", remedy="Its weights are damaged or of another network."
            )
        difference = np.abs(outputs["logit"].reshape(logit.shape) - logit)
        worst_logit = max(worst_logit, float(difference.max()))
        worst_share = max(worst_share, float((difference / np.maximum(np.abs(logit), 1)).max()))
        worst_heat = max(worst_heat, float(np.abs(outputs["heatmap"] - heat).max()))
    if worst_share > LOGIT_TOLERANCE or worst_heat > HEATMAP_TOLERANCE:
        raise WeightsError(
            f"the converted network differs by {worst_logit:.2g} in its logit and {worst_heat:.2g} in its heatmap",
            remedy="Nothing was installed. Report this, with the versions that `faceproof doctor` prints.",
        )
    return Agreement(crops, worst_logit, worst_heat)


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
