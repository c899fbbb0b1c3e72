"""Eight bits pass their gate or are refused with the numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from faceproof.detectors import catalog
from faceproof.detectors.catalog import InstalledSpec
from faceproof.detectors.spec import Weights
from faceproof.errors import DatasetError, OptionError, WeightsError
from faceproof.training.convert import int8
from faceproof.training.convert.formats import export_detector

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


def test_what_nncf_makes_is_exported_with_its_numbers_or_refused(small: InstalledSpec, tmp_path: Path) -> None:
    """Two tiny convolutions may not survive eight bits; then the gate must say so and leave nothing."""
    pytest.importorskip("nncf")
    data = crops_in(tmp_path / "crops", 40)
    try:
        result = export_detector(small, "int8", tmp_path / "out", data=data)
    except WeightsError as error:
        assert "is refused: AUROC 1.0000 →" in str(error)  # noqa: PT017
        assert not list((tmp_path / "out").iterdir())
        return
    gate = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert gate["passed"]
    assert gate["crops"] == 40
    assert gate["auroc"] > 0.9
    assert abs(gate["auroc"] - gate["auroc_int8"]) <= int8.MOST_AUROC_LOST
    assert gate["largest_difference"] > 0, "eight bits change something"
    assert "FakeQuantize" in (tmp_path / "out" / "network.xml").read_text()
    assert {path.name for path in result.files} == {"network.xml", "network.bin", "spec.toml", "gate.json"}
    assert "AUROC" in result.words


def test_what_judges_the_same_is_exported(
    small: InstalledSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nncf = pytest.importorskip("nncf")
    monkeypatch.setattr(nncf, "quantize", lambda model, *_, **__: model)
    result = export_detector(small, "int8", tmp_path / "out", data=crops_in(tmp_path / "crops", 40))
    gate = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert gate["passed"]
    assert gate["flipped"] == 0
    assert {path.name for path in result.files} == {"network.xml", "network.bin", "spec.toml", "gate.json"}
    assert "AUROC 1.0000 → 1.0000" in result.words


def test_what_judges_otherwise_is_refused_with_its_numbers(
    small: InstalledSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nncf = pytest.importorskip("nncf")
    data = crops_in(tmp_path / "crops", 40)
    monkeypatch.setattr(nncf, "quantize", lambda model, *_, **__: model)
    judge = int8.measure

    def spoiled(*arguments: object) -> int8.Gate:
        gate = judge(*arguments)  # type: ignore[arg-type]
        return int8.Gate(**{**gate.__dict__, "auroc_int8": gate.auroc - 0.012, "flipped": 0.031})

    monkeypatch.setattr(int8, "measure", spoiled)
    with pytest.raises(WeightsError, match=r"is refused: AUROC .* → .*verdicts flipped 3\.1%"):
        export_detector(small, "int8", tmp_path / "out", data=data)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("lost", "flipped", "passes"), [(0.005, 0.02, True), (-0.006, 0, False), (0, 0.021, False)])
def test_the_gate(lost: float, flipped: float, passes: bool) -> None:
    assert int8.Gate(100, 0.9, 0.9 - lost + 1e-12, flipped, 0.0, 0.0, 1.0).passed == passes


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
