"""One CUDA graph: a network's calls for one shape of batch, recorded once and replayed with one launch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from faceproof.runtime.network import FloatArray

#: cuDNN and cuBLAS choose algorithms and allocate in the first runs, which a recording must not see.
WARM_UPS = 3
# torch records one graph at a time in a process.
_capturing = threading.Lock()


class CudaBatch:
    """``forward`` recorded for one shape, with its input and outputs in fixed places on the device and in pinned memory.

    ``forward`` maps float32 ``[N, C, H, W]`` on the device to float32 outputs by name, waits for nothing and reads no
    value back. Graphs on one ``stream`` may share a ``pool`` of memory: then only one may run at a time, and its outputs
    must be copied before the next does, as :class:`faceproof.runtime.captured.CapturedBatches` holds them to.
    Raises torch's own errors.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Mapping[str, Tensor]],
        shape: tuple[int, ...],
        stream: torch.cuda.Stream,
        pool: Any,
    ) -> None:
        # Kept for the weights in it: the graph knows their addresses, not that somebody must hold them.
        self._forward = forward
        self._stream = stream
        self._here = torch.zeros(shape, dtype=torch.float32, pin_memory=True)
        self.given: FloatArray = self._here.numpy()
        self._graph = torch.cuda.CUDAGraph()
        with _capturing:
            self._input = torch.zeros(shape, dtype=torch.float32, device=stream.device)
            stream.wait_stream(torch.cuda.current_stream(stream.device))
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    forward(self._input)
            stream.synchronize()
            # thread_local: other threads may go on with the device, for instance with graphs recorded before.
            with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                self._outputs = dict(forward(self._input))
        self._answers = {
            name: torch.empty(value.shape, dtype=torch.float32, pin_memory=True)
            for name, value in self._outputs.items()
        }

    def replay(self) -> Mapping[str, FloatArray]:
        with torch.cuda.stream(self._stream):
            self._input.copy_(self._here, non_blocking=True)
            self._graph.replay()
            for name, value in self._outputs.items():
                self._answers[name].copy_(value, non_blocking=True)
        self._stream.synchronize()
        return {name: value.numpy() for name, value in self._answers.items()}
