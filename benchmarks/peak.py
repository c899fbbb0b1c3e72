"""What the cores can do at best: GFLOP/s of large matrix products in fp32, bf16 and int8, through the engine itself.

python -m benchmarks.peak [--threads N]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

_SIDE = 2048


def peak(precision: str, threads: int, rounds: int = 5) -> float:
    """The best of the rounds, in 10⁹ operations a second (a multiply-add counts twice)."""
    import openvino as ov
    from openvino import opset13 as op

    rng = np.random.default_rng(0)
    given = op.parameter([_SIDE, _SIDE], np.float32, name="a")
    weights = op.constant(rng.uniform(-1, 1, (_SIDE, _SIDE)).astype(np.float32))
    left, right = given, weights
    if precision == "int8":
        left = op.fake_quantize(given, *(np.float32(v) for v in (-1, 1, -1, 1)), 256)
        right = op.fake_quantize(weights, *(np.float32(v) for v in (-1, 1, -1, 1)), 255)
    model = ov.Model([op.matmul(left, right, False, False)], [given], "peak")
    hint = "bf16" if precision == "bf16" else "f32"
    compiled = ov.Core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    )
    request, values = compiled.create_infer_request(), rng.uniform(-1, 1, (_SIDE, _SIDE)).astype(np.float32)
    best = float("inf")
    for _ in range(rounds + 1):
        began = time.perf_counter()
        request.infer([values], share_inputs=True)
        best = min(best, time.perf_counter() - began)
    return 2 * _SIDE**3 / best / 1e9


def main() -> None:
    from faceproof.runtime.cpu import computes_bf16, usable_cores

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=usable_cores())
    threads = parser.parse_args().threads
    kinds = ("fp32", "bf16", "int8") if computes_bf16() else ("fp32", "int8")
    print(json.dumps({kind: peak(kind, threads) for kind in kinds}))


if __name__ == "__main__":
    main()
