"""What the machine is taken to compute is what the engine then can."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from faceproof.runtime import cpu

SCORE = """
import numpy as np
from faceproof.faces.mtcnn import WEIGHTS
from faceproof.runtime import load_network
network = load_network(WEIGHTS / "pnet_screen.onnx", runtime="openvino", precision="auto")
print(network.precision, np.isfinite(network.run(np.zeros((1, 3, 64, 64), np.float32))["logit"]).all())
"""


@pytest.mark.skipif("avx2" not in cpu.cpu_flags(), reason="this CPU has no AVX2 to be held back to")
def test_a_network_loads_where_the_engine_is_held_back() -> None:
    held = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", SCORE], env=held, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["fp32", "True"], done.stderr


@pytest.mark.parametrize(("told", "can"), [("", True), ("AVX512_CORE_BF16", True), ("DEFAULT", True), ("avx2", False)])
def test_bfloat16_takes_the_cpu_and_leave(told: str, can: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", told)
    assert cpu.computes_bf16() is can
    monkeypatch.setattr(cpu, "cpu_flags", frozenset)
    assert not cpu.computes_bf16()
