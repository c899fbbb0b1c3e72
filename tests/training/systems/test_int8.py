"""Eight bits pass their gate or are refused with the numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from faceproof.detectors import catalog
from faceproof.detectors.catalog import InstalledSpec
from faceproof.detectors.detector import load_detector
from faceproof.detectors.installing import add_detector
from faceproof.detectors.spec import Weights
from faceproof.diagnosis import examine_detector
from faceproof.errors import DatasetError, OptionError, WeightsError
from faceproof.faces.crops import batch
from faceproof.runtime import load_network
from faceproof.runtime.openvino import in_eight_bits
from faceproof.training.convert import int8, storage
from faceproof.training.convert.formats import export_detector
from faceproof.training.convert.onnx import export_onnx, random_crops
from faceproof.training.importing.install import import_checkpoint
from faceproof.training.systems import build

SIZE = 32


@pytest.fixture
def small(tmp_path: Path) -> InstalledSpec:
    """Two convolutions that call rough crops fake, in the mobile detector's record."""
    rng = np.random.default_rng(0)
    edges = rng.normal(0, 0.4, (8, 3, 3, 3))
    edges -= edges.mean((2, 3), keepdims=True)
    tensors = {
        "edges": edges.astype(np.float32),
        "mix": np.full((1, 8, 1, 1), 0.5, np.float32),
        "bias": np.asarray(-0.8, np.float32),
        "axes": np.asarray([1, 2, 3], np.int64),
        "channel": np.asarray([1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["input", "edges"], ["rough"], pads=[0, 0, 0, 0]),
        helper.make_node("Relu", ["rough"], ["strong"]),
        helper.make_node("Conv", ["strong", "mix"], ["map"]),
        helper.make_node("ReduceMean", ["map", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["map"], ["wide"]),
        helper.make_node("Squeeze", ["wide", "channel"], ["heatmap"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["n", SIZE - 2, SIZE - 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    path = tmp_path / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    shipped = catalog.find_spec("efficientnet-b4-mobile").spec
    spec = shipped.model_copy(
        update={
            "input": shipped.input.model_copy(update={"size": SIZE}),
            "weights": Weights(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest()),
        }
    )
    return InstalledSpec(spec, tmp_path, tmp_path / "spec.toml", "user")


def crops_in(folder: Path, each: int) -> Path:
    """Smooth crops in ``real``, rough ones in ``fake``."""
    rng = np.random.default_rng(0)
    for name, roughness in (("real", 4), ("fake", 60)):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            base = rng.integers(90, 160, 3) + rng.normal(0, roughness, (SIZE, SIZE, 3))
            Image.fromarray(np.clip(base, 0, 255).astype(np.uint8)).save(folder / name / f"{number:03}.png")
    return folder


def test_what_nncf_makes_is_exported_with_its_numbers(small: InstalledSpec, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    data = crops_in(tmp_path / "crops", 40)
    result = export_detector(small, "int8", tmp_path / "out", data=data)
    gate = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert gate["passed"]
    assert gate["crops"] == 40
    assert gate["auroc"] > 0.9
    assert abs(gate["auroc"] - gate["auroc_int8"]) <= int8.MOST_AUROC_LOST
    assert gate["largest_difference"] > 0, "eight bits change something"
    assert gate["heat_correlation"] >= int8.LEAST_HEAT_CORRELATION
    assert gate["activations"]
    assert "QuantizeLinear" in kinds(tmp_path / "out" / "network.onnx")
    assert {path.name for path in result.files} == {"network.onnx", "spec.toml", "gate.json"}
    assert gate["megabytes"] == pytest.approx((tmp_path / "out" / "network.onnx").stat().st_size / 1e6)
    assert "AUROC" in result.words


def kinds(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(str(path)).graph.node}


def test_what_was_exported_is_installed_and_scans(
    small: InstalledSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    monkeypatch.setenv("FACEPROOF_HOME", str(tmp_path / "home"))
    data = crops_in(tmp_path / "crops", 40)
    export_detector(small, "int8", tmp_path / "out", data=data)
    spec, _ = add_detector(tmp_path / "out", name="mobile-int8")
    assert spec.version.endswith("+int8")
    assert len(spec.golden) == 2, "its own known answers, not the original's"
    imported = import_checkpoint(
        tmp_path / "out" / "network.onnx", as_detector=small.spec.name, settings={"image_size": SIZE}
    )
    for name in ("mobile-int8", imported.spec.name):
        assert [found.state for found in examine_detector(catalog.find_spec(name))].count("wrong") == 0
    crops = list(int8.read_crops(data).crops)
    here = load_detector("mobile-int8", runtime="onnx", precision="fp32").score(crops)
    np.testing.assert_allclose(load_detector("mobile-int8", precision="fp32").score(crops), here, atol=0.02)


def test_what_judges_the_same_is_exported(
    small: InstalledSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nncf = pytest.importorskip("nncf")
    monkeypatch.setattr(nncf, "quantize", lambda model, *_, **__: model)
    result = export_detector(small, "int8", tmp_path / "out", data=crops_in(tmp_path / "crops", 40))
    gate = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert gate["passed"]
    assert gate["flipped"] == 0
    assert {path.name for path in result.files} == {"network.onnx", "spec.toml", "gate.json"}
    assert "AUROC 1.0000 → 1.0000" in result.words


def test_what_judges_otherwise_is_refused_with_its_numbers(
    small: InstalledSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nncf = pytest.importorskip("nncf")
    data = crops_in(tmp_path / "crops", 40)
    monkeypatch.setattr(nncf, "quantize", lambda model, *_, **__: model)
    judge = int8.measure

    def spoiled(*arguments: object, **options: object) -> int8.Gate:
        gate = judge(*arguments, **options)  # type: ignore[arg-type]
        return int8.Gate(**{**gate.__dict__, "auroc_int8": gate.auroc - 0.012, "flipped": 0.031})

    monkeypatch.setattr(int8, "measure", spoiled)
    both = r"is refused, activations too: AUROC .* → .*verdicts flipped 3\.1%.*; weights alone: .*3\.1%"
    with pytest.raises(WeightsError, match=both):
        export_detector(small, "int8", tmp_path / "out", data=data)
    assert not (tmp_path / "out").exists()


def test_where_activations_change_verdicts_weights_alone_are_reduced(
    small: InstalledSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    judge = int8.measure

    def picky(*arguments: object, activations: bool) -> int8.Gate:
        gate = judge(*arguments, activations=activations)  # type: ignore[arg-type]
        return dataclasses.replace(gate, heat_correlation=0.4) if activations else gate

    monkeypatch.setattr(int8, "measure", picky)
    result = export_detector(small, "int8", tmp_path / "out", data=crops_in(tmp_path / "crops", 40))
    gate = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert not gate["activations"]
    assert "heatmaps correlate by 0.400" in gate["refused"], "why it is no faster"
    assert gate["refused"] in result.words
    assert "QuantizeLinear" not in kinds(tmp_path / "out" / "network.onnx")
    assert "weights alone" in result.words


@pytest.mark.parametrize(
    ("lost", "flipped", "alike", "moved", "passes"),
    [
        (0.005, 0.02, 0.9, 0.05, True),
        (0, 0, None, None, True),
        (-0.006, 0, 1, 0, False),
        (0, 0.021, 1, 0, False),
        (0, 0, 0.89, 0, False),
        (0, 0, None, 0.06, False),
    ],
)
def test_the_gate(lost: float, flipped: float, alike: float | None, moved: float | None, passes: bool) -> None:
    gate = int8.Gate(True, 100, 0.9, 0.9 - lost + 1e-12, flipped, 0.0, 0.0, 1.0, alike, moved)
    assert gate.passed == passes
    assert (alike is None) == ("heatmaps correlate" not in gate.words())


def test_maps_are_compared_by_place() -> None:
    rng = np.random.default_rng(0)
    maps = rng.uniform(0, 1, (5, 4, 4)).astype(np.float32)
    assert int8.compare_heat(maps, maps) == (pytest.approx(1), 0)
    alike, moved = int8.compare_heat(maps, 0.5 + 0.2 * (maps - 0.5))
    assert alike == pytest.approx(1, abs=1e-6), "paler maps point to the same places …"
    assert moved > int8.MOST_HEAT_MOVED, "… but are not the same maps"
    assert int8.compare_heat(maps, np.full_like(maps, 0.5))[0] == 0, "a collapsed map agrees with nothing"
    assert int8.compare_heat(maps, 1 - maps)[0] == pytest.approx(-1)
    flat = np.full((3, 4, 4), 0.5, np.float32)
    assert int8.compare_heat(flat, flat + 0.01) == (None, pytest.approx(0.01, rel=1e-3))
    half = np.concatenate([maps, flat])
    noisy = np.concatenate([maps, flat + rng.normal(0, 0.01, flat.shape).astype(np.float32)])
    assert int8.compare_heat(half, noisy)[0] == pytest.approx(1), "noise on flat maps is no place lost"


SIDE = 64


@pytest.fixture(scope="module")
def mobile(tmp_path_factory: pytest.TempPathFactory, enliven: Callable[..., nn.Module]) -> InstalledSpec:
    """The mobile detector on a B0: Swish, squeeze-and-excitation, three linear layers, a heatmap in closed form."""
    folder = tmp_path_factory.mktemp("mobile")
    shipped = catalog.find_spec("efficientnet-b4-mobile").spec
    spec = shipped.model_copy(update={"input": shipped.input.model_copy(update={"size": SIDE})})
    example = torch.from_numpy(batch(random_crops(12, seed=5), spec.input))
    network = enliven(build(spec.name, {"encoder": "efficientnet_b0"}), example)
    export_onnx(network, SIDE, folder / "network.onnx")
    weights = Weights(file="network.onnx", sha256=hashlib.sha256((folder / "network.onnx").read_bytes()).hexdigest())
    return InstalledSpec(spec.model_copy(update={"weights": weights}), folder, folder / "spec.toml", "user")


@pytest.mark.parametrize("activations", [True, False])
def test_of_an_efficientnet_every_weight_is_eight_bits_and_only_convolutions_get_eight_bits(
    mobile: InstalledSpec, activations: bool
) -> None:
    pytest.importorskip("nncf")
    samples = random_crops(12, seed=6) if activations else None
    graph = int8.reduce(mobile.folder / "network.onnx", mobile.spec, samples).graph
    expected = sum(
        parameter.numel()
        for parameter in build(mobile.spec.name, {"encoder": "efficientnet_b0"}).parameters()
        if parameter.ndim > 1 and parameter.numel() >= storage.FEW
    )
    matrices = [t for t in graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
    size = sum(int(np.prod(tensor.dims)) for tensor in matrices)
    assert size == expected, "each matrix once, although the heatmap's closed form turns it"
    floats = [int(np.prod(t.dims)) for t in graph.initializer if t.data_type == TensorProto.FLOAT]
    assert max(floats) < storage.FEW
    quantised = {output for node in graph.node if node.op_type == "QuantizeLinear" for output in node.output}
    restored = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in quantised}
    takers = {node.op_type for node in graph.node if restored & set(node.input)}
    # The shape of the input is read behind its quantiser; it is no number that rounding changes.
    assert takers - {"Shape"} == ({"Conv"} if activations else set())


@pytest.mark.slow
@pytest.mark.parametrize("activations", [True, False])
def test_the_mobile_detector_in_eight_bits_is_the_19_mb_of_its_document(
    activations: bool, tmp_path: Path, enliven: Callable[..., nn.Module]
) -> None:
    pytest.importorskip("nncf")
    spec = catalog.find_spec("efficientnet-b4-mobile").spec
    network = enliven(build(spec.name), torch.from_numpy(batch(random_crops(2, seed=5), spec.input)))
    export_onnx(network, spec.input.size, tmp_path / "network.onnx")
    small = int8.reduce(tmp_path / "network.onnx", spec, random_crops(2) if activations else None)
    assert len(small.SerializeToString()) <= 19_000_000


@pytest.mark.parametrize("activations", [True, False])
def test_streams_and_precisions_do_not_change_what_eight_bits_answer(
    mobile: InstalledSpec, activations: bool, tmp_path: Path
) -> None:
    """OpenVINO 2026.4 answered 10⁸ with two streams and died of bf16: the runtime keeps both away from eight bits."""
    pytest.importorskip("nncf")
    samples = random_crops(12, seed=6) if activations else None
    path = tmp_path / "network.onnx"
    onnx.save(int8.reduce(mobile.folder / "network.onnx", mobile.spec, samples), str(path))
    assert in_eight_bits(path) == ("activations" if activations else "weights")
    assert in_eight_bits(mobile.folder / "network.onnx") == "nothing"
    values = batch(random_crops(4), mobile.spec.input)
    expected = load_network(path, runtime="onnx", precision="fp32").run(values)["logit"]
    tolerance = 0.3 * float(np.std(expected)) if activations else 1e-3  # the engines round eight bits differently
    once = load_network(path, runtime="openvino", precision="fp32", streams=1).run(values)["logit"]
    np.testing.assert_allclose(once, expected, atol=tolerance)
    twice = load_network(path, runtime="openvino", precision="fp32", streams=2).run(values)["logit"]
    np.testing.assert_allclose(twice, once, atol=1e-4)
    auto = load_network(path, runtime="openvino", streams=2).run(values)["logit"]
    np.testing.assert_allclose(auto, once, atol=0.5 * float(np.std(expected)))


def test_without_crops_there_is_no_int8(small: InstalledSpec, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="int8 needs pictures"):
        export_detector(small, "int8", tmp_path / "out")
    with pytest.raises(DatasetError, match="real is missing"):
        int8.read_crops(tmp_path)
    with pytest.raises(DatasetError, match="only 3 crops"):
        int8.read_crops(crops_in(tmp_path / "few", 3))


def test_calibration_never_judges() -> None:
    crops = tuple(np.full((2, 2, 3), i, np.uint8) for i in range(9))
    labelled = int8.LabelledCrops(crops, np.array([False] * 5 + [True] * 4))
    first, second = labelled.every_other(0), labelled.every_other(1)
    assert {int(c[0, 0, 0]) for c in first.crops}.isdisjoint({int(c[0, 0, 0]) for c in second.crops})
    assert len(first.crops) + len(second.crops) == 9


def test_auroc_counts_ties_half() -> None:
    fake = np.array([False, False, True, True])
    assert int8.auroc(np.array([0.1, 0.4, 0.35, 0.8]), fake) == 0.75
    assert int8.auroc(np.array([0.5, 0.5, 0.5, 0.5]), fake) == 0.5
