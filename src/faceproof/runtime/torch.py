"""PyTorch behind the Network protocol: NVIDIA GPUs in bfloat16 with CUDA graphs, for those who have torch anyway."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faceproof.errors import DeviceError, FaceproofError, NetworkError
from faceproof.runtime.captured import MOST_KEPT, CapturedBatches
from faceproof.runtime.cpu import computes_bf16
from faceproof.runtime.network import FloatArray, Precision
from faceproof.runtime.torch_cuda import CudaBatch
from faceproof.runtime.torch_program import Program, StraightLine

# What torch raises for shapes and types that do not fit, and for memory that is not there.
_REFUSALS = (RuntimeError, ValueError, IndexError, TypeError)


def sees_cuda() -> bool:
    """Whether this torch was built for CUDA and finds a device."""
    return torch.cuda.is_available()


def device_name() -> str | None:
    """The CUDA device that networks run on, and torch's CUDA; None without one."""
    return f"CUDA {torch.version.cuda} on {torch.cuda.get_device_name()}" if sees_cuda() else None


def computes(device: str, precision: Precision) -> bool:
    """Whether ``cpu`` or ``cuda`` computes in ``"bf16"`` natively; ``"fp32"`` everything does."""
    if precision != "bf16":
        return True
    return computes_bf16() if device == "cpu" else torch.cuda.is_bf16_supported(including_emulation=False)


class TorchNetwork:
    """An ONNX file as torch calls (:mod:`faceproof.runtime.torch_program`), channels last, under autocast for bf16.

    On ``cuda`` each shape of batch is one CUDA graph, recorded when it is first met
    (:mod:`faceproof.runtime.captured`); any number of threads may call :meth:`run`, and take turns. On ``cpu`` the calls
    run as they are, to check one against the other: OpenVINO is several times as fast there. ``threads`` bounds the
    cores of the whole process's torch. ``precision="auto"`` is bf16 where the device computes it natively. fp32 is
    fp32: no TensorFloat-32 in convolutions.

    Raises :class:`DeviceError` for a device or precision this machine lacks and :class:`NetworkError` for a file that
    cannot be read so, or is of opset 12 or older.
    """

    runtime = "torch"

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        streams: int = 1,
    ) -> None:
        if device == "auto":
            device = "cuda" if sees_cuda() else "cpu"
        if device not in ("cpu", "cuda"):
            raise DeviceError(f"torch here runs on cpu and cuda, not on {device!r}")
        if device == "cuda" and not sees_cuda():
            reason = "sees no CUDA device" if torch.version.cuda else "was built without CUDA"
            raise DeviceError(f"this torch {reason}", remedy="Check the driver and torch's build, or use --device cpu.")
        native = computes(device, "bf16")
        if precision == "bf16" and not native:
            raise DeviceError(f"this {device} device has no bfloat16", remedy="Use --precision fp32 or auto.")
        if device == "cpu" and threads is not None:
            torch.set_num_threads(threads)
        self.device = device
        self.precision = "bf16" if native and precision != "fp32" else "fp32"
        self._lower = torch.bfloat16 if self.precision == "bf16" else None
        self._name = path.name
        try:
            self._program = Program(path, device=device, lower=self._lower)
        except _REFUSALS as error:
            raise NetworkError(f"torch cannot load {path.name}: {_first_line(error)}") from error
        self.outputs = self._program.outputs
        self._lines: OrderedDict[tuple[int, ...], StraightLine] = OrderedDict()
        self._reading = threading.Lock()
        self.streams = streams
        self._captured: CapturedBatches | None = None
        if device == "cuda":
            self.streams = 1
            self._stream, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]
            self._captured = CapturedBatches(self._capture)

    def run(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        batch = np.require(batch, np.float32, ("C", "W"))
        try:
            if self._captured is not None:
                return self._captured.run(batch)
            with self._settings():
                x = torch.from_numpy(batch)
                return {name: np.array(value.numpy()) for name, value in _through(self._line(x), x).items()}
        except FaceproofError:
            raise
        except _REFUSALS as error:
            raise NetworkError(f"torch refused a batch of shape {batch.shape}: {_first_line(error)}") from error

    def _capture(self, shape: tuple[int, ...]) -> CudaBatch:
        with self._settings():
            # Finding the straight line asks the host for shapes and moves weights; what is recorded does neither.
            with torch.cuda.stream(self._stream):
                line = self._program.straight_line(_as_run(torch.zeros(shape, device=self.device)))
            return CudaBatch(partial(_through, line), shape, self._stream, self._pool)

    def _line(self, x: Tensor) -> StraightLine:
        shape = tuple(x.shape)
        with self._reading:
            line = self._lines.get(shape)
            if line is None:
                line = self._lines[shape] = self._program.straight_line(_as_run(x))
                if len(self._lines) > MOST_KEPT:
                    self._lines.popitem(last=False)
            return line

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        """No gradients, autocast where a lower precision was asked for, and the same algorithms in every process."""
        autocast: Any = torch.autocast(
            self.device, dtype=self._lower, enabled=self._lower is not None, cache_enabled=False
        )
        cudnn: Any = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.no_grad(), autocast, cudnn if self.device == "cuda" else contextlib.nullcontext():
            yield


def _as_run(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _through(line: StraightLine, x: Tensor) -> dict[str, Tensor]:
    """The line's outputs as float32, contiguous."""
    return {name: value.float().contiguous() for name, value in line.run(_as_run(x)).items()}


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
