"""Is everything what it claims to be? Runtimes, CPU, weights by checksum, and every detector's known answers."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from faceproof import __version__
from faceproof.detectors.catalog import InstalledSpec, installed_specs, weights_path
from faceproof.detectors.detector import Detector
from faceproof.detectors.golden import SHIFT, difference, golden_crop, low_precision_tolerance, moved
from faceproof.errors import FaceproofError, RuntimeMissingError, SpecError, WeightsError
from faceproof.runtime import load_network
from faceproof.runtime.cpu import computes_bf16, cpu_flags, cpu_name, usable_cores
from faceproof.runtime.network import Precision, Runtime


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``absent`` is no fault: an optional package, a detector whose weights were never fetched."""

    state: Literal["ok", "absent", "wrong"]
    subject: str
    detail: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything, cheapest first."""
    yield Finding("ok", "faceproof", f"{__version__} on Python {platform.python_version()}, {platform.platform()}")
    bf16 = "bf16" if computes_bf16() else "no bf16"
    vector = "AVX-512" if "avx512f" in cpu_flags() else "AVX2" if "avx2" in cpu_flags() else "no AVX2"
    yield Finding("ok", "cpu", f"{cpu_name()}, {usable_cores()} cores, {vector}, {bf16}")
    for package in ("numpy", "opencv-python-headless", "av", "pillow", "onnxruntime", "openvino"):
        yield _package(package)
    yield _torch()
    try:
        specs = list(installed_specs())
    except SpecError as error:
        yield Finding("wrong", "detectors", error.message, error.remedy)
        return
    for installed in specs:
        yield from examine_detector(installed)


def _package(name: str) -> Finding:
    try:
        return Finding("ok", name, version(name))
    except PackageNotFoundError:
        # One runtime is enough; everything else of the core must be there.
        other = {"openvino": "onnxruntime", "onnxruntime": "openvino"}.get(name)
        if other is not None and find_spec(other) is not None:
            return Finding("absent", name, f"not installed; {other} is used")
        return Finding("wrong", name, "not installed", "Reinstall faceproof.")


def _torch() -> Finding:
    if find_spec("torch") is None:
        return Finding("absent", "torch", "not installed; training needs it, and --runtime torch")
    from faceproof.runtime.torch import device_name

    return Finding("ok", "torch", f"{version('torch')}, {device_name() or 'no CUDA device'}")


def _ways() -> Iterator[tuple[Runtime, Precision, str]]:
    """Every runtime, precision and device a scan may run a network with here, GPUs where an engine reaches one."""
    yield "onnx", "fp32", "cpu"
    yield "openvino", "fp32", "cpu"
    if computes_bf16():
        yield "openvino", "bf16", "cpu"
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            yield "onnx", "fp32", "cuda"
    if find_spec("torch") is not None and find_spec("onnx") is not None:
        from faceproof.runtime.torch import computes, sees_cuda

        if sees_cuda():
            yield "torch", "fp32", "cuda"
            if computes("cuda", "bf16"):
                yield "torch", "bf16", "cuda"


def examine_detector(installed: InstalledSpec) -> Iterator[Finding]:
    """One detector: its weights' checksum, then every golden row on every runtime this machine has."""
    spec = installed.spec
    try:
        path = weights_path(installed)
    except WeightsError as error:
        never_fetched = spec.weights.sha256 is None or not installed.has_weights
        packaged = installed.origin == "package" and spec.weights.file is not None and spec.weights.sha256 is not None
        state: Literal["absent", "wrong"] = "absent" if never_fetched and not packaged else "wrong"
        yield Finding(state, spec.name, error.message, error.remedy)
        return
    yield Finding("ok", spec.name, f"{spec.version}, weights {str(spec.weights.sha256)[:12]}… as recorded")
    if not spec.golden:
        yield Finding("absent", f"{spec.name} golden", "no known answers in its spec")
        return
    for runtime, precision, device in _ways():
        subject = f"{spec.name} {runtime} {precision}" + (f" {device}" if device != "cpu" else "")
        try:
            detector = Detector(spec, load_network(path, runtime=runtime, device=device, precision=precision))
            worst = 0.0
            for row in spec.golden:
                logit = difference(detector, golden_crop(row.asset, installed.source.parent))
                # bfloat16 keeps eight bits of a number: what counts is that the probability stays.
                allowed = low_precision_tolerance(row.logit) if precision == "bf16" else row.tolerance
                if abs(logit - row.logit) > allowed or moved(logit, row.logit) > SHIFT:
                    yield Finding(
                        "wrong",
                        subject,
                        f"{row.asset}: logit {logit:.4f}, expected {row.logit:.4f} ± {allowed:g}",
                        "Its scores cannot be trusted on this machine. Reinstall, or use another --precision.",
                    )
                    break
                worst = max(worst, abs(logit - row.logit))
            else:
                yield Finding("ok", subject, f"{len(spec.golden)} known answers repeated (|Δlogit| ≤ {worst:.4f})")
        except RuntimeMissingError:
            yield Finding("absent", subject, "runtime not installed")
        except FaceproofError as error:
            yield Finding("wrong", subject, error.message, error.remedy)
