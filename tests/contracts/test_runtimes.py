"""One contract for every runtime: the same small network gives the same numbers, and errors are of our tree."""

import ctypes
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from faceproof.errors import DeviceError, NetworkError
from faceproof.runtime import FakeNetwork, Network, load_network
from faceproof.runtime import onnx as runtime_of_device
from faceproof.runtime.cpu import computes_bf16

RUNTIMES = [
    "openvino",
    "onnx",
    "torch",
    *(
        pytest.param(name, marks=pytest.mark.gpu)
        for name in ("onnx cuda", "onnx tensorrt", "onnx coreml", "onnx directml", "torch cuda")
    ),
]
#: What ONNX Runtime's providers cannot start without, beside their own code, by platform; elsewhere they do not exist.
_NEEDED: dict[str, dict[str, list[str]]] = {
    "cuda": {"linux": ["libcuda.so.1"], "win32": ["nvcuda.dll"]},
    "tensorrt": {"linux": ["libcuda.so.1", "libnvinfer.so.10"], "win32": ["nvcuda.dll", "nvinfer_10.dll"]},
    "coreml": {"darwin": []},
    "directml": {"win32": ["DirectML.dll"]},
}


def why_not(device: str) -> str:
    """Why ONNX Runtime cannot run on a device here, found out beside it; empty where it must, and where a test may fail."""
    import onnxruntime as ort

    if runtime_of_device.PROVIDERS[device] not in ort.get_available_providers():
        return f"this ONNX Runtime was built without {device}"
    if sys.platform not in _NEEDED[device]:
        return f"there is no {device} on {sys.platform}"
    for library in _NEEDED[device][sys.platform]:
        try:
            driver = ctypes.CDLL(library)
        except OSError:
            return f"{library} cannot be loaded"
        if "cuda" in library:
            count = ctypes.c_int()
            if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
                return "the driver finds no CUDA device"
    if device == "tensorrt" and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0":
        return "TensorRT is refused unless NVIDIA_TF32_OVERRIDE is 0"
    return ""


def load(path: Path, runtime: str, **options: Any) -> Network:
    """``runtime`` on the CPU, or on the device named behind it; skips where this machine has no such thing."""
    runtime, _, device = runtime.partition(" ")
    if runtime in ("torch", "openvino"):
        pytest.importorskip(runtime)
    if device and runtime == "torch":
        from faceproof.runtime.torch import sees_cuda

        if not sees_cuda():
            pytest.skip("torch sees no CUDA device")
    elif device and (reason := why_not(device)):
        pytest.skip(reason)
    return load_network(path, runtime=runtime, device=device or "cpu", **options)


def close(runtime: str) -> float:
    """cuDNN may sum in another way (Winograd); TensorFloat-32, which is switched off, would be ten times further away.

    CoreML and DirectML may compute in halves where their hardware does.
    """
    return {"onnx cuda": 1e-4, "onnx tensorrt": 1e-4, "onnx coreml": 2e-2, "onnx directml": 5e-3}.get(runtime, 1e-5)


@pytest.fixture(scope="module")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """conv 3×3 → relu → mean → logit, and the rectified map's mean as heatmap; sizes and batch free."""
    rng = np.random.default_rng(7)
    weights = numpy_helper.from_array(rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["map"], ["rectified"]),
        helper.make_node("ReduceMean", ["rectified", "all_axes"], ["logit"], keepdims=0),
        helper.make_node("ReduceMean", ["rectified", "channel_axis"], ["heatmap"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["n", "h", "w"]),
        ],
        [
            weights,
            numpy_helper.from_array(np.asarray([1, 2, 3], np.int64), "all_axes"),
            numpy_helper.from_array(np.asarray([1], np.int64), "channel_axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path_factory.mktemp("net") / "small.onnx"
    onnx.save(model, str(path))
    return path


@pytest.fixture
def batch() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 1, (5, 3, 24, 32)).astype(np.float32)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_outputs_have_names_shapes_and_dtype(small_network: Path, batch: np.ndarray, runtime: str) -> None:
    network = load(small_network, runtime, precision="fp32")
    assert isinstance(network, Network)
    assert [network.runtime, network.device] == [*runtime.split(), "cpu"][:2]
    assert network.precision == "fp32"
    assert set(network.outputs) == {"logit", "heatmap"}
    outputs = network.run(batch)
    assert outputs["logit"].shape == (5,)
    assert outputs["heatmap"].shape == (5, 24, 32)
    assert all(value.dtype == np.float32 for value in outputs.values())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_runtimes_agree(small_network: Path, batch: np.ndarray, runtime: str) -> None:
    one = load(small_network, "onnx", precision="fp32").run(batch)
    two = load(small_network, runtime, precision="fp32").run(batch)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=close(runtime))


@pytest.mark.skipif(not computes_bf16(), reason="this CPU has no bfloat16")
def test_bf16_is_close(small_network: Path, batch: np.ndarray) -> None:
    exact = load_network(small_network, precision="fp32").run(batch)["logit"]
    fast = load_network(small_network, precision="bf16")
    assert fast.precision == "bf16"
    np.testing.assert_allclose(fast.run(batch)["logit"], exact, atol=0.02)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_results_are_not_overwritten_by_the_next_run(small_network: Path, batch: np.ndarray, runtime: str) -> None:
    network = load(small_network, runtime)
    first = network.run(batch)["logit"]
    kept = first.copy()
    network.run(batch * 2)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_batches_of_other_sizes_may_follow(small_network: Path, runtime: str) -> None:
    network = load(small_network, runtime, precision="fp32")
    whole = np.random.default_rng(1).normal(0, 1, (4, 3, 16, 16)).astype(np.float32)
    together = network.run(whole)["logit"]
    alone = np.concatenate([network.run(whole[i : i + 1])["logit"] for i in range(4)])
    np.testing.assert_allclose(together, alone, atol=close(runtime))
    assert network.run(whole[:, :, :9, :13])["heatmap"].shape == (4, 9, 13)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_inputs_that_are_not_contiguous_are_taken(small_network: Path, batch: np.ndarray, runtime: str) -> None:
    network = load(small_network, runtime, precision="fp32")
    flipped = batch[:, :, :, ::-1]
    np.testing.assert_allclose(network.run(flipped)["logit"], network.run(flipped.copy())["logit"], atol=1e-6)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batch_of_another_kind_is_a_network_error(small_network: Path, runtime: str) -> None:
    with pytest.raises(NetworkError, match="refused a batch"):
        load(small_network, runtime).run(np.zeros((1, 4, 8, 8), np.float32))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("content", [b"", b"not a network", None])
def test_a_file_that_is_no_network_is_a_network_error(tmp_path: Path, runtime: str, content: bytes | None) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NetworkError, match="cannot load"):
        load(path, runtime)


@pytest.mark.parametrize(
    "options",
    [
        {"device": "abacus"},
        {"device": "cuda", "runtime": "openvino"},
        {"device": "coreml", "runtime": "torch"},
        {"precision": "bf16", "runtime": "onnx"},
        {"precision": "int3"},
        {"runtime": "caffe"},
    ],
)
def test_what_this_machine_cannot_do_is_a_device_error(small_network: Path, options: dict) -> None:
    with pytest.raises(DeviceError):
        load_network(small_network, **options)


@pytest.mark.parametrize("device", ["cuda", "tensorrt", "coreml", "directml"])
def test_a_device_without_its_provider_says_which_build_is_missing(small_network: Path, device: str) -> None:
    import onnxruntime as ort

    provider = runtime_of_device.PROVIDERS[device]
    if provider in ort.get_available_providers():
        pytest.skip(f"this ONNX Runtime has {provider}")
    with pytest.raises(DeviceError, match=provider) as caught:
        load_network(small_network, runtime="onnx", device=device)
    assert device in caught.value.remedy


@pytest.mark.parametrize("device", ["cuda", "tensorrt", "coreml", "directml"])
def test_a_device_is_asked_of_its_own_provider(
    small_network: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """With a build that has the provider, the session is opened on it and nothing else takes its place unseen."""
    import onnxruntime as ort

    provider = runtime_of_device.PROVIDERS[device]
    asked: list[list[str]] = []
    real = ort.InferenceSession

    def open_session(path: str, options: object, providers: list[str], provider_options: object) -> object:
        asked.append(providers)
        return real(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "get_available_providers", lambda: [provider, "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", open_session)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # which TensorRT is refused without
    with pytest.raises(DeviceError, match="could not start"):
        load_network(small_network, device=device)
    assert asked == [[provider]]


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt", "coreml", "directml"])
def test_the_default_detector_says_on_a_device_what_it_says_here(device: str) -> None:
    """The network that ships, not a toy: every operator of it must have a place on the device, and the golden rows hold."""
    from faceproof.detectors.detector import load_detector
    from faceproof.detectors.golden import difference, golden_crop, low_precision_tolerance

    if reason := why_not(device):
        pytest.skip(reason)
    there = load_detector("faceproof-small", runtime="onnx", device=device)
    assert there.network.device == device
    assert there.spec.golden
    for row in there.spec.golden:
        assert abs(difference(there, golden_crop(row.asset, Path())) - row.logit) <= low_precision_tolerance(row.logit)


def test_a_device_that_is_all_there_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """With provider, library and device in place there is no reason left to skip, and what is marked gpu may fail."""
    import onnxruntime as ort

    class Driver:
        def cuInit(self, flags: int) -> int:
            return flags

        def cuDeviceGetCount(self, count: Any) -> int:
            count._obj.value = devices
            return 0

    monkeypatch.setattr(ort, "get_available_providers", lambda: list(runtime_of_device.PROVIDERS.values()))
    monkeypatch.setattr(ctypes, "CDLL", lambda library: Driver())
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    for device, platforms in _NEEDED.items():
        for platform in platforms:
            monkeypatch.setattr(sys, "platform", platform)
            devices = 1
            assert why_not(device) == ""
            devices = 0
            assert bool(why_not(device)) == (device in ("cuda", "tensorrt"))
        monkeypatch.setattr(sys, "platform", "plan9")
        assert "there is no" in why_not(device)


def test_directml_is_called_by_one_thread_at_a_time(small_network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for its session that notices two calls at once."""
    import onnxruntime as ort

    inside, alone = threading.Semaphore(1), []
    real = ort.InferenceSession

    class OneAtATime:
        def __init__(self, path: str, options: Any, **_: Any) -> None:
            assert not options.enable_mem_pattern
            self.session = real(path, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return ["DmlExecutionProvider"]

        def run(self, names: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            free = inside.acquire(blocking=False)
            alone.append(free)
            try:
                return self.session.run(names, given)
            finally:
                if free:
                    inside.release()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.session, name)

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["DmlExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", OneAtATime)
    network: Any = load_network(small_network, runtime="onnx", device="directml", streams=4)
    assert network.streams == 1
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(network.run, [np.zeros((4, 3, 64, 64), np.float32)] * 40))
    assert len(alone) == 40
    assert all(alone)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_streams_may_run_at_once_and_say_the_same(small_network: Path, batch: np.ndarray, runtime: str) -> None:
    alone = load(small_network, runtime, precision="fp32", threads=1).run(batch)
    network = load(small_network, runtime, precision="fp32", threads=2, streams=2)
    with ThreadPoolExecutor(4) as pool:
        for outputs in pool.map(network.run, [batch] * 24):
            for name, value in outputs.items():
                np.testing.assert_allclose(value, alone[name], atol=1e-6)


def test_loading_a_network_brings_no_usage_statistics(small_network: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from faceproof.runtime import load_network\n"
        f"load_network(Path({str(small_network)!r}), runtime='openvino')\n"
        "print([m for m in sys.modules if m.startswith('openvino_telemetry')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_shipped_fake_keeps_the_contract() -> None:
    network = FakeNetwork()
    assert isinstance(network, Network)
    outputs = network.run(np.ones((3, 3, 8, 8), np.float32))
    assert outputs["logit"].shape == (3,)
    assert outputs["heatmap"].shape == (3, 8, 8)
