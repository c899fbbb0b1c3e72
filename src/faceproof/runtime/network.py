"""The seam between Faceproof and whatever multiplies the matrices."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from faceproof.errors import DeviceError, RuntimeMissingError

Precision = Literal["auto", "fp32", "bf16"]
# "auto", "openvino", "onnx", "torch", or the address of a server: "triton://host:port/model".
Runtime = str
FloatArray = npt.NDArray[np.float32]


@runtime_checkable
class Network(Protocol):
    """A loaded network. As many threads may call it at once as its ``streams`` say, one where it has no such attribute.

    Attributes
    ----------
    runtime: engine that runs it, for instance ``"openvino"``.
    precision: ``"fp32"`` or ``"bf16"``, as it runs, not as it was asked for.
    device: ``"cpu"``, ``"cuda"``, ...
    outputs: names of what :meth:`run` returns.
    """

    runtime: str
    precision: str
    device: str
    outputs: tuple[str, ...]

    def run(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        """Run one batch.

        ``batch`` is float32 ``[N, C, H, W]``, C-contiguous, N ≥ 1. Every output is a new float32 array whose
        first axis is N. Raises :class:`faceproof.errors.NetworkError` when the engine refuses the batch.
        """
        ...


class FakeNetwork:
    """A network without weights, for tests of everything around it.

    ``logit`` maps the float32 batch ``[N, C, H, W]`` to ``[N]`` logits; by default the mean pixel of each crop.
    """

    runtime = "fake"
    precision = "fp32"
    device = "cpu"
    outputs: tuple[str, ...] = ("logit", "heatmap")

    def __init__(self, logit: Callable[[FloatArray], npt.ArrayLike] | None = None) -> None:
        self._logit = logit or (lambda batch: batch.mean(axis=(1, 2, 3)))
        self.batches: list[int] = []

    def run(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        self.batches.append(len(batch))
        heat = np.abs(batch).mean(axis=1)
        peak = heat.max(axis=(1, 2), keepdims=True)
        return {
            "logit": np.asarray(self._logit(batch), dtype=np.float32).reshape(len(batch)),
            "heatmap": (heat / np.where(peak > 0, peak, 1)).astype(np.float32),
        }


def load_network(
    path: Path,
    *,
    runtime: Runtime = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    streams: int = 1,
    sha256: str | None = None,
) -> Network:
    """Load an ONNX file (or an OpenVINO ``.xml``).

    ``runtime="auto"`` takes OpenVINO on CPUs where it is installed and ONNX Runtime otherwise and for every
    other device; for ``device="cuda"`` torch, where ONNX Runtime cannot use one and torch can. ``precision="auto"`` is
    bf16 where OpenVINO or torch run on a device that computes it natively, and fp32 elsewhere.
    ``threads`` bounds the cores used; by default all that this process may use. ``streams`` calls may run at once and share
    them: more work in all where one call alone cannot fill the cores, each call slower. ``runtime="triton://host:port/model"``
    runs the network on a server of the Open Inference Protocol instead (:mod:`faceproof.runtime.triton`). ``sha256`` is the
    file's where the caller has just checked it: its compiled form is then found without reading it again.

    Raises :class:`DeviceError` for a device or precision this machine lacks, :class:`RuntimeMissingError` for a runtime, and
    :class:`faceproof.errors.NetworkError` for a file that the engine cannot load.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise DeviceError(f"unknown precision {precision!r}", remedy="Use auto, fp32 or bf16.")
    if runtime.startswith(("triton:", "tritons:")):
        from faceproof.runtime.triton import TritonNetwork

        here = {"device": device, "precision": precision, "threads": threads}
        return TritonNetwork(runtime, local=lambda: load_network(path, **here))  # type: ignore[arg-type]
    if runtime not in ("auto", *_PACKAGES):
        raise DeviceError(
            f"unknown runtime {runtime!r}", remedy="Use auto, openvino, onnx, torch or triton://host:port/model."
        )
    if runtime == "auto":
        openvino_fits = device in ("auto", "cpu") and importlib.util.find_spec("openvino") is not None
        if openvino_fits or path.suffix == ".xml":
            runtime = "openvino"
        else:
            runtime = "torch" if device == "cuda" and only_torch_has_cuda() else "onnx"
    packages, extra = _PACKAGES[runtime]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            gpu = " (for a GPU onnxruntime-gpu instead)" if runtime == "onnx" else ""
            raise RuntimeMissingError(
                f"{package} is not installed, which --runtime {runtime} or --device {device} needs",
                remedy=f"Run `pip install '{extra}'`{gpu}, or leave --runtime and --device at auto.",
            )
    if runtime == "openvino":
        from faceproof.runtime.openvino import OpenVinoNetwork

        return OpenVinoNetwork(
            path, device=device, precision=precision, threads=threads, streams=streams, sha256=sha256
        )
    if runtime == "torch":
        from faceproof.runtime.torch import TorchNetwork

        return TorchNetwork(path, device=device, precision=precision, threads=threads, streams=streams)
    from faceproof.runtime.onnx import OnnxNetwork

    return OnnxNetwork(path, device=device, precision=precision, threads=threads, streams=streams)


_PACKAGES: dict[Runtime, tuple[tuple[str, ...], str]] = {
    "openvino": (("openvino",), "openvino"),
    "onnx": (("onnxruntime",), "faceproof[onnx]"),
    "torch": (("torch", "onnx"), "faceproof[train]"),
}


def only_torch_has_cuda() -> bool:
    """Whether torch reaches a CUDA device here and ONNX Runtime was not built to; imports what is installed of both."""
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            return False
    if any(importlib.util.find_spec(package) is None for package in _PACKAGES["torch"][0]):
        return False
    from faceproof.runtime.torch import sees_cuda

    return sees_cuda()
