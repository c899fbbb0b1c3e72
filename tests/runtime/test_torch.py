"""The torch runtime: the very networks that ship and are imported, read from their ONNX files, answer as elsewhere.

What runs on a GPU is the same calls; the tests marked ``gpu`` record and replay them there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("timm")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from faceproof.detectors.catalog import find_spec, weights_path  # noqa: E402
from faceproof.detectors.detector import Detector, load_detector  # noqa: E402
from faceproof.detectors.golden import SHIFT, difference, golden_crop, low_precision_tolerance, moved  # noqa: E402
from faceproof.errors import DeviceError, NetworkError  # noqa: E402
from faceproof.runtime import load_network, network  # noqa: E402
from faceproof.runtime.captured import CapturedBatches  # noqa: E402
from faceproof.runtime.cpu import computes_bf16  # noqa: E402
from faceproof.runtime.network import FloatArray  # noqa: E402
from faceproof.runtime.torch import TorchNetwork, sees_cuda  # noqa: E402
from faceproof.runtime.torch_program import Program  # noqa: E402

SHIPPED = "faceproof-small"
#: The documented networks, small enough to run here: what their files are made of stays the same.
DOCUMENTED: dict[str, dict[str, Any]] = {
    "efficientnet-b7-dfdc": {"encoder": "tf_efficientnet_b0", "image_size": 64},
    "efficientnet-b4-mobile": {"encoder": "efficientnet_b0", "image_size": 64},
    "efficientnet-b4-keras": {"encoder": "tf_efficientnet_b0", "image_size": 64},
    "cross-efficient-vit": {"depth": 1, "sm_enc_depth": 1, "lg_enc_depth": 1},
    "efficientnet-b4-224": {"encoder": "efficientnet_b0", "image_size": 64},
}
without_cuda = pytest.mark.skipif(not sees_cuda(), reason="torch sees no CUDA device")


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, FloatArray]]:
    """A detector's ONNX file, the shipped one or a stand-in, and five prepared crops for it."""
    from faceproof.faces.crops import batch
    from faceproof.training.convert.onnx import export_onnx, random_crops
    from faceproof.training.systems import build
    from faceproof.training.systems.stand_in import stand_in_weights

    folder = tmp_path_factory.mktemp("torch")

    def made(name: str) -> tuple[Path, FloatArray]:
        installed = find_spec(name)
        if name == SHIPPED:
            return weights_path(installed), batch(random_crops(5, seed=3), installed.spec.input)
        size = DOCUMENTED[name].get("image_size", installed.spec.input.size)
        recipe = installed.spec.input.model_copy(update={"size": size})
        path = folder / f"{name}.onnx"
        if not path.exists():
            example = torch.from_numpy(batch(random_crops(8, seed=5), recipe))
            export_onnx(stand_in_weights(build(name, DOCUMENTED[name]), example), size, path)
        return path, batch(random_crops(5, seed=3), recipe)

    return made


@pytest.mark.parametrize("name", [SHIPPED, *DOCUMENTED])
def test_every_network_answers_as_in_the_other_engines(name: str, network_file: Any) -> None:
    path, crops = network_file(name)
    found = load_network(path, runtime="torch", device="cpu", precision="fp32").run(crops)
    apart = []
    for runtime in ("onnx", "openvino"):
        right = load_network(path, runtime=runtime, precision="fp32").run(crops)
        assert found.keys() == right.keys()
        np.testing.assert_allclose(found["logit"], right["logit"], rtol=1e-4, atol=1e-4)
        apart.append(np.abs(found["heatmap"] - right["heatmap"]).reshape(len(crops), -1).max(1))
    # A heatmap goes through the head's gates: where one is all but shut, the two engines differ by more than this.
    assert np.min(apart, axis=0).max() < 1e-3
    assert np.ptp(found["logit"]) > 0.01, "crops that all get one answer compare nothing"


@pytest.mark.parametrize("name", [SHIPPED, *DOCUMENTED])
def test_no_network_asks_the_device_for_a_number(name: str, network_file: Any) -> None:
    """On torch's device without memory, reading a value or mixing in one of the host's is an error: as in a recording."""
    path, crops = network_file(name)
    program = Program(path, device="meta")
    with torch.no_grad():
        line = program.straight_line(torch.empty(crops.shape, device="meta"))
        outputs = line.run(torch.empty(crops.shape, device="meta"))
    right = load_network(path, runtime="onnx", precision="fp32").run(crops)
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {k: v.shape for k, v in right.items()}
    assert all(value.device.type == "meta" for value in outputs.values())
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    assert 0 < len(line) < len(nodes), "what follows from the shape alone is not computed again"


def test_swish_is_one_call(network_file: Any) -> None:
    path, _ = network_file("efficientnet-b7-dfdc")
    sigmoids = sum(node.op_type == "Sigmoid" for node in onnx.load(str(path)).graph.node)
    kinds = [node.kind for node in Program(path)._nodes]
    assert kinds.count("Swish") > 10
    assert kinds.count("Swish") + kinds.count("Sigmoid") == sigmoids


def test_the_shipped_golden_rows_hold() -> None:
    detector = load_detector(SHIPPED, runtime="torch", device="cpu", precision="fp32")
    for row in detector.spec.golden:
        assert abs(difference(detector, golden_crop(row.asset, Path())) - row.logit) <= row.tolerance


@pytest.mark.skipif(not computes_bf16(), reason="this CPU has no bfloat16")
def test_bfloat16_keeps_the_probability() -> None:
    detector = load_detector(SHIPPED, runtime="torch", device="cpu")
    assert detector.network.precision == "bf16"
    exact = load_detector(SHIPPED, runtime="torch", device="cpu", precision="fp32")
    moves = []
    for row in detector.spec.golden:
        crop = golden_crop(row.asset, Path())
        said = difference(detector, crop)
        moves.append(abs(said - difference(exact, crop)))
        assert abs(said - row.logit) <= low_precision_tolerance(row.logit)
        assert moved(said, row.logit) <= SHIFT
    assert max(moves) > 0, "it was computed in fp32"


class InFixedPlaces:
    """What :class:`faceproof.runtime.torch_cuda.CudaBatch` does, without a device: fixed buffers, no recording."""

    def __init__(self, program: Program, shape: tuple[int, ...]) -> None:
        self._input = torch.zeros(shape)
        self.given: FloatArray = self._input.numpy()
        with torch.no_grad():
            self._line = program.straight_line(self._input)

    def replay(self) -> Mapping[str, FloatArray]:
        with torch.no_grad():
            return {name: value.numpy() for name, value in self._line.run(self._input).items()}


def test_a_padded_batch_answers_as_the_batch(network_file: Any) -> None:
    path, crops = network_file("efficientnet-b7-dfdc")
    program, plain = Program(path), load_network(path, runtime="torch", device="cpu", precision="fp32")
    padded = CapturedBatches(lambda shape: InFixedPlaces(program, shape))

    @settings(max_examples=12, deadline=None)
    @given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
    def law(chosen: list[int]) -> None:
        batch = crops[chosen]
        found, right = padded.run(batch), plain.run(batch)
        for name in right:
            assert found[name].shape == right[name].shape
            np.testing.assert_allclose(found[name], right[name], atol=1e-4)

    law()


def test_many_threads_may_score_at_once(network_file: Any) -> None:
    path, crops = network_file("efficientnet-b7-dfdc")
    network = load_network(path, runtime="torch", device="cpu", precision="fp32", streams=4)
    right = network.run(crops)["logit"]
    with ThreadPoolExecutor(4) as pool:
        for count, found in pool.map(lambda n: (n, network.run(crops[:n])["logit"]), [1, 2, 3, 4, 5] * 4):
            np.testing.assert_allclose(found, right[:count], atol=1e-4)


# --- what it refuses ---------------------------------------------------------------------------------------------------


def write(
    path: Path, nodes: list[Any], *, opset: int = 18, inputs: tuple[str, ...] = ("input",), **numbers: Any
) -> Path:
    from onnx import numpy_helper

    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in inputs],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def test_what_torch_is_not_taught_is_refused_by_name(tmp_path: Path) -> None:
    node = helper.make_node
    cases = [
        ([node("Hardmax", ["input"], ["logit"])], {}, "operator Hardmax"),
        ([node("Relu", ["input"], ["logit"], domain="com.microsoft")], {}, "operator Relu"),
        ([node("Relu", ["input"], ["logit"])], {"opset": 12}, "opset 12"),
        ([node("Add", ["input", "other"], ["logit"])], {"inputs": ("input", "other")}, "2 inputs"),
        ([node("Relu", ["one"], ["logit"])], {"one": np.float32([1])}, "does not depend on the input"),
        (
            [node("Cast", ["input"], ["shape"], to=TensorProto.INT64), node("Reshape", ["input", "shape"], ["logit"])],
            {},
            "depends on pixels",
        ),
        (
            [
                node("MaxPool", ["input"], ["most", "where"], kernel_shape=[2, 2]),
                node("Cast", ["where"], ["logit"], to=TensorProto.FLOAT),
            ],
            {},
            "second output",
        ),
    ]
    for nodes, options, words in cases:
        path = write(tmp_path / "made.onnx", nodes, **options)
        with pytest.raises(NetworkError, match=words) as caught:
            TorchNetwork(path, device="cpu").run(np.zeros((2, 3, 4, 4), np.float32))
        assert "--runtime onnx" in caught.value.remedy


def test_a_device_that_torch_does_not_see_is_named(
    network_file: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, _ = network_file("efficientnet-b7-dfdc")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="CUDA"):
        load_network(path, runtime="torch", device="cuda")
    assert load_network(path, runtime="torch").device == "cpu"


# --- which engine is chosen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("onnx_has_cuda", "torch_has_cuda", "installed", "chosen"),
    [
        (True, True, ("onnxruntime", "torch", "onnx"), "onnx"),
        (False, True, ("onnxruntime", "torch", "onnx"), "torch"),
        (False, False, ("onnxruntime", "torch", "onnx"), "onnx"),
        (False, True, ("torch", "onnx"), "torch"),
        (False, True, ("onnxruntime", "torch"), "onnx"),
        (True, False, ("onnxruntime",), "onnx"),
    ],
)
def test_cuda_goes_to_onnx_runtime_where_it_can_and_else_to_torch(
    onnx_has_cuda: bool, torch_has_cuda: bool, installed: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime as ort

    import faceproof.runtime.onnx
    import faceproof.runtime.torch

    def take(engine: str) -> Callable[..., str]:
        return lambda path, device, **_: f"{engine} {device}"

    providers = ["CUDAExecutionProvider"] * onnx_has_cuda + ["CPUExecutionProvider"]
    real = importlib.util.find_spec
    engines = ("onnxruntime", "torch", "onnx")
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_has_cuda)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in engines and name not in installed else real(name)
    )
    monkeypatch.setattr(faceproof.runtime.torch, "TorchNetwork", take("torch"))
    monkeypatch.setattr(faceproof.runtime.onnx, "OnnxNetwork", take("onnx"))
    assert network.load_network(Path("net.onnx"), device="cuda") == f"{chosen} cuda"


# --- on a GPU ------------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@without_cuda
@pytest.mark.parametrize("name", [SHIPPED, *DOCUMENTED])
def test_graphs_on_a_gpu_answer_as_the_cpu(name: str, network_file: Any) -> None:
    path, crops = network_file(name)
    right = load_network(path, runtime="onnx", precision="fp32").run(crops)
    network = load_network(path, runtime="torch", device="cuda", precision="fp32")
    assert (network.device, network.precision) == ("cuda", "fp32")
    for count in (5, 3, 1, 5):  # three shapes, in one pool of memory, and the first again
        found = network.run(crops[:count])
        np.testing.assert_allclose(found["logit"], right["logit"][:count], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found["heatmap"], right["heatmap"][:count], atol=1e-2)


@pytest.mark.gpu
@without_cuda
def test_bfloat16_graphs_keep_the_probability() -> None:
    detector = load_detector(SHIPPED, runtime="torch", device="cuda")
    if detector.network.precision != "bf16":
        pytest.skip("this GPU has no bfloat16")
    for row in detector.spec.golden:
        said = difference(detector, golden_crop(row.asset, Path()))
        assert abs(said - row.logit) <= low_precision_tolerance(row.logit)
        assert moved(said, row.logit) <= SHIFT


@pytest.mark.gpu
@without_cuda
def test_a_graph_is_replayed_and_not_recorded_again(network_file: Any, monkeypatch: Any) -> None:
    path, crops = network_file("efficientnet-b7-dfdc")
    network = TorchNetwork(path, device="cuda")
    first = network.run(crops)["logit"]
    monkeypatch.setattr(network._program, "straight_line", None)
    np.testing.assert_array_equal(network.run(crops)["logit"], first)
    np.testing.assert_array_equal(network.run(crops[::-1].copy())["logit"], first[::-1])


@pytest.mark.gpu
@without_cuda
def test_networks_record_and_replay_in_many_threads(network_file: Any) -> None:
    """Two networks, each met first by several threads: one is recorded while the other already runs."""
    pairs = []
    for name in ("efficientnet-b7-dfdc", "efficientnet-b4-224"):
        path, crops = network_file(name)
        right = load_network(path, runtime="onnx", precision="fp32").run(crops)["logit"]
        pairs.append((TorchNetwork(path, device="cuda", precision="fp32"), crops, right))

    def score(number: int) -> None:
        network, crops, right = pairs[number % 2]
        count = 1 + number % 5
        np.testing.assert_allclose(network.run(crops[:count])["logit"], right[:count], rtol=1e-3, atol=1e-3)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(score, range(60)))


@pytest.mark.gpu
@without_cuda
def test_a_detector_on_a_gpu_scores_in_large_batches() -> None:
    crops = [golden_crop(f"pattern:{seed}", Path()) for seed in range(40)]
    here = load_detector(SHIPPED, runtime="onnx", precision="fp32").score(crops)
    there = Detector(find_spec(SHIPPED).spec, TorchNetwork(weights_path(find_spec(SHIPPED)), device="cuda"))
    assert there.batch_size == 32
    assert np.abs(there.score(crops) - here).max() <= SHIFT
