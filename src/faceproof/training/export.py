"""From a checkpoint to the file that ships: ONNX with a logit and a heatmap, checked against torch.

The graph's input is `input` float32 `[N, 3, S, S]`, RGB, (x / 255 - mean) / std; its outputs are `logit`
float32 `[N]` (high = fake) and `heatmap` float32 `[N, h, w]` in [0, 1] (probability that this place was
changed). Weights are stored as fp16 and cast to fp32 when the graph is loaded: half the size, and the
arithmetic stays fp32.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from faceproof.errors import TrainingError
from faceproof.training import checkpoints
from faceproof.training.convert.storage import share_equal, store_half
from faceproof.training.networks import blank_network
from faceproof.training.recipe import Recipe

OPSET = 17


@dataclass(frozen=True)
class Parity:
    """Largest difference to torch over random pictures: of logits, and of heatmap values."""

    runtime: str
    logit: float
    heatmap: float


class _Graph(nn.Module):
    """What gets exported: heatmap logits become probabilities; without a mask head the map is the score everywhere."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        prediction = self.network(x)
        if prediction.heatmap is None:
            return prediction.logit, torch.sigmoid(prediction.logit)[:, None, None]
        return prediction.logit, torch.sigmoid(prediction.heatmap)


def load_network(checkpoint: str | Path, *, averaged: bool = True) -> tuple[nn.Module, Recipe, dict[str, float]]:
    """The averaged weights of a checkpoint (the plain ones where nothing was averaged), its recipe and its metrics."""
    path = Path(checkpoint)
    stored = checkpoints.load(path)
    network, recipe = network_of(stored, path, averaged=averaged)
    return network, recipe, dict(stored.get("metrics") or {})


def network_of(stored: dict[str, Any], path: Path, *, averaged: bool = True) -> tuple[nn.Module, Recipe]:
    """The network in a checkpoint that was read from `path`, in evaluation mode, and its recipe."""
    recipe = checkpoints.recipe_of(stored, path)
    network = blank_network(recipe)
    network.load_state_dict((stored["average"] if averaged else None) or stored["network"])
    return network.eval(), recipe


def export_onnx(network: nn.Module, size: int, path: str | Path, *, half: bool = True) -> str:
    """Write the network as ONNX and return the file's SHA-256. `half` stores large weights as fp16."""
    import onnx

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = _Graph(network.eval().cpu().float()).eval()
    draft = path.with_suffix(".draft.onnx")
    with warnings.catch_warnings():
        # the trace records the padding of one input size, which is the only one the graph accepts
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph, (torch.zeros(2, 3, size, size),), str(draft), input_names=["input"], output_names=["logit", "heatmap"],
            dynamic_axes={"input": {0: "N"}, "logit": {0: "N"}, "heatmap": {0: "N"}}, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load(str(draft))
    draft.unlink()
    share_equal(model)  # members of a committee may share a backbone
    if half:
        store_half(model)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def probe_pictures(size: int, seed: int = 0) -> np.ndarray:
    """Four smooth random pictures with a little noise, as a network takes them: float32 `[4, 3, size, size]`."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-1, 1, (4, 3, 12, 12)).astype(np.float32))
    pictures = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").numpy()
    return (pictures + rng.normal(0, 0.05, pictures.shape)).astype(np.float32)


def check_parity(
    network: nn.Module, path: str | Path, size: int, *, tolerance: float = 0.05, seed: int = 0
) -> list[Parity]:
    """Compare the file in ONNX Runtime and OpenVINO with torch on smooth random pictures.

    Raises TrainingError when a logit differs by more than `tolerance`: fp16 storage alone moves one by
    a few hundredths at most.
    """
    import onnxruntime

    pictures = probe_pictures(size, seed)
    with torch.inference_mode():
        expected = [t.numpy() for t in _Graph(network.eval().cpu().float())(torch.from_numpy(pictures))]
    results = {
        "onnxruntime": onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            ["logit", "heatmap"], {"input": pictures}
        )
    }
    try:
        import openvino

        compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        answer = compiled(pictures)
        results["openvino"] = [answer["logit"], answer["heatmap"]]
    except ImportError:
        warnings.warn("OpenVINO is not installed, its parity was not checked", stacklevel=2)
    found = [
        Parity(name, float(np.abs(r[0].reshape(-1) - expected[0]).max()), float(np.abs(r[1] - expected[1]).max()))
        for name, r in results.items()
    ]
    for parity in found:
        if not parity.logit <= tolerance:
            raise TrainingError(
                f"{parity.runtime} differs from torch by {parity.logit:.3f} on a logit",
                remedy="Export again without fp16 storage, or report this.",
            )
    return found


def fit_platt(logits: np.ndarray, labels: np.ndarray, *, rounds: int = 50) -> tuple[float, float]:
    """Platt scaling by Newton's method: (a, b) such that sigmoid(a · logit + b) fits the labels (Platt, 1999).

    logits float `[N]`, labels `[N]` of 0 and 1, both classes present (TrainingError otherwise). Each class weighs half, so
    that the probability is that of an even mixture, as everywhere in Faceproof. Targets are pulled in as in the
    paper, so that separable data give finite numbers.
    """
    labels = np.asarray(labels) > 0.5
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        raise TrainingError("Calibration needs both real and fake faces")
    target = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    share = len(labels) / 2 / np.where(labels, positives, negatives)
    design = np.stack([np.asarray(logits, np.float64), np.ones(len(labels))], 1)
    weights = np.array([1.0, 0.0], np.float64)
    for _ in range(rounds):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -40, 40)))
        gradient = design.T @ (share * (p - target))
        hessian = (design * (share * p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        weights -= step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return float(weights[0]), float(weights[1])
