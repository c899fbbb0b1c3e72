"""One contract for every runtime: the same small network gives the same numbers, and errors are of our tree."""

import subprocess
import sys
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
    pytest.param("onnx cuda", marks=pytest.mark.gpu),
    pytest.param("torch cuda", marks=pytest.mark.gpu),
]


def load(path: Path, runtime: str, **options: Any) -> Network:
    """``runtime`` on the CPU, or on the device named behind it; skips where this machine has no such thing."""
    runtime, _, device = runtime.partition(" ")
    if runtime == "torch":
        pytest.importorskip("torch")
    if device and runtime == "torch":
        from faceproof.runtime.torch import sees_cuda

        if not sees_cuda():
            pytest.skip("torch sees no CUDA device")
    elif device:
        import onnxruntime as ort

        if runtime_of_device.PROVIDERS[device] not in ort.get_available_providers():
            pytest.skip(f"this ONNX Runtime was built without {device}")
    return load_network(path, runtime=runtime, device=device or "cpu", **options)


def close(runtime: str) -> float:
    """cuDNN may sum in another way (Winograd); TensorFloat-32, which is switched off, would be ten times further away."""
    return 1e-4 if runtime == "onnx cuda" else 1e-5


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
