"""What this process may use of the machine."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


def usable_cores() -> int:
    """Cores this process may run on: its affinity, not the machine's count."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction-set flags as Linux names them; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


# Values of ONEDNN_MAX_CPU_ISA that keep OpenVINO's kernels from bfloat16 (oneDNN, "CPU Dispatcher Control").
_ISAS_WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}


def computes_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 natively (AVX512-BF16, AMX or Arm BF16), so that it is faster than fp32, and the
    engine's kernels are not told to do without."""
    if {os.environ.get(f"{maker}_MAX_CPU_ISA", "").upper() for maker in ("ONEDNN", "DNNL")} & _ISAS_WITHOUT_BF16:
        return False
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def cpu_name() -> str:
    """The CPU's name for people, as far as the system gives one."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
