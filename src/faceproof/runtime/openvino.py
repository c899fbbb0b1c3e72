"""OpenVINO behind the Network protocol: the fast engine on x86 and Arm CPUs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from faceproof.errors import DeviceError, NetworkError
from faceproof.runtime.cpu import computes_bf16, usable_cores
from faceproof.runtime.network import FloatArray, Precision


class OpenVinoNetwork:
    """An ONNX or OpenVINO IR file compiled for the CPU, one request at a time with lowest latency."""

    runtime = "openvino"

    def __init__(
        self, path: Path, *, device: str = "auto", precision: Precision = "auto", threads: int | None = None
    ) -> None:
        ov = _import_openvino()
        if device not in ("auto", "cpu"):
            raise DeviceError(f"OpenVINO here runs on the CPU, not on {device!r}")
        if precision == "bf16" and not computes_bf16():
            raise DeviceError("this CPU has no bfloat16 instructions", remedy="Use --precision fp32 or auto.")
        self.precision = "bf16" if precision == "bf16" or (precision == "auto" and computes_bf16()) else "fp32"
        self.device = "cpu"
        config = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(threads or usable_cores()),
        }
        try:
            core = ov.Core()
            model = core.read_model(str(path))
            # Asked before compiling, which adds the names of tensors that were fused into an output.
            self.outputs = tuple(_output_name(port) for port in model.outputs)
            compiled = core.compile_model(model, "CPU", config)
        except RuntimeError as error:
            raise NetworkError(f"OpenVINO cannot load {path.name}: {_first_line(error)}") from error
        self._request = compiled.create_infer_request()

    def run(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        try:
            self._request.infer([np.ascontiguousarray(batch, dtype=np.float32)], share_inputs=True)
        except RuntimeError as error:
            raise NetworkError(f"OpenVINO refused a batch of shape {batch.shape}: {_first_line(error)}") from error
        # The request's tensors are overwritten by its next run; callers get their own.
        return {
            name: np.array(self._request.get_output_tensor(place).data, dtype=np.float32)
            for place, name in enumerate(self.outputs)
        }


def _output_name(port: Any) -> str:
    """The output's name in the file; a port may carry aliases beside it."""
    shown = str(port.node.get_friendly_name()).rsplit("/sink_port_", 1)[0]
    names = port.get_names()
    return shown if shown in names else min(names)


def _import_openvino() -> ModuleType:
    """OpenVINO without its usage statistics, which it would send at import: nothing here may ask for the network."""
    missing = object()
    before = sys.modules.get("openvino_telemetry", missing)
    if before is missing:
        # None makes its import fail, and OpenVINO then uses its own silent stub.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if before is missing:
            del sys.modules["openvino_telemetry"]
    module: ModuleType = openvino
    return module


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
