"""ONNX Runtime behind the Network protocol: every platform, and GPUs through their execution providers."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from faceproof.errors import DeviceError, NetworkError
from faceproof.runtime.cpu import usable_cores
from faceproof.runtime.network import FloatArray, Precision

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
# From Ampere on, ONNX Runtime's CUDA provider rounds the factors of fp32 products to TF32's ten bits unless told not to
# (https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#use_tf32). TensorRT does so too, and only
# this variable of NVIDIA's, read when its libraries are loaded, keeps it from that (onnxruntime issues 6427 and 26029).
_OPTIONS = {"cuda": {"use_tf32": "0"}}
_NO_TF32 = "NVIDIA_TF32_OVERRIDE"


class OnnxNetwork:
    """An ONNX file in an ONNX Runtime session, fp32: on NVIDIA GPUs as well without TF32's shorter products.

    ``streams`` threads may call :meth:`run` at once; on DirectML any number may, and take turns. The session's own threads
    do not spin while they wait: a spinning pool takes the cores that decoding and resizing need.
    """

    runtime = "onnx"

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        streams: int = 1,
    ) -> None:
        import onnxruntime as ort

        if precision == "bf16":
            raise DeviceError(
                "ONNX Runtime has no bfloat16 kernels for CPUs", remedy="Use the openvino runtime or fp32."
            )
        device = "cpu" if device == "auto" else device
        if device not in PROVIDERS:
            raise DeviceError(f"unknown device {device!r}", remedy=f"Use auto or one of {', '.join(PROVIDERS)}.")
        provider = PROVIDERS[device]
        if provider not in ort.get_available_providers():
            torch = " or, with torch, its build for CUDA" if device == "cuda" else ""
            raise DeviceError(
                f"this ONNX Runtime was built without {provider}",
                remedy=f"Install the onnxruntime build for {device}{torch}, or use --device cpu.",
            )
        if device == "tensorrt" and os.environ.get(_NO_TF32) != "0":
            raise DeviceError(
                f"TensorRT computes fp32 with TF32's shorter products unless {_NO_TF32} is 0",
                remedy=f"Set {_NO_TF32}=0, or use --device cuda.",
            )
        options = ort.SessionOptions()
        # A session may be run by several threads at once; each then brings its share of the cores.
        options.intra_op_num_threads = max(1, (threads or usable_cores()) // streams)
        # DirectML takes one call at a time and keeps no plan of its memory.
        self.streams = 1 if device == "directml" else streams
        self._turn = threading.Lock() if device == "directml" else contextlib.nullcontext()
        options.enable_mem_pattern = device != "directml"
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                str(path), options, providers=[provider], provider_options=[_OPTIONS.get(device, {})]
            )
        except Exception as error:  # ORT's exceptions share no public base class
            raise NetworkError(f"ONNX Runtime cannot load {path.name}: {str(error).splitlines()[0]}") from error
        if provider not in self._session.get_providers():
            raise DeviceError(
                f"ONNX Runtime could not start {provider}", remedy="Check the driver, or use --device cpu."
            )
        self.device = device
        self.precision = "fp32"
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        try:
            with self._turn:
                values = self._session.run(None, {self._input: np.ascontiguousarray(batch, dtype=np.float32)})
        except Exception as error:
            raise NetworkError(
                f"ONNX Runtime refused a batch of shape {batch.shape}: {str(error).splitlines()[0]}"
            ) from error
        return {name: np.asarray(value, dtype=np.float32) for name, value in zip(self.outputs, values, strict=True)}
