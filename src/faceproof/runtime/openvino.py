"""OpenVINO behind the Network protocol: the fast engine on x86 and Arm CPUs."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from faceproof.errors import DeviceError, NetworkError
from faceproof.runtime import compiled
from faceproof.runtime.cpu import computes_bf16, usable_cores
from faceproof.runtime.network import FloatArray, Precision

_importing = threading.Lock()


class OpenVinoNetwork:
    """An ONNX or OpenVINO IR file compiled for the CPU.

    ``streams`` threads may call :meth:`run` at once, each on its share of ``threads``; further ones wait. What was compiled
    is kept (:mod:`faceproof.runtime.compiled`) and read back by the next process. A network whose activations are in
    eight bits has one stream and fp32 for the rest, whatever was asked for. ``sha256``: the file's, where it was checked.
    """

    runtime = "openvino"

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        streams: int = 1,
        sha256: str | None = None,
    ) -> None:
        ov = _import_openvino()
        if device not in ("auto", "cpu"):
            raise DeviceError(f"OpenVINO here runs on the CPU, not on {device!r}")
        if precision == "bf16" and not computes_bf16():
            raise DeviceError("this CPU has no bfloat16 instructions", remedy="Use --precision fp32 or auto.")
        self.precision = "bf16" if precision == "bf16" or (precision == "auto" and computes_bf16()) else "fp32"
        self.device = "cpu"
        asked = _settings(self.precision, threads, streams)
        kept = compiled.place_of(path, ov.__version__, asked, sha256)
        found = compiled.read(kept)
        eight_bits = in_eight_bits(path) if found is None else found.eight_bits
        # OpenVINO 2026.4 multiplies with garbage where several streams share eight-bit weights, and divides by nought where
        # bf16 meets them.
        if eight_bits == "activations":
            self.precision, streams = "fp32", 1
        self.streams = streams
        config = _settings(self.precision, threads, streams)
        try:
            core = ov.Core()
            network = None if found is None else _import(core, ov, found.content, config)
            if found is None or network is None:
                found = None
                model = core.read_model(str(path))
                if eight_bits == "weights":
                    _write_out_weights(model)
                # Asked before compiling, which adds the names of tensors that were fused into an output.
                self.outputs = tuple(_output_name(port) for port in model.outputs)
                network = core.compile_model(model, "CPU", config)
                if kept is not None:
                    made = network.export_model()  # a stream, or plain bytes from older OpenVINO
                    compiled.write(kept, self.outputs, eight_bits, made if isinstance(made, bytes) else made.getvalue())
            else:
                self.outputs = found.outputs
        except RuntimeError as error:
            raise NetworkError(f"OpenVINO cannot load {path.name}: {_first_line(error)}") from error
        # The one used last comes first: its buffers are still in the cache.
        self._requests: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(streams):
            self._requests.put(network.create_infer_request())
        # The engine computes with the weights where they lie and does not hold on to them itself.
        self._content = None if found is None else found.content

    def run(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        request = self._requests.get()
        try:
            request.infer((np.ascontiguousarray(batch, dtype=np.float32),), share_inputs=True)
            # The request's tensors are overwritten by its next run; callers get their own.
            return {
                name: np.array(request.get_output_tensor(place).data, dtype=np.float32)
                for place, name in enumerate(self.outputs)
            }
        except RuntimeError as error:
            raise NetworkError(f"OpenVINO refused a batch of shape {batch.shape}: {_first_line(error)}") from error
        finally:
            self._requests.put(request)


def _settings(precision: str, threads: int | None, streams: int) -> dict[str, str]:
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(threads or usable_cores()),
        "NUM_STREAMS": str(streams),
        # Pinned, the only thread of every process would share the first core with that of every other.
        "ENABLE_CPU_PINNING": "NO",
    }


def _import(core: Any, ov: Any, content: npt.NDArray[np.uint8], config: Mapping[str, str]) -> Any:
    """A network from what :func:`compiled.read` gave, used where it lies: whoever holds the network holds ``content``.

    None where the engine refuses it: whole, but made with instructions that this process may not use
    (``ONEDNN_MAX_CPU_ISA``, or a system that does not name its CPU).
    """
    try:
        try:
            return core.import_model(ov.Tensor(content, shared_memory=True), "CPU", config)
        except TypeError:  # older OpenVINO takes bytes only, and copies them
            return core.import_model(content.tobytes(), "CPU", config)
    except RuntimeError:
        return None


def in_eight_bits(path: Path) -> compiled.EightBits:
    """How far a network file is in eight bits, told by the words in it without parsing it; nothing if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return "nothing"
    if path.suffix == ".xml":
        marks = (b'type="FakeQuantize"', b'element_type="i8"')
    else:
        marks = (b"QuantizeLinear", b"DequantizeLinear")
    return "activations" if marks[0] in content else "weights" if marks[1] in content else "nothing"


def _write_out_weights(model: Any) -> None:
    """Multiply eight-bit weights with their scales now: they save space in the file, and nothing is computed in them."""
    from openvino.passes import ConstantFolding, Manager

    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)


def _output_name(port: Any) -> str:
    """The output's name in the file; a port may carry aliases beside it."""
    shown = str(port.node.get_friendly_name()).rsplit("/sink_port_", 1)[0]
    names = port.get_names()
    return shown if shown in names else min(names)


def _import_openvino() -> ModuleType:
    """OpenVINO without its usage statistics, which it would send at import: nothing here may ask for the network.

    Its table of number types is built at first use by code that lets go of the interpreter's lock half-way: two threads
    whose first inferences meet there wait for each other for ever. So it is built here, by one thread.
    """
    with _importing:
        module = _import_quietly()
        module.Tensor(np.zeros(1, np.float32)).element_type.to_dtype()
    return module


def _import_quietly() -> ModuleType:
    # None makes an import fail. OpenVINO then uses its own silent stub of the statistics, and does without its converter,
    # which takes as long to import as all the rest and comes back at its first use.
    spared = [name for name in ("openvino_telemetry", "openvino.tools.ovc") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(spared))  # type: ignore[arg-type]
    try:
        import openvino
    finally:
        for name in spared:
            if sys.modules.get(name) is None:
                del sys.modules[name]
    module: ModuleType = openvino
    if not hasattr(module, "convert_model"):
        module.convert_model = _convert_model  # type: ignore[attr-defined]
    return module


def _convert_model(*arguments: Any, **options: Any) -> Any:
    """``openvino.convert_model``, imported when somebody calls it."""
    return import_module("openvino.tools.ovc").convert_model(*arguments, **options)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
