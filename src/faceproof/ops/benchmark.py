"""Two networks on this machine, side by side: time, memory and size, all measured now.

Accuracy is no part of it: an architecture without trained weights is as fast as one with them, and knows nothing.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from faceproof.detectors.catalog import DEFAULT_DETECTOR, find_spec, weights_path
from faceproof.errors import MissingExtraError, NetworkError, OptionError, UnknownDetectorError
from faceproof.runtime.cpu import cpu_name, usable_cores

# What the documents call it, and what the library does.
_OTHER_NAMES = {"xception": "legacy_xception"}


@dataclass(frozen=True)
class Subject:
    """A network file and what its input looks like."""

    name: str
    path: Path
    size: int
    parameters: int


@dataclass(frozen=True)
class Measured:
    """One network on this machine: seconds for one face (median and 95th percentile), faces a second in batches of eight,
    bytes of memory it added to a process at its peak, bytes on disk, and how many numbers it was trained with."""

    name: str
    input_size: int
    inference_time: float
    p95_inference_time: float
    throughput: float
    memory: int
    file_size: int
    parameters: int


@dataclass(frozen=True)
class _Run:
    single: list[float]
    batched: list[float]
    memory: int


def benchmark_against(
    baseline: str,
    detector: str | None = None,
    *,
    repeats: int = 20,
    rounds: int = 2,
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> dict[str, Any]:
    """Measure ``detector`` (the default one without a name) and ``baseline`` in turn, each in a process of its own.

    ``baseline`` is an installed detector, or an architecture of timm such as ``xception`` (then with random weights: only
    its cost is measured). Returns ``{"model", "baseline", "comparison", "machine"}``; in ``comparison``
    ``speed_improvement``, ``throughput_improvement``, ``memory_efficiency`` and ``size_ratio`` say how many times faster,
    lighter and smaller the detector is than the baseline.

    Raises :class:`UnknownDetectorError` for a name that is neither, :class:`faceproof.errors.WeightsError`, and
    :class:`MissingExtraError` where an architecture needs timm and it is not installed.
    """
    if repeats < 1 or rounds < 1:
        raise OptionError("a benchmark needs at least one repeat and one round")
    with tempfile.TemporaryDirectory(prefix="faceproof-benchmark-") as folder:
        subjects = [_installed(detector or DEFAULT_DETECTOR), _subject(baseline, Path(folder))]
        runs: list[list[_Run]] = [[], []]
        # In turn, so that whatever else the machine does falls on both.
        for _ in range(rounds):
            for kept, subject in zip(runs, subjects, strict=True):
                kept.append(_in_a_process(subject, repeats, runtime, precision, threads))
        model, other = (_summary(subject, kept) for subject, kept in zip(subjects, runs, strict=True))
    return {
        "model": asdict(model),
        "baseline": asdict(other),
        "comparison": {
            "speed_improvement": other.inference_time / model.inference_time,
            "throughput_improvement": model.throughput / other.throughput,
            "memory_efficiency": other.memory / max(model.memory, 1),
            "size_ratio": other.file_size / model.file_size,
        },
        "machine": {"cpu": cpu_name(), "cores": threads or usable_cores(), "runtime": runtime, "precision": precision},
    }


def _installed(name: str) -> Subject:
    found = find_spec(name)
    path = weights_path(found)
    return Subject(name, path, found.spec.input.size, _count_parameters(path))


def _subject(name: str, folder: Path) -> Subject:
    try:
        return _installed(name)
    except UnknownDetectorError as error:
        made = export_architecture(name, folder)
        if made is None:
            raise UnknownDetectorError(
                f"{name!r} is neither an installed detector nor an architecture of timm", remedy=error.remedy
            ) from None
        return made


def export_architecture(name: str, folder: Path) -> Subject | None:
    """A timm architecture with random weights and one output as ONNX in ``folder``; None when timm has no such one."""
    try:
        import timm
        import torch
    except ImportError:
        raise MissingExtraError.of(f"Measuring the architecture {name}", "train") from None
    known = set(timm.list_models())
    chosen = name if name in known else _OTHER_NAMES.get(name, name)
    if chosen not in known:
        return None
    network = timm.create_model(chosen, pretrained=False, num_classes=1).eval()
    size = int(network.default_cfg["input_size"][-1])
    path = folder / f"{chosen}.onnx"
    example = (torch.zeros(2, 3, size, size),)
    program = torch.onnx.export(
        network,
        example,
        dynamo=True,
        verbose=False,
        input_names=["input"],
        output_names=["logit"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
    )
    if program is None:
        raise NetworkError(f"{chosen} cannot be exported")
    program.save(str(path))
    return Subject(name, path, size, sum(p.numel() for p in network.parameters()))


def _count_parameters(path: Path) -> int:
    """Numbers in the file's floating-point initializers; 0 where the onnx package is not there to read them."""
    try:
        import onnx
    except ImportError:
        return 0
    tensors = onnx.load(str(path), load_external_data=False).graph.initializer
    return int(sum(np.prod(t.dims) for t in tensors if t.data_type in (1, 10, 11, 16)))


def _in_a_process(subject: Subject, repeats: int, runtime: str, precision: str, threads: int | None) -> _Run:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_measure, subject.path, subject.size, repeats, runtime, precision, threads).result()
        except BrokenProcessPool:
            raise NetworkError(f"the process that ran {subject.name} died", remedy="It may need more memory.") from None


def _measure(path: Path, size: int, repeats: int, runtime: str, precision: str, threads: int | None) -> _Run:
    """Runs in a fresh process. Memory is what the process grew by from before the network was loaded to its peak."""
    import psutil  # type: ignore[import-untyped, unused-ignore]

    from faceproof.runtime import load_network

    for engine in ("openvino", "onnxruntime"):
        # The engine's own code is no part of what a network costs.
        try:
            __import__(engine)
        except ImportError:
            continue
    before = psutil.Process().memory_info().rss
    network = load_network(path, runtime=runtime, precision=precision, threads=threads)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    one = rng.standard_normal((1, 3, size, size)).astype(np.float32)
    eight = rng.standard_normal((8, 3, size, size)).astype(np.float32)
    seconds: dict[int, list[float]] = {1: [], 8: []}
    for batch, count in ((one, repeats), (eight, max(2, repeats // 8))):
        network.run(batch)
        for _ in range(count):
            started = time.perf_counter()
            network.run(batch)
            seconds[len(batch)].append(time.perf_counter() - started)
    return _Run(seconds[1], seconds[8], max(_peak() - before, 0))


def _peak() -> int:
    """The most resident bytes this process ever had, where the system tells; otherwise what it has now.

    Not ``ru_maxrss``: a process inherits that from the one that started it, which may hold a training framework.
    """
    import psutil

    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def _summary(subject: Subject, runs: list[_Run]) -> Measured:
    single = np.concatenate([run.single for run in runs])
    batched = np.concatenate([run.batched for run in runs])
    return Measured(
        name=subject.name,
        input_size=subject.size,
        inference_time=float(np.median(single)),
        p95_inference_time=float(np.percentile(single, 95)),
        throughput=8 / float(np.median(batched)),
        memory=max(run.memory for run in runs),
        file_size=sum(part.stat().st_size for part in subject.path.parent.glob(f"{subject.path.name}*")),
        parameters=subject.parameters,
    )
